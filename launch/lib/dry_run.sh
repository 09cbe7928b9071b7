# shellcheck shell=bash
# DRY_RUN=1: every command of every run, as it would be run, and an estimate; runs and writes nothing.

dry_run() {
  local name
  DRY_PLAN=$(mktemp -d "${TMPDIR:-/tmp}/ta-opd-dry-run.XXXXXX")
  end_with_us
  prepare_plan "$DRY_PLAN" --dry-run
  load_run "$DRY_PLAN" "${RUNS[0]}"
  printf '# suite %s, %d runs; nothing is run and nothing written\n' "$SUITE_DIR" "${#RUNS[@]}"
  check_patch || complain "warning: a real run would stop here"
  ours -m run_plan estimate "$DRY_PLAN/runs/${RUNS[0]}" | sed 's/^/#   /; s/ *$//'
  ((${#RUNS[@]} == 1)) || echo "#   the other runs: the same but for the ports and the share of tokens that is distilled"
  for name in "${RUNS[@]}"; do
    load_run "$DRY_PLAN" "$name"
    printf '\n## %s\n' "$name"
    printf '# directory %s\n' "$RUN_DIR"
    "show_$BACKEND"
    show_after_training
  done
}

show_command() {
  printf '\n# %s\n' "$1"
  shift
  command_text "$@"
}

show_teachers() {
  local replica
  for ((replica = 0; replica < TEACHER_REPLICAS; replica++)); do
    teacher_words "$replica"
    show_command "teacher $replica; log: $(teacher_log "$replica")" "${TEACHER_WORDS[@]}"
  done
}

show_slime() {
  printf '\nexport no_proxy=%s NO_PROXY=%s\n' "$no_proxy" "$no_proxy"
  [[ -n $TEACHER_URL ]] || show_teachers
  if [[ -z $RAY_ADDRESS ]]; then
    ray_words
    show_command "Ray's head; log: $RUN_LOGS/ray.log" "${RAY_WORDS[@]}"
    if ((ACTOR_NUM_NODES > 1)); then
      printf '\n# on each of the %d other machines\n%s\n' "$((ACTOR_NUM_NODES - 1))" "$(worker_command)"
    fi
  fi
  train_words
  runtime_environment
  submit_words "ta-opd-$RUN_NAME"
  show_command "submission; log: $RUN_LOGS/train.log" "${SUBMIT_WORDS[@]}"
  show_command "training: $RUN_DIR/train.sh, in $SLIME_DIR with the environment above" "${TRAIN_WORDS[@]}"
}

show_local() {
  engine_words "$METHOD:$RATIO" "$SEED" "${OPD_ARGS[@]}"
  show_command "training; log: $RUN_LOGS/train.log" "${ENGINE_WORDS[@]}"
}

show_after_training() {
  merge_words
  show_command "token bank" "${MERGE_WORDS[@]}"
  if [[ -n $COMMON_CONTEXT ]] && ! is_on "$SKIP_EVAL"; then
    score_words
    show_command "fixed contexts" "${SCORE_WORDS[@]}"
  fi
}

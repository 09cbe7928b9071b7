# shellcheck shell=bash
# BACKEND=local: the embedded engine in place of slime, Ray and the teacher's server. All runs share one pre-trained
# pair in SUITE_DIR/engine; a run that was killed goes on from its last finished step.

# engine_words METHODS SEEDS [FLAGS...], into ENGINE_WORDS.
engine_words() {
  ENGINE_WORDS=(
    env "PYTHONPATH=$(python_path)" "$PYTHON" -m local_engine
    --out "$SUITE_DIR/engine"
    --methods "$1"
    --seeds "$2"
  )
  shift 2
  if [[ -n $PROMPT_DATA ]]; then
    ENGINE_WORDS+=(--prompts "$PROMPT_DATA")
    [[ -z $INPUT_KEY ]] || ENGINE_WORDS+=(--input-key "$INPUT_KEY")
    [[ -z $LABEL_KEY ]] || ENGINE_WORDS+=(--label-key "$LABEL_KEY")
  fi
  [[ -z $LOCAL_STEPS ]] || ENGINE_WORDS+=(--steps "$LOCAL_STEPS")
  ENGINE_WORDS+=("$@" "${LOCAL_ARGS_WORDS[@]}")
}

# The engine's name of the current run.
engine_run() { printf '%s-%s-seed%s' "$METHOD" "$RATIO" "$SEED"; }

train_on_local() {
  note_state teacher skip "the engine's own" || return 1
  engine_words "$METHOD:$RATIO" "$SEED" "${OPD_ARGS[@]}"
  command_text "${ENGINE_WORDS[@]}" | write_file "$RUN_DIR/train.sh" || return 1
  run_step train "$RUN_LOGS/train.log" "${ENGINE_WORDS[@]}" || return 1
  # results.json lists the runs of the engine's last call: this one.
  write_file "$RUN_DIR/engine_results.json" <"$SUITE_DIR/engine/results.json"
}

# One call over all runs, which are finished: the engine then writes the report and results.json of all of them.
engine_report() {
  local name methods=() seeds=()
  for name in "${RUNS[@]}"; do
    load_run "$SUITE_DIR" "$name"
    [[ " ${methods[*]} " == *" $METHOD:$RATIO "* ]] || methods+=("$METHOD:$RATIO")
    [[ " ${seeds[*]} " == *" $SEED "* ]] || seeds+=("$SEED")
  done
  PROCESSES=$SUITE_DIR/processes.tsv
  engine_words "${methods[*]}" "${seeds[*]}" "${OPD_ARGS[@]}"
  start_process report "$SUITE_DIR/report.log" "${ENGINE_WORDS[@]}"
  while is_running report; do pause "$LAUNCH_POLL_SECONDS"; done
  read_exit_code report
  stop_process report || return 1
  if ((EXIT_CODE != 0)); then
    show_end "$SUITE_DIR/report.log"
    return 1
  fi
  say "report of all runs: $SUITE_DIR/engine/report.html"
}

token_bank_directory() {
  if [[ $BACKEND == local ]]; then
    printf '%s/engine/runs/%s/token_bank' "$SUITE_DIR" "$(engine_run)"
  else
    printf '%s/token_bank' "$RUN_DIR"
  fi
}

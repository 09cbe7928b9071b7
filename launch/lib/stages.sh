# shellcheck shell=bash
# One run, stage by stage: train (with its teacher), merge, score, done. A finished stage is not repeated.

# Fails when the run did; says why.
run_one() {
  if [[ $(state_of "done") == ok ]]; then
    say "$RUN_NAME: finished before, skipped"
    return 0
  fi
  if ! mkdir -p -- "$RUN_LOGS"; then
    complain "$RUN_NAME: cannot make $RUN_LOGS"
    return 1
  fi
  end_leftovers "$PROCESSES" || return 1
  if ! is_finished train; then
    say "$RUN_NAME: training; log: $RUN_LOGS/train.log"
    "train_on_$BACKEND" || return 1
  fi
  is_finished merge || merge_bank || return 1
  is_finished score || score_contexts || return 1
  note_state "done" ok || return 1
  rm -f -- "$PROCESSES"
  say "$RUN_NAME: finished"
}

# slime under Ray, with SGLang teachers. Whatever was started has ended when this returns.
train_on_slime() {
  local code=0
  start_teacher_stage && train_stage || code=1
  stop_all_processes || code=1
  ((code != 0)) || remove_ray_files
  return "$code"
}

# Only where run_plan chose the place. After a failure they stay: Ray's own logs may say why.
remove_ray_files() {
  if [[ -z $RAY_ADDRESS && $RAY_TEMP_DIR == "${TMPDIR:-/tmp}"/ray-???????? ]]; then
    rm -rf -- "$RAY_TEMP_DIR"
  fi
}

start_teacher_stage() {
  if [[ -n $TEACHER_URL ]]; then
    note_state teacher skip "TEACHER_URL $TEACHER_URL"
    return
  fi
  note_state teacher start || return 1
  if ! start_teachers; then
    fail_stage teacher "$TEACHER_FAULT"
    return 1
  fi
  note_state teacher ok
}

train_stage() {
  local job
  job=$(job_name)
  note_state train start "$job" || return 1
  if ! train_words; then
    fail_stage train "the settings name no model"
    return 1
  fi
  runtime_environment
  if ! training_script | write_file "$RUN_DIR/train.sh"; then
    fail_stage train "no room for train.sh"
    return 1
  fi
  stop_earlier_job
  if ! start_ray; then
    fail_stage train "Ray: $RAY_FAULT" "$RUN_LOGS/ray.log"
    return 1
  fi
  if ! submit_job "$job"; then
    fail_stage train "$TRAIN_FAULT" "$TRAIN_FAULT_LOG"
    return 1
  fi
  note_state train ok
}

# Unique on a shared cluster; letters that every shell and path takes.
job_name() { printf 'ta-opd-%s-%s-%s' "${RUN_NAME//[^A-Za-z0-9._-]/_}" "$EPOCHSECONDS" "$$"; }

merge_words() {
  MERGE_WORDS=(
    env "PYTHONPATH=$(python_path)" "$PYTHON" "$REPO/tools/merge_token_bank.py"
    "$(token_bank_directory)"
    --output "$RUN_DIR/token_bank.parquet"
  )
}

merge_bank() {
  if [[ $OPD_TOPK_METRICS_K == 0 ]]; then
    note_state merge skip "OPD_TOPK_METRICS_K=0 writes no token bank"
    return
  fi
  merge_words
  run_step merge "$RUN_LOGS/merge.log" "${MERGE_WORDS[@]}"
}

score_contexts() {
  if [[ -z $COMMON_CONTEXT ]] || is_on "$SKIP_EVAL"; then
    note_state score skip
    return
  fi
  score_words
  run_step score "$RUN_LOGS/score.log" "${SCORE_WORDS[@]}"
}

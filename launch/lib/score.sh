# shellcheck shell=bash
# The command that scores the trained student on frozen contexts, into SCORE_WORDS.

score_words() {
  local gpus
  if [[ $BACKEND == local ]]; then
    SCORE_WORDS=(
      env "PYTHONPATH=$(python_path)" "$PYTHON" "$REPO/tools/eval_fixed_context_bank.py"
      --student "$SUITE_DIR/engine/models/$(engine_run)"
      --teacher "$SUITE_DIR/engine/models/teacher"
      --output "$RUN_DIR/fixed_context/fixed_context_metrics.parquet"
    )
  else
    IFS=, read -ra gpus <<<"$EVAL_GPUS"
    SCORE_WORDS=(
      env "CUDA_VISIBLE_DEVICES=$EVAL_GPUS" "SLIME_DIR=$SLIME_DIR" "PYTHONPATH=$(scoring_path)"
      "$PYTHON" "$REPO/tools/eval_fixed_context_from_megatron.py"
      --checkpoint-root "$RUN_DIR/checkpoints"
      --iteration latest
      --origin-hf-dir "$STUDENT_HF"
      --teacher-hf-dir "$TEACHER_MODEL"
      --output-dir "$RUN_DIR/fixed_context"
      --student-device cuda:0
      --teacher-device "cuda:$((${#gpus[@]} > 1))"
    )
  fi
  SCORE_WORDS+=(--context-bank "$COMMON_CONTEXT" --topk "$OPD_TOPK_METRICS_K")
  [[ -z $BASELINE_METRICS ]] || SCORE_WORDS+=(--baseline-metrics "$BASELINE_METRICS")
}

# The conversion of checkpoints imports slime and Megatron.
scoring_path() {
  printf '%s' "$SLIME_DIR${MEGATRON_LM_DIR:+:$MEGATRON_LM_DIR}:$(python_path)"
}

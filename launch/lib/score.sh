# shellcheck shell=bash
# The command that scores the trained student on frozen contexts, into SCORE_WORDS.

score_words() {
  local gpus
  if [[ $BACKEND == local ]]; then
    SCORE_WORDS=(
      env "PYTHONPATH=$(python_path)" "$DIAGNOSTICS_PYTHON" "$REPO/tools/eval_fixed_context_bank.py"
      --student "$SUITE_DIR/engine/models/$(engine_run)"
      --teacher "$SUITE_DIR/engine/models/teacher"
      --output "$RUN_DIR/fixed_context/fixed_context_metrics.parquet"
    )
  else
    IFS=, read -ra gpus <<<"$EVAL_GPUS"
    SCORE_WORDS=(
      env "CUDA_VISIBLE_DEVICES=$EVAL_GPUS" "PYTHONPATH=$(python_path)"
      "$DIAGNOSTICS_PYTHON" "$REPO/tools/eval_fixed_context_from_megatron.py"
      --checkpoint-root "$RUN_DIR/checkpoints"
      --iteration latest
      --origin-hf-dir "$STUDENT_HF"
      --teacher-hf-dir "$TEACHER_MODEL"
      --output-dir "$RUN_DIR/fixed_context"
      --student-device cuda:0
      --teacher-device "cuda:$((${#gpus[@]} > 1))"
      --python "$PYTHON" # converts
      --slime-dir "$SLIME_DIR"
    )
    [[ -z $MEGATRON_LM_DIR ]] || SCORE_WORDS+=(--megatron-dir "$MEGATRON_LM_DIR")
  fi
  SCORE_WORDS+=(--context-bank "$COMMON_CONTEXT" --topk "$OPD_TOPK_METRICS_K")
  [[ -z $BASELINE_METRICS ]] || SCORE_WORDS+=(--baseline-metrics "$BASELINE_METRICS")
  SCORE_WORDS+=("${SCORE_ARGS_WORDS[@]}")
}

# shellcheck shell=bash
# The released diagnostic recipe for one pair: train, freeze 300 contexts of the run's own rollouts, score them before
# and after training, analyse, report. The sourcing script sets PAIR.
#
# Variables are those of launch/run_method_suite.sh (docs/cluster.md), with the recipe's defaults, and
#   CONTEXTS         contexts to freeze (300)            BOOTSTRAP   replicates over prompts (1000)
#   RESPONSE_TOKENS  scored tokens of a response (192)   EXTRA_TOPK  more Ks beside OPD_TOPK_METRICS_K (8,32)
#   SCORE_ARGS       more flags of the scoring commands, words
#   JOBS             analyses at a time (2)
#   DIAGNOSTICS_PYTHON  Python that scores and analyses, with `pip install '.[diagnostics]'`, where slime's shall
#                    not have those packages (PYTHON)
#   DRY_RUN          1: print every command, run nothing
# METHOD_LIST may name several runs: the contexts are those of the first, every run is scored on them.

source "${BASH_SOURCE[0]%/*}/chain.sh"

recipe() {
  export PAIR
  export TAG=${TAG:-${PAIR}_fixed_context_300} METHOD_LIST=${METHOD_LIST:-pure_opd:1.0:10} SKIP_EVAL=1
  export NUM_ROLLOUT=${NUM_ROLLOUT:-151} ROLLOUT_BATCH_SIZE=${ROLLOUT_BATCH_SIZE:-2}
  export N_SAMPLES_PER_PROMPT=${N_SAMPLES_PER_PROMPT:-1} GLOBAL_BATCH_SIZE=${GLOBAL_BATCH_SIZE:-2}
  export ROLLOUT_MAX_RESPONSE_LEN=${ROLLOUT_MAX_RESPONSE_LEN:-256} SAVE_INTERVAL=${SAVE_INTERVAL:-50}
  export OPD_TOPK_METRICS_K=${OPD_TOPK_METRICS_K:-16} OPD_EXACT_CMASS=${OPD_EXACT_CMASS:-1}
  export OPD_EXACT_CMASS_MAX_UNION=${OPD_EXACT_CMASS_MAX_UNION:-128}
  export SAVE_DEBUG_ROLLOUT_DATA=${SAVE_DEBUG_ROLLOUT_DATA:-1}
  export SCORE_ARGS=${SCORE_ARGS:-}
  [[ -n ${SEEDS:-} ]] || export SEED=${SEED:-41717}
  PYTHON=${PYTHON:-python3} CONTEXTS=${CONTEXTS:-300} RESPONSE_TOKENS=${RESPONSE_TOKENS:-192}
  BOOTSTRAP=${BOOTSTRAP:-1000} EXTRA_TOPK=${EXTRA_TOPK-8,32}
}

check() {
  local name
  (($# == 0)) || die "no arguments are taken, settings are variables; see docs/fixed-context.md"
  [[ ${BACKEND:-slime} == slime ]] || die "BACKEND $BACKEND: run_local_fixed_context.sh is for the embedded engine"
  for name in CONTEXTS RESPONSE_TOKENS BOOTSTRAP JOBS; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die "$name ${!name} must be a whole number above 0"
  done
  for name in PYTHON DIAGNOSTICS_PYTHON; do
    [[ -z ${!name:-} ]] || type -P "${!name}" >/dev/null || die "$name ${!name} is not a command"
  done
}

ours() { PYTHONPATH=$(python_path) "$PYTHON" "$@"; }

# The runs' names in RUNS, and their settings under PLAN, with the suite's own paths: the suite checks what is there.
resolve() {
  local lines
  PLAN=$(mktemp -d "${TMPDIR:-/tmp}/ta-opd-plan.XXXXXX")
  trap 'end_running; rm -rf -- "$PLAN"' EXIT
  lines=$(ours -m run_plan prepare --suite-dir "$PLAN" --dry-run) || exit $?
  mapfile -t RUNS <<<"$lines"
}

# Before GPU-hours are spent: what the steps after training will need. In a subshell, since a run's settings are
# resolved and the suite must be given those that the person gave.
check_scoring() (
  # shellcheck source=/dev/null
  source "$PLAN/runs/${RUNS[0]}/settings.env"
  [[ -n $TEACHER_MODEL ]] || die "not set: TEACHER_MODEL, which scores the contexts, beside TEACHER_URL"
  [[ -n $SAVE_DEBUG_ROLLOUT_DATA ]] || die "SAVE_DEBUG_ROLLOUT_DATA 0: the contexts are made of slime's debug rollouts"
  ((${#RUNS[@]} == 1)) || [[ $SAVE_DEBUG_ROLLOUT_DATA == "$RUN_DIR"/* ]] ||
    die "SAVE_DEBUG_ROLLOUT_DATA $SAVE_DEBUG_ROLLOUT_DATA with ${#RUNS[@]} runs: each would replace the other's rollouts"
  is_on "$DRY_RUN" || check_packages
)

check_packages() {
  local text needed="fixed_context.eval_command, fixed_context.report.command, matplotlib, statsmodels.api"
  if ! text=$(PYTHONPATH=$(python_path) "$DIAGNOSTICS_PYTHON" -c "import $needed" 2>&1); then
    die "DIAGNOSTICS_PYTHON $DIAGNOSTICS_PYTHON lacks packages (pip install '.[diagnostics]'): ${text##*$'\n'}"
  fi
}

run_pair() {
  local suite score visible gpus
  recipe
  check "$@"
  resolve
  check_scoring || exit $?
  "$REPO/launch/run_method_suite.sh" || exit $?
  suite=$(ours -m run_plan suite-dir) OUT=
  OUT=$(cd "${suite%/*}" 2>/dev/null && pwd || printf '%s' "${suite%/*}")/${suite##*/}/fixed_context
  # shellcheck source=/dev/null
  source "$PLAN/runs/${RUNS[0]}/settings.env"
  TOKENIZER=$STUDENT_HF K=$OPD_TOPK_METRICS_K RUNS_DIR=$suite/runs
  SLIME_PYTHON=$PYTHON PYTHON=$DIAGNOSTICS_PYTHON
  STEPS=$((3 + ${#RUNS[@]} * (1 + ANALYSIS_STEPS_EACH) + ANALYSIS_STEPS))

  tool export_fixed_context_bank
  step "frozen contexts" "$OUT/contexts.parquet" "${TOOL_WORDS[@]}" \
    --debug-rollout-data "$(debug_rollouts)" --max-samples "$CONTEXTS" --tokenizer "$TOKENIZER" \
    --output "$OUT/contexts.parquet"

  IFS=, read -ra gpus <<<"$EVAL_GPUS"
  visible="CUDA_VISIBLE_DEVICES=$EVAL_GPUS"
  score=(
    --context-bank "$OUT/contexts.parquet" --topk "$OPD_TOPK_METRICS_K" --max-response-tokens "$RESPONSE_TOKENS"
    --student-device cuda:0 --teacher-device "cuda:$((${#gpus[@]} > 1))"
  )
  [[ -z $EXTRA_TOPK ]] || score+=(--extra-topk "$EXTRA_TOPK")
  score+=("${SCORE_ARGS_WORDS[@]}")
  score_student "student before training" "$OUT/before/metrics.parquet"
  NULL_METRICS=$OUT/before/again.parquet
  score_student "student before training, again: the null check" "$NULL_METRICS" \
    --baseline-metrics "$OUT/before/metrics.parquet"
  score_trained_students "$suite"
  analyse_all "$OUT/contexts.parquet" "$OUT/before/metrics.parquet"
  is_on "${DRY_RUN:-0}" || say_what_to_open
}

# slime's dumps of the first run's rollouts, as a glob; its evaluations, eval_N.pt, are not among them.
debug_rollouts() { printf '%s' "${SAVE_DEBUG_ROLLOUT_DATA//\{rollout_id\}/[0-9]*}"; }

# score_student NAME OUTPUT [FLAGS...], with run_pair's `score` and `visible`.
score_student() {
  local name=$1 output=$2
  shift 2
  tool eval_fixed_context_bank
  step "$name" "$output" env "$visible" "${TOOL_WORDS[@]}" "${score[@]}" \
    --student "$STUDENT_HF" --teacher "$TEACHER_MODEL" --output "$output" "$@"
}

# Each run's last checkpoint, converted by slime's own tool in slime's Python.
score_trained_students() {
  local suite=$1 name slime=(--slime-dir "$SLIME_DIR" --python "$SLIME_PYTHON")
  [[ -z $MEGATRON_LM_DIR ]] || slime+=(--megatron-dir "$MEGATRON_LM_DIR")
  for name in "${RUNS[@]}"; do
    tool eval_fixed_context_from_megatron
    step "student after $name" "$(metrics_of "$name")" env "$visible" "${TOOL_WORDS[@]}" "${score[@]}" "${slime[@]}" \
      --checkpoint-root "$suite/runs/$name/checkpoints" --iteration latest --origin-hf-dir "$STUDENT_HF" \
      --teacher-hf-dir "$TEACHER_MODEL" --baseline-metrics "$OUT/before/metrics.parquet" --output-dir "$OUT/after/$name"
  done
}

run_pair "$@"

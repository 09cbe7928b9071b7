#!/usr/bin/env bash
# The whole fixed-context chain on the embedded engine: toy models, minutes on two CPU cores. docs/fixed-context.md.
#
#   OUT=out/fixed-context diagnostics/run_local_fixed_context.sh
#   OUT=out/gsm8k PROMPTS=gsm8k/train.jsonl diagnostics/run_local_fixed_context.sh    # an interrupted run goes on
#
# METHODS  entries method:ratio, a report of each (pure_opd:1.00 teachability:0.10)
# SEED     of the distillation runs (0)            BOOTSTRAP  replicates over prompts (1000)
# TOPK     K (16); EXTRA_TOPK: more Ks (8,32)      ARGS       more flags of local_engine, words
# JOBS     steps at a time after training (2)      PYTHON     (python3)
# DRY_RUN  1: print every command, run nothing
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/chain.sh"

PYTHON=${PYTHON:-python3}
METHODS=${METHODS:-pure_opd:1.00 teachability:0.10}
SEED=${SEED:-0}
TOPK=${TOPK:-16}
EXTRA_TOPK=${EXTRA_TOPK-8,32}
BOOTSTRAP=${BOOTSTRAP:-1000}

check() {
  (($# == 0)) || die "no arguments are taken, settings are variables: OUT=DIR PROMPTS=FILE ${0##*/}"
  [[ -n ${OUT:-} ]] || die "OUT is not set: the directory for everything that is made"
  [[ ! -e $OUT || -d $OUT ]] || die "OUT $OUT is not a directory"
  [[ -z ${PROMPTS:-} || -r $PROMPTS ]] || die "PROMPTS $PROMPTS: no such file"
  [[ $SEED =~ ^[0-9]+$ ]] || die "SEED $SEED must be a whole number"
  [[ $TOPK =~ ^[1-9][0-9]*$ ]] || die "TOPK $TOPK must be a whole number above 0"
  [[ $BOOTSTRAP =~ ^[1-9][0-9]*$ ]] || die "BOOTSTRAP $BOOTSTRAP must be a whole number above 0"
  [[ $JOBS =~ ^[1-9][0-9]*$ ]] || die "JOBS $JOBS must be a whole number above 0"
  type -P "$PYTHON" >/dev/null || die "PYTHON $PYTHON is not a command"
}

# Names of the engine's runs, METHOD-RATIO-seedSEED, in RUNS.
name_runs() {
  local names
  names=$(PYTHONPATH=$(python_path) "$PYTHON" -c '
import sys
try:
    from local_engine.suite import all_runs, parse_methods, parse_seeds
    print(*(run.directory for run in all_runs(parse_methods(sys.argv[1]), parse_seeds(sys.argv[2]))), sep="\n")
except ImportError as error:
    sys.exit(f"PYTHON {sys.executable}: {error}")
except ValueError as error:
    sys.exit(f"{error}")' "$METHODS" "$SEED" 2>&1) || die "${names##*$'\n'}"
  mapfile -t RUNS <<<"$names"
}

main() {
  local engine prompts=() extra=() score name
  check "$@"
  name_runs
  OUT=${OUT%/} engine=${OUT%/}/engine RUNS_DIR=${OUT%/}/engine/runs TOKENIZER=${OUT%/}/engine/models/student K=$TOPK
  STEPS=$((4 + ${#RUNS[@]} * (1 + ANALYSIS_STEPS_EACH) + ANALYSIS_STEPS))
  [[ -z ${PROMPTS:-} ]] || prompts=(--prompts "$PROMPTS")
  read -ra extra <<<"${ARGS:-}"

  step "teacher, student and ${#RUNS[@]} distillation runs" "$engine/results.json" \
    env "PYTHONPATH=$(python_path)" "$PYTHON" -m local_engine --out "$engine" --methods "$METHODS" --seeds "$SEED" \
    "${prompts[@]}" "${extra[@]}"
  tool export_fixed_context_bank
  step "frozen contexts" "$OUT/contexts.parquet" "${TOOL_WORDS[@]}" \
    --local-engine "$engine" --tokenizer "$TOKENIZER" --output "$OUT/contexts.parquet"

  tool eval_fixed_context_bank
  score=("${TOOL_WORDS[@]}" --context-bank "$OUT/contexts.parquet" --teacher "$engine/models/teacher" --topk "$TOPK")
  [[ -z $EXTRA_TOPK ]] || score+=(--extra-topk "$EXTRA_TOPK")
  step "student before training" "$OUT/before/metrics.parquet" "${score[@]}" \
    --student "$engine/models/student" --output "$OUT/before/metrics.parquet"
  NULL_METRICS=$OUT/before/again.parquet
  begin "student before training, again: the null check" "$NULL_METRICS" "${score[@]}" \
    --student "$engine/models/student" --baseline-metrics "$OUT/before/metrics.parquet" --output "$NULL_METRICS"
  for name in "${RUNS[@]}"; do
    begin "student after $name" "$(metrics_of "$name")" "${score[@]}" --student "$engine/models/$name" \
      --baseline-metrics "$OUT/before/metrics.parquet" --output "$(metrics_of "$name")"
  done
  finish
  analyse_all "$OUT/contexts.parquet" "$OUT/before/metrics.parquet"
  is_on "${DRY_RUN:-0}" || say_what_to_open
}

main "$@"

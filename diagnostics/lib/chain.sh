# shellcheck shell=bash
# What the fixed-context drivers share: steps that are skipped once they are done, progress, the analyses of every run.
#
# Read of the sourcing script: OUT, PYTHON, RUNS (names), STEPS, BOOTSTRAP, TOKENIZER, NULL_METRICS, DRY_RUN.

if ((BASH_VERSINFO[0] < 5)); then
  echo "${0##*/}: error: bash $BASH_VERSION is too old; 5.0 or later is needed" >&2
  exit 2
fi
REPO=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
source "$REPO/launch/lib/commands.sh"
STEP=0
STEPS=0
SPENT=0
SPENT_ON=0
REDONE=0

die() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

is_on() { [[ ${1:-0} == 1 ]]; }

python_path() { printf '%s' "$REPO/launch:$REPO/slime_patch:$REPO/diagnostics${PYTHONPATH:+:$PYTHONPATH}"; }

# step NAME RESULT COMMAND...: runs the command unless RESULT is there and whole: a mark beside it, RESULT.done, holds the
# command that made it. Once a step is done again, so are all after it. Output goes to OUT/logs; of a failed step its end
# is shown.
step() {
  local name=$1 result=$2 mark log words began
  shift 2
  STEP=$((STEP + 1))
  words=$(command_text "$@")
  if is_on "${DRY_RUN:-0}"; then
    printf '\n# %d/%d %s\n%s\n' "$STEP" "$STEPS" "$name" "$words"
    return 0
  fi
  mark=$result.done
  if ((!REDONE)) && [[ -e $result && -f $mark && $(<"$mark") == "$words" ]]; then
    printf '[%d/%d] %s: done before\n' "$STEP" "$STEPS" "$name"
    return 0
  fi
  REDONE=1
  rm -f -- "$mark"
  mkdir -p -- "$OUT/logs" "${result%/*}"
  log=$OUT/logs/$(printf '%02d' "$STEP")-${name//[^A-Za-z0-9._-]/_}.log
  printf '[%d/%d] %s%s\n' "$STEP" "$STEPS" "$name" "$(time_left)"
  began=$EPOCHSECONDS
  if ! run_logged "$log" "$@"; then
    printf '%s: error: %s failed; the same command goes on from here. The end of %s:\n' "${0##*/}" "$name" "$log" >&2
    tail -n 15 -- "$log" | sed 's/^/    | /' >&2
    return 1
  fi
  if ((STEP > 1)); then
    SPENT=$((SPENT + EPOCHSECONDS - began)) SPENT_ON=$((SPENT_ON + 1))
  fi
  printf '%s' "$words" >"$mark.tmp"
  mv -f -- "$mark.tmp" "$mark"
}

# On a terminal a step's own progress is seen; the log has everything either way.
run_logged() {
  local log=$1
  shift
  if [[ -t 1 ]] && is_on "${FOLLOW:-1}"; then
    "$@" 2>&1 | tee -- "$log" | sed 's/^/      /'
  else
    "$@" >"$log" 2>&1
  fi
}

# A guess from the mean of the steps so far, once there are two; not the first, which may train, and tells its own.
time_left() {
  ((SPENT_ON >= 2)) || return 0
  printf ', about %d s left' $((SPENT * (STEPS - STEP + 1) / SPENT_ON))
}

tool() { TOOL_WORDS=(env "PYTHONPATH=$(python_path)" "$PYTHON" "$REPO/tools/$1.py"); }

ANALYSIS_STEPS_EACH=2
ANALYSIS_STEPS=3

metrics_of() { printf '%s/after/%s/fixed_context_metrics.parquet' "$OUT" "$1"; }

# analyse_all CONTEXTS BEFORE: every analysis of every name in RUNS, and a report of each.
analyse_all() {
  local contexts=$1 before=$2 name datasets=() null=()
  local checkpoints=(--input "before=$before")
  for name in "${RUNS[@]}"; do
    datasets+=(--dataset "$name=$(metrics_of "$name")")
    checkpoints+=(--input "$name=$(metrics_of "$name")")
  done
  [[ -z ${NULL_METRICS:-} ]] || null=(--null "$NULL_METRICS")
  for name in "${RUNS[@]}"; do
    tool analyze_fixed_context_gain
    step "gain of $name" "$OUT/analysis/gain/$name/summary.json" "${TOOL_WORDS[@]}" \
      --input "$(metrics_of "$name")" --bootstrap "$BOOTSTRAP" "${null[@]}" --output-dir "$OUT/analysis/gain/$name"
  done
  tool matched_fixed_context_topn
  step "selectors at the same n" "$OUT/analysis/topn/summary.json" "${TOOL_WORDS[@]}" \
    --input-root "$OUT/after" --bootstrap "$BOOTSTRAP" --out-dir "$OUT/analysis/topn"
  tool support_definition_robustness
  step "definitions of support" "$OUT/analysis/support/summary.json" "${TOOL_WORDS[@]}" \
    "${datasets[@]}" --n-boot "$BOOTSTRAP" --output-dir "$OUT/analysis/support"
  tool opd_measures
  step "agreement over training" "$OUT/analysis/measures/summary.json" "${TOOL_WORDS[@]}" \
    "${checkpoints[@]}" --bootstrap "$BOOTSTRAP" --output-dir "$OUT/analysis/measures"
  for name in "${RUNS[@]}"; do
    tool fixed_context_report
    step "report of $name" "$OUT/report/$name/report.html" "${TOOL_WORDS[@]}" \
      --input "$(metrics_of "$name")" --before "$before" --context-bank "$contexts" --dataset "$name" \
      --tokenizer "$TOKENIZER" --title "Which teacher signals $name learned" \
      --analysis "$OUT/analysis/gain/$name" --analysis "$OUT/analysis/topn" --analysis "$OUT/analysis/support" \
      --analysis "$OUT/analysis/measures" --output-dir "$OUT/report/$name"
  done
}

# What to open, last of all.
say_what_to_open() {
  local name
  printf '\nOpen:\n'
  for name in "${RUNS[@]}"; do
    printf '  %s/report/%s/report.html\n' "$OUT" "$name"
  done
  printf '  %-50s %s\n' "$OUT/report/*/figures" "PNG and PDF" "$OUT/analysis" "tables: CSV, Markdown, LaTeX; summary.json" \
    "$OUT/after/*/fixed_context_metrics.parquet" "every token: before, after, gain"
}

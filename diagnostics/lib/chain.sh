# shellcheck shell=bash
# What the fixed-context drivers share: steps that are skipped once they are done, progress, the analyses of every run.
#
# Read of the sourcing script: OUT, PYTHON, RUNS (names), RUNS_DIR (their folders), STEPS, K, BOOTSTRAP, TOKENIZER,
# NULL_METRICS, JOBS, DRY_RUN.

if ((BASH_VERSINFO[0] < 5)); then
  echo "${0##*/}: error: bash $BASH_VERSION is too old; 5.0 or later is needed" >&2
  exit 2
fi
JOBS=${JOBS:-2}
REPO=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd)
source "$REPO/launch/lib/commands.sh"
STEP=0
STEPS=0
DONE=0
BEGAN=
REDONE=0
RUNNING=() # process ids of the steps that were begun, oldest first; the tables below have what is known of each
declare -A NAME_OF=() LOG_OF=() MARK_OF=() WORDS_OF=()
trap end_running EXIT

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
  local name log mark words to_do
  look "$@"
  ((to_do)) || return 0
  shift 2
  if ! run_logged "$log" "$@"; then
    say_failed "$name" "$log"
    return 1
  fi
  mark_done "$mark" "$words"
}

# begin NAME RESULT COMMAND...: as step, beside others, JOBS at a time; finish waits for all that were begun.
begin() {
  local name log mark words to_do
  look "$@"
  ((to_do)) || return 0
  shift 2
  while ((${#RUNNING[@]} >= JOBS)); do
    finish_oldest
  done
  OMP_NUM_THREADS=$(threads_each) "$@" >"$log" 2>&1 &
  RUNNING+=("$!")
  NAME_OF[$!]=$name LOG_OF[$!]=$log MARK_OF[$!]=$mark WORDS_OF[$!]=$words
}

finish() {
  while ((${#RUNNING[@]})); do
    finish_oldest
  done
}

finish_oldest() {
  local id=${RUNNING[0]} failed=0
  wait "$id" || failed=$?
  RUNNING=("${RUNNING[@]:1}")
  if ((failed)); then
    say_failed "${NAME_OF[$id]}" "${LOG_OF[$id]}"
    return 1
  fi
  mark_done "${MARK_OF[$id]}" "${WORDS_OF[$id]}"
}

# Ctrl-C does not reach steps that run beside others.
end_running() {
  local id
  for id in "${RUNNING[@]}"; do
    kill "$id" 2>/dev/null || true
  done
}

# look NAME RESULT COMMAND...: sets the caller's name, log, mark, words and to_do, and says what it begins.
look() {
  local result=$2
  name=$1 to_do=0
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
  REDONE=1 to_do=1
  rm -f -- "$mark"
  mkdir -p -- "$OUT/logs" "${result%/*}"
  log=$OUT/logs/$(printf '%02d' "$STEP")-${name//[^A-Za-z0-9._-]/_}.log
  printf '[%d/%d] %s%s\n' "$STEP" "$STEPS" "$name" "$(time_left)"
  ((STEP == 1)) || BEGAN=${BEGAN:-$EPOCHSECONDS}
}

# mark_done MARK WORDS
mark_done() {
  printf '%s' "$2" >"$1.tmp"
  mv -f -- "$1.tmp" "$1"
  ((STEP == 1)) || DONE=$((DONE + 1))
}

say_failed() {
  printf '%s: error: %s failed; the same command goes on from here. The end of %s:\n' "${0##*/}" "$1" "$2" >&2
  tail -n 15 -- "$2" | sed 's/^/    | /' >&2
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

# A share of the cores for each step that runs beside others.
threads_each() {
  local cores
  cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
  printf '%d' "${OMP_NUM_THREADS:-$((cores > JOBS ? cores / JOBS : 1))}"
}

# A guess from the steps that were done so far, once there are two; not the first, which may train, and tells its own.
time_left() {
  ((DONE >= 2)) || return 0
  printf ', about %d s left' $(((EPOCHSECONDS - BEGAN) * (STEPS - STEP + 1 + ${#RUNNING[@]}) / DONE))
}

tool() { TOOL_WORDS=(env "PYTHONPATH=$(python_path)" "$PYTHON" "$REPO/tools/$1.py"); }

ANALYSIS_STEPS_EACH=5
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
    begin "gain of $name" "$OUT/analysis/gain/$name/summary.json" "${TOOL_WORDS[@]}" \
      --input "$(metrics_of "$name")" --bootstrap "$BOOTSTRAP" "${null[@]}" --output-dir "$OUT/analysis/gain/$name"
    tool analyze_within_q3_teachability
    begin "within Q3, $name" "$OUT/analysis/within_q3/$name/summary.json" "${TOOL_WORDS[@]}" \
      --input "$K:$(metrics_of "$name")" --bootstrap "$BOOTSTRAP" --output-dir "$OUT/analysis/within_q3/$name"
    tool q3_reachability
    begin "reach of the teacher's first choice, $name" "$OUT/analysis/reachability/$name/summary.json" \
      "${TOOL_WORDS[@]}" --input "$(metrics_of "$name")" --bootstrap "$BOOTSTRAP" \
      --output-dir "$OUT/analysis/reachability/$name"
    tool replay_masks
    begin "what other selectors would have kept, $name" "$OUT/analysis/replay/$name/summary.json" "${TOOL_WORDS[@]}" \
      --input "$RUNS_DIR/$name/token_bank" --output-dir "$OUT/analysis/replay/$name"
  done
  tool matched_fixed_context_topn
  begin "selectors at the same n" "$OUT/analysis/topn/summary.json" "${TOOL_WORDS[@]}" \
    --input-root "$OUT/after" --bootstrap "$BOOTSTRAP" --out-dir "$OUT/analysis/topn"
  tool support_definition_robustness
  begin "definitions of support" "$OUT/analysis/support/summary.json" "${TOOL_WORDS[@]}" \
    "${datasets[@]}" --n-boot "$BOOTSTRAP" --output-dir "$OUT/analysis/support"
  tool opd_measures
  begin "agreement over training" "$OUT/analysis/measures/summary.json" "${TOOL_WORDS[@]}" \
    "${checkpoints[@]}" --bootstrap "$BOOTSTRAP" --output-dir "$OUT/analysis/measures"
  finish
  for name in "${RUNS[@]}"; do
    tool fixed_context_report
    begin "report of $name" "$OUT/report/$name/report.html" "${TOOL_WORDS[@]}" \
      --input "$(metrics_of "$name")" --before "$before" --context-bank "$contexts" --dataset "$name" \
      --tokenizer "$TOKENIZER" --title "Which teacher signals $name learned" \
      --analysis "$OUT/analysis/gain/$name" --analysis "$OUT/analysis/within_q3/$name" \
      --analysis "$OUT/analysis/reachability/$name" --analysis "$OUT/analysis/topn" --analysis "$OUT/analysis/support" \
      --analysis "$OUT/analysis/measures" --analysis "$OUT/analysis/replay/$name" --output-dir "$OUT/report/$name"
  done
  finish
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

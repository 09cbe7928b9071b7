# shellcheck shell=bash
# A suite: one lock, its runs in order, a table after each.

# Sets SUITE_DIR and holds its lock until this process ends; nobody who was started inherits it.
open_suite() {
  SUITE_DIR=$(ours -m run_plan suite-dir) || exit $?
  mkdir -p -- "$SUITE_DIR" || die "OUTPUT_ROOT: cannot make $SUITE_DIR"
  { exec 9>>"$SUITE_DIR/.lock"; } 2>/dev/null || die "OUTPUT_ROOT: $SUITE_DIR cannot be written"
  if ! flock --nonblock 9; then
    die "TAG ${SUITE_DIR##*/}: $SUITE_DIR is in use by $(<"$SUITE_DIR/.lock"); wait for it or give another TAG"
  fi
  printf 'process %s on %s\n' "$$" "$(uname -n)" >"$SUITE_DIR/.lock" || die "$SUITE_DIR cannot be written; is the disk full?"
}

# Everything of ours ends with us, however we end; SIGKILL alone leaves that to the next call.
end_with_us() {
  trap clean_up EXIT
  trap INTERRUPTED=130 INT
  trap INTERRUPTED=143 TERM
  trap INTERRUPTED=129 HUP
  # A limit on file sizes is then an error of the write, as a full disk is.
  trap '' XFSZ
}

clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM HUP
  INTERRUPTED=
  [[ -z $CURRENT_JOB ]] || stop_job "$CURRENT_JOB"
  if stop_all_processes && [[ -n ${PROCESSES:-} ]]; then
    rm -f -- "$PROCESSES"
  fi
  [[ -z ${DRY_PLAN:-} ]] || rm -rf -- "$DRY_PLAN"
  exit "$code"
}

end_all_leftovers() {
  local file
  for file in "$SUITE_DIR"/processes.tsv "$SUITE_DIR"/runs/*/processes.tsv; do
    end_leftovers "$file" || die "processes of an earlier call do not end; see $file"
  done
}

# Before GPU-hours are spent: is the patch in the checkout whole?
check_patch() {
  local text
  [[ $BACKEND == slime ]] || return 0
  if ! text=$(ours "$REPO/tools/install_patch.py" verify --slime-dir "$SLIME_DIR" 2>&1); then
    complain "${text##*$'\n'}"
    complain "SLIME_DIR $SLIME_DIR: the patch is not there, or not whole: python tools/install_patch.py apply --slime-dir ..."
    return 1
  fi
}

# Runs the suite of METHOD_LIST and exits: 0 when all runs are finished, 1 when one failed.
run_suite() {
  local name failed=()
  require_commands flock setsid ps awk curl
  open_suite
  end_with_us
  end_all_leftovers
  prepare_plan "$SUITE_DIR"
  load_run "$SUITE_DIR" "${RUNS[0]}"
  check_patch || exit 2
  say "suite $SUITE_DIR: ${#RUNS[@]} runs"
  for name in "${RUNS[@]}"; do
    load_run "$SUITE_DIR" "$name"
    if ! run_one; then
      failed+=("$name")
      complain "$name: failed; the same command tries it again"
    fi
    summarize >/dev/null || complain "warning: no table; see $SUITE_DIR/summary.log"
    if ((${#failed[@]})) && is_on "$STOP_ON_FAILURE"; then
      break
    fi
  done
  if [[ $BACKEND == local ]] && ((${#failed[@]} == 0)); then
    engine_report || complain "warning: no report of all runs"
  fi
  summarize || complain "warning: no table; see $SUITE_DIR/summary.log"
  if ((${#failed[@]})); then
    complain "${#failed[@]} of ${#RUNS[@]} runs failed: ${failed[*]}"
    exit 1
  fi
}

# The table of the whole suite, in summary.csv and summary.md, and on standard output.
summarize() {
  PROCESSES=$SUITE_DIR/processes.tsv
  : >"$SUITE_DIR/summary.log" || return 1
  start_process summary "$SUITE_DIR/summary.log" env "PYTHONPATH=$(python_path)" "$PYTHON" \
    "$REPO/tools/summarize_runs.py" "$SUITE_DIR"
  while is_running summary; do pause 0.1; done
  read_exit_code summary
  stop_process summary || return 1
  rm -f -- "$PROCESSES"
  cat -- "$SUITE_DIR/summary.log"
  return "$EXIT_CODE"
}

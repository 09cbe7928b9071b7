#!/usr/bin/env bash
# The teacher's servers alone, in the foreground, until Ctrl-C; ports and GPUs as in a suite.
#
#   TEACHER_MODEL=... TEACHER_GPU=0 launch/start_teacher.sh [INDEX]
#
# Prints TEACHER_URL, with which run_method_suite.sh uses these servers and starts none.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"

main() {
  local index=${1:-0} logs=${LOG_DIR:-} place
  if (($# > 1)) || [[ ! $index =~ ^[0-9]+$ ]]; then
    die "usage: ${0##*/} [INDEX], a whole number added to the ports"
  fi
  require_commands setsid ps awk curl
  DRY_PLAN=$(mktemp -d "${TMPDIR:-/tmp}/ta-opd-teacher-plan.XXXXXX")
  end_with_us
  unset RUN_LIST SEEDS TEACHER_URL
  METHOD_LIST=pure_opd:1.0:$index BACKEND=slime prepare_plan "$DRY_PLAN" --dry-run --teacher-only
  load_run "$DRY_PLAN" "${RUNS[0]}"
  place=${TMPDIR:-/tmp}/ta-opd-teacher-$UID-$TEACHER_PORT
  RUN_LOGS=${logs:-$place} PROCESSES=$place/processes.tsv
  if is_on "$DRY_RUN"; then
    show_teachers
    exit 0
  fi
  mkdir -p -- "$place" "$RUN_LOGS" || die "LOG_DIR: cannot make $RUN_LOGS"
  end_leftovers "$PROCESSES" || die "servers of an earlier call do not end; see $PROCESSES"
  serve_teachers
}

serve_teachers() {
  say "logs: $RUN_LOGS"
  if start_teachers; then
    printf 'TEACHER_URL=%s\n' "$TEACHER_URLS"
    while watch_teachers; do pause "$LAUNCH_POLL_SECONDS"; done
  fi
  complain "the teacher: $TEACHER_FAULT"
  exit 1
}

main "$@"

#!/usr/bin/env bash
# Trains the student with each method of METHOD_LIST and ends with one table. docs/cluster.md has the variables.
#
#   SLIME_DIR=... TEACHER_MODEL=... STUDENT_HF=... PROMPT_DATA=... launch/run_method_suite.sh
#   DRY_RUN=1 launch/run_method_suite.sh      # every command, and an estimate; runs nothing
#   BACKEND=local launch/run_method_suite.sh  # toy models on this machine's CPU
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"

main() {
  (($# == 0)) || die "no arguments are taken; settings are variables, see docs/cluster.md"
  if wants_dry_run; then
    dry_run
  else
    run_suite
  fi
}

main "$@"

#!/usr/bin/env bash
# METHODS x RATIOS x SEEDS as one suite, such as
#
#   METHODS="teachability random" RATIOS="0.01 0.03 0.10" SEEDS="1 2 3" launch/run_budget_sweep.sh
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/load.sh"

main() {
  local list
  (($# == 0)) || die "no arguments are taken; settings are variables, see docs/cluster.md"
  list=$(ours -m run_plan sweep) || exit $?
  unset RUN_LIST METHODS RATIOS
  METHOD_LIST=$list exec "$REPO/launch/run_method_suite.sh"
}

main "$@"

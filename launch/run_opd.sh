#!/usr/bin/env bash
# One run: run_opd.sh METHOD[:RATIO[:INDEX]]. A suite of one entry; settings are those of run_method_suite.sh.
set -euo pipefail

if (($# != 1)) || [[ $1 == -* ]]; then
  echo "usage: ${0##*/} METHOD[:RATIO[:INDEX]], such as teachability:0.10; settings are variables, see docs/cluster.md" >&2
  exit 2
fi
unset RUN_LIST
METHOD_LIST=$1 exec "$(dirname "${BASH_SOURCE[0]}")/run_method_suite.sh"

#!/usr/bin/env bash
# The suite on a laptop: two methods on toy models, into out/quickstart_suite. No GPU, slime or server needed.
set -euo pipefail

export BACKEND=local
export METHOD_LIST=${METHOD_LIST:-teachability:0.10:10 random:0.10:20}
export TAG=${TAG:-quickstart_suite}
exec "$(dirname "${BASH_SOURCE[0]}")/run_method_suite.sh" "$@"

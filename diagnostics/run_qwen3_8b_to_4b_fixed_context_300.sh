#!/usr/bin/env bash
# Qwen3-8B teaches Qwen3-4B: the released diagnostic recipe, 300 contexts. docs/fixed-context.md has the variables.
#
#   SLIME_DIR=... MODELS_DIR=... PROMPT_DATA=... diagnostics/run_qwen3_8b_to_4b_fixed_context_300.sh
#   DRY_RUN=1 ...    # prints every command
set -euo pipefail
PAIR=qwen3_8b_to_4b
source "$(dirname "${BASH_SOURCE[0]}")/lib/pair.sh"

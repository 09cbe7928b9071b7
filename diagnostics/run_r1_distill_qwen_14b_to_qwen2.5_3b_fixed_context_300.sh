#!/usr/bin/env bash
# DeepSeek-R1-Distill-Qwen-14B teaches Qwen2.5-3B: the released diagnostic recipe, 300 contexts. docs/fixed-context.md has the variables.
#
#   SLIME_DIR=... MODELS_DIR=... PROMPT_DATA=... diagnostics/run_r1_distill_qwen_14b_to_qwen2.5_3b_fixed_context_300.sh
#   DRY_RUN=1 ...    # prints every command
set -euo pipefail
PAIR=r1_distill_qwen_14b_to_qwen2.5_3b
# Other special tokens in the teacher (configs/pairs has more): the scoring must be told to go on.
SCORE_ARGS=${SCORE_ARGS---allow-tokenizer-mismatch}
source "$(dirname "${BASH_SOURCE[0]}")/lib/pair.sh"

"""Convert an iteration of a Megatron checkpoint and score it on a frozen context bank.

    python tools/eval_fixed_context_from_megatron.py --checkpoint-root CKPT --iteration latest --origin-hf-dir HF \\
      --teacher-hf-dir TEACHER --context-bank bank.parquet --baseline-metrics before.parquet --output-dir OUT
"""

from pathlib import Path

from fixed_context.megatron_command import main

if __name__ == "__main__":
    raise SystemExit(main(Path(__file__).with_name("convert_megatron_checkpoint_to_hf.py")))

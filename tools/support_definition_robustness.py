"""The findings under every definition of support (mass, overlap, Jaccard, Bhattacharyya, ...) at every K.

python tools/support_definition_robustness.py --dataset math=math.parquet --dataset code=code.parquet --output-dir audit
"""

from fixed_context.commands.support import main

if __name__ == "__main__":
    raise SystemExit(main())

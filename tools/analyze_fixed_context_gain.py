"""Which teacher signals were learned: regression, Q3 gaps, buckets and the checks against artefacts, on one gain file.

python tools/analyze_fixed_context_gain.py --input after.parquet --output-dir gain
python tools/analyze_fixed_context_gain.py --before before.parquet --after after.parquet --output-dir gain
"""

from fixed_context.commands.gain import main

if __name__ == "__main__":
    raise SystemExit(main())

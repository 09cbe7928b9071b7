"""Overlap ratio, overlap-token advantage, entropy gap and overlap mass along the response and over checkpoints.

python tools/opd_measures.py --input base=before.parquet --input step50=after.parquet --output-dir measures
"""

from fixed_context.commands.measures import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Figures (PNG, PDF) and report.html, one offline file with a token heat map, of one gain file and its analyses.

python tools/fixed_context_report.py --input after.parquet --analysis gain --analysis topn --output-dir report
python tools/fixed_context_report.py --before before.parquet --after after.parquet --analysis gain --output-dir report
"""

from fixed_context.report.command import main

if __name__ == "__main__":
    raise SystemExit(main())

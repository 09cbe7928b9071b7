"""Within Q3 (low entropy, high disagreement): does support separate what was learned?

python tools/analyze_within_q3_teachability.py --input 8:k8.parquet --input 16:k16.parquet --output-dir q3
"""

from fixed_context.commands.q3 import main_within

if __name__ == "__main__":
    raise SystemExit(main_within())

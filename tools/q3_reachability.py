"""Is the teacher's first choice in the student's top K where disagreement is high, before and after training?

python tools/q3_reachability.py --input after.parquet --output-dir reach
"""

from fixed_context.commands.q3 import main_reachability

if __name__ == "__main__":
    raise SystemExit(main_reachability())

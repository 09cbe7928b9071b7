"""Gain or accuracy against the exact budget, all seeds with intervals, from a table of runs.

python tools/plot_budget_accuracy.py --input runs.csv --output-dir plots --metric-col gain --budget-col kept_share
"""

from fixed_context.commands.budget import main

if __name__ == "__main__":
    raise SystemExit(main())

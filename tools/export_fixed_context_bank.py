"""Freeze the student's own contexts into a bank.

    python tools/export_fixed_context_bank.py --debug-rollout-data 'run/rollout_data/*.pt' --output bank.parquet
    python tools/export_fixed_context_bank.py --local-engine out/quickstart --output bank.parquet

Dumps are read without running code that they may carry. Duplicates and empty responses are left out and counted, in
bank.parquet.manifest.json too.
"""

from fixed_context.export_command import main

if __name__ == "__main__":
    raise SystemExit(main())

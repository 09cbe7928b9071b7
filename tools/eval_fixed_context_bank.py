"""Score a frozen context bank with a student and a teacher, token by token.

    python tools/eval_fixed_context_bank.py --context-bank bank.parquet --student STUDENT --teacher TEACHER \\
      --output before.parquet
    python tools/eval_fixed_context_bank.py --context-bank bank.parquet --student TRAINED --teacher TEACHER \\
      --output after.parquet --baseline-metrics before.parquet

A run that was killed goes on where it was; the second one finds the teacher's side in the cache.
"""

from fixed_context.eval_command import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Every selector at exactly the same n on gain files: gain, gain per kept, Q3 share, mean H, D and C, and differences.

python tools/matched_fixed_context_topn.py --input-root out/suite --out-dir topn --ratios 0.01,0.03,0.05,0.10
"""

from fixed_context.commands.topn import main

if __name__ == "__main__":
    raise SystemExit(main())

"""What any selector at any ratio would have kept on a saved token bank, offline: Jaccard, positions, prompt coverage.

python tools/replay_masks.py --input run/token_bank --methods "teachability:0.10 entropy:0.10" --output-dir replay
"""

from fixed_context.commands.replay import main

if __name__ == "__main__":
    raise SystemExit(main())

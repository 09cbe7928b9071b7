import os
import sys

# Before torch starts its threads: where another process wants a core too, threads that spin while they wait make a step
# many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

try:
    from .cli import main

    sys.exit(main())
except KeyboardInterrupt:
    sys.exit(130)

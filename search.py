"""Borderline's one entry: ``python search.py --help``."""

import sys
from pathlib import Path

if __name__ == "__main__":
    from cluster.launched import join_own_cluster
    from search.cli import main

    join_own_cluster(Path(__file__))
    sys.exit(main())

"""Borderline's one entry: ``python search.py --help``."""

import sys

if __name__ == "__main__":
    from search.cli import main

    sys.exit(main())

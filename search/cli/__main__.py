"""The command line of an installed Borderline: ``python -m search.cli``, as ``borderline``."""

import sys

from search.cli import start

sys.exit(start())

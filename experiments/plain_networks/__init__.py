"""Trains plain networks with one recipe and writes a public table of their results.

The table serves audits of the border screen, benchmarks of samplers and models of saved time. The
command is resumable::

    python -m experiments.plain_networks digits

See `experiments/results/README.md` for the columns.
"""

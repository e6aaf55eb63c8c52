"""The parts of `search_quality.py`: tables of trained networks, arms, runs and their results."""

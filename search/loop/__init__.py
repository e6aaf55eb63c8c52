"""Runs the search itself, free of Ray: draws and screens candidates, stops trials, keeps budgets.

Start with `search.loop.trials.Trials`, which a backend drives.
"""

"""Stores what is known of a search: the Optuna study, its database, trial records and locks.

Start with `search.study.study.Study`, through which the driver writes, and
`search.study.records.TrialRecord`, as which every other package reads a trial.
"""

"""Holds what is known of a search: the Optuna study, its database, trial records and locks.

Start with `search.study.study.Study`, the one writer, and `search.study.records`, which reads what
became of a trial.
"""

"""Predicts the time left of a search, from the times of its trainings so far.

The prediction plays the rest of the search several times: running and further trials on the workers
that the search really keeps busy, early stopping by the rates so far, budgets, and the rounds of
finalists. ``benchmarks/time_left`` compares it with recorded and simulated searches.
"""

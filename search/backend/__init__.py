"""Trains trials on a Ray cluster with Ray Tune; every import of Ray is here.

Start with `search.backend.tuning`; `search.backend.tune_searcher` and
`search.backend.tune_scheduler` connect Tune to the study.
"""

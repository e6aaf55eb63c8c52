"""Trains trials on a Ray cluster with Ray Tune; every import of Ray is here.

Start with `search.backend.tuning`; `search.backend.searcher` and `search.backend.scheduler` connect
Tune to the study.
"""

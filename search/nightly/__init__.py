"""Continues a search every night and promotes a better finalist to champion in MLflow.

Start with `search.nightly.night.run_night`; `search.study.significance` decides on a promotion.
"""

"""Continues a search every night and promotes its best finalist over the champion in MLflow.

Start with `search.nightly.night.run_night`; `search.nightly.significance` decides on a promotion.
"""

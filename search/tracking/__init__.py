"""Records every event in a local journal and replays it into MLflow in a process of its own.

Start with `search.tracking.journal`, then `search.tracking.tracker`, the process. Only
`local_store`, `mlflow_runs` and `mlflow_errors` import MLflow.
"""

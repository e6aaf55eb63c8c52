"""Records every event of a search in a local journal and replays it into MLflow in its own process.

Start with `search.tracking.journal`, then `search.tracking.tracking_process`, the process. Only
`local_store`, `mlflow_runs` and `mlflow_errors` import MLflow.
"""

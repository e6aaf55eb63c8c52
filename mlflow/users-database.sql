-- Users lie apart from runs: two tools of MLflow's make and upgrade them.
CREATE DATABASE mlflow_auth OWNER mlflow;

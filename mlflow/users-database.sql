-- Users need a database of their own: MLflow creates and upgrades users and runs with two tools.
CREATE DATABASE mlflow_auth OWNER mlflow;

"""Describes where a search runs: storage in S3, the fraction of a GPU per trial, timers, AWS.

The folder also holds the cluster and Kubernetes files; the package imports no other one.
"""

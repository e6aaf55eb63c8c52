"""Describes where a search runs: storage in S3, the fraction of a GPU per trial, timers, AWS."""

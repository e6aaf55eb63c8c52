"""Copies a search to an S3 bucket while it runs and restores it on another machine.

Start with `search.backup.backup`; `search.backup.snapshots` says what is copied and when.
"""

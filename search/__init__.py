"""The driver: draws, screens, trains, tracks and reports a search.

Each package below imports only those under it: nightly, driver, reporting, backend, tracking,
backup, loop, study, experiment, and the modules of this folder; `search.cli` imports them all.
"""

"""Defines what the user asks for: the schema of an experiment file and the folder of a search.

Start with `search.experiment.schema` (the fields) and `search.experiment.loading` (files and
overrides).
"""

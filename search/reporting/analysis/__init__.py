"""The parts of the command `analyze`: networks, their documents, tables, pictures and checks.

`search.reporting.analysis.document` holds the records, whose schema is published.
"""

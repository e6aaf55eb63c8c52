"""The commands that print or write files to start from: `schema`."""

from __future__ import annotations

from search.cli.application import app, as_json


@app.command(epilog="Example: python search.py schema > experiment.schema.json")
def schema() -> int:
    """Print the JSON Schema of the experiment file, by which an editor completes and checks it."""
    from search.experiment.json_schema import experiment_schema

    as_json(experiment_schema())
    return 0

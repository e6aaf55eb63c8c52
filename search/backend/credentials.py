"""What trials are not handed: Ray would show it to everyone on their machines."""

from __future__ import annotations

from ray.tune.execution import class_cache


def withhold_credentials() -> None:
    """Have Ray Tune pass on no credentials of S3 from the driver to its trials.

    It would do so in the command of each trial's process, which every user of the node can read,
    and Ray writes that into its logs. Trials find credentials where their nodes have them.
    """
    names = class_cache.ENV_VARS_TO_PROPAGATE
    names -= {name for name in names if name.startswith("AWS_")}

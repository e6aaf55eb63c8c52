"""The stored probes of a search's networks: a JSON file and a picture for each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.files import write_atomically
from trainables.probes.records import NetworkProbes

CHAMPION = "champion"


def trial_name(number: int) -> str:
    """Return the name of the probes of a trial."""
    return f"trial-{number}"


class ProbeStore:
    """The probes in a folder.

    Args:
        folder: of the files; created with the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, probes: NetworkProbes, picture: str) -> Path:
        """Store probes and their picture (SVG) atomically, and return the path of the picture.

        Raises:
            OSError: they could not be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        drawn = self._folder / f"{name}.svg"
        write_atomically(drawn, picture)
        write_atomically(self._folder / f"{name}.json", probes.to_json())
        return drawn

    def read(self, name: str) -> NetworkProbes | None:
        """Return stored probes; None if they are missing or damaged."""
        with suppress(OSError, ValueError):
            return NetworkProbes.from_json((self._folder / f"{name}.json").read_bytes())
        return None

    def all(self) -> Iterator[tuple[str, NetworkProbes]]:
        """Yield the names and probes of all networks, by number of the trial."""
        names = [path.stem for path in self._folder.glob("*.json")]
        for name in sorted(
            names, key=lambda each: (int((re.findall(r"\d+", each) or [0])[0]), each)
        ):
            probes = self.read(name)
            if probes is not None:
                yield name, probes

"""Small images of a search for its report, stored in its folder because the data may move."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.files import write_atomically

_EXAMPLES, _WRONG = "examples", "wrong"


@dataclass(frozen=True)
class Picture:
    """A small image.

    Attributes:
        png: content of a PNG file in base64.
        true: name of its class.
        predicted: name of the class that the winner predicts; empty for an example.
        confidence: of this prediction, 0..1.
    """

    png: str
    true: str
    predicted: str = ""
    confidence: float = 0.0

    @classmethod
    def of(cls, content: bytes, true: str, predicted: str = "", confidence: float = 0.0) -> Picture:
        """Return the picture of a PNG file's content."""
        return cls(base64.b64encode(content).decode("ascii"), true, predicted, confidence)

    @property
    def uri(self) -> str:
        """The image as an address that needs no file."""
        return f"data:image/png;base64,{self.png}"


class PictureStore:
    """Stores the example images, and those of the winner's most confident errors.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write_examples(self, pictures: Sequence[Picture]) -> None:
        """Store examples of the classes."""
        self._write(pictures, self.wrong())

    def write_wrong(self, pictures: Sequence[Picture]) -> None:
        """Store test images that the winner gets wrong, the most confident error first."""
        self._write(self.examples(), pictures)

    def _write(self, examples: Sequence[Picture], wrong: Sequence[Picture]) -> None:
        content = {
            _EXAMPLES: [asdict(each) for each in examples],
            _WRONG: [asdict(each) for each in wrong],
        }
        write_atomically(self._path, json.dumps(content))

    def examples(self) -> Sequence[Picture]:
        """Return examples of the classes; none if they are not stored."""
        return self._read(_EXAMPLES)

    def wrong(self) -> Sequence[Picture]:
        """Return the test images that the winner gets wrong, the most confident error first."""
        return self._read(_WRONG)

    def _read(self, key: str) -> Sequence[Picture]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return [Picture(**each) for each in content[key]]
        except (OSError, ValueError, TypeError, KeyError):
            return []

"""Makes the picture of a report in the README: ``python -m docs.report_picture REPORT``.

It needs the Debian package chromium. REPORT is the page of a search, such as
``runs/quickstart/report.html`` after ``make demo``.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

TARGET = Path(__file__).parent / "report.png"
_SIZE = (1280, 880)
_COLOURS = 64


def take_picture(report: Path, target: Path = TARGET) -> None:
    """Write a small picture of the head of a page.

    Args:
        report: the page.
        target: PNG file to write.

    Raises:
        OSError: there is no chromium, or it made no picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        subprocess.run(  # noqa: S603 - a page of the user
            [  # noqa: S607 - chromium lies on the path
                "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                f"--user-data-dir={folder}/profile",
                f"--window-size={_SIZE[0]},{_SIZE[1]}",
                f"--screenshot={shot}",
                report.resolve().as_uri(),
            ],
            check=True,
            capture_output=True,
        )
        with Image.open(shot) as picture:
            picture.convert("RGB").quantize(_COLOURS).save(target, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    take_picture(parser.parse_args().report)

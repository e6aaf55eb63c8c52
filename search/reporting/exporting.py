"""The command `export`: a trained network as files that need nothing of Borderline."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.table import Table

from search.console import note, say
from search.formatting import plural
from search.reporting.predicting import subject_of
from search.reporting.trained_networks import SearchNetworks, TrainedNetwork, best_seed
from spaces.errors import BadInputError
from trainables.export.names import FILES, README_FILE, Pixels
from trainables.export.preprocessing import Preprocessing
from trainables.specs import FinalistResult

if TYPE_CHECKING:
    from trainables.export.checking import CheckedForm


@dataclass(frozen=True)
class ExportRequest:
    """What the user asks for.

    Attributes:
        to: folder of the files.
        ensemble: whether all seeds predict together.
        seed: of the network; None for the best on validation.
        pixels: type of the input images, as given.
        int8: whether to write a quantised model, too.
        images: most test images on which the files are checked.
    """

    to: Path
    ensemble: bool
    seed: int | None
    pixels: str
    int8: bool
    images: int

    def check(self) -> None:
        """Check what needs no search.

        Raises:
            BadInputError: an option cannot be used.
        """
        if self.pixels not in get_args(Pixels):
            problem, remedy = "is unknown", f"use {' or '.join(get_args(Pixels))}"
            raise BadInputError("--input", self.pixels, problem, remedy)
        if self.ensemble and self.seed is not None:
            problem = "--ensemble takes all seeds"
            raise BadInputError("--seed", self.seed, problem, "use one of the two")
        if not self.to.exists():
            return
        if not self.to.is_dir():
            raise BadInputError("--to", self.to, "is a file", "name a folder")
        if any(self.to.iterdir()) and not _is_export(self.to):
            problem = "the folder has other files"
            raise BadInputError("--to", self.to, problem, "name a new folder")

    def choose(self, results: Sequence[FinalistResult]) -> Sequence[FinalistResult]:
        """Choose the trainings of a finalist or champion; see `trained_networks.Choice`.

        Raises:
            BadInputError: none of them has the seed.
        """
        if self.ensemble:
            return results
        if self.seed is None:
            return best_seed(results)
        chosen = [result for result in results if result.seed == self.seed]
        if not chosen:
            seeds = ", ".join(str(result.seed) for result in results)
            problem = "the network was not trained with this seed"
            raise BadInputError("--seed", self.seed, problem, f"use one of {seeds}")
        return chosen


def export_networks(
    networks: SearchNetworks,
    found: Sequence[TrainedNetwork],
    request: ExportRequest,
    console: Console,
) -> None:
    """Write, check and describe the files of networks.

    Args:
        networks: the search.
        found: networks of one candidate.
        request: of the user.
        console: shows the result.

    Raises:
        BadInputError: the networks are not what was asked for, or files cannot be written.
        DifferentAnswersError: a file does not compute what the network computes.
    """
    from search.reporting.model_card import describe, title
    from trainables.export.folder import FormChoice, write_folder

    first = found[0]
    if not first.results and (request.ensemble or request.seed is not None):
        option = "--ensemble" if request.ensemble else "--seed"
        problem = f"{first.title} is no finalist and was trained once"
        raise BadInputError(option, networks.reference, problem, "leave the option out")
    subject = subject_of(networks, found, request.images)
    earlier = earlier_export(request.to)
    pixels: Pixels = "uint8" if request.pixels == "uint8" else "float"
    with replacing(request.to) as folder:
        written = write_folder(
            subject,
            folder,
            FormChoice(pixels, request.int8),
            title(networks, found),
            lambda forms: describe(networks, found, subject, forms),
            note,
        )
    for line in (*(each.note for each in found), *written.left_out):
        if line:
            say(console, line)
    say(console, f"{title(networks, found)} on {len(subject.rows):,} test images:")
    console.print(_table(written.checked), highlight=False)
    if earlier:
        say(console, f"\nReplaced: the earlier export in {request.to} ({earlier})")
    say(console, f"\nExported: {request.to}\nUse it:   {request.to / README_FILE}")


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a folder whose files then replace those of an earlier export, all of them or none."""
    try:
        place = target.resolve()  # "." has no name.
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        try:
            yield aside
            target.mkdir(exist_ok=True)
            for name in FILES:
                if (aside / name).exists():
                    (aside / name).replace(target / name)
                else:
                    (target / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
        raise BadInputError("--to", target, problem, "name a folder to write to") from error


def _is_export(folder: Path) -> bool:
    """Tell whether an export may replace the files of a folder."""
    try:
        Preprocessing.read(folder)
    except BadInputError:
        return False
    return True


def earlier_export(folder: Path) -> str:
    """Return which networks an earlier export holds; empty if there is none."""
    if not folder.is_dir() or not _is_export(folder):
        return ""
    try:
        first = (folder / README_FILE).read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return "without a README"
    return first.removeprefix("# ")


def _table(forms: Sequence[CheckedForm]) -> Table:
    table = Table(box=None, header_style="dim")
    for column in ("file", "size", "largest difference", "accuracy", "ms per image", "runs with"):
        table.add_column(column, justify="left" if column in ("file", "runs with") else "right")
    for form in forms:
        other = f" ({plural(form.other_answers, 'other answer')})" if form.other_answers else ""
        table.add_row(
            form.name,
            f"{form.bytes / 1e3:,.0f} kB",
            f"{form.difference:.1e}{other}",
            f"{form.accuracy:.4f}",
            f"{form.latency_ms:.3f}",
            form.runtime,
        )
    return table

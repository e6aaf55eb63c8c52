"""The command `probe`: what each convolution of a trained network contributes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.files import write_atomically
from search.console import note, warn
from search.experiment.folder import Home, SearchFolder
from search.experiment.training_spec import load_images
from search.reporting.probe_table import show_probes
from search.reporting.trained_networks import SearchNetworks, TrainedNetwork
from search.study.file_lock import hold
from search.study.probes import CHAMPION, ProbeStore, trial_name
from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT
from search.tracking.journal_reader import last_status
from search.tracking.probe_events import record_probes
from search.tracking.probe_plot import probe_plot
from spaces.errors import BadInputError
from trainables.probes.records import (
    PROBES,
    NetworkProbes,
    Probe,
    check_probes,
)

if TYPE_CHECKING:
    from trainables.probes.probing import ProbeSettings


@dataclass(frozen=True)
class ProbeRequest:
    """What the user asks for.

    Attributes:
        network: as named by the user.
        images: most images of each split.
        only: names of probes with commas between; None for all.
        out: folder of picture and data; None for that of the search.
        json_file: further file for the data.
        device: name of the device; None for that of the search.
    """

    network: str
    images: int
    only: str | None
    out: Path | None
    json_file: Path | None
    device: str | None

    @property
    def probes(self) -> tuple[Probe, ...]:
        """The requested probes.

        Raises:
            BadInputError: a name is unknown.
        """
        if self.only is None:
            return PROBES
        names = [name.strip() for name in self.only.split(",") if name.strip()]
        return check_probes(names, "--only")

    def is_own_network(self, home: Home) -> bool:
        """Tell whether the name is that of a user's module rather than of a search."""
        name, colon, attribute = self.network.partition(":")
        if not colon or home.folder(name).experiment.exists():
            return False
        return not (attribute == CHAMPION or (attribute.isascii() and attribute.isdigit()))

    def refuse_options_of_own_networks(
        self, data: str | None, resolution: int | None, weights: Path | None, normalize: str
    ) -> None:
        """Check that no option is given that a search determines itself.

        Raises:
            BadInputError: one is given.
        """
        for option, value, default in (
            ("--data", data, None),
            ("--resolution", resolution, None),
            ("--weights", weights, None),
            ("--normalize", normalize, "data"),
        ):
            if value != default:
                problem = f"{self.network} is a network of a search, which determines it"
                raise BadInputError(option, value, problem, "leave it out")

    def write(self, probes: NetworkProbes, name: str, folder: Path | None) -> NetworkProbes:
        """Write the files of the probes, and name them.

        Stored probes of the same weights and images stay, apart from those asked for.

        Returns:
            The probes as stored.

        Raises:
            BadInputError: they cannot be written.
        """
        folder = self.out or folder
        stored = probes
        try:
            if folder is not None:
                store = ProbeStore(folder)
                stored = self._with_stored(probes, store.read(name))
                note(f"picture: {store.write(name, stored, probe_plot(stored))}")
            if self.json_file is not None:
                write_atomically(self.json_file, probes.to_json())
                note(f"data: {self.json_file}")
        except OSError as error:
            where = self.out or self.json_file or folder
            problem = f"cannot be written ({error.strerror})"
            raise BadInputError("--out", where, problem, "name a folder to write to") from None
        return stored

    def _with_stored(self, probes: NetworkProbes, known: NetworkProbes | None) -> NetworkProbes:
        """Return probes with those of a former command; say which ones are replaced."""
        if known is None:
            return probes
        if not known.is_of_same_network(probes):
            note(
                f"replaced: the stored probes of {known.title} ({known.weights}), measured on "
                f"{known.images:,} {known.split} images"
            )
            return probes
        if self.probes != PROBES:
            note(f"replaced: {', '.join(self.probes)}; the other stored probes stay")
        return probes.replacing(known, self.probes)


def show_progress(probe: str) -> None:
    """Print the probe that is being made."""
    note(f"measuring {probe} ..")


def probe_own(
    request: ProbeRequest,
    data: str | None,
    resolution: int | None,
    weights: Path | None,
    normalize: str,
    console: Console,
) -> None:
    """Probe a user's own network.

    Raises:
        BadInputError: network, weights, images or an option cannot be used.
    """
    probes = request.probes
    if data is None:
        problem = "is a network of your own, whose images are unknown"
        remedy = "add --data images:PATH, or name a search"
        raise BadInputError("NETWORK", request.network, problem, remedy)
    from search.experiment.loading import parse_experiment
    from trainables.probes.images import NORMALISATIONS
    from trainables.probes.modules import probe_module
    from trainables.probes.probing import ProbeSettings

    known = {each: each for each in NORMALISATIONS}
    if normalize not in known:
        remedy = f"use {', '.join(known)}"
        raise BadInputError("--normalize", normalize, "unknown normalisation", remedy)
    fields = {"data": data} | ({} if resolution is None else {"resolution": resolution})
    dataset = load_images(parse_experiment(fields), console)
    settings = ProbeSettings(probes, request.images, "validation", known[normalize])
    device = request.device or "auto"
    found = probe_module(request.network, weights, dataset, settings, device, show_progress)
    show_probes(found, console)
    request.write(found, request.network.replace(":", "-"), None)


class SearchProbing:
    """Probes networks of a stored search.

    Args:
        request: of the user.
        home: folder of all searches.
        console: shows the decoding of images.

    Raises:
        BadInputError: there is no such search, or a probe is unknown.
    """

    def __init__(self, request: ProbeRequest, home: Home, console: Console) -> None:
        self.request = request
        self.probes = request.probes
        self.home = home
        self.console = console
        self.networks = SearchNetworks(home, request.network, console, request.device)
        self.stored = self.networks.stored
        self.folder: SearchFolder = self.networks.folder

    def settings(self, split: str) -> ProbeSettings:
        """Return the settings of the probes on a split."""
        from trainables.probes.probing import ProbeSettings

        rule = self.stored.experiment.screens.rule
        return ProbeSettings(self.probes, self.request.images, split, "data", rule)

    def probe(self, network: TrainedNetwork) -> NetworkProbes:
        """Probe a network on the split on which its accuracy is reported."""
        from trainables.probes.probing import probe_network
        from trainables.training.device import select_device

        found = probe_network(
            network.module,
            network.dataset,
            self.settings(network.split),
            select_device(self.networks.spec.device).device,
            title=network.title,
            weights=network.origin,
            architecture=network.architecture,
            progress=show_progress,
        )
        return replace(found, notes=(*found.notes, network.note)) if network.note else found

    def finish(self, found: NetworkProbes, name: str, run: str) -> None:
        """Print, store and track probes.

        Args:
            found: the probes.
            name: of their files.
            run: key of the run of the network; `PARENT` for files without metrics.
        """
        show_probes(found, self.console)
        stored = self.request.write(found, name, self.folder.probes)
        if self.stored.experiment.tracking.enabled:
            self._track(stored, found, name, run)

    def _track(self, stored: NetworkProbes, found: NetworkProbes, name: str, run: str) -> None:
        from search.tracking.tracking_process import Destination, sync

        folder = self.folder
        experiment = self.stored.experiment.tracking.experiment
        try:
            with hold(folder.lock, folder.name):
                ending = last_status(folder.journal)
                with Journal(folder.journal) as journal:
                    record_probes(
                        journal,
                        run,
                        stored,
                        name=f"probes/{name}" if run == PARENT else "probes",
                        measured=found,
                        metrics=run != PARENT,
                    )
                    if ending is not None:
                        journal.finish(PARENT, ending)
                sync(
                    folder.journal,
                    Destination.of_search(folder, experiment),
                    folder.identity,
                )
        except Exception as error:  # Tracking must not fail the command.
            cause = " ".join(f"{error}".split()) or type(error).__name__
            warn(f"the probes are not in MLflow yet: {cause}")


def probe_search(request: ProbeRequest, home: Home, console: Console) -> None:
    """Probe the best finalist of a search, or one of its trials.

    Raises:
        BadInputError: there is no such search or trial, it has no trained network, or its images
            have changed.
    """
    probing = SearchProbing(request, home, console)
    networks = probing.networks
    found = probing.probe(networks.load()[0])
    if networks.additional is not None:
        probing.finish(found, networks.additional.key, PARENT)
        return
    number = networks.trial.number
    run = f"finalist-{number}" if networks.results else str(number)
    probing.finish(found, trial_name(number), run)

"""What an export says about its network: data, protocol, accuracy and costs."""

from __future__ import annotations

from collections.abc import Sequence

from search.reporting.trained_networks import SearchNetworks, TrainedNetwork
from search.study.finalists import Finalist
from spaces.border import find_border
from spaces.costs import costs
from trainables.export.checking import CheckedForm
from trainables.export.readme import ModelCard
from trainables.export.subject import ExportSubject
from trainables.folds import Folds


def describe(
    networks: SearchNetworks,
    found: Sequence[TrainedNetwork],
    subject: ExportSubject,
    forms: Sequence[CheckedForm],
) -> ModelCard:
    """Return the model card of an export.

    Args:
        networks: the search.
        found: the exported networks.
        subject: of the export.
        forms: as checked; the first computes what the network computes.
    """
    return ModelCard(
        title(networks, found),
        tuple(_data(networks, subject)),
        tuple(_protocol(networks, found)),
        tuple(_accuracy(networks, found, subject, forms)),
        tuple(_costs(networks, found)),
    )


def title(networks: SearchNetworks, found: Sequence[TrainedNetwork]) -> str:
    """Return the exported networks in words."""
    own = found[0].title
    ensemble = f", ensemble of {len(found)} seeds" if len(found) > 1 else ""
    return f"{own[0].upper()}{own[1:]} of {networks.name}{ensemble}"


def _data(networks: SearchNetworks, subject: ExportSubject) -> list[str]:
    dataset, experiment = subject.dataset, networks.stored.experiment
    height, width, channels = dataset.shape
    kind = "greyscale" if channels == 1 else "RGB"
    lines = [
        f"Source: `{experiment.data}`; {len(dataset.classes)} classes of {height}x{width} {kind} "
        f"images.",
        f"Images: {len(dataset.train):,} for training, {len(dataset.validation):,} for validation, "
        f"{len(dataset.test):,} for test.",
    ]
    if known := networks.folder.data:
        lines.append(f"Digest of images, classes and splits: `{known.digest}`.")
    return lines


def _protocol(networks: SearchNetworks, found: Sequence[TrainedNetwork]) -> list[str]:
    first, spec = found[0], networks.spec
    additional = networks.additional
    weights = additional.weights if additional is not None else ""
    start = f"from the weights of {networks.name}:{weights}" if weights else "from scratch"
    lines = [f"Training: {spec.epochs} epochs {start}; {', '.join(n.origin for n in found)}."]
    if additional is not None:
        lines.append(f"{networks.title[0].upper()}{networks.title[1:]}, with fresh seeds.")
    elif first.results:
        lines.append(
            "The search chose the network by its accuracy on validation. Fresh trainings with "
            "other seeds were then scored on test images that the search never used."
        )
    else:
        lines.append(
            "The trial is no finalist: it was trained once, as in the search, and the search "
            "compared it on validation."
        )
    if isinstance(spec.data.validation, Folds):
        lines.append("Each network was trained without one fold of the training images.")
    if spec.test_time_flip:
        lines.append("Predictions are averaged over each image and its mirror image.")
    return lines


def _accuracy(
    networks: SearchNetworks,
    found: Sequence[TrainedNetwork],
    subject: ExportSubject,
    forms: Sequence[CheckedForm],
) -> list[str]:
    first, lines = found[0], []
    if first.results:
        finalist = Finalist(0, first.results)
        seeds = len(first.results)
        spread = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "one seed"
        lines.append(f"Test accuracy of the candidate: {finalist.shown} ({spread}).")
        mine = {result.seed: result.test_accuracy for result in first.results}
        lines += [f"Test accuracy with seed {n.seed}: {mine[n.seed]:.4f}." for n in found]
    lines.append(
        f"Accuracy of the exported files on {len(subject.rows):,} of {len(subject.dataset.test):,} "
        f"test images: {forms[0].accuracy:.4f}."
    )
    if baseline := networks.folder.baseline:
        lines.append(
            f"For comparison: a guess reaches {baseline.guess_test:.4f}, logistic regression on "
            f"the pixels {baseline.test:.4f}."
        )
    lines.append("These numbers hold for images of the same kind as those of the data.")
    return lines


def _costs(networks: SearchNetworks, found: Sequence[TrainedNetwork]) -> list[str]:
    architecture, count = found[0].architecture, len(found)
    each = costs(architecture)
    rule = networks.stored.experiment.screens.rule
    border = find_border(architecture, rule).border
    return [
        f"Parameters: {count * each.params:,}.",
        f"Multiply-accumulates per image: {count * each.macs:,}.",
        f"Predicted border layer: {border or 'none'} ({rule.value}).",
    ]

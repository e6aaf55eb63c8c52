"""Checks a space before anything is written, with random candidates that are not stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.samplers import RandomSampler

from search.experiment.metrics import check_metrics
from search.experiment.schema import Experiment
from search.experiment.training_length import TrainingLength
from search.experiment.training_spec import describe_task, describe_training
from search.experiment.unused_settings import unused_settings
from search.formatting import plural
from search.loop.baseline_networks import check_baselines
from search.loop.samplers import check_sampler
from search.loop.screens import Screen, build_screens, judge, reject_invalid
from search.study.records import Rejection
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.named import named_params, seed_params
from spaces.options import choices
from spaces.recipe import recipe
from spaces.task import Task
from trainables.data import Dataset
from trainables.specs import TrainingSpec

DRAWS = 1000
NEEDED = 5
"""Accepted candidates among ``DRAWS``; with fewer, a search would spend its time on drawing."""
_TRIED = 8
"""Images on which the user's augmentation is tried."""
REBUILDS = 3
"""Times that each candidate is rebuilt: of two networks, chance alone may draw the same again."""
SCHEDULE_DRAWS = 100
"""Draws of each schedule that are checked against the number of epochs."""


class FewCandidatesError(BadInputError):
    """The screens reject almost every candidate of a space."""


@dataclass(frozen=True)
class Prepared:
    """A search that passed every check but `check_space`, before anything is written.

    Attributes:
        experiment: with all settings that follow from its images.
        spec: of every training.
        space: of all candidates.
        screens: that judge them.
        seeds: parameters of the networks to try first.
        summary: the search in a line for people.
    """

    experiment: Experiment
    spec: TrainingSpec
    space: CandidateSpace
    screens: Sequence[Screen]
    seeds: Sequence[Mapping[str, Any]]
    summary: str

    def remarks(self, training_images: int) -> list[str]:
        """Return lines for people about short trainings and settings without effect."""
        warning = TrainingLength.of(self.experiment, training_images).warning
        return [line for line in (warning, *unused_settings(self.experiment)) if line]

    def check_space(self, training_images: int) -> None:
        """See `check_space`."""
        check_space(
            self.space,
            self.screens,
            training_images=training_images,
            epochs=self.experiment.whole_epochs,
            seed=self.experiment.seed,
        )


def prepare(experiment: Experiment, dataset: Dataset, *, resumed: bool = False) -> Prepared:
    """Return what a search needs, checked against its images.

    Args:
        experiment: with all settings that follow from its images.
        dataset: its images.
        resumed: whether the search exists; an older one may repeat names in `enqueue`.

    Raises:
        BadInputError: naming the field and what to change.
    """
    spec = describe_training(experiment, describe_task(dataset))
    spec.augmentation.check(spec.task.height, spec.task.width)
    check_metrics(experiment.metrics, spec.folders, spec.task.classes)
    if spec.augmentation.function is not None:
        # Imports torch, which takes seconds.
        from trainables.training.augmentation import check_user_augmentation  # noqa: PLC0415

        some = dataset.images[dataset.train[:_TRIED]]
        check_user_augmentation(spec.augmentation.function, spec.folders, some)
    check_baselines(experiment.baselines, spec.task)
    space = spec.candidates()
    check_sampler(experiment, space)
    summary = (
        f"search {experiment.name}: {dataset!r} from {experiment.data}; space {space.name}; "
        f"border screen {experiment.screens.border.value}; "
        f"{plural(experiment.budget.trials, 'trial')} of up to "
        f"{plural(experiment.whole_epochs, 'epoch')}"
    )
    options = experiment.space.options
    seeds = find_seeds(experiment.enqueue, space.name, spec.task, options, resumed=resumed)
    return Prepared(experiment, spec, space, build_screens(experiment.screens), seeds, summary)


def find_seeds(
    names: Sequence[str],
    family: str,
    task: Task,
    options: Mapping[str, Any],
    *,
    resumed: bool = False,
) -> list[dict[str, Any]]:
    """Return the parameters of the named networks with which a search starts.

    Args:
        names: of the networks.
        family: searched family.
        task: task of the search.
        options: space options of the search.
        resumed: whether the search exists; an older one may repeat names.

    Raises:
        BadInputError: no such network exists, the space does not include it, or a new search names
            it twice.
    """
    for name, count in Counter(names).items():
        if count > 1 and not resumed:
            remedy = "name each network once"
            raise BadInputError("enqueue", name, f"is named {count} times", remedy)
    for name in names:
        if named_params(name)[0] != family:
            problem = f"is a {named_params(name)[0]}, but the space is {family}"
            raise BadInputError("enqueue", name, problem, "name networks of the searched family")
    return [seed_params(name, task, options) for name in names]


def check_space(
    space: CandidateSpace,
    screens: Sequence[Screen],
    *,
    training_images: int,
    epochs: int,
    seed: int = 0,
) -> None:
    """Refuse a space that fails, or of which the screens accept almost nothing.

    Args:
        space: to draw from.
        screens: that reject candidates.
        training_images: size of the training split; no batch may be larger.
        epochs: length of a whole training; every schedule must fit it.
        seed: of the draws.

    Raises:
        BadInputError: naming the field and what to change.
        FewCandidatesError: the screens accept almost nothing.
    """
    study = Study("preflight", RandomSampler(seed=seed))
    recipe(study.ask(), space.task, **space.recipe_options)  # Refuses invalid options.
    _check_schedules(space, study, epochs)
    sizes = space.recipe_options.get("batch_size", 0)
    largest = max(sizes) if isinstance(sizes, list) and sizes else 0
    if isinstance(largest, int) and largest > training_images:
        problem = f"there are only {training_images:,} training images"
        raise BadInputError(
            "recipe.batch_size", largest, problem, "use smaller batches or more data"
        )
    reasons: Counter[str] = Counter()
    examples: dict[str, str] = {}
    accepted = 0

    def count(rejection: Rejection) -> None:
        reasons[rejection.reason] += 1
        examples.setdefault(rejection.reason, rejection.detail)

    for _ in range(DRAWS):
        trial = study.ask()
        try:
            candidate = space.draw(trial)
        except InvalidCandidateError as error:
            space.check_rebuild(trial.params, None)
            count(reject_invalid(error))
            continue
        if candidate.recipe.batch_size > training_images:
            problem = f"there are only {training_images:,} training images"
            remedy = "use a smaller batch or more of the data"
            raise BadInputError("recipe.batch_size", candidate.recipe.batch_size, problem, remedy)
        candidate.recipe.schedule.check(epochs)
        space.check_output(candidate)
        for _ in range(REBUILDS):
            space.check_rebuild(trial.params, candidate)
        rejection = judge(candidate, screens)
        if rejection is None:
            accepted += 1
            if accepted == NEEDED:
                return
        else:
            count(rejection)
    counts = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
    reason = reasons.most_common(1)[0][0]
    problem = (
        f"the screens reject {DRAWS - accepted:,} of {DRAWS:,} random candidates ({counts}; "
        f"e.g. {examples[reason]})"
    )
    raise FewCandidatesError("space", space.name, problem, _REMEDIES[reason])


def _check_schedules(space: CandidateSpace, study: Study, epochs: int) -> None:
    """Refuse schedules that do not fit the epochs, including rarely drawn ones.

    Raises:
        BadInputError: naming the field and what to change.
    """
    options = space.recipe_options
    if "schedule" not in options:
        return  # The default fits every length.
    for name in dict.fromkeys(choices(options["schedule"])):
        for _ in range(SCHEDULE_DRAWS):
            drawn = recipe(study.ask(), space.task, **{**options, "schedule": name})
            drawn.schedule.check(epochs)


_REMEDIES = {
    "border": "search less depth, fewer pools or smaller kernels, raise the resolution, or set "
    "screens.border to truncate",
    "collapsed": "search fewer pools, or raise the resolution",
    "invalid": "search values that more often describe a network",
    "untrainable": "search networks with batch norms, or set recipe.trainable to all",
    "params": "search networks of another size, or widen screens.min_params and screens.max_params",
    "macs": "search networks of another size, or widen screens.min_macs and screens.max_macs",
    "memory": "search smaller networks or batches, or raise screens.max_memory_mb",
}

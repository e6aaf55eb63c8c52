"""The champion in the registry, and the rule that replaces it.

In a local store, and through a real server that passes the files on.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from optuna.trial import create_trial

from search.nightly.challenge import Challenge, refuse_other_data
from search.nightly.champions import ALIAS, ChampionStore
from search.nightly.history import Decision, Ruling
from search.nightly.identity import JudgedImages, identify
from search.study.finalists import Finalist, FinalistStore
from search.study.records import TrialRecord
from search.tracking.mlflow_destination import Destination
from search.tracking.mlflow_errors import UnavailableError
from search.tracking.pyfunc_model import PyfuncModel
from search.tracking.tracking_process import create_local_store, quiet
from spaces.errors import BadInputError
from tests.ports import free_port
from tests.search.tracking_server import Server
from trainables.data import Dataset, load
from trainables.specs import DataSpec, FinalistResult

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

IMAGES = 200
LABELS = np.arange(IMAGES) % 10
DATA = JudgedImages(("cat", "dog"), (8, 8), 1, IMAGES, "d1")


@pytest.fixture(scope="module", autouse=True)
def quietly() -> Iterator[None]:
    """Set up MLflow's client as in a night: quiet, with a short timeout."""
    with quiet():
        yield


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("empty")
    create_local_store(home)
    return home / "mlflow.db"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), empty_store)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Destination:
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, home / "mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    return Destination.from_environment(home)


@pytest.fixture(params=["local store", "server"])
def destination(request: pytest.FixtureRequest, tmp_path: Path, local: Destination) -> Destination:
    if request.param == "local store":
        return local
    server: Server = request.getfixturevalue("server")
    return Destination(server.uri, tmp_path)


class Nets:
    """Finalists with a known number of correct test images for each training."""

    def __init__(self, folder: Path, search: str = "mine-1") -> None:
        self.folder = folder
        self.search = search

    def challenge(
        self,
        trial: int,
        *wrong: int,
        night: str = "2026-01-01",
        data: JudgedImages = DATA,
        digest: str = "",
        model: PyfuncModel | None = None,
    ) -> Challenge:
        """Return a finalist with a training for each number of wrong predictions."""
        finalists = FinalistStore(self.folder)
        results = []
        for seed, count in enumerate(wrong, start=1):
            predictions = LABELS.astype(np.int32)
            rows = np.random.default_rng(seed + 10 * trial).permutation(IMAGES)[:count]
            predictions[rows] = (predictions[rows] + 1) % 10
            result = FinalistResult(trial, seed, 0.9, 1 - count / IMAGES, 1.0)
            finalists.write(result, b"weights of seed %d" % seed, predictions)
            results.append(result)
        attributes = {"digest": digest or f"digest {trial}"}
        stored = create_trial(value=0.9, user_attrs=attributes)
        stored.number = trial
        finalist = Finalist(trial, tuple(results))
        return Challenge(
            self.search,
            night,
            TrialRecord.of(stored),
            finalist,
            '{"params": {}}',
            data,
            LABELS,
            self.folder,
            model,
        )


@pytest.fixture
def nets(tmp_path: Path) -> Nets:
    return Nets(tmp_path / "finalists")


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """Return the name of a model for this test alone."""
    return f"model-{abs(hash(request.node.nodeid))}"


def test_champion_is_loaded_by_its_alias(
    local: Destination, nets: Nets, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import mlflow, pandas as pd\n"
        "class Reader(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: pd.DataFrame, params=None):\n"
        "        return open(context.artifacts['weights']).read()\n"
        "mlflow.models.set_model(Reader())\n"
    )
    described = PyfuncModel(code, {}, base64.b64encode(b"image").decode(), ["numpy"])
    store = ChampionStore(local, model)
    challenge = nets.challenge(3, 40, 30, model=described)
    challenge.decide(store, 0.05)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", local.tracking_uri)
    loaded = mlflow.pyfunc.load_model(f"models:/{model}@{ALIAS}")
    assert loaded.predict(pd.DataFrame({"image": [b"image"]})) == "weights of seed 1"
    assert store.current() is not None


def test_first_challenger_becomes_champion(
    destination: Destination, nets: Nets, model: str, tmp_path: Path
) -> None:
    store = ChampionStore(destination, model)
    assert store.current() is None
    challenge = nets.challenge(3, 20, 24)
    assert challenge.decide(store, 0.05) == Decision(Ruling.FIRST, 3, "1")

    champion = ChampionStore(destination, model).current()
    assert champion is not None
    assert (champion.version, champion.contender) == ("1", challenge.contender)
    assert [int((each != LABELS).sum()) for each in champion.predictions] == [20, 24]

    client = MlflowClient(destination.tracking_uri)
    version = client.get_model_version_by_alias(model, ALIAS)
    assert version.tags["trial"] == "3"
    assert version.tags["digest"] == "digest 3"
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_accuracy_mean"] == pytest.approx(0.89)
    folder = Path(client.download_artifacts(version.run_id, "champion", str(tmp_path)))
    assert {path.name for path in folder.iterdir()} == {
        *("champion.json", "candidate.json"),
        *("seed-1.npz", "seed-1.pt", "seed-2.npz", "seed-2.pt"),
    }
    assert (folder / "seed-2.pt").read_bytes() == b"weights of seed 2"
    assert json.loads((folder / "candidate.json").read_text()) == {"params": {}}


def test_only_a_better_challenger_is_promoted(
    destination: Destination, nets: Nets, model: str
) -> None:
    store = ChampionStore(destination, model)
    nets.challenge(1, 100, 104).decide(store, 0.05)

    equal = nets.challenge(2, 96, 104, night="2026-01-02").decide(store, 0.05)
    assert (equal.ruling, equal.version) == (Ruling.KEPT, "1")
    assert equal.rival == "version 1 (trial 1 of the night 2026-01-01)"
    assert equal.comparison is not None
    assert equal.comparison.difference == pytest.approx(0.01)
    assert equal.comparison.low < 0 < equal.comparison.high

    better = nets.challenge(4, 10, 12, night="2026-01-03").decide(store, 0.05)
    assert (better.ruling, better.version) == (Ruling.PROMOTED, "2")
    assert better.comparison is not None
    assert better.comparison.low > 0
    champion = store.current()
    assert champion is not None
    assert (champion.version, champion.contender.trial) == ("2", 4)
    run_id = MlflowClient(destination.tracking_uri).get_model_version(model, "2").run_id
    metrics = MlflowClient(destination.tracking_uri).get_run(run_id).data.metrics
    assert metrics["p_value"] == better.comparison.p_value


def test_champion_is_not_compared_with_itself(local: Destination, nets: Nets, model: str) -> None:
    store = ChampionStore(local, model)
    nets.challenge(1, 100, 104).decide(store, 0.05)
    again = nets.challenge(1, 10, 10, 10, night="2026-01-02").decide(store, 0.05)
    assert (again.ruling, again.version, again.comparison) == (Ruling.SAME, "1", None)


def test_same_network_of_another_search_is_compared(
    local: Destination, nets: Nets, model: str, tmp_path: Path
) -> None:
    store = ChampionStore(local, model)
    nets.challenge(1, 100, 104, digest="one").decide(store, 0.05)
    longer = Nets(tmp_path / "others", search="longer-2").challenge(1, 10, 12, digest="one")
    assert longer.decide(store, 0.05).ruling is Ruling.PROMOTED


def test_version_with_alias_is_the_champion_after_rollback(
    local: Destination, nets: Nets, model: str
) -> None:
    store = ChampionStore(local, model)
    nets.challenge(1, 100, 104).decide(store, 0.05)
    nets.challenge(2, 10, 12, night="2026-01-02").decide(store, 0.05)
    MlflowClient(local.tracking_uri).set_registered_model_alias(model, ALIAS, "1")
    champion = store.current()
    assert champion is not None
    assert champion.contender.trial == 1
    MlflowClient(local.tracking_uri).delete_registered_model_alias(model, ALIAS)
    assert store.current() is None


@pytest.mark.parametrize("stage", ["log_artifacts", "create_model_version", "set_alias"])
def test_interrupted_promotion_is_completed_without_duplicates(
    local: Destination, nets: Nets, model: str, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    name = "set_registered_model_alias" if stage == "set_alias" else stage

    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    challenge = nets.challenge(1, 20, 24)
    store = ChampionStore(local, model)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, name, fails)
        with pytest.raises(UnavailableError):
            challenge.decide(store, 0.05)
    assert store.current() is None
    assert challenge.decide(store, 0.05) == Decision(Ruling.FIRST, 1, "1")
    client = MlflowClient(local.tracking_uri)
    (version,) = client.search_model_versions(f"name = '{model}'")
    assert version.run_id is not None
    experiment = client.get_run(version.run_id).info.experiment_id
    tag = f"tags.`borderline.run` = 'mine-1/champion/{model}/2026-01-01'"
    assert len(client.search_runs([experiment], tag)) == 1


def test_absent_store_is_unavailable(nets: Nets, tmp_path: Path) -> None:
    away = Destination(f"http://127.0.0.1:{free_port()}", tmp_path)
    with pytest.raises(UnavailableError, match="refused"):
        nets.challenge(1, 20, 24).decide(ChampionStore(away, "model"), 0.05)


def test_store_without_registry_is_unavailable(nets: Nets, tmp_path: Path) -> None:
    nowhere = Destination("nonsense://host", tmp_path)
    with pytest.raises(UnavailableError, match="unsupported URI"):
        nets.challenge(1, 20, 24).decide(ChampionStore(nowhere, "model"), 0.05)


# A champion of others


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"classes": ("cat", "cow", "dog")}, "3 classes (cat, cow, dog), not 2 classes"),
        ({"classes": ("dog", "cat")}, "2 classes (dog, cat), not 2 classes (cat, dog)"),
        ({"resolution": (16, 16)}, "images of 16x16 pixels in grey, not of 8x8"),
        ({"channels": 3}, "pixels in colour, not of 8x8 pixels in grey"),
        ({"digest": "d2"}, "other test images, or on the same ones in another order"),
    ],
)
def test_champion_of_other_images_is_refused_in_one_line(
    local: Destination,
    nets: Nets,
    model: str,
    other: dict[str, Any],
    says: str,
) -> None:
    store = ChampionStore(local, model)
    nets.challenge(1, 20, 24, data=dataclasses.replace(DATA, **other)).decide(store, 0.05)
    with pytest.raises(BadInputError) as caught:
        nets.challenge(2, 5, 5).decide(store, 0.05)
    line = str(caught.value)
    assert line.startswith(f"nightly.model = {model}: its champion (version 1) cannot be compared")
    assert says in line
    assert "set another nightly.model" in line
    champion = store.current()
    assert champion is not None
    assert champion.contender.trial == 1
    with pytest.raises(BadInputError):
        refuse_other_data(model, champion, DATA)


def registered(client: MlflowClient, model: str, folder: Path | None, experiment: str) -> None:
    """Register a version by hand, with these files in it."""
    run = client.create_run(experiment)
    if folder is not None:
        client.log_artifacts(run.info.run_id, str(folder), "champion")
    client.create_registered_model(model)
    client.create_model_version(model, f"runs:/{run.info.run_id}/champion", run.info.run_id)
    client.set_registered_model_alias(model, ALIAS, "1")


@pytest.mark.parametrize("content", ["nothing", "other JSON", "no predictions", "a pickle"])
def test_foreign_champion_is_refused_in_one_line(
    destination: Destination, nets: Nets, model: str, tmp_path: Path, content: str
) -> None:
    folder = tmp_path / "by hand"
    folder.mkdir()
    contender = nets.challenge(1, 20).contender
    text = json.dumps(dataclasses.asdict(contender))
    (folder / "champion.json").write_text("{}" if content == "other JSON" else text)
    if content == "a pickle":
        with (folder / "seed-1.npz").open("wb") as file:
            np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    client = MlflowClient(destination.tracking_uri)
    where = client.create_experiment(model, artifact_location=destination.artifacts)
    registered(client, model, None if content == "nothing" else folder, where)
    with pytest.raises(BadInputError) as caught:
        ChampionStore(destination, model).current()
    assert "version 1 has the alias champion, but no night promoted it" in str(caught.value)


# The identity of a test split


DIGITS = DataSpec("digits", test=0.1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DIGITS)


def with_labels(dataset: Dataset, row: int) -> Dataset:
    labels = dataset.labels.copy()
    labels[row] = (labels[row] + 1) % 10
    return dataclasses.replace(dataset, labels=labels)


def with_image(dataset: Dataset, row: int) -> Dataset:
    images = dataset.images.copy()
    images[row, 0, 0] ^= 1
    return dataclasses.replace(dataset, images=images)


@pytest.mark.parametrize("change", [with_labels, with_image])
def test_identity_depends_on_each_test_image_and_label(
    digits: Dataset, change: Callable[[Dataset, int], Dataset]
) -> None:
    before = identify(digits)
    other = identify(change(digits, int(digits.test[5])))
    said = before.difference(other)
    assert said == "it was judged on other test images, or on the same ones in another order"
    assert before.difference(identify(change(digits, int(digits.train[5])))) == ""


def test_identity_depends_on_split_and_subset(digits: Dataset) -> None:
    own = identify(digits)
    assert own == identify(load(DIGITS))
    assert own.difference(identify(load(dataclasses.replace(DIGITS, split_seed=1))))
    assert own.difference(identify(load(dataclasses.replace(DIGITS, subset=0.5))))
    smaller = identify(load(dataclasses.replace(DIGITS, resolution=4)))
    assert own.difference(smaller).startswith("it takes images of")

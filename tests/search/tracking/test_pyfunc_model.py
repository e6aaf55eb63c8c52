"""Networks as models that MLflow loads and serves without Borderline."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from search.tracking.journal import Journal
from search.tracking.journal_events import PARENT
from search.tracking.mlflow_destination import Destination
from search.tracking.mlflow_errors import RefusedError
from search.tracking.mlflow_runs import RunStore
from search.tracking.model_description import describe_model
from search.tracking.pyfunc_model import PyfuncModel
from search.tracking.tracking_process import sync
from spaces.architecture import Architecture, Builder
from spaces.operations import Convolution, GlobalPooling, Linear
from trainables.builder import Network
from trainables.data import Dataset
from trainables.export.classifier import Classifier
from trainables.specs import Decoding

pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")

CLASSES = ("ape", "b\u00e4r", "cat")
SERVED = """
import json, sys
sys.modules.update(dict.fromkeys(["search", "trainables", "spaces", "cluster"]))
import mlflow, pandas as pd
uri, photo, request = sys.argv[1:]
model = mlflow.pyfunc.load_model(uri)
images = pd.DataFrame({"image": [open(photo, "rb").read()]})
print(model.predict(images).to_json(orient="records"))
print(mlflow.models.validate_serving_input(uri, request).to_json(orient="records"))
"""


@dataclass(frozen=True)
class Tracked:
    """A finalist whose model is in a local store."""

    home: Path
    run_id: str
    classifier: Classifier


def small_network() -> Architecture:
    """Return a network for 6x4 colour images of three classes."""
    builder = Builder((3, 6, 4))
    x = builder.add(Convolution(5, (3, 3), padding=(1, 1)), builder.image)
    builder.add(Linear(3), builder.add(GlobalPooling(), x))
    return builder.build()


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """Return a finalist that the journal of a search has brought to MLflow."""
    home = tmp_path_factory.mktemp("home")
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 4, 3), dtype=np.uint8)
    rows = np.arange(12)
    dataset = Dataset(images, rows % 3, CLASSES, rows[:6], rows[6:9], rows[9:])
    architecture = small_network()
    torch.manual_seed(0)
    network = Network(architecture).eval()
    weights = home / "mine" / "finalists" / "trial-1-seed-1.pt"
    weights.parent.mkdir(parents=True)
    torch.save(network.state_dict(), weights)
    decoding = Decoding(fit="squash")
    model = describe_model(architecture, dataset, decoding, "Trial 1 of mine", flip=True)
    with Journal(home / "mine" / "journal.jsonl") as journal:
        journal.start(PARENT, "mine")
        journal.start("finalist-1", "finalist 1")
        journal.model("finalist-1", model, "finalists/trial-1-seed-1.pt")
    destination = Destination.from_environment(home)
    sync(home / "mine" / "journal.jsonl", destination, "mine-1")
    store = RunStore(destination.tracking_uri, "borderline", None, "mine-1", lambda _: None)
    run_id = store.find("finalist-1")
    assert run_id is not None
    statistics = [dataset.mean], [dataset.std]
    classifier = Classifier([network], (6, 4), *statistics, flip=True, mode="squash")
    return Tracked(home, run_id, classifier)


def test_model_takes_files_and_is_served_without_borderline(
    tracked: Tracked, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    photo = tmp_path / "photo.png"
    Image.fromarray(pixels).save(photo)
    encoded = base64.b64encode(photo.read_bytes()).decode()
    request = {"dataframe_split": {"columns": ["image"], "data": [[encoded]]}}
    result = subprocess.run(
        [sys.executable, "-c", SERVED, f"runs:/{tracked.run_id}/model", photo, json.dumps(request)],
        cwd=tmp_path,
        env={"MLFLOW_TRACKING_URI": f"sqlite:///{tracked.home}/mlflow.db", "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    with torch.inference_mode():
        images = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        expected = tracked.classifier(images)[0].tolist()
    for line in result.stdout.splitlines():
        (row,) = json.loads(line)
        assert row["probabilities"] == pytest.approx(expected, abs=1e-6)
        assert row["label"] == CLASSES[int(np.argmax(expected))]
        assert row["probability"] == pytest.approx(max(expected))
    assert len(result.stdout.splitlines()) == 2


def test_model_has_signature_example_and_requirements(
    tracked: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415 - as the next: the import takes seconds
    from mlflow.models import Model  # noqa: PLC0415

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked.home}/mlflow.db")
    client = MlflowClient()
    folder = Path(client.download_artifacts(tracked.run_id, "model"))
    signature = Model.load(str(folder)).signature
    assert signature.inputs.input_names() == ["image"]
    assert signature.outputs.input_names() == ["label", "probability", "probabilities"]
    wanted = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in wanted} == {
        *("mlflow", "numpy", "pandas", "pillow", "torch")
    }
    example = pd.read_json(folder / "input_example.json", orient="split")
    assert list(example.columns) == ["image"]


def test_any_error_of_mlflow_refuses_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import pyfunc  # noqa: PLC0415 - the import takes seconds

    def fail(*_: object, **__: object) -> None:
        raise ValueError("no such\nlayer")

    monkeypatch.setattr(pyfunc, "save_model", fail)
    (tmp_path / "weights.pt").touch()
    model = PyfuncModel("", {}, "", [])
    with pytest.raises(RefusedError, match=r"cannot save the model \(no such layer\)"):
        model.save(tmp_path / "model", tmp_path / "weights.pt")

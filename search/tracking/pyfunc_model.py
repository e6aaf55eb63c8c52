"""A network as a model of MLflow's pyfunc flavour, which takes the content of image files.

`search.tracking.model_description` describes one; this module is all that the tracking process
needs of it.
"""

from __future__ import annotations

import base64
import errno
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.tracking.mlflow_errors import RefusedError
from trainables.export.names import IMAGE, LABEL, PROBABILITIES, PROBABILITY, WEIGHTS


@dataclass(frozen=True)
class PyfuncModel:
    """A model as plain data: MLflow is needed to save it, but not to describe it.

    Attributes:
        code: source of the predictor; see `trainables.export.pyfunc.predictor_source`.
        sources: further files of source by name, which the predictor runs.
        example: content of an example image in base 64.
        requirements: packages that the code needs.
    """

    code: str
    sources: Mapping[str, str]
    example: str
    requirements: Sequence[str]

    def save(self, folder: Path, weights: Path) -> None:
        """Write the model to a new folder, as MLflow loads and serves it.

        Args:
            folder: must not exist.
            weights: file of the ``state_dict``.

        Raises:
            RefusedError: MLflow cannot save the model.
            OSError: the weights are missing, or a file cannot be written.
        """
        import pandas as pd  # noqa: PLC0415 - as the next: only few processes save models
        from mlflow import pyfunc  # noqa: PLC0415
        from mlflow.models import ModelSignature  # noqa: PLC0415
        from mlflow.types.schema import Array, ColSpec, DataType, Schema  # noqa: PLC0415

        if not weights.is_file():
            raise FileNotFoundError(errno.ENOENT, "the weights are missing", str(weights))
        signature = ModelSignature(
            Schema([ColSpec(DataType.binary, IMAGE)]),
            Schema(
                [
                    ColSpec(DataType.string, LABEL),
                    ColSpec(DataType.double, PROBABILITY),
                    ColSpec(Array(DataType.double), PROBABILITIES),
                ]
            ),
        )
        with tempfile.TemporaryDirectory() as aside:
            paths = {"predictor.py": self.code, **self.sources}
            for name, text in paths.items():
                (Path(aside) / name).write_text(text, encoding="utf-8")
            try:
                pyfunc.save_model(
                    str(folder),
                    python_model=str(Path(aside) / "predictor.py"),
                    artifacts={
                        WEIGHTS: str(weights),
                        **{name: str(Path(aside) / name) for name in self.sources},
                    },
                    signature=signature,
                    input_example=pd.DataFrame({IMAGE: [base64.b64decode(self.example)]}),
                    pip_requirements=list(self.requirements),
                )
            except OSError:
                raise
            except Exception as error:  # MLflow runs the code, which may raise anything.
                cause = " ".join(str(error).split()) or type(error).__name__
                raise RefusedError(f"MLflow cannot save the model ({cause})") from error

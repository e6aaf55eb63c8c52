"""The training loop: pure torch, one candidate, one device.

Nothing in an epoch waits for the device: losses and hits are summed where they arise and read
once at the end. All randomness of an epoch follows from (seed, epoch), so a training that is
resumed at an epoch continues as if it had never stopped.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.augmentation import crop_and_flip
from trainables.builder import Network
from trainables.data import Dataset
from trainables.device import Device, select_device
from trainables.job import Augmentation

EVALUATION_BATCH = 1024
WARM_UP = 0.2
"""Share of all steps over which the learning rate rises."""
_SEEDS = 2**63
"""Torch takes no larger seed."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave.

    Attributes:
        epoch: number of epochs done.
        train_loss: mean over the training images, while they were trained on.
        train_accuracy: likewise, 0..1.
        validation_loss: mean over the validation images, after the epoch.
        validation_accuracy: likewise, 0..1.
        seconds: wall clock of training and validation.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float

    @property
    def diverged(self) -> bool:
        """Tell whether the loss is no longer a number."""
        return not (math.isfinite(self.train_loss) and math.isfinite(self.validation_loss))


def one_cycle(step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of the peak, 0..1.

    Linear rise over the first fifth, then a half cosine to zero (after Smith & Topin 2018, arXiv
    1708.07120, with the cosine that is usual since).
    """
    position = (step + 0.5) / steps
    if position < WARM_UP:
        return position / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (position - WARM_UP) / (1 - WARM_UP)))


class Training:
    """One candidate in training.

    Args:
        candidate: architecture and recipe.
        dataset: the images.
        epochs: length of the whole training; the schedule spans it.
        seed: of initial weights, order and augmentation.
        augmentation: how training images are varied.
        device: see `trainables.device.select_device`.

    Raises:
        BadInputError: the device is not there, or the batch is larger than the training split.
    """

    def __init__(
        self,
        candidate: Candidate,
        dataset: Dataset,
        *,
        epochs: int,
        seed: int,
        augmentation: Augmentation | None = None,
        device: str = "auto",
    ) -> None:
        recipe = candidate.recipe
        if recipe.batch_size > len(dataset.train):
            problem = f"there are only {len(dataset.train)} training images"
            raise BadInputError("recipe.batch_size", recipe.batch_size, problem, "use fewer")
        self.recipe = recipe
        self.epochs = epochs
        self.epoch = 0
        self._seed = seed
        self._augmentation = augmentation or Augmentation()
        self._device: Device = select_device(device)
        self._data = _DeviceData(dataset, self._device.device)
        self._steps = len(dataset.train) // recipe.batch_size

        torch.manual_seed(seed % _SEEDS)
        network = Network(candidate.architecture)
        self.network = network.to(self._device.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = _sgd(self.network, candidate, self._device.device)

    def run_epoch(self) -> EpochResult:
        """Train for one epoch, then score the validation split."""
        started = time.perf_counter()
        seed = (self._seed * 1_000_003 + self.epoch) % _SEEDS
        generator = torch.Generator().manual_seed(seed)
        # Dropout draws from the global generators.
        torch.manual_seed(seed)
        order = self._data.train[torch.randperm(len(self._data.train), generator=generator)]
        self.network.train()
        loss_sum = torch.zeros((), device=self._device.device)
        hits = torch.zeros((), device=self._device.device)
        for step in range(self._steps):
            rate = self.recipe.learning_rate * one_cycle(
                self.epoch * self._steps + step, self.epochs * self._steps
            )
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            batch = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
            images, labels = self._data.batch(batch, self._augmentation, generator)
            with self._device.autocast():
                logits = self.network(images)
                loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            loss_sum += loss.detach() * len(labels)
            hits += (logits.detach().argmax(1) == labels).sum()
        trained = self._steps * self.recipe.batch_size
        self.epoch += 1
        validation_loss, validation_accuracy = self.score(self._data.validation)
        return EpochResult(
            epoch=self.epoch,
            train_loss=loss_sum.item() / trained,
            train_accuracy=hits.item() / trained,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            seconds=time.perf_counter() - started,
        )

    def score_test(self) -> tuple[float, float]:
        """Return (loss, accuracy) on the test split: for finalists alone."""
        return self.score(self._data.test)

    @torch.inference_mode()
    def score(self, indices: Tensor) -> tuple[float, float]:
        """Return (mean cross-entropy, accuracy 0..1) on the images with these indices."""
        self.network.eval()
        loss_sum = torch.zeros((), device=self._device.device)
        hits = torch.zeros((), device=self._device.device)
        for batch in torch.split(indices, EVALUATION_BATCH):
            images, labels = self._data.batch(batch)
            with self._device.autocast():
                logits = self.network(images)
            loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
            hits += (logits.argmax(1) == labels).sum()
        return loss_sum.item() / len(indices), hits.item() / len(indices)

    def state_dict(self) -> dict[str, Any]:
        """Return all that ``load_state_dict`` needs to continue; tensors and numbers only."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same candidate."""
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])


class _DeviceData:
    """The images on the device as uint8, batches of them as normalised float."""

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self._images = _wrap(dataset.images).to(device)
        self._labels = _wrap(dataset.labels).to(device)
        self.train = _wrap(dataset.train)
        self.validation = _wrap(dataset.validation)
        self.test = _wrap(dataset.test)
        # One multiply-add per value: (x / 255 - mean) / std.
        std = torch.tensor(dataset.std, dtype=torch.float32, device=device)
        mean = torch.tensor(dataset.mean, dtype=torch.float32, device=device)
        self._scale = (1 / (255 * std)).view(1, -1, 1, 1)
        self._offset = (-mean / std).view(1, -1, 1, 1)

    def batch(
        self,
        indices: Tensor,
        augmentation: Augmentation | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return images ``[n, c, h, w]`` (float32, channels last in memory) and labels ``[n]``."""
        indices = indices.to(self._images.device)
        images = self._images[indices]
        if augmentation is not None and generator is not None:
            images = crop_and_flip(images, augmentation.crop, augmentation.flip, generator)
        normalised = images.permute(0, 3, 1, 2) * self._scale + self._offset
        return normalised, self._labels[indices]


def _wrap(array: NDArray[Any]) -> Tensor:
    """Return a tensor over the same memory, also where it is a read-only map of a file."""
    with warnings.catch_warnings():
        # Nothing here writes to the images.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.asarray(array))


def _sgd(network: nn.Module, candidate: Candidate, device: torch.device) -> torch.optim.SGD:
    """Return SGD with Nesterov momentum; only kernels and weight matrices decay."""
    parameters = list(network.parameters())
    recipe = candidate.recipe
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=device.type == "cuda",
        foreach=None if device.type == "cuda" else True,
    )

"""The training loop: pure torch, one candidate, one device.

Nothing in an epoch waits for the device:

- Random numbers are drawn before the epoch and depend only on (seed, epoch), so a resumed training
  continues as if it had never stopped.
- Each step selects its part by a counter on the device, so a step can be captured once and
  replayed.
- Losses and hits are summed on the device and read at the end.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cluster.sizing import evaluation_batch
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.builder import Network, initialise_identity, initialise_scales
from trainables.data import Dataset
from trainables.epoch_metrics import EpochMetrics
from trainables.specs import Augmentation, Balance
from trainables.training.augmentation import Augment, draw_variation
from trainables.training.batches import Batches
from trainables.training.class_balance import class_weights
from trainables.training.cuda_graphs import GraphedStep
from trainables.training.device import Device, select_device
from trainables.training.epoch_plan import DevicePlan, EpochPlan
from trainables.training.feeds import as_tensor
from trainables.training.image_order import ImageOrder
from trainables.training.latency import measure_latency
from trainables.training.loss import mixed_cross_entropy
from trainables.training.optimization import (
    Lookahead,
    MovingAverage,
    Rates,
    build_optimizer,
    select_trainable,
)
from trainables.training.seeds import epoch_seed, torch_seed
from trainables.training.small_images import small_image_size
from trainables.training.whitening import whiten_first_layer


class Training:
    """One candidate in training.

    Args:
        candidate: architecture and recipe.
        dataset: the images.
        epochs: number of epochs of the whole training, which the schedule spans.
        seed: seed of initial weights, order and augmentation.
        augmentation: random changes to training images.
        augment: the user's function of `augmentation`; see `user_augmentation`. Steps with it run
            without a CUDA graph, which would repeat random numbers that are not torch's.
        balance: how classes with few images get the same influence; see `Balance`. Metrics stay
            means over the images.
        test_time_flip: whether to average predictions over each scored image and its mirror image.
        device: see `trainables.training.device.select_device`.
        compile: whether to compile the network with ``torch.compile``.

    Attributes:
        architecture: of the network.
        dataset: the images.
        network: the trained network.
        evaluated: the scored network: the moving average if the recipe has one, else ``network``.
        epoch: number of finished epochs.
        result: metrics of the last finished epoch.
        plans_ahead: whether an epoch also draws the plan of the next one, which `state_dict` does
            not contain.

    Raises:
        BadInputError: the device is unavailable, or recipe or augmentation do not fit the data, the
            network or the number of epochs.
    """

    def __init__(
        self,
        candidate: Candidate,
        dataset: Dataset,
        *,
        epochs: int,
        seed: int,
        augmentation: Augmentation | None = None,
        augment: Augment | None = None,
        balance: Balance = "none",
        test_time_flip: bool = False,
        device: str = "auto",
        compile: bool = False,  # noqa: A002 - torch's name
    ) -> None:
        recipe = candidate.recipe
        self._augmentation = augmentation or Augmentation()
        _check(candidate, dataset, epochs, self._augmentation)
        self.architecture = candidate.architecture
        self.dataset = dataset
        self.recipe = recipe
        self.epochs = epochs
        self.epoch = 0
        self.result: EpochMetrics | None = None
        self.plans_ahead = True
        self._seed = seed
        self._image = dataset.shape
        self._device: Device = select_device(device)
        self._test_time_flip = test_time_flip
        target = self._device.device

        labels = dataset.labels[dataset.train]
        self._order = ImageOrder(
            as_tensor(dataset.train),
            recipe.batch_size,
            seed,
            as_tensor(labels) if balance == "sampling" else None,
        )
        self._class_weights = (
            torch.from_numpy(class_weights(labels, len(dataset.classes))).to(target)
            if balance == "weights"
            else None
        )

        self._batches = Batches(dataset, self._augmentation, recipe.batch_size, target, augment)
        self._is_capturable = augment is None
        self._splits = {
            "train": as_tensor(dataset.train),
            "validation": as_tensor(dataset.validation),
            "test": as_tensor(dataset.test),
        }

        torch.manual_seed(torch_seed(seed))
        network = Network(candidate.architecture)
        if recipe.initialization == "dirac":
            initialise_identity(network)
        elif recipe.initialization == "random_scale":
            initialise_scales(network)
        if recipe.first_layer == "whitening":
            whiten_first_layer(network, candidate.architecture, dataset)
        self.network = network.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = select_trainable(self.network, recipe.trainable)
        self._lookahead = Lookahead(trained, recipe.lookahead) if recipe.lookahead else None
        self._average = MovingAverage(self.network, recipe.ema) if recipe.ema else None
        self.evaluated: nn.Module = self._average.network if self._average else self.network
        self._trained = trained
        if compile:
            # Torch compiles the same code for eight networks only; later networks would silently
            # run uncompiled.
            torch.compiler.reset()
        self._forward = torch.compile(self.network, dynamic=False) if compile else self.network
        self._rates = Rates(recipe.norm_bias_rate, target)
        self._optimizer = build_optimizer(
            self.network, recipe, self._rates, bfloat16=self._device.bfloat16
        )
        self._next: tuple[int, EpochPlan] | None = None
        self._plan: DevicePlan | None = None
        self._cursor = torch.zeros(1, dtype=torch.int64, device=target)
        self._loss_sum = torch.zeros((), device=target)
        self._hits = torch.zeros((), dtype=torch.int64, device=target)
        self._small_epochs = math.floor(round(recipe.small_images * epochs, 6))
        self._small_size = (
            small_image_size(candidate.architecture, recipe.small_side)
            if self._small_epochs
            else self._image[:2]
        )
        self._set_image_size()

    def run_epoch(self) -> EpochMetrics:
        """Train one epoch, then score the validation split.

        Raises:
            RuntimeError: all epochs are finished.
        """
        if self.epoch >= self.epochs:
            raise RuntimeError(f"all {self.epochs} epochs are done")
        started = time.perf_counter()
        plan = self._prepare_epoch()
        self.network.train()
        for _ in self._batches.feed(plan.rows.unbind()):
            self._repeat(self._step)
        if self.plans_ahead and self.epoch + 1 < self.epochs:
            # Draw while a GPU still runs the steps; the next statement waits for it.
            self._next = (self.epoch + 1, self._draw(self.epoch + 1))
        trained = plan.rows.numel()
        train_loss, hits = torch.stack([self._loss_sum.double(), self._hits.double()]).tolist()
        self.epoch += 1
        validation_loss, validation_accuracy = self.score("validation")
        self.result = EpochMetrics(
            epoch=self.epoch,
            train_loss=train_loss / trained,
            train_accuracy=hits / trained,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            epoch_seconds=time.perf_counter() - started,
        )
        return self.result

    def image_size(self, epoch: int) -> tuple[int, int]:
        """Return height and width of the training images of an epoch, counted from 0."""
        return self._small_size if epoch < self._small_epochs else self._image[:2]

    def _set_image_size(self) -> None:
        """Begin to train on images of the size of the next epoch."""
        self._size = self.image_size(self.epoch)
        # A captured step has one size, and reads the tensors of one optimiser.
        until = self.epochs
        if self.epoch < self._small_epochs and self._small_size != self._image[:2]:
            until = self._small_epochs
        steps = self._order.steps(until) - self._order.steps(self.epoch)
        self._repeat = GraphedStep(self._device.device, steps if self._is_capturable else 0)

    def _prepare_epoch(self) -> EpochPlan:
        """Copy the plan of the next epoch to the device, and return it."""
        if self.image_size(self.epoch) != self._size:
            self._set_image_size()
        epoch, plan = self._next or (-1, None)
        if plan is None or epoch != self.epoch:
            plan = self._draw(self.epoch)
        self._next = None
        if self._plan is None:
            # The first epoch has the most steps.
            self._plan = DevicePlan(plan, self._order.steps(1), self._device.device)
        else:
            self._plan.load(plan)
        # Dropout draws from the global generators.
        torch.manual_seed(epoch_seed(self._seed, self.epoch))
        for counter in (self._cursor, self._loss_sum, self._hits):
            counter.zero_()
        return plan

    def _draw(self, epoch: int) -> EpochPlan:
        """Draw all random numbers of an epoch except those of dropout."""
        generator = torch.Generator().manual_seed(epoch_seed(self._seed, epoch))
        rows, passes = self._order.epoch(epoch, generator)
        first = self._order.steps(epoch)
        rates = [
            self.recipe.learning_rate
            * self.recipe.schedule.ratio(first + step, self._order.steps_per_epoch, self.epochs)
            for step in range(len(rows))
        ]
        return EpochPlan(
            rows,
            torch.tensor(rates),
            self._average.ema_weights(first, len(rows)) if self._average else None,
            self._lookahead.synchronisations(first, len(rows)) if self._lookahead else None,
            draw_variation(
                self._augmentation,
                rows,
                self._image[:2],
                seed=self._seed,
                passes=passes,
                generator=generator,
            ),
        )

    def _step(self) -> None:
        """Run the step at the cursor, and advance the cursor."""
        assert self._plan is not None  # noqa: S101 - made by run_epoch
        plan = self._plan.at(self._cursor)
        mixup_lambda = plan.variation.mixup_lambda
        images, labels = self._batches.current(plan.rows, plan.variation, self._size)
        with self._device.autocast():
            logits = self._forward(images)
            loss, unweighted = mixed_cross_entropy(
                logits, labels, mixup_lambda, self.recipe.label_smoothing, self._class_weights
            )
        # A failed capture leaves gradients that were recorded but never computed.
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self._trained, self.recipe.clip, foreach=True)
        self._rates.set(plan.rate)
        self._optimizer.step()
        # Free gradients at once, so that their memory can be reused, also within a capture.
        self._optimizer.zero_grad(set_to_none=True)
        if self._lookahead is not None and plan.lookahead is not None:
            self._lookahead.update(plan.lookahead)
        if self._average is not None and plan.ema_weight is not None:
            self._average.update(plan.ema_weight)
        self._loss_sum += unweighted.detach() * len(labels)
        if mixup_lambda is not None:
            labels = torch.where(mixup_lambda < 0.5, labels.roll(1), labels)
        self._hits += (logits.detach().argmax(1) == labels).sum()
        self._cursor += 1

    def _scores(self, images: Tensor) -> Tensor:
        """Return logits of the scored network, float32 ``[images, classes]``.

        With flips at test time, return the logarithm of the mean of both predictions.
        """
        with self._device.autocast():
            logits: Tensor = self.evaluated(images)
            if not self._test_time_flip:
                return logits.float()
            mirrored = self.evaluated(images.flip(3))
        own, other = (each.float().log_softmax(1) for each in (logits, mirrored))
        return torch.logaddexp(own, other) - math.log(2)

    @torch.inference_mode()
    def score(self, split: str) -> tuple[float, float]:
        """Return (mean cross-entropy, accuracy 0..1) on ``train``, ``validation`` or ``test``."""
        self.evaluated.eval()
        indices = self._splits[split]
        loss_sum = torch.zeros((), device=self._device.device)
        hits = torch.zeros((), device=self._device.device)
        size = evaluation_batch(self.recipe.batch_size)
        for images, labels in self._batches.sweep(torch.split(indices, size)):
            logits = self._scores(images)
            loss_sum += F.cross_entropy(logits, labels, reduction="sum")
            hits += (logits.argmax(1) == labels).sum()
        loss, right = torch.stack([loss_sum, hits]).tolist()
        return loss / len(indices), right / len(indices)

    @torch.inference_mode()
    def predict(self, split: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return the predicted and the true class of each image of a split, and the confidence.

        Args:
            split: ``train``, ``validation`` or ``test``; the last is for finalists only.

        Returns:
            Two int64 tensors ``[images]`` of class indices and a float32 tensor ``[images]`` of
            the predicted class's probability, on the CPU, in the order of the split.
        """
        self.evaluated.eval()
        size = evaluation_batch(self.recipe.batch_size)
        predicted, true, confident = [], [], []
        for images, labels in self._batches.sweep(torch.split(self._splits[split], size)):
            probability, classes = self._scores(images).softmax(1).max(1)
            predicted.append(classes)
            true.append(labels.clone())
            confident.append(probability)
        return torch.cat(predicted).cpu(), torch.cat(true).cpu(), torch.cat(confident).cpu()

    @torch.inference_mode()
    def probabilities(self, split: str) -> Tensor:
        """Return the probability of each class, float32 ``[images, classes]`` on the CPU.

        Args:
            split: see `predict`.
        """
        self.evaluated.eval()
        parts = torch.split(self._splits[split], evaluation_batch(self.recipe.batch_size))
        found = [self._scores(images).softmax(1) for images, _ in self._batches.sweep(parts)]
        return torch.cat(found).cpu()

    def measure_latency(self, batch: int) -> float:
        """Return the latency of the network for a batch size, in milliseconds."""
        height, width, channels = self._image
        return measure_latency(self.evaluated, (channels, height, width), batch, self._device)

    @property
    def device(self) -> torch.device:
        """The torch device of the training."""
        return self._device.device

    @property
    def is_captured(self) -> bool:
        """Tell whether steps are replayed from a CUDA graph."""
        return self._repeat.is_captured

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict`; only tensors and plain values."""
        return {
            "epoch": self.epoch,
            "result": self.result.as_dict() if self.result else None,
            "network": self.network.state_dict(),
            "average": self._average.network.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of the same candidate."""
        self.epoch = state["epoch"]
        self.result = EpochMetrics.from_dict(state["result"]) if state["result"] else None
        self.network.load_state_dict(state["network"])
        if self._lookahead is not None:
            self._lookahead.restart()
        if self._average is not None:
            self._average.network.load_state_dict(state["average"])
        # Hyperparameters depend on the recipe and the device, which may have changed.
        constants = [dict(group) for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self._optimizer.param_groups, constants, strict=True):
            group.update(own)
        self._set_image_size()


def _check(candidate: Candidate, dataset: Dataset, epochs: int, augmentation: Augmentation) -> None:
    """Check recipe and augmentation against the data before anything is built."""
    size, images = candidate.recipe.batch_size, len(dataset.train)
    if size > images:
        problem = f"there are only {images:,} training images"
        raise BadInputError("recipe.batch_size", size, problem, "use fewer")
    candidate.recipe.schedule.check(epochs)
    height, width, _ = dataset.shape
    augmentation.check(height, width)

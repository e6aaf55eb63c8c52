"""Feeds: resident or streamed, every batch holds the images of its rows in order."""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from spaces.candidate import Candidate
from trainables.data import Dataset
from trainables.specs import Augmentation
from trainables.training import batches, feeds
from trainables.training import loop as training
from trainables.training.device import Device
from trainables.training.feeds import ResidentFeed, StreamedFeed, as_tensor, open_feed
from trainables.training.loop import Training

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SHAPE = (50, 4, 3, 2)
SIZES = {
    "none": [],
    "one": [8],
    "as many as are read ahead": [8] * 2,
    "one more": [8] * 3,
    "many": [8] * 17,
}


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, SHAPE, generator=torch.Generator().manual_seed(0)).byte()


def drawn(sizes: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, SHAPE[0], (size,), generator=generator) for size in sizes]


def readers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("images")]


# Batches


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_each_batch_is_current_in_turn(images, kind, sizes):
    feed = ResidentFeed(images) if kind == "resident" else StreamedFeed(images, CPU, 8)
    rows = drawn(sizes)
    seen = []
    for _, current in zip(feed.feed(rows), rows, strict=True):
        first = feed.current(current)
        seen.append(first.clone())
        assert torch.equal(feed.current(current), first), "it stays until the next is asked for"
    assert len(seen) == len(sizes)
    assert all(torch.equal(batch, images[r]) for batch, r in zip(seen, rows, strict=True))
    assert not readers()


@pytest.mark.parametrize("ragged", [[], [3], [1, 5]], ids=["whole", "a rest", "several"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", ["resident", "streamed"])
def test_sweep_yields_batches_of_any_size_in_order(images, kind, sizes, ragged):
    feed = ResidentFeed(images) if kind == "resident" else StreamedFeed(images, CPU, 8)
    rows = drawn(sizes + ragged)
    # Keep all batches: later ones must not overwrite earlier ones.
    seen = list(feed.sweep(rows))
    assert len(seen) == len(rows)
    assert all(torch.equal(batch, images[r]) for batch, r in zip(seen, rows, strict=True))
    assert not readers()


def test_sweep_between_batches_keeps_the_current_one(images):
    feed = StreamedFeed(images, CPU, 8)
    rows = drawn([8] * 3)
    for _, current in zip(feed.feed(rows), rows, strict=True):
        list(feed.sweep(drawn([5, 5])))
        assert torch.equal(feed.current(current), images[current])


def test_current_streamed_batch_uses_fixed_memory(images):
    """A captured step reads this memory."""
    feed = StreamedFeed(images, CPU, 8)
    rows = drawn([8] * 4)
    places = {feed.current(rows[0]).data_ptr() for _ in feed.feed(rows)}
    places |= {feed.current(rows[0]).data_ptr() for _ in feed.feed(rows)}
    assert len(places) == 1


# The reading thread


def slowed(feed: StreamedFeed, act: Callable[[int], None]) -> list[int]:
    """Call ``act`` with the number of each batch before reading it; return the read batches."""
    begun: list[int] = []
    read = feed._read

    def reading(rows: Tensor) -> Tensor:
        begun.append(len(begun))
        act(begun[-1])
        return read(rows)

    feed._read = reading
    return begun


def test_only_a_few_batches_are_read_ahead(images):
    feed = StreamedFeed(images, CPU, 8)
    begun = slowed(feed, lambda number: None)
    for taken, _ in enumerate(feed.sweep(drawn([8] * 20)), start=1):
        time.sleep(0.005)
        assert len(begun) <= taken + 2 * feeds._AHEAD


def test_batches_are_read_in_another_thread(images):
    feed = StreamedFeed(images, CPU, 8)
    where: set[threading.Thread] = set()
    slowed(feed, lambda number: where.add(threading.current_thread()))
    list(feed.sweep(drawn([8] * 4)))
    assert len(where) == 1
    assert threading.current_thread() not in where


@pytest.mark.parametrize("way", ["sweep", "feed"])
@pytest.mark.parametrize("taken", [0, 1, 3])
def test_abandoned_iterator_leaves_no_thread(images, way, taken):
    feed = StreamedFeed(images, CPU, 8)
    iterator: Iterator[Tensor | None] = getattr(feed, way)(drawn([8] * 10))
    for _ in range(taken):
        next(iterator)
    assert len(readers()) == (taken > 0)
    del iterator
    assert not readers()


def test_error_of_the_caller_leaves_no_thread(images):
    feed = StreamedFeed(images, CPU, 8)

    def run() -> None:
        for _ in feed.feed(drawn([8] * 10)):
            raise ValueError("the step failed")

    with pytest.raises(ValueError, match="the step failed"):
        run()
    assert not readers()


@pytest.mark.parametrize("number", [0, 1, 4, 9])
def test_error_while_reading_reaches_the_caller(images, number):
    def fail(current: int) -> None:
        if current == number:
            raise OSError("the map is gone")

    feed = StreamedFeed(images, CPU, 8)
    slowed(feed, fail)
    seen: list[Tensor] = []
    rows = drawn([8] * 10)
    with pytest.raises(OSError, match="the map is gone"):
        seen.extend(feed.sweep(rows))
    assert len(seen) <= number
    assert all(torch.equal(batch, images[r]) for batch, r in zip(seen, rows, strict=False))
    assert not readers()
    # The next epoch is unaffected.
    del feed._read
    assert len(list(feed.sweep(rows))) == 10


# A whole training


def test_streamed_training_is_bitwise_equal_to_resident_one(
    few_digits: Dataset, plain_candidate: Candidate, monkeypatch
):
    device = Device(CPU, bfloat16=False)
    monkeypatch.setattr(training, "select_device", lambda name: device)
    # The last batch of scoring is smaller.
    recipe = dataclasses.replace(plain_candidate.recipe, batch_size=11, ema=0.9)
    candidate = dataclasses.replace(plain_candidate, recipe=recipe)
    everything = Augmentation(crop=1, flip="alternating", erase=0.5, cutout=3, mixup=0.4)

    def train() -> tuple[Training, list[tuple[float, ...]]]:
        trained = Training(candidate, few_digits, epochs=2, seed=3, augmentation=everything)
        results = [dataclasses.replace(trained.run_epoch(), epoch_seconds=0.0) for _ in range(2)]
        return trained, [dataclasses.astuple(result) for result in results]

    resident, expected = train()
    monkeypatch.setattr(
        batches,
        "open_feed",
        lambda dataset, device, batch: StreamedFeed(as_tensor(dataset.images), device, batch),
    )
    streamed, found = train()
    assert isinstance(resident._batches._feed, ResidentFeed)
    assert isinstance(streamed._batches._feed, StreamedFeed)
    assert found == expected
    assert streamed.score("test") == resident.score("test")
    for name, value in resident.network.state_dict().items():
        assert torch.equal(value, streamed.network.state_dict()[name])
    assert not readers()


# Choice of the feed


def small_dataset() -> Dataset:
    images = np.zeros((40, 5, 4, 3), np.uint8)
    rows = np.arange(40)
    return Dataset(images, rows % 2, ("a", "b"), rows[:20], rows[20:30], rows[30:])


@pytest.fixture
def pretended_cuda(monkeypatch) -> Callable[[int], None]:
    """Let open_feed return its choice for a simulated GPU; return a setter of its memory."""
    monkeypatch.setattr(
        feeds, "StreamedFeed", lambda images, device, batch: ("streamed", device.type, batch)
    )
    monkeypatch.setattr(feeds, "_resident", lambda dataset, device: ("resident", device.type))

    def set_memory(usable: int) -> None:
        monkeypatch.setattr(feeds, "usable_memory", lambda device: usable)

    return set_memory


def test_images_up_to_a_quarter_of_gpu_memory_are_resident(pretended_cuda):
    dataset = small_dataset()
    assert dataset.images.nbytes == 2400
    cuda = torch.device("cuda:0")
    pretended_cuda(4 * 2400)
    assert open_feed(dataset, cuda, 8) == ("resident", "cuda")
    pretended_cuda(4 * 2400 - 1)
    assert open_feed(dataset, cuda, 8) == ("streamed", "cuda", 8)


def test_feed_on_the_cpu_is_independent_of_memory(pretended_cuda):
    pretended_cuda(0)
    assert open_feed(small_dataset(), CPU, 8) == ("resident", "cpu")


def test_feed_on_the_cpu_copies_nothing():
    dataset = small_dataset()
    dataset.images.flags.writeable = False
    feed = open_feed(dataset, CPU, 8)
    assert isinstance(feed, ResidentFeed)
    assert feed.images.data_ptr() == dataset.images.ctypes.data
    assert feed.images.shape == (40, 5, 4, 3)


def test_trainings_share_one_copy_of_resident_images():
    # The meta device stands in for a GPU: copying to it creates another tensor.
    elsewhere = torch.device("meta")
    first, second = small_dataset(), small_dataset()
    feed = open_feed(first, elsewhere, 8)
    assert isinstance(feed, ResidentFeed)
    assert feed.images.device == elsewhere
    assert open_feed(first, elsewhere, 16) is feed
    # A fold is another data set over the same images.
    assert open_feed(dataclasses.replace(first), elsewhere, 8) is feed
    other = open_feed(second, elsewhere, 8)
    assert other is not feed
    assert open_feed(second, elsewhere, 8) is other
    assert feeds._resident.cache_info().currsize == 1

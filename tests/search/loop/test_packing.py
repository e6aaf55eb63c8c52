"""How trials share a cluster: CPUs, and the fraction of a GPU that each training needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.launched import NodeType
from cluster.sizing import GPU_FRACTIONS, LARGEST_EVALUATION_BATCH, Gpu, largest_prediction
from search.loop.packing import (
    DEFAULT_FRACTION,
    Node,
    Packing,
    fair_threads,
    fitting_trials,
    predicted_memory,
    reachable_nodes,
)
from spaces.architecture import Architecture
from spaces.candidate import Candidate

GB = 10**9
GPU = Gpu(memory=16 * GB, bfloat16=True)
AUTOMATIC = Packing(cpus=1, fixed=None, smallest=GPU, largest=GPU, bfloat16=True)

MakeOfSize = Callable[[float], Candidate]


@pytest.fixture
def of_size(
    plain: Callable[..., Architecture], candidate: Callable[[Architecture], Candidate]
) -> MakeOfSize:
    """Return a function that makes a candidate with about so many GB of predicted memory."""
    small = candidate(plain("c c", size=64, features=16))

    def of_batch(batch: int) -> Candidate:
        return replace(small, recipe=replace(small.recipe, batch_size=batch))

    def make(size: float) -> Candidate:
        def takes(batch: int) -> int:
            return predicted_memory(of_batch(batch), bfloat16=True)

        return of_batch(bisect_left(range(1, 1_000_000), size * GB, key=takes))

    return make


@pytest.mark.parametrize(
    ("size", "gpu_fraction"), [(0.5, 1 / 8), (2, 1 / 4), (5, 1 / 2), (10, 1), (100, 1)]
)
def test_predicted_memory_decides_the_gpu_fraction(
    of_size: MakeOfSize, size: float, gpu_fraction: float
) -> None:
    assert AUTOMATIC.gpu_fraction(of_size(size)) == gpu_fraction


def test_predicted_memory_includes_training_and_evaluation(of_size: MakeOfSize) -> None:
    one = of_size(0.2)
    step = one.training_memory(bfloat16=True)
    size = one.recipe.batch_size

    def scoring(images: int) -> int:
        return one.costs.evaluation_memory(images, bfloat16=True)

    assert 2 * size < LARGEST_EVALUATION_BATCH
    assert predicted_memory(one, bfloat16=True) == step + scoring(2 * size)
    # Measuring the latency of a larger batch than the evaluation's needs memory too.
    assert predicted_memory(one, 5000, bfloat16=True) == step + scoring(5000)
    assert predicted_memory(one, 2, bfloat16=True) == step + scoring(2 * size)
    large = replace(one, recipe=replace(one.recipe, batch_size=4000))
    expected = large.training_memory(bfloat16=True) + scoring(LARGEST_EVALUATION_BATCH)
    assert predicted_memory(large, bfloat16=True) == expected


def test_resident_images_count_towards_the_memory(of_size: MakeOfSize) -> None:
    just = of_size(1.0)
    assert AUTOMATIC.gpu_fraction(just) == 1 / 8
    assert replace(AUTOMATIC, image_bytes=3 * GB // 10).gpu_fraction(just) == 1 / 4


def test_images_too_large_for_the_gpu_do_not_count(of_size: MakeOfSize) -> None:
    assert replace(AUTOMATIC, image_bytes=8 * GB).gpu_fraction(of_size(1.0)) == 1 / 8


def test_float32_needs_a_larger_gpu_fraction(of_size: MakeOfSize) -> None:
    slow = replace(AUTOMATIC, bfloat16=False)
    assert slow.gpu_fraction(of_size(1.0)) > AUTOMATIC.gpu_fraction(of_size(1.0))


def test_the_smallest_gpu_decides_the_gpu_fraction(of_size: MakeOfSize) -> None:
    mixed = replace(AUTOMATIC, largest=Gpu(80 * GB, True))
    assert mixed.gpu_fraction(of_size(5)) == AUTOMATIC.gpu_fraction(of_size(5))


def test_the_largest_gpu_limits_what_can_be_trained() -> None:
    mixed = replace(AUTOMATIC, largest=Gpu(80 * GB, True))
    assert mixed.largest_training == largest_prediction(1, 80 * GB)
    assert replace(mixed, image_bytes=GB).largest_training == mixed.largest_training - GB
    assert replace(mixed, image_bytes=60 * GB).largest_training == mixed.largest_training


@pytest.mark.parametrize("fixed", [0.0, 0.3, 1.0, 2.0])
def test_a_fixed_gpu_fraction_applies_to_every_trial(of_size: MakeOfSize, fixed: float) -> None:
    packing = replace(AUTOMATIC, fixed=fixed)
    assert {packing.gpu_fraction(of_size(size)) for size in (0.5, 50)} == {fixed}
    assert packing.smallest_fraction == fixed
    assert packing.device_fraction(of_size(1)) == (fixed or 1.0)
    assert packing.on_gpus == (fixed > 0)
    assert (packing.largest_training is None) == (fixed == 0)
    assert not packing.is_guessed


def test_unknown_gpu_memory_gives_the_default_fraction(of_size: MakeOfSize) -> None:
    unknown = Packing(cpus=1, fixed=None)
    assert {unknown.gpu_fraction(of_size(size)) for size in (0.5, 50)} == {DEFAULT_FRACTION}
    assert unknown.smallest_fraction == DEFAULT_FRACTION
    assert unknown.largest_training is None
    assert unknown.is_guessed
    assert not AUTOMATIC.is_guessed


# CPUs


@pytest.mark.parametrize(
    ("cpus", "concurrent", "threads"),
    [
        ([8], 2, 4),
        ([8], 3, 2),
        ([8], 8, 1),
        ([8], 100, 1),
        ([16, 16], 2, 16),
        ([16, 16], 3, 8),  # Three of ten would be 30 CPUs, but each node fits only one.
        ([12, 4], 2, 6),
        ([], 2, 1),
    ],
)
def test_trials_share_the_cpus_of_the_nodes_fairly(
    cpus: list[int], concurrent: int, threads: int
) -> None:
    assert fair_threads([{"CPU": each} for each in cpus], concurrent) == threads


nodes = st.lists(
    st.fixed_dictionaries({"CPU": st.integers(0, 64), "GPU": st.integers(0, 8)}), max_size=4
)


@given(nodes, st.integers(1, 80))
def test_fair_threads_are_the_most_with_which_all_trials_fit(
    there: list[Node], concurrent: int
) -> None:
    threads = fair_threads(there, concurrent)
    assert threads == 1 or fitting_trials(there, threads, 0) >= concurrent
    assert fitting_trials(there, threads + 1, 0) < concurrent


@pytest.mark.parametrize(
    ("there", "cpus", "gpus", "fitting"),
    [
        ([{"CPU": 8}], 1, 0, 8),
        ([{"CPU": 8}], 3, 0, 2),
        ([{"CPU": 16, "GPU": 1}], 1, 1 / 8, 8),
        ([{"CPU": 4, "GPU": 1}], 1, 1 / 8, 4),
        (
            [{"CPU": 32, "GPU": 2}],
            1,
            0.3,
            6,
        ),  # Three to a GPU; the remainders of two GPUs do not add up.
        ([{"CPU": 8, "GPU": 4}], 1, 2, 2),
        ([{"CPU": 64}, {"CPU": 2, "GPU": 8}], 1, 1, 2),
        ([], 1, 0, 0),
    ],
)
def test_a_trial_fits_within_one_node(
    there: list[Node], cpus: float, gpus: float, fitting: int
) -> None:
    assert fitting_trials(there, cpus, gpus) == fitting


@given(nodes, st.integers(1, 8), st.sampled_from([0, *GPU_FRACTIONS, 2]))
def test_fitting_trials_never_exceed_the_resources(
    there: list[Node], cpus: int, gpus: float
) -> None:
    fitting = fitting_trials(there, cpus, gpus)
    assert fitting * cpus <= sum(node["CPU"] for node in there)
    assert fitting * gpus <= sum(node["GPU"] for node in there)


# Nodes that have not started yet

AMOUNTS = st.fixed_dictionaries({"CPU": st.integers(0, 4), "GPU": st.integers(0, 2)})


@given(
    nodes=st.lists(AMOUNTS, max_size=5),
    kinds=st.lists(
        st.tuples(AMOUNTS, st.integers(1, 4)),
        max_size=3,
        unique_by=lambda k: tuple(sorted(k[0].items())),
    ),
)
def test_a_cluster_grows_to_the_limit_of_each_node_type(
    nodes: list[Node], kinds: list[tuple[dict[str, float], int]]
) -> None:
    types = [NodeType("kind", resources, most) for resources, most in kinds]
    reachable = reachable_nodes(nodes, types)
    assert reachable[: len(nodes)] == nodes
    for resources, most in kinds:
        assert reachable.count(resources) == max(most, nodes.count(resources))


def test_node_types_without_known_resources_do_not_count() -> None:
    assert reachable_nodes([{"CPU": 4}], [NodeType("local.cluster.node", {}, 3)]) == [{"CPU": 4}]

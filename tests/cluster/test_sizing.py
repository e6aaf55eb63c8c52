"""The fraction of a GPU that a training gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.sizing import (
    GPU_FRACTIONS,
    PROCESS_BYTES,
    gpu_fraction_for,
    largest_prediction,
    memory_limit,
)

GB = 10**9

gpus = st.integers(1 * GB, 200 * GB)
predictions = st.integers(1, 250 * GB)


@pytest.mark.parametrize(
    ("predicted", "gpu_memory", "share"),
    [
        (1 * GB, 16 * GB, 1 / 8),
        (2 * GB, 16 * GB, 1 / 4),
        (5 * GB, 16 * GB, 1 / 2),
        (10 * GB, 16 * GB, 1),
        (1 * GB, 80 * GB, 1 / 8),
        (1, 4 * GB, 1 / 4),  # The process alone needs more than an eighth of 4 GB.
    ],
)
def test_training_gets_the_fraction_that_its_memory_needs(predicted, gpu_memory, share):
    assert gpu_fraction_for(predicted, gpu_memory) == share


@given(predictions, gpus)
def test_smallest_sufficient_gpu_fraction_is_chosen(predicted, gpu_memory):
    share = gpu_fraction_for(predicted, gpu_memory)
    holding = [s for s in GPU_FRACTIONS if predicted <= largest_prediction(s, gpu_memory)]
    assert share == min(holding, default=1)


@given(predictions, predictions, gpus)
def test_more_memory_never_means_a_smaller_fraction(first, second, gpu_memory):
    small, large = sorted((first, second))
    assert gpu_fraction_for(small, gpu_memory) <= gpu_fraction_for(large, gpu_memory)


@given(predictions, gpus, gpus)
def test_larger_gpu_never_means_a_larger_fraction(predicted, first, second):
    small, large = sorted((first, second))
    assert gpu_fraction_for(predicted, large) <= gpu_fraction_for(predicted, small)


@given(gpus, st.sampled_from(GPU_FRACTIONS))
def test_all_processes_that_fit_on_a_gpu_stay_within_its_memory(gpu_memory, share):
    one = memory_limit(share, gpu_memory)
    if one:
        assert (one + PROCESS_BYTES) / share <= gpu_memory


@given(gpus, st.sampled_from(GPU_FRACTIONS))
def test_largest_prediction_leaves_room_for_the_allocator(gpu_memory, share):
    assert largest_prediction(share, gpu_memory) * 1.1 <= memory_limit(share, gpu_memory) + 1


def test_further_whole_gpus_do_not_raise_the_memory_limit():
    assert memory_limit(2, 16 * GB) == memory_limit(1, 16 * GB)

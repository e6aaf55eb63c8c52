"""Screens: what they reject, with which violation and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler

from cluster.sizing import Gpu
from search.experiment.sections import ScreensSection
from search.loop.packing import Packing, predicted_memory
from search.loop.screens import build_screens, judge
from search.study.records import Rejection
from search.study.study import Study
from spaces.architecture import Architecture, Builder, CollapsedLayerError
from spaces.border import find_border
from spaces.candidate import Candidate, CandidateSpace
from spaces.costs import costs
from spaces.operations import Add, Convolution, GlobalPooling, Linear
from tests.spaces.nets import cifar_resnet

Plain = Callable[..., Architecture]
MakeCandidate = Callable[[Architecture], Candidate]

# Three convolutions see 3, 5 and 7 pixels, a pooling layer after them 8, the next one 12. Where the
# border lies then depends on the rule: see the fields in spaces.border.Rule.
BY_RULE = "c c c p c c"


@pytest.fixture(scope="module")
def rejection_of(plain: Plain, candidate: MakeCandidate) -> Callable[..., Rejection | None]:
    """Return a function that judges a plain net under the given screens."""

    def of(layers: str, *, net: dict[str, Any] | None = None, **screens: Any) -> Rejection | None:
        section = ScreensSection.model_validate(screens)
        return judge(candidate(plain(layers, **(net or {}))), build_screens(section))

    return of


def chain(convolutions: int) -> str:
    return " ".join(["c"] * convolutions)


# On 8 pixels the fields of 3x3 convolutions are 3, 5, 7, 9, 11, ..: the fifth is the first whose
# predecessor sees more than the image, so it is the border layer.
@pytest.mark.parametrize(
    ("convolutions", "beyond"), [(1, 0), (4, 0), (5, 0), (6, 1), (7, 2), (10, 5)]
)
def test_only_convolutions_beyond_the_border_layer_are_rejected(
    rejection_of: Callable[..., Rejection | None], convolutions: int, beyond: int
) -> None:
    found = rejection_of(chain(convolutions))
    if not beyond:
        assert found is None
    else:
        assert found is not None
        assert (found.reason, found.violation) == ("border", beyond)
        assert found.detail == (
            f"{beyond} of {convolutions} convolutions lie beyond the border layer (5)"
        )


@pytest.mark.parametrize(
    ("allowed", "violation"), [(0, 3.0), (1, 2.0), (2, 1.0), (3, None), (4, None)]
)
def test_allowed_convolutions_beyond_the_border_are_accepted(
    rejection_of: Callable[..., Rejection | None], allowed: int, violation: float | None
) -> None:
    found = rejection_of(chain(8), allow_beyond=allowed)
    assert (found.violation if found else None) == violation


@pytest.mark.parametrize(
    ("size", "rule", "violation"),
    [
        # At 7 pixels the third convolution does not exceed the image, but the pool after it does.
        (7, "previous-conv", None),
        (7, "direct-input", 1.0),
        (7, "non-strict", 1.0),
        # At 8 pixels the pool just reaches the image: enough for the non-strict rule alone.
        (8, "previous-conv", None),
        (8, "direct-input", None),
        (8, "non-strict", 1.0),
    ],
)
def test_each_published_rule_is_applied(
    rejection_of: Callable[..., Rejection | None], size: int, rule: str, violation: float | None
) -> None:
    found = rejection_of(BY_RULE, net={"size": size}, border=rule)
    assert (found.violation if found else None) == violation


@pytest.mark.parametrize("border", ["previous-conv", "direct-input", "non-strict", "truncate"])
def test_networks_with_several_paths_are_rejected_only_on_request(
    candidate: MakeCandidate, border: str
) -> None:
    def judged(net: Candidate, **screens: Any) -> Rejection | None:
        return judge(
            net, build_screens(ScreensSection.model_validate({"border": border} | screens))
        )

    builder = Builder((1, 8, 8))
    x = builder.image
    for _ in range(10):
        x = builder.add(Convolution(4), x)
    y = builder.add(Add(), builder.add(Convolution(4), x), x)
    builder.add(Linear(10), builder.add(GlobalPooling(), y))
    skipping = candidate(builder.build())
    assert find_border(skipping.architecture).beyond > 0
    assert judged(skipping) is None
    found = judged(skipping, several_paths=True)
    assert found is not None
    assert found.reason == "border"
    assert judged(candidate(cifar_resnet(3)), several_paths=True) is None


def test_truncate_rejects_what_cannot_be_cut_by_previous_conv(
    rejection_of: Callable[..., Rejection | None],
) -> None:
    whole = rejection_of(chain(8), border="truncate")
    assert whole == rejection_of(chain(8), border="previous-conv")


def test_without_the_border_screen_any_depth_is_accepted(
    rejection_of: Callable[..., Rejection | None],
) -> None:
    assert rejection_of(chain(30), border="off") is None


# One 3x3 convolution of 4 features on one channel and 8x8 pixels, and a linear layer to 10 classes:
# 36 + 50 parameters, 36 * 64 + 40 multiply-accumulates.
PARAMS, MACS = 86, 2344


@pytest.mark.parametrize(
    ("limit", "reason", "value"), [("max_params", "params", PARAMS), ("max_macs", "macs", MACS)]
)
def test_the_violation_of_a_cost_limit_is_relative_to_it(
    rejection_of: Callable[..., Rejection | None], limit: str, reason: str, value: int
) -> None:
    assert rejection_of("c", **{limit: value}) is None
    assert rejection_of("c", **{limit: value - 1}) == Rejection(
        reason, value / (value - 1) - 1, f"{reason} {value:,} exceed {value - 1:,}"
    )
    half = rejection_of("c", **{limit: value // 2})
    assert half is not None
    assert half.violation == pytest.approx(1.0)


def test_predicted_memory_depends_on_the_batch_size(
    rejection_of: Callable[..., Rejection | None], plain: Plain, candidate: MakeCandidate
) -> None:
    taken = candidate(plain("c")).training_memory()
    assert rejection_of("c", max_memory_mb=taken / 1e6) is None
    found = rejection_of("c", max_memory_mb=taken / 2e6)
    assert found is not None
    assert found.reason == "memory"
    assert found.violation == pytest.approx(1.0, rel=1e-4)


GPU = Gpu(memory=1_500_000_000, bfloat16=True)
ON_GPUS = Packing(cpus=1, fixed=None, smallest=GPU, largest=GPU, bfloat16=True)


def test_a_network_too_large_for_the_largest_gpu_is_rejected(
    plain: Plain, candidate: MakeCandidate
) -> None:
    screens = build_screens(ScreensSection(border="off"), ON_GPUS)
    assert judge(candidate(plain("c c", size=64)), screens) is None
    large = candidate(plain("c c", size=64, features=256))
    found = judge(large, screens)
    assert found is not None
    assert found.reason == "memory"
    limit = ON_GPUS.largest_training
    assert limit is not None
    excess = predicted_memory(large, bfloat16=True) / limit - 1
    assert found.violation == pytest.approx(excess)
    assert found.violation > 0


@pytest.mark.parametrize("packing", [None, Packing(cpus=1, fixed=0.0), Packing(cpus=1, fixed=None)])
def test_an_unknown_gpu_rejects_nothing(
    plain: Plain, candidate: MakeCandidate, packing: Packing | None
) -> None:
    large = candidate(plain("c c", size=64, features=2048))
    assert judge(large, build_screens(ScreensSection(border="off"), packing)) is None


def test_in_bfloat16_a_network_may_be_larger(plain: Plain, candidate: MakeCandidate) -> None:
    small = candidate(plain("c c"))
    megabytes = small.training_memory(bfloat16=True) / 1e6
    section = ScreensSection(border="off", max_memory_mb=megabytes * 1.001)
    assert judge(small, build_screens(section, ON_GPUS)) is None
    assert judge(small, build_screens(section)) is not None


@pytest.mark.parametrize("limit", ["max_params", "max_macs", "max_memory_mb"])
def test_the_violation_grows_with_the_excess(
    rejection_of: Callable[..., Rejection | None], limit: str
) -> None:
    bound = 0.05 if limit == "max_memory_mb" else 1
    found = [rejection_of("c c c", net={"features": f}, **{limit: bound}) for f in (4, 8, 16, 32)]
    violations = [rejection.violation for rejection in found if rejection is not None]
    assert len(violations) == 4
    assert violations[0] > 0
    assert violations == sorted(set(violations))


@pytest.mark.parametrize("border", ["previous-conv", "off"])
def test_a_collapsed_feature_map_is_always_rejected(
    rejection_of: Callable[..., Rejection | None], border: str
) -> None:
    # Unpadded, 8 pixels become 6, 4 and 2: the fourth convolution does not fit.
    assert rejection_of("c c c", net={"padded": False}, border=border) is None
    found = rejection_of("c c c c", net={"padded": False}, border=border)
    assert found is not None
    assert found.reason == "collapsed"
    assert "layer 4" in found.detail
    further = rejection_of("c c c c c", net={"padded": False}, border=border)
    assert further is not None
    assert further.violation > found.violation > 0


def test_screens_run_in_order_and_the_first_rejection_counts(
    rejection_of: Callable[..., Rejection | None],
) -> None:
    limits = {"max_params": 1, "max_macs": 1, "max_memory_mb": 1e-6}
    collapsed = rejection_of("c c c c c c c", net={"padded": False}, **limits)
    found = [
        collapsed,
        rejection_of(chain(9), **limits),
        rejection_of(chain(9), border="off", **limits),
        rejection_of(chain(9), border="off", **(limits | {"max_params": None})),
        rejection_of(chain(9), border="off", max_memory_mb=1e-6),
    ]
    assert [each.reason for each in found if each] == [
        "collapsed",
        "border",
        "params",
        "macs",
        "memory",
    ]


def test_a_candidate_within_all_limits_passes(
    rejection_of: Callable[..., Rejection | None],
) -> None:
    assert (
        rejection_of("c c p c", max_params=10_000, max_macs=10_000_000, max_memory_mb=100) is None
    )


limits = st.one_of(st.none(), st.integers(1, 3000))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rule=st.sampled_from(["previous-conv", "direct-input", "non-strict", "off"]),
    allowed=st.integers(0, 3),
    max_params=limits,
    max_kmacs=limits,
    max_kilobytes=limits,
)
def test_rejections_agree_with_border_and_costs(
    vgg_space: Callable[..., CandidateSpace],
    seed: int,
    rule: str,
    allowed: int,
    max_params: int | None,
    max_kmacs: int | None,
    max_kilobytes: int | None,
) -> None:
    macs = None if max_kmacs is None else max_kmacs * 1000
    memory = None if max_kilobytes is None else max_kilobytes / 1000
    section = ScreensSection.model_validate(
        {
            "border": rule,
            "allow_beyond": allowed,
            "max_params": max_params,
            "max_macs": macs,
            "max_memory_mb": memory,
        }
    )
    # More pooling layers than 8 pixels allow, so that some networks collapse.
    space = vgg_space(depth=[1, 10], pools=5, convs_before_pool=[1, 2])
    study = Study("draws", RandomSampler(seed=seed))
    for _ in range(5):
        drawn = space.draw(study.ask())
        found = judge(drawn, build_screens(section))
        try:
            cost = costs(drawn.architecture)
        except CollapsedLayerError:
            assert found is not None
            assert (found.reason, found.violation > 0) == ("collapsed", True)
            continue
        expected: list[tuple[str, float]] = []
        if rule != "off":
            beyond = find_border(drawn.architecture, rule).beyond
            expected.append(("border", beyond - allowed))
        if max_params:
            expected.append(("params", cost.params / max_params - 1))
        if macs:
            expected.append(("macs", cost.macs / macs - 1))
        if memory:
            used = drawn.training_memory()
            expected.append(("memory", used / (memory * 1e6) - 1))
        violated = [(reason, excess) for reason, excess in expected if excess > 0]
        if not violated:
            assert found is None
        else:
            assert found is not None
            assert found.reason == violated[0][0]
            assert found.violation == pytest.approx(violated[0][1], abs=1e-9)

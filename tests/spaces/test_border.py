"""The border layer under the three published rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces import Architecture, Rule, find_border, receptive_fields
from spaces.operations import Convolution
from tests.spaces import nets
from tests.spaces.graphs import architectures, examples, pairs, plain_chains
from tests.spaces.nets import chain, conv, pool

IMAGE = (3, 224, 224)
RESOLUTIONS = (28, 32, 64, 224)

PLAIN_3X3 = chain(IMAGE, *[conv()] * 16)
DILATED = chain(IMAGE, *[conv(dilation=d) for d in (1, 2, 4, 8, 16)])
STRIDED_STEM = chain(IMAGE, conv(7, 2), pool(3, 2), *[conv()] * 8)
EVERY_CONV_POOLED = chain(IMAGE, *[conv(), pool(3, 2)] * 5)
TWO_5X5 = chain(IMAGE, conv(5), pool(), conv(5), pool())

PUBLISHED = [
    ("VGG11", nets.classic_vgg("VGG11"), "6/6/8/-", "5/6/7/-", "5/6/7/-"),
    ("VGG13", nets.classic_vgg("VGG13"), "7/8/9/-", "7/7/9/-", "7/7/9/-"),
    ("VGG16", nets.classic_vgg("VGG16"), "7/8/10/-", "7/8/10/-", "7/7/10/-"),
    ("VGG19", nets.classic_vgg("VGG19"), "7/8/10/-", "7/8/10/-", "7/7/10/-"),
    ("AlexNet", nets.alexnet(), "3/3/4/-", "3/3/3/-", "3/3/3/-"),
    ("5x5, pool 2, twice", TWO_5X5, "-/-/-/-", "-/-/-/-", "-/-/-/-"),
    ("16 convolutions", PLAIN_3X3, "15/-/-/-", "15/-/-/-", "15/-/-/-"),
    ("dilation 1 to 16", DILATED, "5/-/-/-", "5/-/-/-", "5/-/-/-"),
    ("7x7/2, pool 3/2, 8 convolutions", STRIDED_STEM, "5/5/9/-", "5/5/9/-", "5/5/9/-"),
    ("conv and pool 3/2, 5 times", EVERY_CONV_POOLED, "5/5/-/-", "4/5/-/-", "4/5/-/-"),
]


def border_at(architecture: Architecture, size: int, rule: Rule = Rule.PREVIOUS_CONV) -> int | None:
    return find_border(architecture, rule, resolution=(size, size)).border


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0])
def test_published_borders_at_28_32_64_and_224_px(row, rule):
    _, architecture, *by_rule = row
    borders = [border_at(architecture, size, rule) for size in RESOLUTIONS]

    expected = by_rule[list(Rule).index(rule)]
    assert "/".join(str(border or "-") for border in borders) == expected


@pytest.mark.parametrize(("size", "expected"), [(28, 11), (32, 11), (64, 15), (224, None)], ids=str)
def test_resnet18_line_in_the_published_figures(size, expected):
    """The first convolution from which all later smallest fields exceed the image."""
    architecture = nets.resnet18()
    fields = receptive_fields(architecture)
    smallest = [fields[i].smallest[0] for i in nets.main_path_convolutions(architecture)]

    exceeding = [
        number
        for number in range(1, len(smallest) + 1)
        if all(field > size for field in smallest[number - 1 :])
    ]
    assert min(exceeding, default=None) == expected


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize("blocks", [1, 2, 5, 9])
def test_cifar_resnets_have_no_border_at_32_px(blocks, rule):
    assert find_border(nets.cifar_resnet(blocks), rule).border is None


def test_the_rules_take_their_published_names():
    architecture = nets.classic_vgg("VGG16")

    names = ["previous-conv", "direct-input", "non-strict"]
    assert [find_border(architecture, name).border for name in names] == [8, 8, 7]
    assert find_border(architecture).rule is Rule.PREVIOUS_CONV
    with pytest.raises(ValueError, match="strictest"):
        find_border(architecture, "strictest")


def test_vgg16_at_32_px_separates_strict_from_non_strict():
    architecture = nets.classic_vgg("VGG16")
    assert find_border(architecture).fields[5].smallest == (32, 32)

    assert border_at(architecture, 32, Rule.PREVIOUS_CONV) == 8
    assert border_at(architecture, 32, Rule.NON_STRICT) == 7


def test_the_non_strict_rule_needs_an_own_field_beyond_the_image():
    """A 1x1 convolution on a field of exactly the image's size is still productive."""
    architecture = chain((1, 5, 5), conv(5), conv(1))

    assert border_at(architecture, 5, Rule.NON_STRICT) is None
    assert border_at(chain((1, 5, 5), conv(5), conv(3)), 5, Rule.NON_STRICT) == 2


def test_a_pooling_between_counts_for_the_direct_input_only():
    architecture = chain((1, 8, 8), conv(7), pool(3, 2), conv())

    assert border_at(architecture, 8, Rule.PREVIOUS_CONV) is None
    assert border_at(architecture, 8, Rule.DIRECT_INPUT) == 2


def test_later_productive_convolution_moves_the_border_back():
    """A shortcut around a wide kernel brings fine detail to the last convolution."""
    builder = nets.Builder((1, 8, 8))
    x = builder.add(conv(3, features=1), builder.image)
    wide = builder.add(conv(9, features=1), x)
    wider = builder.add(conv(3, features=1), wide)
    detour = builder.build()
    join = builder.add(nets.Add(), x, wider)
    builder.add(conv(3), join)
    shortcut = builder.build()

    assert find_border(detour).border == 3
    assert find_border(shortcut).border is None


def test_an_image_is_exceeded_along_both_axes_or_not_at_all():
    architecture = chain((1, 8, 64), *[conv()] * 6)

    assert find_border(architecture).border is None
    assert find_border(architecture, resolution=(64, 8)).border is None
    assert find_border(architecture, resolution=(8, 8)).border == 5


def test_the_resolution_is_that_of_the_image_unless_given():
    architecture = nets.classic_vgg("VGG16", size=32)

    assert find_border(architecture).resolution == (32, 32)
    assert find_border(architecture).border == border_at(architecture, 32) == 8
    assert border_at(architecture, 64) == 10


@pytest.mark.parametrize("rule", Rule)
def test_convolutions_that_calculate_gates_never_make_a_border(rule):
    """Global pooling shows them everything; the network around them still sees 7 of 32 px."""
    architecture = nets.squeeze_and_excitation(size=32, convolutions=3)

    assert find_border(architecture, rule).border is None
    assert find_border(architecture, rule, include_gates=True).border is not None


@pytest.mark.parametrize("rule", Rule)
def test_gates_do_not_hide_the_border_of_the_network_around_them(rule):
    gated = nets.squeeze_and_excitation(size=32, convolutions=6)
    bare = chain((3, 32, 32), *[conv()] * 6)

    numbers = {bare_number: 3 * bare_number - 2 for bare_number in range(1, 7)}
    for size in (4, 6, 8, 10, 12):
        expected = find_border(bare, rule, resolution=(size, size))
        found = find_border(gated, rule, resolution=(size, size))
        assert found.border == (expected.border and numbers[expected.border])
        assert found.beyond == expected.beyond


@examples(150)
@given(architectures(), pairs(1, 6))
def test_the_rules_are_ordered_by_how_early_they_see_the_border(architecture, resolution):
    def first_unproductive(rule: Rule) -> float:
        border = find_border(architecture, rule, resolution=resolution).border
        return float("inf") if border is None else border

    non_strict = first_unproductive(Rule.NON_STRICT)
    direct_input = first_unproductive(Rule.DIRECT_INPUT)
    assert non_strict <= direct_input <= first_unproductive(Rule.PREVIOUS_CONV)


@pytest.mark.parametrize("rule", Rule)
@examples(100)
@given(architectures(), pairs(1, 6), st.integers(0, 10), st.integers(0, 10))
def test_a_larger_image_never_has_an_earlier_border(rule, architecture, resolution, taller, wider):
    larger = (resolution[0] + taller, resolution[1] + wider)
    small = find_border(architecture, rule, resolution=resolution)
    large = find_border(architecture, rule, resolution=larger)

    if large.border is not None:
        assert small.border is not None
        assert small.border <= large.border


@pytest.mark.parametrize("rule", Rule)
@examples(100)
@given(plain_chains((1, 16, 16)), pairs(1, 16))
def test_chain_is_unproductive_from_its_border_on(rule, architecture, resolution):
    analysis = find_border(architecture, rule, resolution=resolution)
    height, width = resolution
    fields = [field.smallest for field in receptive_fields(architecture)]
    verdicts = []
    for index in analysis.convolutions:
        direct, own = fields[index - 1], fields[index]
        before = [fields[i] for i in analysis.convolutions if i < index]
        previous = before[-1] if before else (1, 1)
        if rule is Rule.NON_STRICT:
            reached = direct[0] >= height and direct[1] >= width
            verdicts.append(reached and own[0] > height and own[1] > width)
        else:
            seen = previous if rule is Rule.PREVIOUS_CONV else direct
            verdicts.append(seen[0] > height and seen[1] > width)

    assert verdicts == sorted(verdicts)  # Along a chain fields only grow.
    assert analysis.border == (verdicts.index(True) + 1 if any(verdicts) else None)


@pytest.mark.parametrize("rule", Rule)
@examples(100)
@given(plain_chains((1, 24, 24), layers=8), pairs(1, 8))
def test_truncated_chain_has_its_border_at_the_end(rule, architecture, resolution):
    analysis = find_border(architecture, rule, resolution=resolution)
    if analysis.border is None:
        return
    with_border = nets.cut(architecture, analysis.border)
    assert find_border(with_border, rule, resolution=resolution).border == analysis.border
    assert find_border(with_border, rule, resolution=resolution).beyond == 0
    without_border = nets.cut(architecture, analysis.border - 1)
    assert find_border(without_border, rule, resolution=resolution).border is None


def test_the_analysis_names_every_convolution_with_its_field():
    architecture = nets.classic_vgg("VGG16")
    analysis = find_border(architecture)

    assert analysis.convolutions == tuple(architecture.indices(Convolution))
    fields = receptive_fields(architecture)
    assert analysis.fields == tuple(fields[i] for i in analysis.convolutions)
    assert [analysis.is_productive(n) for n in (1, 7, 8, 9, 13)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert analysis.beyond == 5


def test_without_a_border_every_convolution_is_productive():
    analysis = find_border(nets.cifar_resnet(1))

    assert analysis.beyond == 0
    assert all(analysis.is_productive(n) for n in range(1, len(analysis.convolutions) + 1))


def test_a_network_without_convolutions_has_no_border():
    assert find_border(chain((1, 8, 8), pool(), pool())).border is None

"""Remedies: networks without an unproductive tail, and what they cost."""

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spaces import Architecture, Builder, CandidateSpace, Rule, Task, costs, find_border
from spaces.operations import Add, Convolution, GlobalPooling, Input, Linear, Pooling
from spaces.receptive_field import gate_branches
from spaces.remedies import Truncated, Truncation, propose_remedies, truncate
from spaces.remedies.editing import Argument, Change, apply_changes, module_arguments
from spaces.remedies.placement import PlacementSearch
from tests.spaces import nets
from tests.spaces.drawing import random_trial
from tests.spaces.graphs import examples

TRUNCATED = [("VGG11", 6, 4.504), ("VGG13", 8, 4.689), ("VGG16", 8, 2.919), ("VGG19", 8, 2.328)]


@pytest.mark.parametrize(("name", "kept", "params"), TRUNCATED)
def test_truncated_vggs_match_published_convolutions_and_parameters(name, kept, params):
    truncated = truncate(nets.classic_vgg(name), keep_border=True)
    assert truncated is not None
    assert len(truncated.indices(Convolution)) == kept
    head = sum(
        layer.operation.params(tuple(truncated.shapes[i] for i in layer.inputs))
        for layer in truncated.layers
        if isinstance(layer.operation, Linear)
    )
    assert round((costs(truncated).params - head) / 1e6, 3) == params


def test_the_border_layer_stays_only_where_it_is_asked_for():
    vgg = nets.classic_vgg("VGG16")
    assert len(truncate(vgg).indices(Convolution)) == 7
    assert len(truncate(vgg, keep_border=True).indices(Convolution)) == 8


def test_a_truncated_network_keeps_its_head_and_no_pooling_before_it():
    vgg = nets.classic_vgg("VGG16")
    truncated = truncate(vgg)
    assert truncated.shapes[-1] == vgg.shapes[-1]
    kinds = [type(layer.operation) for layer in truncated.layers]
    joint = kinds.index(GlobalPooling) if GlobalPooling in kinds else kinds.index(Linear)
    assert not issubclass(kinds[joint - 1], Pooling)


@examples(40)
@given(st.integers(0, 10_000), st.sampled_from(list(Rule)), st.integers(0, 3))
def test_a_twin_keeps_the_border_layer_and_the_allowed_convolutions(seed, rule, allowed):
    space = CandidateSpace(Task(3, 8, 8, 10), "vgg", {"depth": [1, 9]}, {})
    net = space.draw(random_trial(seed)).architecture
    before = find_border(net, rule)
    twin, truncated = Truncation(rule, allowed).apply(net)
    if before.beyond <= allowed:
        assert (twin, truncated) == (net, None)
        return
    after = find_border(twin, rule)
    assert truncated == Truncated(len(before.convolutions), before.border + allowed)
    assert len(after.convolutions) == truncated.kept
    assert (after.border, after.beyond) == (before.border, allowed)
    assert twin.shapes[-1] == net.shapes[-1]
    assert str(truncated) == f"{truncated.kept} of {truncated.drawn} convolutions"


@pytest.mark.parametrize("attention", ["squeeze-excitation", "spatial", "both"])
@pytest.mark.parametrize("allowed", [0, 1])
def test_a_twin_with_gates_ends_where_one_without_gates_does(attention, allowed):
    options = {"depth": 6, "features": 16, "kernel": 3, "pools": 2, "pool_after": [1, 2]}
    twins = []
    for gates in ("none", attention):
        space = CandidateSpace(Task(3, 16, 16, 10), "vgg", options | {"attention": gates}, {})
        net = space.draw(random_trial(0)).architecture
        assert find_border(net).beyond == 2
        twin, truncated = Truncation(Rule.PREVIOUS_CONV, allowed).apply(net)
        assert truncated is not None
        assert find_border(twin).beyond == allowed
        aside = gate_branches(twin)
        twins.append([twin.shapes[i] for i in twin.indices(Convolution) if i not in aside])
    assert twins[0] == twins[1]


def test_only_on_request_are_networks_with_several_paths_truncated():
    net = nets.mobilenet_v2()
    net = Architecture((net.layers[0]._replace(operation=Input(3, 32, 32)), *net.layers[1:]))
    assert find_border(net).beyond > 0
    assert Truncation(Rule.PREVIOUS_CONV).apply(net) == (net, None)
    twin, truncated = Truncation(Rule.PREVIOUS_CONV, several_paths=True).apply(net)
    assert truncated.kept < truncated.drawn
    assert find_border(twin).beyond == 0


def test_a_network_that_cannot_be_cut_or_built_stays_whole():
    collapsing = nets.chain((3, 4, 4), nets.pool(), nets.pool(), nets.pool(), nets.conv(3))
    assert Truncation(Rule.PREVIOUS_CONV).apply(collapsing) == (collapsing, None)
    builder = Builder((3, 8, 8))
    x = first = builder.add(Convolution(4), builder.image)
    for _ in range(9):
        x = builder.add(Convolution(4), x)
    x = builder.add(GlobalPooling(), builder.add(Add(), first, x))
    builder.add(Linear(10), x)
    skipped = builder.build()
    assert find_border(skipped).beyond == 5
    whole = Truncation(Rule.PREVIOUS_CONV, several_paths=True).apply(skipped)
    assert whole == (skipped, None)


def test_skips_make_several_paths_but_gates_and_pools_do_not():
    several = {
        "VGG16": nets.classic_vgg("VGG16"),
        "squeeze-and-excitation": nets.squeeze_and_excitation(),
        "ResNet18": nets.resnet18(),
        "DenseNet-121": nets.densenet121(),
    }
    found = {name: find_border(net).has_several_paths for name, net in several.items()}
    assert found == {
        "VGG16": False,
        "squeeze-and-excitation": False,
        "ResNet18": True,
        "DenseNet-121": True,
    }


def test_a_network_without_border_needs_no_remedy():
    net = nets.cifar_resnet(2)
    assert find_border(net).border is None
    assert propose_remedies(net) == []
    assert truncate(net) is None


def assert_helpful(original: Architecture, rule: Rule, resolution: tuple[int, int] | None) -> None:
    remedies = propose_remedies(original, rule, resolution=resolution)
    shifts = [remedy for remedy in remedies if remedy.kind in ("rearrange", "move", "remove")]
    assert len(shifts) <= 3
    assert len({remedy.architecture.digest for remedy in remedies}) == len(remedies)
    before = find_border(original, rule, resolution=resolution).beyond + 1
    assert [remedy.macs for remedy in shifts] == sorted(remedy.macs for remedy in shifts)
    cheapest = [remedy.macs for remedy in shifts if remedy.kind == "rearrange"]
    if any(remedy.kind == "remove" for remedy in shifts):
        assert cheapest == [min(remedy.macs for remedy in shifts if remedy.kind != "move")]
    for remedy in remedies:
        changed = remedy.architecture
        after = find_border(changed, rule, resolution=resolution)
        if remedy.kind == "balance":
            assert 0 < after.beyond + 1 < before
            assert remedy.macs <= 1
            assert remedy.description.startswith(f"{after.beyond + 1} instead of {before} ")
        else:
            assert after.border is None
        if isinstance(original.layers[-1].operation, Linear):
            assert changed.shapes[-1] == original.shapes[-1]
        assert remedy.params == pytest.approx(costs(changed).params / costs(original).params)
        assert remedy.macs == pytest.approx(costs(changed).macs / costs(original).macs)
        convolutions = len(changed.indices(Convolution))
        if remedy.kind == "truncate":
            assert convolutions < len(original.indices(Convolution))
            assert remedy.macs < 1
        else:
            assert convolutions == len(original.indices(Convolution))
            assert remedy.macs > 1 or remedy.kind in ("balance", "rearrange")


@pytest.mark.parametrize("rule", Rule)
@pytest.mark.parametrize(
    ("net", "size"),
    [
        (nets.classic_vgg("VGG16"), 32),
        (nets.alexnet(), 32),
        (nets.mobilenet_v2(), 32),
        (nets.resnet18(), 16),
        (nets.densenet121(), 32),
    ],
    ids=["VGG16", "AlexNet", "MobileNetV2", "ResNet18", "DenseNet-121"],
)
def test_remedies_of_named_nets_make_all_convolutions_productive(net, size, rule):
    assert propose_remedies(net, rule, resolution=(size, size))
    assert_helpful(net, rule, (size, size))


@examples(60)
@given(st.integers(0, 10_000), st.sampled_from(list(Rule)), st.sampled_from([8, 16, 32]))
def test_remedies_of_drawn_nets_make_all_convolutions_productive(seed, rule, size):
    space = CandidateSpace(Task(3, size, size, 10), "vgg", {"depth": [3, 9]}, {})
    net = space.draw(random_trial(seed)).architecture
    assume(find_border(net, rule).border not in (None, 1))
    assert_helpful(net, rule, None)


def test_moved_pools_stay_as_many_and_come_later():
    net = nets.classic_vgg("VGG11")
    moved = [r for r in propose_remedies(net) if r.kind == "move"]
    assert moved
    before = net.indices(Pooling)
    for remedy in moved:
        after = remedy.architecture.indices(Pooling)
        assert len(after) <= len(before)
        assert remedy.params == 1


def test_a_strided_block_and_its_shortcut_are_changed_together():
    """Else the two paths would no longer meet at the same size."""
    net = nets.resnet18()
    removed = [r for r in propose_remedies(net, resolution=(16, 16)) if r.kind == "remove"]
    assert removed
    for remedy in removed:
        assert remedy.architecture.shapes  # Raises where an addition does not fit.


# Placements of downsampling


def brute_force(search: PlacementSearch, net: Architecture, rule: Rule) -> list[tuple[int, int]]:
    """Return unproductive layers and multiply-accumulates of every placement that is allowed."""
    least = min(net.shapes[i][1] for i in net.indices(Convolution))
    found = []
    for chosen in product(*search._options):
        changed = apply_changes(net, [change for changes in chosen for change in changes])
        try:
            shapes = changed.shapes
        except ValueError:
            continue
        *_, last = changed.indices(Convolution)
        if shapes[-1] == net.shapes[-1] and shapes[last][1] >= least:
            analysis = find_border(changed, rule)
            tail = 0 if analysis.border is None else analysis.beyond + 1
            found.append((tail, costs(changed).macs))
    return found


@examples(10)
@given(st.integers(0, 10_000), st.sampled_from(list(Rule)), st.sampled_from([5, 8, 11]))
def test_no_other_placement_is_cheaper(seed, rule, size):
    options = {"depth": [2, 3], "features": [2, 6], "kernel": [1, 3, 5], "dilation": [1, 2]}
    net = CandidateSpace(Task(1, size, size, 3), "vgg", options, {}).draw(random_trial(seed))
    search = PlacementSearch(net.architecture, rule)
    every = brute_force(search, net.architecture, rule)
    cheapest = search.cheapest_productive()
    productive = [macs for tail, macs in every if tail == 0]
    assert (cheapest is None) == (not productive)
    assert cheapest is None or costs(cheapest.architecture).macs == min(productive)
    balanced = search.best_at_equal_cost()
    before = min(find_border(net.architecture, rule).beyond + 1, len(every))
    fitting = [found for found in every if found[1] <= costs(net.architecture).macs]
    if balanced is None:
        assert find_border(net.architecture, rule).border is None or min(fitting)[0] >= before
    else:
        assert (balanced.unproductive, costs(balanced.architecture).macs) == min(fitting)


def test_vgg16_is_productive_at_half_the_cost_of_removals_alone():
    rearranged, removed, _ = propose_remedies(nets.classic_vgg("VGG16"))[-3:]
    assert (rearranged.kind, removed.kind) == ("rearrange", "remove")
    assert rearranged.description.endswith("stride 2 in conv9, conv12")
    assert (round(rearranged.macs), round(removed.macs)) == (16, 31)
    assert rearranged.params == 1


def test_dilation_that_makes_a_tail_unproductive_is_removed():
    net = nets.chain((3, 16, 16), *[nets.conv(dilation=2) for _ in range(5)])
    assert find_border(net).border == 5
    (rearranged,) = [r for r in propose_remedies(net) if r.kind == "rearrange"]
    assert rearranged.description.startswith("dilation 1 in layer ")
    assert rearranged.macs == 1
    assert rearranged.architecture.shapes == net.shapes


def test_without_new_pools_changes_are_arguments_of_modules():
    net = nets.classic_vgg("VGG16")
    for remedy in propose_remedies(net, pools=False):
        assert remedy.kind != "move"
        if remedy.kind != "truncate":
            arguments = module_arguments(net, remedy.changes)
            assert arguments
            assert {argument.name for argument in arguments} <= {"kernel_size", "stride", "padding"}
    assert module_arguments(net, (Change("stride", 1),)) == (Argument("conv1", "stride", (2, 2)),)
    assert module_arguments(net, (Change("pool", 1),)) is None

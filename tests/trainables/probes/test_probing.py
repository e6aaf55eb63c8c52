"""Probing networks whose layers are known to be needed, trivial, separable or disabled."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spaces.architecture import Builder
from spaces.errors import BadInputError
from spaces.operations import Activation, Add, Convolution, GlobalPooling, Linear, Norm
from spaces.remedies import Truncated
from trainables.builder import Network
from trainables.data import Dataset
from trainables.probes import probing
from trainables.probes.effective_field import describe_mass, measure_masses
from trainables.probes.images import ProbeImages
from trainables.probes.norms import count_disabled
from trainables.probes.probing import ProbeSettings, probe_network
from trainables.probes.records import (
    DEFAULT_IMAGES,
    PROBES,
    NetworkProbes,
    Probe,
    check_probes,
    title_of_trial,
)
from trainables.probes.regression import score_probe
from trainables.probes.subject import Subject

CPU = torch.device("cpu")
MakeDataset = Callable[..., Dataset]

pytestmark = pytest.mark.usefixtures("one_thread")


class Needed(nn.Module):
    """A convolution that copies the channels, and a residual branch that adds nothing."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.copy = nn.Conv2d(classes, classes, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(classes)
        self.branch = nn.Conv2d(classes, classes, 3, padding=1)
        with torch.no_grad():
            nn.init.dirac_(self.copy.weight)
            nn.init.zeros_(self.branch.weight)
            nn.init.zeros_(self.branch.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm(self.copy(images))
        return (x + self.branch(x)).mean(dim=(2, 3))


def probed(
    network: nn.Module, dataset: Dataset, *only: Probe, images: int = DEFAULT_IMAGES
) -> NetworkProbes:
    chosen = ProbeSettings(only=only or PROBES, images=images)
    return probe_network(network, dataset, chosen, CPU, title="net", weights="given")


def test_trivial_layer_loses_nothing_and_needed_one_drops_to_chance(
    coloured: MakeDataset,
) -> None:
    found = probed(Needed(), coloured(), "triviality")
    copy, branch = found.layers
    assert found.accuracy == 1.0
    assert (branch.zero_kernel_accuracy, branch.zero_branch_accuracy) == (1.0, 1.0)
    # Without the copy both classes have the same score, so the first is predicted.
    assert (copy.zero_kernel_accuracy, copy.zero_branch_accuracy) == (0.5, 0.5)
    assert copy.saturation is copy.probe_accuracy is copy.effective_radius is None


def test_notes_say_what_triviality_cannot_show(coloured: MakeDataset) -> None:
    assert probed(Needed(), coloured(), "triviality").notes == (
        "one of the 8 images is 12.5 points of accuracy",
    )
    blind = Needed()
    nn.init.zeros_(blind.copy.weight)
    guess, _ = probed(blind, coloured(), "triviality").notes
    assert guess.startswith("the accuracy of 0.5000 is not above that of a guess (0.5000)")
    assert not probed(blind, coloured(), "disabled").notes


def test_zero_kernel_leaves_the_shift_of_the_norm_and_zero_branch_does_not(
    coloured: MakeDataset,
) -> None:
    network = Needed()
    with torch.no_grad():
        network.norm.bias.copy_(torch.tensor([0.0, 5.0]))
        network.norm.running_mean.copy_(torch.tensor([3.0, 0.0]))
        network.branch.bias.copy_(torch.tensor([1.0, 0.0]))
    state = {name: value.clone() for name, value in network.state_dict().items()}
    dataset = coloured()
    # Zero kernel: class 0 scores 0 - 3 + 1, class 1 scores 5. Zero branch: 1 against 0.
    dataset.labels[dataset.validation[1]] = 0
    first = dataset.labels[dataset.validation] == 0
    copy = probed(network, dataset, "triviality").layers[0]
    assert copy.norm == "norm"
    assert copy.zero_kernel_accuracy == pytest.approx(1 - first.mean())
    assert copy.zero_branch_accuracy == pytest.approx(first.mean())
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())


def test_separable_layer_has_probe_accuracy_one_and_constant_one_guesses(
    coloured: MakeDataset,
) -> None:
    found = probed(Needed(), coloured(), "probe", "saturation")
    copy, branch = found.layers
    assert copy.probe_accuracy == 1.0
    assert branch.probe_accuracy == pytest.approx(0.5)
    assert copy.saturation == 0.5  # One channel is bright where the other is dark.
    assert branch.saturation == 0.0


def test_probes_hold_the_features_of_few_layers_at_a_time(
    coloured: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = probed(Needed(), coloured(), "probe").layers
    held: list[int] = []
    pooled = probing._Probing._pooled

    def count(self: object, images: ProbeImages, group: list[int]) -> dict[int, Tensor]:
        held.append(len(group))
        return pooled(self, images, group)

    monkeypatch.setattr(probing._Probing, "_pooled", count)
    monkeypatch.setattr(probing, "FEATURE_BYTES", 1)
    assert probed(Needed(), coloured(), "probe").layers == whole
    assert held == [1, 1, 1, 1]


def test_layer_of_equal_channels_needs_one_component(coloured: MakeDataset) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.Flatten())
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 2.0])[None, :, None, None].expand(4, 2, 1, 1))
    found = probed(network, coloured(), "saturation")
    assert found.layers[0].saturation == 1 / 4
    assert any("accuracy is unknown: the network returns [256] values" in n for n in found.notes)


def test_probe_of_many_features_equals_scikit_learn_on_all_of_them() -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - collection must not load it

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(60, 200, generator=generator, dtype=torch.float64)
    labels = torch.arange(60) % 3
    features[:, 0] += labels
    scored = torch.randn(90, 200, generator=generator, dtype=torch.float64)
    scored_labels = torch.arange(90) % 3
    scored[:, 0] += scored_labels
    mean, deviation = features.mean(0), features.std(0, correction=0)
    model = LogisticRegression(max_iter=1000, tol=1e-8)
    model.fit(((features - mean) / deviation).numpy(), labels.numpy())
    expected = model.score(((scored - mean) / deviation).numpy(), scored_labels.numpy())
    assert 1 / 3 < expected < 1
    found = score_probe(features, labels, scored, scored_labels)
    assert found.accuracy == pytest.approx(expected, abs=0.02)
    assert found.converged


def test_probe_of_one_class_or_infinite_features_is_said() -> None:
    zeros = torch.zeros(4, 3)
    labels = torch.tensor([1, 1, 1, 1])
    assert score_probe(zeros, labels, zeros, torch.tensor([1, 1, 0, 1])).accuracy == 0.75
    assert score_probe(zeros / 0, labels, zeros, labels).accuracy is None


def test_disabled_features_are_counted_exactly(coloured: MakeDataset) -> None:
    network = Needed()
    with torch.no_grad():
        network.norm.weight.copy_(torch.tensor([0.0099, -0.01]))
    (share,) = count_disabled(network)
    assert (share.name, share.features, share.disabled) == ("norm", 2, 1)
    found = probed(network, coloured(), "disabled")
    assert [layer.disabled_features for layer in found.layers] == [0.5, None]
    assert found.disabled_features == 0.5


def test_norm_after_an_operation_in_place_does_not_follow_directly(
    coloured: MakeDataset,
) -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 2, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(2), nn.Flatten()
    )
    assert probed(network, coloured(), "disabled").layers[0].norm == ""


# Effective receptive field


def chain(*kernels: int, side: int) -> nn.Sequential:
    layers = [nn.Conv2d(1, 1, k, padding=k // 2, bias=False) for k in kernels]
    for layer in layers:
        nn.init.ones_(layer.weight)
    return nn.Sequential(*layers).eval()


def test_field_of_positive_linear_convolutions_is_their_product() -> None:
    network = chain(3, 3, 5, side=15)
    subject = Subject(network, torch.zeros(2, 1, 15, 15), "chain")
    masses = measure_masses(subject, torch.rand(3, 1, 15, 15))
    first = torch.zeros(15, dtype=torch.float64)
    first[6:9] = 1
    second = torch.zeros(15, dtype=torch.float64)
    second[5:10] = torch.tensor([1.0, 2, 3, 2, 1])
    torch.testing.assert_close(masses[0], torch.outer(first, first))
    torch.testing.assert_close(masses[1], torch.outer(second, second))
    fields = [describe_mass(mass) for mass in masses]
    assert [field.extent for field in fields] == [(3, 3), (5, 5), (9, 9)]
    assert fields[0].within == pytest.approx((1 / 9, 5 / 9, 1.0))
    assert fields[0].radius == pytest.approx(math.sqrt(2))
    assert [field.side for field in fields] == [3, 5, 9]


def test_radius_holds_95_percent_of_the_mass() -> None:
    mass = torch.zeros(9, 9, dtype=torch.float64)
    mass[4, 4], mass[4, 2], mass[4, 6], mass[4, 0], mass[4, 8] = 90, 3, 3, 2, 2
    field = describe_mass(mass)
    assert (field.radius, field.side, field.extent) == (2.0, 5.0, (1, 9))
    assert field.within == pytest.approx((0.9, 0.9, 0.96, 0.96, 1.0))
    assert describe_mass(torch.zeros(3, 3)).radius is None


@pytest.mark.parametrize("stride", [1, 2])
def test_effective_extent_lies_within_the_theoretical_field(
    coloured: MakeDataset, stride: int
) -> None:
    dataset = coloured(3, side=20)
    builder = Builder((3, 20, 20))
    x = builder.image
    for number in range(3):
        strides = (stride, stride) if number == 0 else (1, 1)
        y = builder.add(Convolution(10, stride=strides), x, name=f"conv{number}")
        y = builder.add(Activation(), builder.add(Norm(), y))
        x = builder.add(Add(), x, y) if number == 2 else y
    builder.add(Linear(3), builder.add(GlobalPooling(), x))
    architecture = builder.build()
    torch.manual_seed(0)
    found = probe_network(
        Network(architecture),
        dataset,
        ProbeSettings(only=("field",)),
        CPU,
        title="net",
        weights="random",
        architecture=architecture,
    )
    assert [layer.name for layer in found.layers] == ["conv0", "conv1", "conv2"]
    assert not found.notes
    for layer in found.layers:
        assert layer.field_max is not None
        assert layer.effective_extent is not None
        assert (1, 1) < layer.effective_extent <= layer.field_max
        assert layer.effective_radius is not None
        assert 0 < layer.effective_radius <= math.hypot(*layer.field_max) / 2


# Networks of the user


def test_resnet18_of_torchvision_is_probed(coloured: MakeDataset) -> None:
    from torchvision.models import resnet18  # noqa: PLC0415 - collection must not load it

    torch.manual_seed(0)
    dataset = coloured(3, per_class=6, side=64)
    found = probed(resnet18(num_classes=3), dataset, images=2)
    assert len(found.layers) == 20
    assert found.layers[0].name == "conv1"
    assert found.layers[0].norm == "bn1"
    assert [layer.name for layer in found.layers][5:8] == [
        "layer2.0.conv1",
        "layer2.0.conv2",
        "layer2.0.downsample.0",
    ]
    assert found.layers[0].field_min == (7, 7)
    assert found.layers[-1].field_min == (139, 139)
    assert (found.images, found.training_images, found.resolution) == (2, 2, (64, 64))
    assert all(len(layer.metrics) == 6 for layer in found.layers)
    assert sum(norm.features for norm in found.norms) == 4800
    assert found.disabled_features == 0
    assert NetworkProbes.from_json(found.to_json()) == found


class Dynamic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.shared(self.shared(images))
        if x.sum() > 0:
            x = x + 1
        return x.mean(dim=(2, 3))


def test_untraceable_network_is_probed_without_border_and_said(coloured: MakeDataset) -> None:
    found = probed(Dynamic(), coloured(), "saturation", "field")
    (layer,) = found.layers
    assert layer.field_min is layer.productive is found.border is None
    assert layer.effective_extent == (3, 3)
    assert any(
        "fields and the border layer are unknown: its control flow" in n for n in found.notes
    )
    assert any("shared is called 2 times per image" in note for note in found.notes)


def test_network_that_does_not_fit_is_refused(coloured: MakeDataset) -> None:
    dataset = coloured()
    with pytest.raises(BadInputError, match="has no convolution"):
        probed(nn.Sequential(nn.Flatten(), nn.Linear(128, 2)), dataset)
    with pytest.raises(BadInputError, match="takes 3 channels, but the images have 2"):
        probed(nn.Sequential(nn.Conv2d(3, 4, 3)), dataset)
    with pytest.raises(BadInputError, match="raised RuntimeError for images of 2 x 8 x 8: mat1"):
        probed(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(7, 2)), dataset)


def test_images_are_bounded_drawn_alike_and_normalised(coloured: MakeDataset) -> None:
    dataset = coloured(3)
    first, again = (ProbeImages.draw(dataset, "train", 5, CPU) for _ in range(2))
    assert len(first) == 5
    np.testing.assert_array_equal(first.rows, again.rows)
    assert set(first.rows) < set(dataset.train)
    whole = torch.cat(list(ProbeImages.draw(dataset, "train", 99, CPU).batches(5)))
    assert whole.shape == (12, 3, 8, 8)
    torch.testing.assert_close(whole.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    plain = next(ProbeImages.draw(dataset, "train", 99, CPU, "none").batches())
    torch.testing.assert_close(
        plain[0, 0, 0, 0], torch.tensor(dataset.images[0, 0, 0, 0]).float() / 255
    )


def test_titles_say_how_far_a_trial_was_truncated() -> None:
    assert title_of_trial(3, None) == "trial 3"
    assert title_of_trial(3, Truncated(9, 4)) == "trial 3 (truncated to 4 of 9 convolutions)"


def test_unknown_probe_is_refused_with_the_nearest_name() -> None:
    assert check_probes(["field", "probe", "field"], "--only") == ("probe", "field")
    with pytest.raises(BadInputError, match="did you mean saturation"):
        check_probes(["saturations"], "--only")


class Strict(nn.Module):
    """A network that changes its images in place, and stops for images of another side."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[-1] == 8, "wrong side"
        images.sub_(0.5)
        return self.inner(images).mean(dim=(2, 3))


def test_assertion_of_a_users_network_is_one_line(coloured: MakeDataset) -> None:
    with pytest.raises(BadInputError, match="raised AssertionError for images of 3 x 16 x 16: wr"):
        probed(Strict(), coloured(3, side=16))


def test_network_that_changes_its_images_in_place_is_probed(coloured: MakeDataset) -> None:
    assert probed(Strict(), coloured(3, side=8), "field").layers[0].effective_extent == (3, 3)

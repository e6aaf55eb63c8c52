"""What stands between a network and its operations: looked through, measured or explained."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torchvision.transforms import Normalize, v2
from torchvision.transforms.functional import normalize

from spaces import BadInputError, costs, receptive_fields
from spaces.operations import CONVOLUTIONS
from trainables.tracing import measure, trace, trace_or_measure

IMAGE = (3, 24, 24)
MEAN, STD = [0.5, 0.5, 0.5], [0.2, 0.2, 0.2]


class Net(nn.Module):
    """Two 3x3 convolutions within a given forward: their fields are 3 and 5."""

    def __init__(self, forward, **parts: object) -> None:
        super().__init__()
        self.calculate = forward
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.calculate(self, x)


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))


def without_gradients(net: Net, x: Tensor) -> Tensor:
    with torch.no_grad():
        x = net.a(x)
    return net.b(x)


def in_bfloat16(net: Net, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = net.a(x)
    return net.b(x.float())


class OwnSwish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x) * (1 + x * (1 - torch.sigmoid(x)))


def with_hooks() -> nn.Module:
    net = plain()
    net.register_forward_hook(lambda *_: None)
    net[0].register_forward_hook(lambda _, __, output: output * 2)
    net[2].register_forward_pre_hook(lambda _, inputs: (F.pad(inputs[0], (1, 1, 1, 1)),))
    net[2].register_full_backward_hook(lambda *_: None)
    return net


def simulated_integers() -> nn.Module:
    net = plain().train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
        return torch.ao.quantization.prepare_qat(net)


def pruned_by_value(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return net.b(x) if (net.a.weight == 0).all() else net.b(x.relu())


def noting(net: Net, x: Tensor) -> Tensor:
    net.means.append(x.mean().item())
    return net.b(net.a(x))


WRAPPERS = {
    "no_grad": lambda: Net(without_gradients),
    "autocast": lambda: Net(in_bfloat16),
    "reentrant checkpoint": lambda: Net(lambda n, x: n.b(checkpoint(n.a, x, use_reentrant=True))),
    "sequence of checkpoints": lambda: Net(
        lambda n, x: checkpoint_sequential(nn.Sequential(n.a, n.b), 2, x, use_reentrant=False)
    ),
    "autograd function": lambda: Net(lambda n, x: n.b(OwnSwish.apply(n.a(x)))),
    "hooks": with_hooks,
    "DataParallel": lambda: nn.DataParallel(plain()),
    "DataParallel inside": lambda: nn.Sequential(
        nn.DataParallel(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)
    ),
    "averaged model": lambda: torch.optim.swa_utils.AveragedModel(plain()),
    "compiled": lambda: torch.compile(plain()),
    "compiled part": lambda: nn.Sequential(torch.compile(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)),
    "simulated integers": simulated_integers,
    "half precision": lambda: plain().half(),
    "v1 Normalize": lambda: nn.Sequential(Normalize(MEAN, STD), *plain()),
    "v1 normalize": lambda: Net(lambda n, x: n.b(n.a(normalize(x, MEAN, STD)))),
    "v2 Normalize": lambda: nn.Sequential(v2.Normalize(MEAN, STD), *plain()),
    "control flow on weights": lambda: Net(pruned_by_value),
    "value noted": lambda: Net(
        lambda n, x: (n.b(n.a(x)), n.kept.append(x.mean().item()))[0], kept=[]
    ),
    "larger of two": lambda: Net(lambda n, x: n.b(torch.max(n.a(x), n.a(x) * 2))),
    "smaller of two": lambda: Net(lambda n, x: n.b(torch.minimum(n.a(x), -n.a(x)))),
}


def fields(architecture) -> list[tuple[int, float]]:
    found = receptive_fields(architecture)
    return [
        (found[i].smallest[0], found[i].largest[0]) for i in architecture.indices(*CONVOLUTIONS)
    ]


@pytest.mark.parametrize("name", WRAPPERS)
def test_fields_and_costs_are_those_of_the_network_within(name):
    module = WRAPPERS[name]()
    architecture = trace(module, IMAGE)

    assert sorted(set(fields(architecture))) == [(3, 3), (5, 5)]
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())


# Measured


def early_exit(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    return x if x.mean() < 0 else net.b(x)


def checked(net: Net, x: Tensor) -> Tensor:
    x = net.a(x)
    assert not torch.isnan(x).any()
    return net.b(x)


def assigned(net: Net, x: Tensor) -> Tensor:
    x, kept = net.a(x), torch.zeros(2, 2)
    kept[0] = x.mean()
    return x if kept.sum() < 0 else net.b(x)


def written_through_a_view(net: Net, x: Tensor) -> Tensor:
    x, kept = net.a(x), torch.zeros(2, 2)
    kept.view(-1).add_(x.mean())
    return x if kept.sum() < 0 else net.b(x)


def chosen(net: Net, x: Tensor) -> Tensor:
    scores = net.b(net.a(x)).flatten()
    return scores[scores > 0]


def watched() -> nn.Module:
    net = plain()
    seen: list[object] = []
    net[0].register_forward_hook(lambda _, __, output: seen.append(output.detach().numpy()))
    return net


MEASURED = {
    "control flow on values": (lambda: Net(early_exit), "control flow depends on the values"),
    "assertion on values": (lambda: Net(checked), "control flow depends on the values"),
    "value assigned": (lambda: Net(assigned), "control flow depends on the values"),
    "value in a view": (lambda: Net(written_through_a_view), "control flow depends on the values"),
    "size by values": (lambda: Net(chosen), "size of a tensor depends on values"),
    "NumPy in a hook": (watched, ".numpy()"),
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_network_that_cannot_be_traced_is_measured(name):
    build, reason = MEASURED[name]
    module = build()
    architecture, notes = trace_or_measure(module, IMAGE, reference="own")

    assert [largest for _, largest in fields(architecture)] == [3, 5]
    assert costs(architecture).params == sum(p.numel() for p in module.parameters())
    assert len(notes) == 1
    assert reason in notes[0]
    assert notes[0].endswith("so its fields are measured instead")


def test_convolutions_without_a_call_are_named():
    net = Net(early_exit, unused=nn.Conv2d(3, 3, 1))
    _, notes = trace_or_measure(net, IMAGE, reference="own")

    assert notes[1] == "the measured run did not call 1 convolution(s): unused"


def test_functional_convolutions_are_measured():
    net = Net(lambda n, x: F.conv2d(n.a(x), n.b.weight, stride=2, padding="valid"))
    architecture = measure(net, IMAGE, reference="own")
    weights = torch.ones(4, 4, 2, 2)
    ours = measure(Net(lambda n, x: F.conv2d(n.a(x), weights)), IMAGE, reference="own")

    assert [architecture.layers[i].name for i in architecture.indices(*CONVOLUTIONS)] == ["a", "b"]
    assert fields(architecture)[-1] == (3, 5)
    assert ours.layers[ours.indices(*CONVOLUTIONS)[-1]].name == "conv2d"
    assert fields(ours)[-1] == (2, 4)


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(1, 4), nn.GroupNorm(4, 4), nn.LayerNorm([4, 22, 22]), nn.Softmax2d()]
)
def test_norms_neither_hide_nor_widen_a_measured_field(norm):
    measured = measure(Net(lambda n, x: n.b(norm(n.a(x)))), IMAGE, reference="own")

    assert [largest for _, largest in fields(measured)] == [3, 5]


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.adaptive_max_pool2d(x, 11),
        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)),
        lambda x: torch.max(x[:, :, ::2, ::2], x[:, :, 1::2, 1::2]),
    ],
)
def test_maxima_pass_every_position_to_a_measured_field(pool):
    measured = measure(Net(lambda n, x: n.b(pool(n.a(x)))), IMAGE, reference="own")

    assert [largest for _, largest in fields(measured)] == [3, 8]


# Explained


def scripted_part() -> nn.Module:
    return nn.Sequential(torch.jit.script(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3))


def quantised() -> nn.Module:
    net = nn.Sequential(*plain(), nn.Flatten(), nn.Linear(1600, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: torch.jit.script(plain()), "is a TorchScript module; name the module that"),
        (lambda: torch.jit.trace(plain(), torch.rand(1, *IMAGE)), "is a TorchScript module;"),
        (scripted_part, "is a TorchScript module (its part 0)"),
        (quantised, "is quantised to integers (its part 4)"),
    ],
)
def test_modules_that_hide_their_operations_are_explained(build, reason):
    module = build()
    for analyse in (trace, measure, trace_or_measure):
        with pytest.raises(BadInputError) as failed:
            analyse(module, IMAGE, reference="own")
        assert reason in str(failed.value)
        assert "\n" not in str(failed.value)

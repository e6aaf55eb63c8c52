"""Networks whose generated source docs/model-source.md shows."""

from __future__ import annotations

from optuna.trial import FixedTrial

from spaces import Architecture, Task
from spaces.named import named
from spaces.source.module import module_source
from spaces.vgg import vgg

CIFAR = Task(channels=3, height=32, width=32, classes=10)
_DIGITS = Task(channels=1, height=8, width=8, classes=10)


def networks() -> dict[str, Architecture]:
    """Return the networks by heading."""
    widths = {f"features_{number}": width for number, width in enumerate((40, 47, 22, 31), 1)}
    pools = {"convs_before_pool_1": 2, "convs_before_pool_2": 2}
    demo = FixedTrial({**widths, **pools})
    return {
        "A network of the quickstart": vgg(demo, _DIGITS, depth=4, kernel=3, features=(8, 48)),
        "ResNet18 for CIFAR": named("resnet18c", CIFAR),
        "DenseNet-BC with 100 layers": named("densenet100c", CIFAR),
        "ConvMixer-256/8": named("convmixer256d8", CIFAR),
    }


def model_sources() -> str:
    """Return the source of each network below its heading."""
    return "\n\n".join(
        f"## {heading}\n\n```python\n{module_source(architecture, title=heading)}```"
        for heading, architecture in networks().items()
    )

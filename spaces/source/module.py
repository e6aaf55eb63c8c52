"""Writes the module of an architecture: classes of its blocks, stages, and the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from textwrap import wrap
from typing import TypeAlias, cast

from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.costs import costs
from spaces.operations import (
    CONVOLUTIONS,
    Activation,
    AdaptivePooling,
    Convolution,
    Dropout,
    Flatten,
    GlobalPooling,
    Linear,
    Norm,
    ParametricRelu,
    Pooling,
    Shape,
)
from spaces.receptive_field import ReceptiveField, receptive_fields
from spaces.source.classes import Classes, Writer, key_of
from spaces.source.graph import Block, Item, Leaf, Step, Use, chain_of, leaves_of
from spaces.source.layout import INDENT, WIDTH

_AFTER = (Norm, Activation, ParametricRelu)
"""Layers that belong to the convolution before them."""
_HEAD = (GlobalPooling, AdaptivePooling, Flatten, Linear)
"""Layers that start the head."""

_CHANNEL_NORM = '''\
class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
'''


_BLUR_POOL = '''\
class BlurPool(nn.Module):
    """Average of each channel's windows with binomial weights."""

    def __init__(
        self,
        channels: int,
        kernel_size: tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        rows, columns = (
            torch.tensor([float(comb(size - 1, place)) for place in range(size)]) / 2 ** (size - 1)
            for size in kernel_size
        )
        filters = torch.outer(rows, columns).expand(channels, 1, *kernel_size).clone()
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.filters, None, self.stride, self.padding, groups=x.shape[1])
'''


def module_source(architecture: Architecture, *, title: str = "", name: str = "Network") -> str:
    """Return an architecture as the source of a Python module that needs torch alone.

    The module defines the network as the class ``name``, and ``load``, which returns it with the
    weights of a safetensors file. `state_dict_names` gives the names of its tensors.

    Args:
        architecture: the graph; its output must be a single pixel. Layers that do not reach the
            output are left out.
        title: first line of the module's docstring.
        name: of the network's class.

    Raises:
        BadInputError: an operation has no PyTorch code.
        CollapsedLayerError: a feature map has less than one pixel.

    Example:
        >>> from spaces.named import named
        >>> from spaces.task import Task
        >>> source = module_source(named("resnet20c", Task(3, 32, 32, 10)))
        >>> "BasicBlock(16, 32, stride=2)" in source
        True
    """
    return _written(architecture, title, name).text


def state_dict_names(architecture: Architecture) -> dict[str, str]:
    """Return the generated name of each tensor by its name in `trainables.builder.Network`.

    Layers that do not reach the output have no generated name.

    Example:
        >>> from spaces.named import named
        >>> from spaces.task import Task
        >>> names = state_dict_names(named("resnet20c", Task(3, 32, 32, 10)))
        >>> names["layers.1.weight"]
        'stem.0.weight'
    """
    return dict(_written(architecture, "", "Network").names)


@dataclass(frozen=True)
class _Written:
    text: str
    names: dict[str, str]


@lru_cache(maxsize=8)
def _written(architecture: Architecture, title: str, name: str) -> _Written:
    chain = chain_of(architecture)
    _fold_tails(chain)
    classes = Classes()
    classes.replace_blocks(chain)
    _define_units(chain, classes, architecture.shapes[0])
    notes = _Notes(architecture)
    writer = Writer(classes.known, said=notes.said, starts=notes.holds_border)
    parts = _parts(chain, architecture.shapes[0])
    value = "x"
    for part, items in parts:
        value = writer.flow(items, value, part)
        if part != parts[-1][0]:
            writer.body.append(f"{' ' * 2 * INDENT}x = {value}")
            value = "x"
    code = _network(architecture, name, parts, writer, value)
    blocks = ["\n".join(each.lines) for each in classes.known.values()]
    body = "\n\n\n".join([*blocks, code, _load(name)])
    if "ChannelNorm(" in body:
        body = f"{_CHANNEL_NORM}\n\n{body}"
    if "BlurPool(" in body:
        body = f"{_BLUR_POOL}\n\n{body}"
    text = f"{_header(architecture, title, notes)}\n\n{_imports(body)}\n\n\n{body}\n"
    return _Written(text, dict(_names(chain, writer)))


def _names(chain: list[Item], writer: Writer) -> Iterator[tuple[str, str]]:
    items = [item for item in chain if not isinstance(item, Block)]  # The others have no states.
    leaves: list[Leaf | None] = []
    for item in items:
        leaves += item.leaves if isinstance(item, Use) else [item]
    for leaf, path in zip(leaves, writer.paths_of(items), strict=True):
        if leaf is None or leaf.origin is None:
            continue
        for state in leaf.form.states:
            # A constant is an attribute of its own, a weight one of its module.
            own = path if leaf.form.tensor else f"{path}.{state}"
            yield f"layers.{leaf.origin}.{state}", own


# Units


def _fold_tails(chain: list[Item]) -> None:
    """Move the layers behind equal residual blocks into these blocks, as in a ConvMixer."""
    places = [n for n, item in enumerate(chain) if isinstance(item, Block) and item.is_residual]
    if len(places) < 2:
        return
    tail = chain[places[0] + 1 : places[1]]
    if not any(isinstance(leaf.operation, Convolution) for leaf in leaves_of(tail)):
        return
    wanted = [key_of(item) for item in [chain[places[0]], *tail]]
    for place in places:
        if [key_of(item) for item in chain[place : place + len(wanted)]] != wanted:
            return
    for place in reversed(places):
        block = cast("Block", chain[place])
        block.steps[-1].chain += chain[place + 1 : place + len(wanted)]
        block.shape = block.steps[-1].chain[-1].shape
        del chain[place + 1 : place + len(wanted)]


def _define_units(chain: list[Item], classes: Classes, image: Shape) -> None:
    """Replace recurring sequences around a convolution by uses of a class."""
    for find in (_transition, _unit):
        found: dict[tuple[object, ...], list[tuple[int, int]]] = {}
        start = 0
        while start < len(chain):
            end = find(chain, start)
            if end - start > 1:
                key = tuple(key_of(item) for item in chain[start:end])
                found.setdefault(key, []).append((start, end))
            start = max(end, start + 1)
        uses: dict[tuple[int, int], Use] = {}
        for spans in found.values():
            if len(spans) > 1:
                blocks = [_unit_block(chain, start, end, image) for start, end in spans]
                uses |= zip(spans, classes.define(blocks), strict=True)
        for (start, end), use in sorted(uses.items(), reverse=True, key=lambda each: each[0]):
            chain[start:end] = [use]


def _unit_block(chain: list[Item], start: int, end: int, image: Shape) -> Block:
    entry = chain[start - 1].shape if start else image
    return Block([Step((-1,), None, chain[start:end])], entry, chain[end - 1].shape)


def _transition(chain: list[Item], start: int) -> int:
    """Return the end of a norm, activation, convolution and pooling from a place on."""
    if start and not isinstance(chain[start - 1], Use):
        return start
    end = start
    while end < len(chain) and _is(chain[end], *_AFTER):
        end += 1
    if end == start or end == len(chain) or not _is(chain[end], Convolution):
        return start
    end += 1
    return end + 1 if end < len(chain) and _is(chain[end], Pooling) else end


def _unit(chain: list[Item], start: int) -> int:
    """Return the end of a convolution with its norm, activation and attention."""
    if not _is(chain[start], *CONVOLUTIONS):
        return start
    end = start + 1
    while end < len(chain) and (_is(chain[end], *_AFTER) or _is_attention(chain[end])):
        end += 1
    return end


def _is(item: Item, *kinds: type) -> bool:
    return isinstance(item, Leaf) and isinstance(item.operation, kinds)


def _is_attention(item: Item) -> bool:
    return isinstance(item, Use) and item.name.startswith(("SqueezeEx", "SpatialAtt", "Gated"))


# Stages


_Parts: TypeAlias = list[tuple[str, list[Item]]]


def _parts(chain: list[Item], image: Shape) -> _Parts:
    """Return the stem, the stages of one resolution each, and the head, with their names."""
    head = _start_of_head(chain)
    blocks = [n for n in range(head) if isinstance(chain[n], Use) and not _is_conv(chain[n])]
    stem = blocks[0] if blocks else 0
    stages: list[list[Item]] = []
    before = image if not stem else chain[stem - 1].shape
    ended = True
    for item in chain[stem:head]:
        shrinks = item.shape[1:] != before[1:]
        closing = shrinks and (
            _is(item, Pooling) or (isinstance(item, Use) and item.name.startswith("Transition"))
        )
        if ended or (shrinks and not closing):
            stages.append([])
        stages[-1].append(item)
        ended = closing
        before = item.shape
    names = [f"stage{number}" for number in range(1, len(stages) + 1)]
    if len(stages) == 1:
        names = ["blocks" if blocks else "features"]
    parts = [("stem", chain[:stem]), *zip(names, stages, strict=True), ("head", chain[head:])]
    return [(name, items) for name, items in parts if items]


def _is_conv(item: Item) -> bool:
    return isinstance(item, Use) and (
        item.name.startswith(("ConvBlock", "DepthwiseConv", "Transition")) or _is_attention(item)
    )


def _start_of_head(chain: list[Item]) -> int:
    start = len(chain)
    while start and _is(chain[start - 1], *_HEAD, Dropout, *_AFTER):
        start -= 1
    while start < len(chain) and not _is(chain[start], *_HEAD, Dropout):
        start += 1
    first = start
    while first and _is(chain[first - 1], *_AFTER):
        first -= 1
    belongs = first and not _is(chain[first - 1], *CONVOLUTIONS)
    return first if belongs else start


# Comments


class _Notes:
    """Receptive fields and the border layer, as comments."""

    def __init__(self, architecture: Architecture) -> None:
        self._fields = receptive_fields(architecture)
        self._shapes = architecture.shapes
        analysis = find_border(architecture, Rule.PREVIOUS_CONV)
        self.border = analysis.border
        self.convolutions = len(analysis.convolutions)
        self._border = None
        if analysis.border is not None:
            self._border = analysis.convolutions[analysis.border - 1]
        maps = [i for i, shape in enumerate(self._shapes) if shape[1:] != (1, 1)]
        self.field = self._fields[maps[-1]] if maps else self._fields[-1]
        self._last = ""

    def holds_border(self, item: Item) -> bool:
        """Tell whether an item is or contains the border layer."""
        return self._border is not None and any(
            leaf.origin == self._border for leaf in leaves_of([item])
        )

    def said(self, run: list[Item]) -> tuple[str, str]:
        """Return the comment behind a run of items and the note above it."""
        note = ""
        if self.holds_border(run[0]):
            note = (
                f"Border layer, convolution {self.border} of {self.convolutions}: the field of "
                "the convolution before it exceeds the image. It and later ones see nothing new."
            )
        _, height, width = run[-1].shape
        fields = [_field(self._fields[each.origin]) for each in run if each.origin is not None]
        if height == width == 1 or not fields:
            return "", note
        seen = fields[0] if fields[0] == fields[-1] else f"{fields[0]} to {fields[-1]}"
        text = f"{height}x{width}, field {seen}"
        if text == self._last:
            return "", note
        self._last = text
        return text, note


def _field(seen: ReceptiveField) -> str:
    small, large = (f"{h}" if h == w else f"{h}x{w}" for h, w in (seen.smallest, seen.largest))
    return small if small == large else f"{small}-{large}"


# Code


def _header(architecture: Architecture, title: str, notes: _Notes) -> str:
    channels, height, width = architecture.shapes[0]
    classes = architecture.shapes[-1][0]
    known = costs(architecture)
    first = (
        title or f"A convolutional network: {channels}x{height}x{width} images to {classes} classes"
    )
    border = "no border layer"
    if notes.border is not None:
        border = f"border layer: convolution {notes.border} of {notes.convolutions}"
    lines = [
        f'"""{first.rstrip(".")}.',
        "",
        f"Input: float images [n, {channels}, {height}, {width}]. Output: logits [n, {classes}].",
        f"Parameters: {known.params:,}. Multiply-accumulates: {known.macs:,} per image.",
        f"Receptive field: {_field(notes.field)} pixels; {border}.",
        "",
        *wrap(
            "The comments give the size of a layer's output (height x width) and its receptive "
            "field in pixels of the image (smallest-largest path).",
            WIDTH,
        ),
        '"""',
    ]
    return "\n".join(lines)


def _imports(body: str) -> str:
    lines = []
    if "comb(" in body:
        lines += ["from math import comb", ""]
    if re.search(r"\btorch\.", body.replace("safetensors.torch", "")):
        lines.append("import torch")
    if re.search(r"\bF\.", body):
        lines.append("import torch.nn.functional as F")
    lines.append("from torch import Tensor, nn")
    return "\n".join(lines)


def _network(
    architecture: Architecture, name: str, parts: _Parts, writer: Writer, value: str
) -> str:
    image = f"[n, {', '.join(map(str, architecture.shapes[0]))}]"
    classes = architecture.shapes[-1][0]
    return "\n".join(
        [
            f"class {name}(nn.Module):",
            f'    """The network: {_listed([part for part, _ in parts])}."""',
            "",
            *(
                ["    def __init__(self) -> None:", "        super().__init__()", *writer.init, ""]
                if writer.init
                else []
            ),
            "    def forward(self, x: Tensor) -> Tensor:",
            f'        """Return logits [n, {classes}] of images {image}."""',
            *writer.body,
            f"        return {value}",
        ]
    )


def _listed(names: list[str]) -> str:
    """Return the parts of a network in words.

    >>> _listed(["stem", "stage1", "stage2", "head"])
    'stem, 2 stages and head'
    """
    stages = sum(name.startswith("stage") for name in names)
    words = [name for name in names if not name.startswith("stage")]
    if stages:
        words.insert(names.index("stage1"), f"{stages} stages")
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _load(name: str) -> str:
    return f'''\
def load(path: str = "model.safetensors") -> {name}:
    """Return the network with the weights of a safetensors file, ready to predict."""
    from safetensors.torch import load_file

    network = {name}()
    network.load_state_dict(load_file(path))
    return network.eval()'''

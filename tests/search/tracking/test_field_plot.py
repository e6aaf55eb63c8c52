"""The receptive-field plot: valid SVG that shows what the analysis says."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.tracking.field_plot import field_plot
from spaces.architecture import Architecture, Builder
from spaces.border import find_border
from spaces.operations import Convolution, GlobalPooling, Linear

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ET.Element:
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    return root


def bars(root: ET.Element) -> list[ET.Element]:
    return [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("layers", "productive"), [("c", 1), ("c c c c", 4), ("c c c c c c c", 4), ("c p c p c p", 3)]
)
def test_each_convolution_has_a_bar_coloured_by_the_border(
    plain: Callable[..., Architecture], layers: str, productive: int
) -> None:
    found = bars(parsed(field_plot(find_border(plain(layers)), "trial 3")))
    colours = [bar.get("fill") for bar in found]
    assert len(colours) == layers.count("c")
    assert len(set(colours[:productive])) == 1
    assert len(set(colours[productive:])) <= 1
    assert not set(colours[:productive]) & set(colours[productive:])


def test_bars_share_a_baseline_and_show_field_sizes(
    plain: Callable[..., Architecture],
) -> None:
    root = parsed(field_plot(find_border(plain("c c c5 c")), "trial 3"))
    found = bars(root)
    assert [bar.findtext(f"{SVG}title") for bar in found] == [
        f"convolution {number}: {size} px" for number, size in enumerate((3, 5, 9, 11), start=1)
    ]
    heights = [float(bar.get("height", "nan")) for bar in found]
    assert [height / heights[0] for height in heights] == pytest.approx(
        [1, 5 / 3, 3, 11 / 3], rel=0.01
    )
    bottoms = [float(bar.get("y", "nan")) + float(bar.get("height", "nan")) for bar in found]
    assert bottoms == pytest.approx([bottoms[0]] * 4, abs=0.2)


def test_title_border_rule_and_image_size_are_shown(
    plain: Callable[..., Architecture],
) -> None:
    deep = texts(parsed(field_plot(find_border(plain("c c c c c c")), "trial 7")))
    assert "trial 7: border layer: 5 (previous-conv)" in deep
    assert "8 px" in deep
    shallow = texts(parsed(field_plot(find_border(plain("c"), "non-strict"), "trial 8")))
    assert "trial 8: no border layer (non-strict)" in shallow


def test_network_without_convolutions_has_no_bars() -> None:
    builder = Builder((1, 8, 8))
    builder.add(Linear(10), builder.image)
    assert bars(parsed(field_plot(find_border(builder.build()), "linear"))) == []


@settings(max_examples=50, deadline=None)
@given(
    # What XML cannot hold in any form: control characters and lone surrogates.
    title=st.text(
        st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
    ),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kernels=st.lists(st.sampled_from([1, 3, 7]), max_size=20),
)
def test_every_title_and_network_gives_valid_xml(
    title: str, size: tuple[int, int], kernels: list[int]
) -> None:
    builder = Builder((3, *size))
    x = builder.image
    for kernel in kernels:
        conv = Convolution(2, (kernel, kernel), padding=(kernel // 2, kernel // 2))
        x = builder.add(conv, x)
    builder.add(Linear(2), builder.add(GlobalPooling(), x))
    root = parsed(field_plot(find_border(builder.build()), title))
    assert len(bars(root)) == len(kernels)
    assert any(text.startswith(title) for text in texts(root))

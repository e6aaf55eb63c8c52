"""The receptive-field plot of a candidate, as SVG text.

Written as text because one is made for every trial, in the driver: a plotting library would take
a thousand times as long.
"""

from __future__ import annotations

from html import escape

from spaces.border import BorderAnalysis

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 16, 40, 44
_PRODUCTIVE, _UNPRODUCTIVE, _IMAGE = "#2f6f9f", "#c2553f", "#444444"


def field_plot(analysis: BorderAnalysis, title: str) -> str:
    """Draw the growth of the receptive field over the convolutions.

    One bar per convolution, as high as its smallest field (along the axis that is seen last); a
    line at the image size; convolutions from the border layer on in another colour.

    Args:
        analysis: fields and border layer.
        title: what the network is.

    Returns:
        An SVG document.
    """
    axis = 0 if analysis.resolution[0] >= analysis.resolution[1] else 1
    image = analysis.resolution[axis]
    sizes = [field.smallest[axis] for field in analysis.fields]
    top = max([*sizes, image]) * 1.08
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    step = plot_width / max(len(sizes), 1)

    def y(value: float) -> float:
        return _TOP + plot_height * (1 - value / top)

    border = "no border layer" if analysis.border is None else f"border layer: {analysis.border}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}: {border} '
        f"({analysis.rule.value})</text>",
    ]
    for number, size in enumerate(sizes, start=1):
        x = _LEFT + (number - 1) * step
        colour = _PRODUCTIVE if analysis.is_productive(number) else _UNPRODUCTIVE
        parts.append(
            f'<rect x="{x + step * 0.15:.1f}" y="{y(size):.1f}" width="{step * 0.7:.1f}" '
            f'height="{plot_height * size / top:.1f}" fill="{colour}">'
            f"<title>convolution {number}: {size} px</title></rect>"
            f'<text x="{x + step / 2:.1f}" y="{y(size) - 4:.1f}" text-anchor="middle" '
            f'font-size="10">{size}</text>'
            f'<text x="{x + step / 2:.1f}" y="{_TOP + plot_height + 15}" text-anchor="middle" '
            f'font-size="10">{number}</text>'
        )
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(image):.1f}" y2="{y(image):.1f}" '
        f'stroke="{_IMAGE}" stroke-dasharray="5 4"/>',
        f'<text x="{_LEFT - 6}" y="{y(image) + 4:.1f}" text-anchor="end">{image} px</text>',
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_TOP + plot_height}" '
        f'y2="{_TOP + plot_height}" stroke="#000000"/>',
        f'<text x="{_LEFT + plot_width / 2}" y="{_HEIGHT - 10}" text-anchor="middle">'
        "convolution (bar: receptive field in pixels; dashed: image)</text>",
        "</svg>",
    ]
    return "\n".join(parts)

"""Colours that users write: names or ``#rrggbb``."""

from __future__ import annotations

DEFAULT = "white"
_REMEDY = "use a colour name such as white, or #rrggbb"


def rgb(text: str) -> tuple[int, int, int]:
    """Return an opaque colour as red, green and blue in 0..255.

    Raises:
        ValueError: the text is no opaque colour; the message says what to write.
    """
    # Imported here because most processes decode no images.
    from PIL import ImageColor  # noqa: PLC0415

    try:
        colour = ImageColor.getrgb(text)
    except ValueError:
        raise ValueError(_REMEDY) from None
    if len(colour) != 3 or not all(0 <= each <= 255 for each in colour):
        raise ValueError(_REMEDY)
    return colour


def canonical(text: str) -> str:
    """Return the one text that stands for an opaque colour: its CSS name, or else ``#rrggbb``.

    Raises:
        ValueError: the text is no opaque colour; the message says what to write.

    Example:
        >>> canonical("#FFF"), canonical("white"), canonical("#102030")
        ('white', 'white', '#102030')
    """
    if text == DEFAULT:
        return text
    from PIL import ImageColor  # noqa: PLC0415

    colour = rgb(text)
    for name in ImageColor.colormap:
        if ImageColor.getrgb(name) == colour:
            return name
    return "#{:02x}{:02x}{:02x}".format(*colour)

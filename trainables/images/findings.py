"""Counts what reading an image changes or leaves out, and notes it for the user."""

from dataclasses import dataclass
from typing import Self

# With fewer levels between the 1st and the 99th percentile, most of the contrast is lost.
FEW_LEVELS = 32

# Images scaled to 0..1 twice, or the class numbers of masks, use fewer levels, all of them dark.
_FEWEST_LEVELS = 8
_DARK = 128


@dataclass(frozen=True, slots=True)
class Findings:
    """Counts over images; they add up.

    Args:
        images: all images.
        transparent: images with transparent pixels.
        deep: greyscale images with 16 or 32 bits.
        deep_pixels: visible pixels of those.
        clipped: those of these pixels outside the range of values.
        deep_colour: images with 16 bits in each of several channels.
        colour_levels: smallest and largest level of those, 0..255.
        with_frames: images with more frames or pages than the first.
        many_channels: images with channels that are neither colour nor alpha.
        channels: largest number of channels of those.
        levels: smallest and largest level of all images, 0..255.
    """

    images: int = 0
    transparent: int = 0
    deep: int = 0
    deep_pixels: int = 0
    clipped: int = 0
    deep_colour: int = 0
    colour_levels: tuple[int, int] = (255, 0)
    with_frames: int = 0
    many_channels: int = 0
    channels: int = 0
    levels: tuple[int, int] = (255, 0)

    def __add__(self, other: Self) -> "Findings":
        return Findings(
            images=self.images + other.images,
            transparent=self.transparent + other.transparent,
            deep=self.deep + other.deep,
            deep_pixels=self.deep_pixels + other.deep_pixels,
            clipped=self.clipped + other.clipped,
            deep_colour=self.deep_colour + other.deep_colour,
            colour_levels=_span(self.colour_levels, other.colour_levels),
            with_frames=self.with_frames + other.with_frames,
            many_channels=self.many_channels + other.many_channels,
            channels=max(self.channels, other.channels),
            levels=_span(self.levels, other.levels),
        )

    def notes(
        self, background: str, value_range: tuple[float, float] | None, origin: str
    ) -> list[str]:
        """Return a note on each thing that was changed or left out.

        Args:
            background: the colour behind transparent pixels, as the user writes it.
            value_range: the values of deep images that became black and white.
            origin: where these values are from.
        """
        lines = []
        if self.transparent:
            lines.append(
                f"{self._of_all(self.transparent)} transparent pixels, which show the background "
                f"{background} (decoding.background)"
            )
        if self.deep and value_range is not None:
            low, high = value_range
            line = (
                f"{self._of_all(self.deep)} 16 or 32 bits per pixel: the value {low:.10g} becomes "
                f"black and {high:.10g} white, {origin} (decoding.value_range)"
            )
            if self.clipped:
                line += f"; {_percent(self.clipped / self.deep_pixels)} of their pixels lie outside"
            if self.deep < self.images:
                line += "; images with 8 bits keep their values"
            lines.append(line)
        if self.deep_colour:
            line = f"{self._of_all(self.deep_colour)} 16 bits per colour; only the upper 8 are read"
            low, high = self.colour_levels
            if high - low + 1 < FEW_LEVELS:
                line += (
                    f", and they use only the levels {low} to {high} of 0 to 255: "
                    "stretch them and save them with 8 bits"
                )
            lines.append(line)
        if self.many_channels:
            first = "3 are" if self.channels > 3 else "is"
            lines.append(
                f"{self._of_all(self.many_channels)} {self.channels} channels; only the first "
                f"{first} read"
            )
        if self.with_frames:
            lines.append(
                f"{self._of_all(self.with_frames)} more than one frame or page; "
                "only the first is read"
            )
        darkest, lightest = self.levels
        if 0 <= lightest - darkest < _FEWEST_LEVELS and lightest < _DARK:
            lines.append(
                f"pixels span {darkest} to {lightest} of 255; if they are divided by 255 twice or "
                "are class numbers of masks, scale them to 0 to 255"
            )
        return lines

    def _of_all(self, count: int) -> str:
        return f"{count:,} of {self.images:,} images {'has' if count == 1 else 'have'}"


def _span(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return min(one[0], other[0]), max(one[1], other[1])


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %"

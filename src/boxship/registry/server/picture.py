"""An image's layers as a picture: one bar for each, as wide as its share, drawn as SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH, BAR, GAP = 860, 30, 6  # pixels
LABEL = 250
_COLOURS = ("#2563eb", "#0d9488", "#7c3aed", "#db2777", "#ea580c", "#65a30d")


class Layer(NamedTuple):
    """A layer and what made it."""

    digest: str
    size: int  # bytes, as stored
    made_by: str


def draw(layers: Sequence[Layer]) -> str:
    """Return the picture, the first layer at the bottom as it lies in the image."""
    height = len(layers) * (BAR + GAP) + GAP
    largest = max((layer.size for layer in layers), default=0) or 1
    parts = [
        f'<svg class="layers" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{len(layers)} layers"'
        ' xmlns="http://www.w3.org/2000/svg">'
    ]
    for index, layer in enumerate(reversed(layers)):
        top = GAP + index * (BAR + GAP)
        width = max(3, round((WIDTH - LABEL - 8) * layer.size / largest))
        colour = _COLOURS[(len(layers) - 1 - index) % len(_COLOURS)]
        middle = top + BAR // 2 + 4
        parts.append(
            f"<g><title>{escape(layer.digest)}\n{escape(layer.made_by)}</title>"
            f'<rect x="{LABEL}" y="{top}" width="{width}" height="{BAR}" rx="4" fill="{colour}"/>'
            f'<text x="{LABEL - 90}" y="{middle}" text-anchor="end" class="id">{escape(short(layer.digest))}</text>'
            f'<text x="{LABEL - 10}" y="{middle}" text-anchor="end">{human_size(layer.size)}</text></g>'
        )
    return "".join([*parts, "</svg>"])


def short(digest: str) -> str:
    """Return the first twelve digits of a digest."""
    return digest.partition(":")[2][:12]


def human_size(size: int) -> str:
    """Return bytes in decimal units with three digits, as Docker prints sizes."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"

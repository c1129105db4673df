"""How one map is drawn: its colours, its scale, the axes in Mpc, circles of the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

from zwicky.evaluate.figures.style import Array

COLOUR_MAPS: dict[str, str] = {"gas": "viridis", "dark_matter": "inferno"}
INPUT_MAP: str = "cividis"
DIFFERENCE_MAP: str = "PuOr_r"
DECADES: float = 3.5  # shown below the brightest pixel, at most


def colours(channel: str) -> str:
    """The colour map of a target."""
    return COLOUR_MAPS.get(channel, "viridis")


def scale(images: Sequence[Array]) -> Normalize:
    """A logarithmic scale over the positive pixels, at most DECADES deep; linear where a quarter is not positive."""
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if positive.size == 0 or positive.size < 0.75 * values.size or positive.min() == positive.max():
        low, high = np.percentile(values, [0.5, 99.8]) if values.size else (0.0, 1.0)
        return Normalize(low, high if high > low else low + 1.0)
    high = float(positive.max())
    return LogNorm(max(float(np.percentile(positive, 0.5)), high * 10.0**-DECADES), high)


def draw_map(ax: Axes, image: Array, pixel_kpc: float, norm: Normalize, colour_map: str) -> AxesImage:
    """Draw a centred map (P, P) with axes in Mpc; on a logarithmic scale what is below it has its lowest colour."""
    half = 0.5 * image.shape[-1] * pixel_kpc / 1e3
    shown = np.maximum(image, norm.vmin or 0.0) if isinstance(norm, LogNorm) else image
    picture = ax.imshow(shown, origin="lower", extent=(-half, half, -half, half), cmap=colour_map, norm=norm)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    return picture


def add_bar(figure: Figure, picture: AxesImage, axes: Axes | Sequence[Axes], label: str) -> None:
    """A colour bar below the axes."""
    ticks: Any = _few_ticks(picture.norm) if isinstance(picture.norm, LogNorm) else {}
    bar = figure.colorbar(picture, ax=axes, location="bottom", fraction=0.06, pad=0.03, aspect=16, shrink=0.9, **ticks)
    bar.set_label(label)
    bar.minorformatter = NullFormatter()


def _few_ticks(norm: LogNorm) -> dict[str, Any]:
    """Up to four labels at powers of ten; where there is one of these or none, two at other numbers of one digit."""
    low, high = norm.vmin or 1.0, norm.vmax or 1.0
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for digits in ([1], [1, 3], [1, 2, 5], range(1, 10)):
        found = np.sort(np.outer(powers, digits).ravel())
        found = found[(found >= low) & (found <= high)]
        if len(found) >= 2:
            break
    else:
        found = np.array([low, high])
    found = found[:: -(-len(found) // 4)] if list(digits) == [1] else found[[0, -1]]
    return {"ticks": FixedLocator(list(found)), "format": FuncFormatter(lambda x, _: _power_of_ten(x))}


def _power_of_ten(x: float) -> str:
    digit, exponent = f"{x:.0e}".split("e")
    front = "" if digit == "1" else rf"{digit}\times "
    return f"${front}10^{{{int(exponent)}}}$"


def add_circle(ax: Axes, radius_kpc: float, colour: str = "white") -> None:
    """A dashed circle around the centre, if it lies in the map."""
    if 0 < radius_kpc / 1e3 < ax.get_xlim()[1]:
        ax.add_patch(Circle((0.0, 0.0), radius_kpc / 1e3, fill=False, color=colour, linewidth=0.6, linestyle="--"))


def add_tag(ax: Axes, text: str) -> None:
    """A name in the corner of a map."""
    box = {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.45, "linewidth": 0.0}
    ax.text(0.05, 0.95, text, transform=ax.transAxes, ha="left", va="top", color="white", fontsize=7, bbox=box)

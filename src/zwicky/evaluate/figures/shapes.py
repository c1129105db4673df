"""Whether clusters look right: offsets, ellipticities and peaks of the posterior mean and of single samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zwicky.evaluate.figures.style import (
    COLOURS,
    IDEAL,
    MARKERS,
    STYLE,
    floats,
    legend_above,
    new_figure,
    say_empty,
    title,
)  # fmt: skip

PANELS: dict[str, tuple[str, float]] = {  # key of shape_metrics: label, ideal
    "peak_offset_kpc": ("offset of peak [kpc]", 0.0),
    "centroid_offset_kpc": ("offset of centroid [kpc]", 0.0),
    "ellipticity_difference": (r"$\Delta (1 - b/a)$", 0.0),
    "angle_deg": ("angle of major axes [deg]", 0.0),
    "completeness": ("true peaks found", 1.0),
    "purity": ("peaks that are true", 1.0),
}
KINDS: dict[str, str] = {"mean": "posterior mean", "sample": "single samples"}


def shapes_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Medians with 16-84% of offsets, ellipticities and angles; shares of peaks, with what chance gives as ticks."""
    found = {channel: result["bins"][mass_bin].get("shape") for channel, result in channels.items()}
    with rc_context(STYLE):
        figure, axes = new_figure(3, 2, 1.35, sharex=True)
        for ax, (key, (label, ideal)) in zip(axes.ravel(), PANELS.items(), strict=True):
            _draw_panel(ax, list(found.values()), key, ideal)
            ax.set_title(label)
        axes[0, 0].set_xticks(range(len(found)), [title(channel) for channel in found])
        axes[0, 0].set_xlim(-0.5, len(found) - 0.5)
        legend_above(figure, axes[0, 0], ncols=3)
    return figure


def _draw_panel(ax: Axes, shapes: list[dict[str, Any] | None], key: str, ideal: float) -> None:
    for i, (kind, label) in enumerate(KINDS.items()):
        numbers = [shape[kind] if shape else {} for shape in shapes]
        x = np.arange(len(shapes)) + 0.2 * (i - 0.5)
        value, up, down, chance = (
            floats([n.get(name) for n in numbers]) for name in (key, f"{key}_plus", f"{key}_minus", f"{key}_by_chance")
        )
        error = floats([n.get(f"{key}_error") for n in numbers])
        bars = np.nan_to_num(np.where(np.isfinite(up), [down, up], error))
        if np.isfinite(value).any():
            look: Any = {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": "none"}
            ax.errorbar(x, value, yerr=bars, elinewidth=0.9, label=label, **look)
            ax.plot(x, chance, color=COLOURS[i], marker="_", markersize=7, linestyle="none")
    if not ax.has_data():
        return say_empty(ax)
    ax.axhline(ideal, label="ideal", **IDEAL)

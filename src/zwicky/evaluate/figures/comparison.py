"""Several models on the same sightlines: paired differences from the first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from zwicky.evaluate.figures.style import (
    COLOURS,
    IDEAL,
    MARKERS,
    PAGE,
    STYLE,
    floats,
    name,
    new_figure,
    say_empty,
)  # fmt: skip

COLUMNS = 3


def comparison_figure(tables: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A forest plot: the difference of each model from the reference, one panel per statistic, a colour per channel.

    Args:
        tables: {channel: comparison}, as `report.comparison_table` takes them.
    """
    first = next(iter(tables.values()))
    models, statistics = list(first["differences"]), first["statistics"]
    rows = -(-len(statistics) // COLUMNS)
    with rc_context(STYLE):
        height = 0.75 + 0.11 * len(models) * len(tables)
        figure, axes = new_figure(rows, COLUMNS, height, PAGE, sharey=True)
        for ax, (key, statistic) in zip(axes.ravel(), statistics.items(), strict=False):
            ax.set_title(statistic["label"])
            ax.xaxis.set_major_locator(MaxNLocator(4))
            _draw_statistic(ax, tables, models, key)
        for ax in axes.ravel()[len(statistics) :]:
            ax.set_axis_off()
        axes[0, 0].set_yticks(range(len(models)), models)
        axes[0, 0].set_ylim(len(models) - 0.4, -0.6)
        figure.supxlabel(f"difference from {first['reference']}", fontsize=STYLE["axes.labelsize"])
        handles, labels = axes[0, 0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside upper center", ncols=len(tables))
    return figure


def _draw_statistic(ax: Axes, tables: Mapping[str, Mapping[str, Any]], models: list[str], key: str) -> None:
    for i, (channel, table) in enumerate(tables.items()):
        value, error = (floats([table["differences"][m][key][part] for m in models]) for part in ("value", "error"))
        y = np.arange(len(models)) + 0.36 * (i - 0.5 * (len(tables) - 1)) / max(len(tables) - 1, 1)
        look: dict[str, Any] = {"color": COLOURS[i % 5], "marker": MARKERS[i % 5], "linestyle": "none"}
        if np.isfinite(value).any():
            ax.errorbar(value, y, xerr=np.nan_to_num(error), elinewidth=0.9, label=name(channel), **look)
    if not ax.has_data():
        return say_empty(ax)
    ax.axvline(0.0, **IDEAL)
    ax.margins(x=0.15)

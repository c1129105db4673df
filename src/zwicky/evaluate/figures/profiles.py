"""Radial profiles with the band of the population, and their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from zwicky.evaluate.figures.style import (
    COLOURS,
    STYLE,
    Array,
    errorbar,
    floats,
    legend_above,
    log_ticks,
    per_channel,
    say_empty,
)  # fmt: skip

CURVES: dict[str, str] = {
    "mean_difference": "mean",
    "spread_difference": "spread of means",
    "sample_spread_difference": "spread of samples",
}


def profiles_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Profiles with their 16-84 band (top) and fractional differences from the truth (bottom), a column per channel."""
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.5, 1.0), 3.9)
        for column, result in zip(axes.T, channels.values(), strict=True):
            column[1].set_xlabel("projected radius $R$ [Mpc]")
            edges = floats(result["scales"]["profile_edges_kpc"]) / 1e3
            _draw_profile(column, 0.5 * (edges[1:] + edges[:-1]), result["bins"][mass_bin].get("profile"))
        axes[0, 0].set_ylabel(r"$\Sigma$ [M$_\odot$ kpc$^{-2}$]")
        axes[1, 0].set_ylabel("predicted / true $-$ 1")
        axes[1, 0].margins(y=0.15)
        legend_above(figure, axes[0, 0])
        if axes[1, 0].has_data():
            axes[1, 0].legend(loc="best", handlelength=1.0, fontsize=6.0)
    return figure


def _draw_profile(column: Array, R: Array, profile: dict[str, Any] | None) -> None:
    if profile is None:
        for ax in column:
            say_empty(ax)
        return
    top, bottom = column
    for key, label, colour in (("true", "truth", "black"), ("mean", "posterior mean", COLOURS[0])):
        low, median, high = floats(profile[f"{key}_percentiles"])
        top.fill_between(R, low, high, color=colour, alpha=0.2, linewidth=0.0)
        top.plot(R, median, color=colour, linestyle="-" if key == "true" else "--", label=f"{label}, 16-50-84%")
    bottom.axhspan(-0.05, 0.05, color="0.88", zorder=0)
    for i, (key, label) in enumerate(CURVES.items()):
        errorbar(bottom, R, profile[key], profile[f"{key}_error"], i, label)
    bottom.axhline(0.0, color="0.4", linewidth=0.6)
    top.set(xscale="log", yscale="log")
    log_ticks(top.xaxis)

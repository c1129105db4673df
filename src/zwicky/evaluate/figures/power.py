"""b(k) and r(k) of the posterior mean and of single samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from zwicky.evaluate.figures.style import (
    IDEAL, STYLE, Array, errorbar, floats, legend_above, log_ticks, per_channel, say_empty,
)  # fmt: skip


def power_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """b(k) (top) and r(k) (bottom) of the posterior mean and of single samples, with what calibration asks of them.

    Args:
        channels: {channel: metrics of evaluate_channel}; one column each.
        mass_bin: the bin of M200m that is drawn.
    """
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.0, 1.0), 3.6)
        for column, result in zip(axes.T, channels.values(), strict=True):
            column[1].set_xlabel(r"$k$ [$h$ Mpc$^{-1}$]")
            _draw_power(column, result["scales"], result["bins"][mass_bin].get("power"))
        for ax, label in zip(axes[:, 0], ("transfer $b(k)$", "correlation $r(k)$"), strict=True):
            ax.set_ylabel(label)
        legend_above(figure, axes[0, 0], ncols=3)
    return figure


def _draw_power(column: Array, scales: dict[str, Any], power: dict[str, Any] | None) -> None:
    if power is None:
        for ax in column:
            say_empty(ax)
        return
    k = floats(scales["k"])
    r = floats(power["r_mean"]["curve"])
    for ax, letter, target in ((column[0], "b", r), (column[1], "r", r**2)):
        for i, (kind, label) in enumerate((("mean", "posterior mean"), ("sample", "single samples"))):
            entry = power[f"{letter}_{kind}"]
            errorbar(ax, k, entry["curve"], entry["curve_error"], i, label)
        ax.plot(k, target, zorder=5, label="if calibrated", **IDEAL)
        ax.axhline(1.0, color="0.6", linewidth=0.6, zorder=0)
        ax.axvline(scales["k_split"], color="0.6", linestyle=":", linewidth=0.8, zorder=0)
        ax.set_xscale("log")
        log_ticks(ax.xaxis)

"""b(k) and r(k) of the posterior mean and of single samples, beside r(k) of the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from zwicky.evaluate.figures.style import (
    COLOURS,
    IDEAL,
    STYLE,
    Array,
    errorbar,
    floats,
    legend_above,
    log_ticks,
    name,
    per_channel,
    say_empty,
)  # fmt: skip

LINEAR = "r_inputs_linear"
INPUTS: tuple[str, ...] = ("r_input_", LINEAR)  # how the keys of correlations of inputs begin
OTHERS = COLOURS[2:]


def power_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """b(k) (top) and r(k) (bottom) of the posterior mean and of single samples, with what calibration asks of them.

    Thin lines at the bottom are the correlations of the inputs, and of the best linear filter of all of them.

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
        legend_above(figure, axes[1, 0], ncols=3)
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
    drawn = [key for key in power if key.startswith(INPUTS) and not key.endswith("_pooled")]
    for i, key in enumerate(drawn):
        label = "inputs, linear" if key == LINEAR else name(key.removeprefix(INPUTS[0]))
        column[1].plot(k, floats(power[key]["curve"]), color=OTHERS[i % 3], linewidth=0.8, label=label, zorder=1)

"""Whether a posterior is as wide as it should be: levels, ranks, TARP, annuli, standardised errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from zwicky.evaluate.calibration import LEVELS
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
    new_figure,
    per_channel,
    say_empty,
)  # fmt: skip

BINS: dict[str, str] = {"all": "all", "low": "low mass", "high": "high mass"}


def calibration_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Levels of pixels and masses, ranks of pixels, TARP of profiles, coverage of annuli, with what is ideal."""
    with rc_context(STYLE):
        figure, axes = new_figure(2, 2, 1.75)
        for i, (channel, result) in enumerate(channels.items()):
            content = result["bins"][mass_bin]
            if "pixel" in content:
                _draw_channel(axes.ravel(), content, result["scales"], i, name(channel))
        for ax in axes.ravel():
            if not ax.has_data():
                say_empty(ax)
        _draw_targets(axes.ravel(), [result["bins"][mass_bin] for result in channels.values()])
        legend_above(figure, axes[0, 0], ncols=3)
    return figure


def _draw_channel(axes: Array, content: dict[str, Any], scales: dict[str, Any], i: int, label: str) -> None:
    levels, ranks, tarp, annuli = axes
    colour = COLOURS[i % len(COLOURS)]
    levels.plot(LEVELS, floats(content["pixel"]["levels"]), color=colour, label=label)
    levels.plot(LEVELS, floats(content["mass"]["map"]["levels"]), color=colour, linestyle=":", label=f"{label}, mass")
    counts = floats(content["pixel"]["ranks"])
    edges = np.linspace(0.0, 1.0, len(counts) + 1)
    ranks.stairs(counts / counts.mean(), edges, color=colour, linewidth=1.2, baseline=None)
    of_masses = floats(content["mass"]["map"]["ranks"])
    edges = np.linspace(0.0, 1.0, len(of_masses) + 1)
    ranks.stairs(of_masses / of_masses.mean(), edges, color=colour, linewidth=0.9, linestyle=":", baseline=None)
    tarp.plot(LEVELS, floats(content["tarp"]["levels"]), color=colour)
    R, profile = floats(scales["profile_edges_kpc"]) / 1e3, content["profile"]
    errorbar(annuli, 0.5 * (R[1:] + R[:-1]), profile["coverage"], profile["coverage_error"], i)


def _draw_targets(axes: Array, contents: list[dict[str, Any]]) -> None:
    levels, ranks, tarp, annuli = axes
    full = next((content for content in contents if "pixel" in content), None)
    for ax in (levels, tarp):
        ax.plot([0.0, 1.0], [0.0, 1.0], label="calibrated", **IDEAL)
        ax.set(xlim=(0, 1), ylim=(0, 1))
    ranks.axhline(1.0, **IDEAL)
    ranks.set(xlim=(0, 1), ylim=(0, 1.1 * ranks.get_ylim()[1]))
    annuli.set(ylim=(0, 1), xscale="log")
    if full is not None:
        limit = full["tarp"]["limit_95"] or 0.0
        tarp.fill_between([0.0, 1.0], [-limit, 1.0 - limit], [limit, 1.0 + limit], color="0.88", linewidth=0, zorder=0)
        annuli.axhline(full["profile"]["coverage_target"] or np.nan, **IDEAL)
        log_ticks(annuli.xaxis)
    levels.set(xlabel="credible level", ylabel="truths inside")
    ranks.set(xlabel="rank of the truth", ylabel="density")
    tarp.set(xlabel="credible level (TARP)", ylabel="true profiles inside")
    annuli.set(xlabel="projected radius $R$ [Mpc]", ylabel=r"inside 1$\sigma$")


def pixels_figure(channels: Mapping[str, dict[str, Any]]) -> Figure:
    """Histograms of the standardised errors of pixels in each mass bin, with the unit normal, a column per channel."""
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.0,), 2.3)
        for ax, result in zip(axes[0], channels.values(), strict=True):
            ax.set_xlabel(r"(mean $-$ true) / $\sigma$")
            _draw_errors(ax, result)
        axes[0, 0].set_ylabel("density of pixels")
        legend_above(figure, axes[0, 0], ncols=4)
    return figure


def _draw_errors(ax: Axes, result: dict[str, Any]) -> None:
    edges = floats(result["scales"]["z_edges"])
    for i, (mass_bin, label) in enumerate(BINS.items()):
        counts = floats(result["bins"][mass_bin].get("pixel", {}).get("z_counts", 0.0))
        if counts.sum() > 0:
            density = counts / counts.sum() / np.diff(edges)
            ax.stairs(density, edges, color=COLOURS[i], linewidth=1.2, label=label)
    if not ax.has_data():
        return say_empty(ax)
    z = np.linspace(edges[0], edges[-1], 201)
    ax.plot(z, np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi), label="unit normal", **IDEAL)
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_locator(MultipleLocator(2.0))
    ax.set_ylim(bottom=0.0)

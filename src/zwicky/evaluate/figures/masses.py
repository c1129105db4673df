"""Masses: the sets of maps, predicted against true mass, and the scatter of single maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from zwicky.evaluate.figures.style import (
    APERTURE_NAMES,
    COLOURS,
    IDEAL,
    POINTS,
    STYLE,
    Array,
    legend_above,
    log_ticks,
    new_figure,
    per_channel,
    say_empty,
)  # fmt: skip

UNIT: float = 1e14  # of the masses in figures [Msun]
BIN_DEX: float = 0.1  # of the numbers of maps


def sets_figure(sets: Mapping[str, Array]) -> Figure:
    """Number of maps per 0.1 dex of M200m of each set.

    Args:
        sets: {name: M200m of every map (N,) [Msun]}.
    """
    with rc_context(STYLE):
        figure, ((ax,),) = new_figure(1, 1, 2.4)
        everything = np.log10(np.concatenate([np.asarray(m, dtype=float) for m in sets.values()]))
        low, high = np.floor(everything.min() / BIN_DEX), np.floor(everything.max() / BIN_DEX) + 1
        edges = np.arange(low, high + 0.5) * BIN_DEX
        for i, (label, m) in enumerate(sets.items()):
            counts = np.histogram(np.log10(m), bins=edges)[0]
            ax.stairs(counts, 10.0**edges / UNIT, color=COLOURS[i % 5], linewidth=1.2, label=f"{label} ({len(m)})")
        ax.set(xscale="log", yscale="log", ylabel="maps per 0.1 dex", xlabel=r"$M_{\rm 200m}$ [$10^{14}$ M$_\odot$]")
        log_ticks(ax.xaxis)
        log_ticks(ax.yaxis)
        legend_above(figure, ax, ncols=3)
    return figure


def mass_figure(masses: Mapping[str, Mapping[str, Array]]) -> Figure:
    """Predicted against true mass of the map with 1 sigma bars (top) and pulls (bottom), a column per channel.

    Args:
        masses: {channel: {mass, mass_pred, mass_std}}, (N,) each [Msun]; an empty dict leaves its panels empty.
    """
    with rc_context(STYLE):
        figure, axes = per_channel(masses, (1.5, 1.0), 3.6, sharey=False)
        for i, (column, arrays) in enumerate(zip(axes.T, masses.values(), strict=True)):
            column[1].set_xlabel(r"true [$10^{14}$ M$_\odot$]")
            _draw_masses(column, arrays, COLOURS[i % len(COLOURS)])
        for ax in axes[1, 1:]:
            ax.sharey(axes[1, 0])
        axes[0, 0].set_ylabel(r"predicted [$10^{14}$ M$_\odot$]")
        axes[1, 0].set_ylabel(r"(predicted $-$ true) / $\sigma$")
        legend_above(figure, axes[0, 0])
    return figure


def _draw_masses(column: Array, arrays: Mapping[str, Array], colour: str) -> None:
    if not len(arrays.get("mass", ())):
        for ax in column:
            say_empty(ax)
        return
    M, M_hat, std = (np.asarray(arrays[key], dtype=float) / UNIT for key in ("mass", "mass_pred", "mass_std"))
    top, bottom = column
    style: dict[str, Any] = {"color": colour, "marker": "o", "alpha": 0.7, **POINTS}
    top.errorbar(M, M_hat, yerr=std, label=r"posterior mean $\pm$ 1$\sigma$", **style)
    ends = np.array([min(M.min(), M_hat.min()), max(M.max(), M_hat.max())])
    top.plot(ends, ends, label="equal", zorder=0, **IDEAL)
    top.set(xscale="log", yscale="log")
    for axis in (top.xaxis, top.yaxis):
        log_ticks(axis)
    bottom.axhspan(-1.0, 1.0, color="0.88", zorder=0)
    bottom.axhline(0.0, **IDEAL)
    wide = std > 0
    bottom.errorbar(M[wide], (M_hat - M)[wide] / std[wide], **style)


def scatter_figure(arrays: Mapping[str, Mapping[str, Mapping[str, Array]]]) -> Figure:
    """Error of the mass of every map against its true mass, a row per aperture and a column per channel.

    Args:
        arrays: {channel: {aperture: {mass, mass_pred, mass_std}}}, (N,) each [Msun].
    """
    apertures = list(next(iter(arrays.values()), {})) or ["map"]
    with rc_context(STYLE):
        figure, axes = per_channel(arrays, (1.0,) * len(apertures), 1.2 * len(apertures) + 0.6)
        for i, (column, found) in enumerate(zip(axes.T, arrays.values(), strict=True)):
            for ax, aperture in zip(column, apertures, strict=True):
                _draw_errors(ax, found.get(aperture, {}), COLOURS[i % len(COLOURS)])
            column[-1].set_xlabel(r"true mass [$10^{14}$ M$_\odot$]")
        for ax, aperture in zip(axes[:, 0], apertures, strict=True):
            ax.set_ylabel(f"error in {APERTURE_NAMES.get(aperture, aperture)}")
        legend_above(figure, axes[0, 0], ncols=4)
    return figure


def _draw_errors(ax: Any, arrays: Mapping[str, Array], colour: str) -> None:
    """(M_hat - M) / M of each map, and the 16th, 50th and 84th percentile of all."""
    M, M_hat = (np.asarray(arrays.get(key, ()), dtype=float) for key in ("mass", "mass_pred"))
    inside = M > 0
    if not inside.any():
        return say_empty(ax)
    e = M_hat[inside] / M[inside] - 1.0
    low, median, high = np.percentile(e, [16.0, 50.0, 84.0])
    ax.axhspan(low, high, color="0.88", zorder=0, label="16-84%")
    ax.axhline(median, color="0.4", linewidth=0.8, zorder=0, label="median")
    ax.axhline(0.0, label="no error", **IDEAL)
    look: dict[str, Any] = {"color": colour, "marker": "o", "linestyle": "none", "alpha": 0.7, "markeredgewidth": 0.0}
    ax.plot(M[inside] / UNIT, e, label="one map", **look)
    ax.set_xscale("log")
    log_ticks(ax.xaxis)

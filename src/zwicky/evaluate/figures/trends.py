"""Masses against what they depend on: regressions on true and on predicted mass, errors and coverage by property."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zwicky.evaluate.figures.masses import UNIT
from zwicky.evaluate.figures.style import (
    APERTURE_NAMES,
    COLOURS,
    IDEAL,
    STYLE,
    errorbar,
    floats,
    legend_above,
    log_ticks,
    per_channel,
    say_empty,
)  # fmt: skip

GIVEN: dict[str, str] = {
    "pred_given_true": r"$E[\ln \hat M / M\,|\,M]$",
    "true_given_pred": r"$E[\ln M / \hat M\,|\,\hat M]$",
}
PROPERTIES: dict[str, tuple[str, float]] = {  # label, unit
    "m200m": (r"$M_{\rm 200m}$ [$10^{14}$ M$_\odot$]", UNIT),
    "disturbance": (r"offset of peak / $R_{\rm 200m}$", 1.0),
    "fgas200m": ("gas fraction", 1.0),
}
QUANTITIES: dict[str, tuple[str, str]] = {  # key of by_property: label, key of its ideal or none for zero
    "error_median": ("mass error", ""),
    "coverage": (r"masses inside 1$\sigma$", "coverage_target"),
}


def regression_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Mean log ratio of masses in bins of the true and of the predicted mass, a row per aperture."""
    contents = [result["bins"][mass_bin].get("mass", {}) for result in channels.values()]
    apertures = list(next((found for found in contents if found), {"map": None}))
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.0,) * len(apertures), 1.2 * len(apertures) + 0.6)
        for column, found in zip(axes.T, contents, strict=True):
            for ax, aperture in zip(column, apertures, strict=True):
                _draw_regression(ax, found.get(aperture, {}).get("regression"))
            column[-1].set_xlabel(r"given mass [$10^{14}$ M$_\odot$]")
        for ax, aperture in zip(axes[:, 0], apertures, strict=True):
            ax.set_ylabel(f"log ratio, {APERTURE_NAMES.get(aperture, aperture)}")
        legend_above(figure, axes[0, 0], ncols=3)
    return figure


def _draw_regression(ax: Axes, found: dict[str, Any] | None) -> None:
    for i, (key, label) in enumerate(GIVEN.items() if found else ()):
        curve = found[key]  # type: ignore[index]
        mass = floats(curve["mass"]) / UNIT
        if np.isfinite(mass).any():
            errorbar(ax, mass, curve["log_ratio"], curve["log_ratio_error"], i, label)
    if not ax.has_data():
        return say_empty(ax)
    ax.axhline(0.0, label="no error", **IDEAL)
    ax.set_xscale("log")
    log_ticks(ax.xaxis)


def trends_figure(
    channels: Mapping[str, dict[str, Any]], quantity: str = "error_median", mass_bin: str = "all"
) -> Figure:
    """Median mass error or coverage in thirds of the maps by each property, a row per property.

    Args:
        quantity: a key of QUANTITIES. Bars of the errors are the half-width of single maps (thin) and the standard
            error of the median (thick).
    """
    contents = [result["bins"][mass_bin].get("by_property", {}) for result in channels.values()]
    properties = list(next((found for found in contents if found), {"m200m": None}))
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.0,) * len(properties), 1.45 * len(properties) + 0.4, sharex=False)
        for column, found in zip(axes.T, contents, strict=True):
            for ax, name in zip(column, properties, strict=True):
                _draw_thirds(ax, found.get(name), name, quantity)
        for row in axes:
            row[0].set_ylabel(QUANTITIES[quantity][0])
        legend_above(figure, axes[0, 0], ncols=4)
    return figure


def _draw_thirds(ax: Axes, found: dict[str, Any] | None, name: str, quantity: str) -> None:
    label, unit = PROPERTIES.get(name, (name.replace("_", " "), 1.0))
    ax.set_xlabel(label)
    if found is None:
        return say_empty(ax)
    thirds = np.arange(len(found["median"]))
    medians = floats(found["median"]) / unit
    labels = [[f"{x:.{digits}g}" for x in medians] for digits in (2, 3, 4)]
    ax.set_xticks(thirds, next((found for found in labels if len(set(found)) == len(found)), labels[-1]))
    for i, (aperture, numbers) in enumerate(found["mass"].items()):
        x = thirds + 0.15 * (i - 1)
        if quantity == "error_median":
            ax.errorbar(x, floats(numbers[quantity]), yerr=np.nan_to_num(floats(numbers["error_half_width"])),
                        color=COLOURS[i], linestyle="none", elinewidth=0.5, alpha=0.6)  # fmt: skip
        look: Any = {"linestyle": "none", "elinewidth": 1.6}
        errorbar(ax, x, numbers[quantity], numbers[f"{quantity}_error"], i, APERTURE_NAMES.get(aperture), **look)
    ideal = found.get(QUANTITIES[quantity][1], 0.0)
    ax.axhline(np.nan if ideal is None else ideal, label="ideal", **IDEAL)

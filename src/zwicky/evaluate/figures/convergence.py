"""How variance, error and power of the posterior mean settle with the number of samples."""

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
    per_channel,
    say_empty,
)  # fmt: skip

LABELS: tuple[str, ...] = (r"variance $V_n / V_S$", r"$\langle (m_n - t)^2 \rangle / V_S$", r"$b_{\rm mean}$")


def convergence_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Variance, squared error of the mean and its power for the first n samples, a column per channel."""
    with rc_context(STYLE):
        figure, axes = per_channel(channels, (1.0, 1.0, 1.0), 4.2)
        for column, result in zip(axes.T, channels.values(), strict=True):
            column[-1].set_xlabel("number of samples $n$")
            _draw(column, result["bins"][mass_bin].get("convergence"))
        for ax, label in zip(axes[:, 0], LABELS, strict=True):
            ax.set_ylabel(label)
        legend_above(figure, axes[0, 0])
        if axes[2, 0].has_data():
            axes[2, 0].legend(loc="best")
    return figure


def _draw(column: Array, found: dict[str, Any] | None) -> None:
    if found is None:
        for ax in column:
            say_empty(ax)
        return
    n, (variance, skill, b) = floats(found["samples"]), column
    mean, scatter = floats(found["variance_over_final"]), floats(found["variance_over_final_scatter"])
    variance.fill_between(n, mean - scatter, mean + scatter, color=COLOURS[0], alpha=0.2, linewidth=0.0)
    errorbar(variance, n, mean, found["variance_over_final_error"], 0, "mean; band: scatter of maps")
    variance.axhline(1.0, label="settled, or if calibrated", **IDEAL)
    errorbar(skill, n, found["skill"], found["skill_error"], 0)
    skill.plot(n, floats(found["skill_target"]), **IDEAL)
    for i, scale in enumerate(("large", "small")):
        errorbar(b, n, found[f"b_mean_{scale}"], found[f"b_mean_{scale}_error"], i, f"{scale} scales")
    for ax in column:
        ax.set_xscale("log")
        log_ticks(ax.xaxis)

"""Figures of the report and of one reconstruction, for print: colour-blind safe, legible at the width of one column.

Every function returns a matplotlib Figure and needs no display. Curves come from the metrics of
`zwicky.evaluate.battery`; a panel without data says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from zwicky.evaluate.calibration import LEVELS
from zwicky.io import atomic_path

Array = NDArray[Any]

STYLE: Any = {
    "font.size": 12.0, "axes.titlesize": 13.0, "axes.labelsize": 12.0, "legend.fontsize": 10.0,
    "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "xtick.direction": "in", "ytick.direction": "in",
    "axes.linewidth": 0.8, "lines.linewidth": 1.8, "legend.frameon": False, "savefig.dpi": 200,
}  # fmt: skip
COLOURS: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe & Ito 2008
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v")
COLOUR_MAPS: dict[str, str] = {"gas": "viridis", "dark_matter": "inferno"}
INPUT_MAP: str = "cividis"
DECADES: float = 3.5  # shown below the brightest pixel, at most
EMPTY: str = "no data"


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure as PNG, whole or not at all."""
    with rc_context(STYLE), atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=STYLE["savefig.dpi"])


def _figure(rows: int, columns: int, panel: tuple[float, float], **options: Any) -> tuple[Figure, NDArray[Any]]:
    """A figure of rows x columns panels of the given size [inch], and its axes, (rows, columns)."""
    figure = Figure(figsize=(columns * panel[0], rows * panel[1]), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _name(channel: str) -> str:
    return channel.replace("_", " ")


def _say_empty(ax: Axes) -> None:
    ax.text(0.5, 0.5, EMPTY, transform=ax.transAxes, ha="center", va="center", color="0.4")


def _log_ticks(axis: Axis, plain: bool) -> None:
    """Labels at 1, 2 and 5 of each decade only, as plain numbers or powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}" if plain else _power_of_ten(x)))
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(x: float) -> str:
    digits, exponent = f"{x:.0e}".split("e")
    front = "" if digits == "1" else rf"{digits}\times "
    return f"${front}10^{{{int(exponent)}}}$"


def _floats(values: Any) -> Array:
    """Numbers of the metrics as an array, None as NaN."""
    return np.asarray(values, dtype=float)


# One reconstruction -------------------------------------------------------------------------------------------------


def reconstruction(
    inputs: Mapping[str, Array],
    truth: Mapping[str, Array] | None,
    mean: Mapping[str, Array],
    std: Mapping[str, Array],
    sample: Mapping[str, Array],
    pixel_kpc: float,
    labels: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """The observed maps beside truth, posterior mean, standard deviation and one sample of each channel.

    Args:
        inputs: observed maps by channel, (P, P); they fill columns from the left, top to bottom.
        truth: true maps by channel, or None to leave the column out.
        mean, std, sample: maps by channel, (P, P) [Msun / kpc^2]; one row per channel of `mean`.
        pixel_kpc: side of a pixel [kpc].
        labels, units: names and units by channel for titles and colour bars, if other than the channel names.
    """
    labels, units = dict(labels or {}), dict(units or {})
    columns: dict[str, Mapping[str, Array]] = {"Truth": truth} if truth is not None else {}
    columns |= {"Mean": mean, "Std. dev.": std, "Sample": sample}
    rows, n_inputs = len(mean), -(-len(inputs) // len(mean))
    with rc_context(STYLE):
        figure, axes = _figure(rows, n_inputs + len(columns), (2.35, 3.05), sharex=True, sharey=True)
        _draw_inputs(figure, axes[:, :n_inputs], inputs, pixel_kpc, labels, units)
        for row, channel in zip(axes[:, n_inputs:], mean, strict=True):
            images = {title: maps[channel] for title, maps in columns.items()}
            _draw_row(figure, row, images, channel, pixel_kpc, labels, units)
        for ax, title in zip(axes[0, n_inputs:], columns, strict=True):
            ax.set_title(title)
        for ax in axes[:, 0]:
            ax.set_ylabel("y [Mpc]")
        for ax in axes[-1]:
            ax.set_xlabel("x [Mpc]")
    return figure


def _draw_inputs(
    figure: Figure, axes: Array, inputs: Mapping[str, Array], pixel_kpc: float,
    labels: dict[str, str], units: dict[str, str],
) -> None:  # fmt: skip
    for ax, (channel, image) in zip(axes.T.ravel(), inputs.items(), strict=False):
        _draw_map(figure, ax, image, pixel_kpc, _norm([image]), INPUT_MAP, units.get(channel, ""))
        _tag(ax, labels.get(channel, _name(channel)))
    for ax in axes.T.ravel()[len(inputs) :]:
        ax.set_axis_off()
    if axes.size:
        axes[0, 0].set_title("Input")


def _draw_row(
    figure: Figure, row: Array, maps: dict[str, Array], channel: str, pixel_kpc: float,
    labels: dict[str, str], units: dict[str, str],
) -> None:  # fmt: skip
    shared = _norm([image for title, image in maps.items() if title != "Std. dev."])
    unit = units.get(channel, r"M$_\odot$ kpc$^{-2}$")
    for ax, (title, image) in zip(row, maps.items(), strict=True):
        norm = _norm([image]) if title == "Std. dev." else shared
        _draw_map(figure, ax, image, pixel_kpc, norm, COLOUR_MAPS.get(channel, "viridis"), unit)
        _tag(ax, labels.get(channel, _name(channel).capitalize()))


def _norm(images: list[Array]) -> Normalize:
    """A logarithmic scale over the positive pixels, at most DECADES deep; linear where a quarter is not positive."""
    values = np.concatenate([np.ravel(image) for image in images])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if positive.size == 0 or positive.size < 0.75 * values.size or positive.min() == positive.max():
        low, high = np.percentile(values, [0.5, 99.8]) if values.size else (0.0, 1.0)
        return Normalize(low, high if high > low else low + 1.0)
    high = float(positive.max())
    return LogNorm(max(float(np.percentile(positive, 0.5)), high * 10.0**-DECADES), high)


def _draw_map(
    figure: Figure, ax: Axes, image: Array, pixel_kpc: float, norm: Normalize, colours: str, unit: str
) -> None:
    half = 0.5 * image.shape[-1] * pixel_kpc / 1e3
    shown = np.maximum(image, norm.vmin or 0.0) if isinstance(norm, LogNorm) else image
    picture = ax.imshow(shown, origin="lower", extent=(-half, half, -half, half), cmap=colours, norm=norm)
    ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    bar = figure.colorbar(picture, ax=ax, location="bottom", fraction=0.06, pad=0.03, aspect=16)
    bar.set_label(unit)


def _tag(ax: Axes, text: str) -> None:
    box = {"boxstyle": "round,pad=0.15", "facecolor": "black", "alpha": 0.45, "linewidth": 0.0}
    ax.text(0.05, 0.95, text, transform=ax.transAxes, ha="left", va="top", color="white", fontsize=11, bbox=box)


# Power --------------------------------------------------------------------------------------------------------------


def power_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """b(k) (top) and r(k) (bottom) of the posterior mean and of single samples, with what calibration asks of them.

    Args:
        channels: {channel: metrics of evaluate_channel}; one column each.
        mass_bin: the bin of M200m that is drawn.
    """
    with rc_context(STYLE):
        figure, axes = _figure(2, len(channels), (4.6, 3.2), sharex="col", sharey="row")
        for column, (channel, result) in zip(axes.T, channels.items(), strict=True):
            column[0].set_title(_name(channel).capitalize())
            column[1].set_xlabel(r"$k$ [$h$ Mpc$^{-1}$]")
            _draw_power(column, result["scales"], result["bins"][mass_bin].get("power"))
        for ax, label in zip(axes[:, 0], ("transfer $b(k)$", "correlation $r(k)$"), strict=True):
            ax.set_ylabel(label)
    return figure


def _draw_power(column: Array, scales: dict[str, Any], power: dict[str, Any] | None) -> None:
    if power is None:
        for ax in column:
            _say_empty(ax)
        return
    k = _floats(scales["k"])
    r = _floats(power["r_mean"]["curve"])
    for ax, letter, target, name in (
        (column[0], "b", r, r"$r_{\rm mean}$ (= $b_{\rm mean}$ if calibrated)"),
        (column[1], "r", r**2, r"$r_{\rm mean}^2$ (= $r_{\rm sample}$ if calibrated)"),
    ):
        for kind, label, i in (("mean", "posterior mean", 0), ("sample", "single samples", 1)):
            _errorbar(ax, k, power[f"{letter}_{kind}"], COLOURS[i], MARKERS[i], label)
        ax.plot(k, target, color="black", linestyle="--", linewidth=1.2, label=name, zorder=5)
        ax.axhline(1.0, color="0.6", linewidth=0.8, zorder=0)
        ax.axvline(scales["k_split"], color="0.6", linestyle=":", linewidth=1.0, zorder=0)
        ax.set_xscale("log")
        _log_ticks(ax.xaxis, plain=True)
        ax.legend(loc="best")


def _errorbar(ax: Axes, x: Array, entry: dict[str, Any], colour: str, marker: str, label: str) -> None:
    error = np.nan_to_num(_floats(entry["curve_error"]))
    ax.errorbar(x, _floats(entry["curve"]), yerr=error, color=colour, marker=marker, markersize=4.5, label=label)


# Profiles -----------------------------------------------------------------------------------------------------------


PROFILE_CURVES: dict[str, str] = {
    "mean_difference": "mean",
    "spread_difference": "spread of means",
    "sample_spread_difference": "spread of samples",
}


def profiles_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Profiles with their 16-84 band (top) and fractional differences from the truth (bottom), a column per channel."""
    with rc_context(STYLE):
        options: dict[str, Any] = {"sharex": "col", "gridspec_kw": {"height_ratios": [1.6, 1.0]}}
        figure, axes = _figure(2, len(channels), (4.6, 3.2), **options)
        for column, (channel, result) in zip(axes.T, channels.items(), strict=True):
            column[0].set_title(_name(channel).capitalize())
            column[1].set_xlabel("projected radius $R$ [Mpc]")
            edges = _floats(result["scales"]["profile_edges_kpc"]) / 1e3
            _draw_profile(column, edges, result["bins"][mass_bin].get("profile"))
        axes[0, 0].set_ylabel(r"$\Sigma$ [M$_\odot$ kpc$^{-2}$]")
        axes[1, 0].set_ylabel("predicted / true $-$ 1")
    return figure


def _draw_profile(column: Array, edges: Array, profile: dict[str, Any] | None) -> None:
    if profile is None:
        for ax in column:
            _say_empty(ax)
        return
    R = 0.5 * (edges[1:] + edges[:-1])
    top, bottom = column
    for key, label, colour in (("true", "truth", "black"), ("mean", "posterior mean", COLOURS[0])):
        low, median, high = _floats(profile[f"{key}_percentiles"])
        top.fill_between(R, low, high, color=colour, alpha=0.2, linewidth=0.0)
        top.plot(R, median, color=colour, linestyle="-" if key == "true" else "--", label=f"{label}, 16-50-84%")
    bottom.axhspan(-0.05, 0.05, color="0.88", zorder=0, label="5%")
    for i, (key, label) in enumerate(PROFILE_CURVES.items()):
        error = np.nan_to_num(_floats(profile[f"{key}_error"]))
        style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4}
        bottom.errorbar(R, _floats(profile[key]), yerr=error, label=label, **style)
    bottom.axhline(0.0, color="0.4", linewidth=0.8)
    top.set(xscale="log", yscale="log")
    _log_ticks(top.xaxis, plain=True)
    top.legend(loc="lower left")
    bottom.margins(y=0.35)
    bottom.legend(loc="upper center", ncols=2, fontsize=9)


# Masses -------------------------------------------------------------------------------------------------------------


def mass_figure(masses: Mapping[str, Mapping[str, Array]]) -> Figure:
    """Predicted against true mass of the map with 1 sigma bars (top) and pulls (bottom), a column per channel.

    Args:
        masses: {channel: {mass, mass_pred, mass_std}}, (N,) each [Msun]; an empty dict leaves its panels empty.
    """
    with rc_context(STYLE):
        options: dict[str, Any] = {"sharex": "col", "gridspec_kw": {"height_ratios": [1.6, 1.0]}}
        figure, axes = _figure(2, len(masses), (4.6, 3.4), **options)
        for i, (column, (channel, arrays)) in enumerate(zip(axes.T, masses.items(), strict=True)):
            column[0].set_title(_name(channel).capitalize())
            column[1].set_xlabel(r"true mass in the map [M$_\odot$]")
            _draw_masses(column, arrays, COLOURS[i % len(COLOURS)])
        axes[0, 0].set_ylabel(r"predicted mass [M$_\odot$]")
        axes[1, 0].set_ylabel(r"(predicted $-$ true) / $\sigma$")
    return figure


def _draw_masses(column: Array, arrays: Mapping[str, Array], colour: str) -> None:
    if not len(arrays.get("mass", ())):
        for ax in column:
            _say_empty(ax)
        return
    M, M_hat, std = (np.asarray(arrays[key], dtype=float) for key in ("mass", "mass_pred", "mass_std"))
    top, bottom = column
    style: dict[str, Any] = {"color": colour, "markersize": 4, "linestyle": "none", "marker": "o", "alpha": 0.7}
    top.errorbar(M, M_hat, yerr=std, elinewidth=1.0, label=r"posterior mean $\pm$ 1$\sigma$", **style)
    ends = np.array([min(M.min(), M_hat.min()), max(M.max(), M_hat.max())])
    top.plot(ends, ends, color="black", linestyle="--", linewidth=1.2, label="equal", zorder=0)
    top.set(xscale="log", yscale="log")
    for axis in (top.xaxis, top.yaxis):
        _log_ticks(axis, plain=False)
    top.legend(loc="upper left")
    bottom.axhspan(-1.0, 1.0, color="0.88", zorder=0)
    bottom.axhline(0.0, color="black", linestyle="--", linewidth=1.2)
    wide = std > 0
    bottom.plot(M[wide], (M_hat - M)[wide] / std[wide], **style)


# Calibration --------------------------------------------------------------------------------------------------------


def calibration_figure(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> Figure:
    """Coverage curves, rank histogram and standardised errors of pixels, with what a calibrated posterior gives."""
    with rc_context(STYLE):
        figure, axes = _figure(1, 3, (4.2, 3.9))
        for i, (channel, result) in enumerate(channels.items()):
            pixel, mass = (result["bins"][mass_bin].get(key) for key in ("pixel", "mass"))
            if pixel is not None and mass is not None:
                z_edges = _floats(result["scales"]["z_edges"])
                _draw_calibration(axes[0], pixel, mass["map"], z_edges, COLOURS[i % len(COLOURS)], _name(channel))
        for ax in axes[0]:
            if not ax.has_data():
                _say_empty(ax)
        _draw_targets(axes[0])
    return figure


def _draw_calibration(
    axes: Array, pixel: dict[str, Any], mass: dict[str, Any], z_edges: Array, colour: str, name: str
) -> None:
    axes[0].plot(LEVELS, pixel["levels"], color=colour, label=f"{name}, pixels")
    axes[0].plot(LEVELS, mass["levels"], color=colour, linestyle=":", label=f"{name}, masses")
    ranks, z = _floats(pixel["ranks"]), _floats(pixel["z_counts"])
    axes[1].stairs(ranks / ranks.mean(), np.linspace(0.0, 1.0, len(ranks) + 1), color=colour, linewidth=1.8, label=name)
    if z.sum() > 0:
        axes[2].stairs(z / z.sum() / np.diff(z_edges), z_edges, color=colour, linewidth=1.8, label=name)


def _draw_targets(axes: Array) -> None:
    black: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1.2}
    axes[0].plot([0.0, 1.0], [0.0, 1.0], label="calibrated", **black)
    axes[1].axhline(1.0, label="calibrated", **black)
    z = np.linspace(-5.0, 5.0, 201)
    axes[2].plot(z, np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi), label="unit normal", **black)
    axes[0].set(xlabel="credible level", ylabel="fraction of truths inside", xlim=(0, 1), ylim=(0, 1))
    axes[1].set(xlabel="rank of the true pixel", ylabel="density", xlim=(0, 1), ylim=(0, 1.4 * axes[1].get_ylim()[1]))
    axes[2].set(xlabel=r"(mean $-$ true) / $\sigma$, pixels", ylabel="density", xlim=(-5, 5))
    axes[2].set_ylim(0, 1.2 * axes[2].get_ylim()[1])
    for ax in axes:
        ax.legend(loc="best", fontsize=9)

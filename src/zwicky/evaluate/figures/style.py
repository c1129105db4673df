"""The look of all figures: drawn at the size of print, colour-blind safe, and legible at the width of one column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from zwicky.io import atomic_path

Array = NDArray[Any]

STYLE: Any = {
    "font.size": 8.0, "axes.titlesize": 8.0, "axes.labelsize": 8.0, "legend.fontsize": 7.0,
    "xtick.labelsize": 7.0, "ytick.labelsize": 7.0, "xtick.direction": "in", "ytick.direction": "in",
    "axes.linewidth": 0.6, "lines.linewidth": 1.2, "lines.markersize": 3.0, "legend.frameon": False,
    "legend.handlelength": 1.6, "legend.columnspacing": 1.2, "savefig.dpi": 200, "pdf.fonttype": 42,
}  # fmt: skip
COLUMN, PAGE = 3.4, 7.0  # width of one column and of a page of a journal [inch]
COLOURS: tuple[str, ...] = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")  # Okabe & Ito 2008
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v")
IDEAL: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 0.9}
POINTS: dict[str, Any] = {"linestyle": "none", "elinewidth": 0.6, "markeredgewidth": 0.0}
NAMES: dict[str, str] = {"compton_y": "Compton $y$", "xray": "X-ray"}
APERTURE_NAMES: dict[str, str] = {"map": "map", "r500c": r"$R_{\rm 500c}$", "r200m": r"$R_{\rm 200m}$"}
EMPTY: str = "no data"


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure in the format of the suffix of `path` (.png or .pdf), whole or not at all."""
    path = Path(path)
    fixed: Any = {"metadata": {"CreationDate": None}} if path.suffix == ".pdf" else {}
    with rc_context(STYLE), atomic_path(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=STYLE["savefig.dpi"], **fixed)
    figure.set_layout_engine("none")  # a second format has the same layout, without the time to find it again


def new_figure(
    rows: int, columns: int, row_height: float, width: float | None = None, square: bool = False, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """A figure of rows x columns panels and its axes, (rows, columns).

    Args:
        row_height: [inch]. width: of the figure [inch]; by default one column up to two panels, a page for more.
        square: whether the panels are maps, which keep their shape.
    """
    width = width or (COLUMN if columns <= 2 else PAGE)
    figure = Figure(figsize=(width, rows * row_height), layout="compressed" if square else "constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def legend_above(figure: Figure, ax: Axes, ncols: int = 2) -> None:
    """What is drawn in `ax`, explained above all panels: what has error bars first, what is ideal last."""
    entries = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda entry: _rank(entry[0]))
    if entries:
        figure.legend(*zip(*entries, strict=True), loc="outside upper center", ncols=ncols)


def _rank(handle: Any) -> int:
    if not isinstance(handle, Line2D):
        return 0
    return 2 if handle.get_linestyle() == IDEAL["linestyle"] and handle.get_color() == IDEAL["color"] else 1


def name(channel: str) -> str:
    """A channel in words."""
    return NAMES.get(channel, channel.replace("_", " "))


def title(channel: str) -> str:
    """A channel in words, with a capital."""
    words = name(channel)
    return words[:1].upper() + words[1:]


def unit_label(unit: str) -> str:
    """An astropy unit string for a colour bar."""
    return u.Unit(unit).to_string("latex_inline") if unit else ""


def say_empty(ax: Axes, text: str = EMPTY) -> None:
    """Write into an empty panel that it is."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.4")


def log_ticks(axis: Axis) -> None:
    """Plain numbers at 1, 2 and 5 of each decade; at each decade alone where there are more than two."""
    low, high = np.log10(np.maximum(axis.get_view_interval(), 1e-300))
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high - low < 2 else (1.0,)))
    if -3 < low < high < 4:
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def errorbar(ax: Axes, x: Array, value: Any, error: Any, i: int, label: str | None = None, **style: Any) -> None:
    """A curve with error bars in the i-th colour and marker; an unknown error is not drawn."""
    looks: dict[str, Any] = {"color": COLOURS[i % 5], "marker": MARKERS[i % 5], "elinewidth": 0.7, **style}
    ax.errorbar(x, floats(value), yerr=np.nan_to_num(floats(error)), label=label, **looks)


def floats(values: Any) -> Array:
    """Numbers of the metrics as an array, None as NaN."""
    return np.asarray(values, dtype=float)


def per_channel(
    channels: Mapping[str, Any],
    heights: tuple[float, ...],
    height: float,
    sharex: bool | str = "col",
    sharey: bool | str = "row",
) -> Any:
    """A figure of one column of panels for each channel, titled, and its axes, (rows, channels).

    Args:
        heights: of the rows, relative. height: of all [inch].
    """
    options: Any = {"sharex": sharex, "sharey": sharey, "gridspec_kw": {"height_ratios": heights}}
    figure, axes = new_figure(len(heights), len(channels), height / len(heights), **options)
    for ax, channel in zip(axes[0], channels, strict=True):
        ax.set_title(title(channel))
    return figure, axes

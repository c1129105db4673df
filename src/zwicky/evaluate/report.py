"""The report of a model on a set of maps: metrics.json, table1.md and the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zwicky.evaluate import figures, metrics
from zwicky.evaluate.battery import jsonable
from zwicky.evaluate.rows import APERTURES, Row
from zwicky.io import atomic_path, require_writable, write_json

Array = NDArray[Any]

# (channel, mass bin, quantity, scale) -> value of Hsu et al. 2025, Table 1
H25_TABLE1: dict[tuple[str, str, str, str], float] = {
    ("gas", "low", "b", "small"): 1.023, ("gas", "low", "b", "large"): 1.004,
    ("gas", "low", "r", "small"): 0.932, ("gas", "low", "r", "large"): 0.998,
    ("gas", "high", "b", "small"): 1.004, ("gas", "high", "b", "large"): 1.008,
    ("gas", "high", "r", "small"): 0.949, ("gas", "high", "r", "large"): 0.998,
    ("dark_matter", "low", "b", "small"): 0.928, ("dark_matter", "low", "b", "large"): 1.030,
    ("dark_matter", "low", "r", "small"): 0.832, ("dark_matter", "low", "r", "large"): 0.995,
    ("dark_matter", "high", "b", "small"): 0.888, ("dark_matter", "high", "b", "large"): 1.008,
    ("dark_matter", "high", "r", "small"): 0.821, ("dark_matter", "high", "r", "large"): 0.994,
}  # fmt: skip
TABLE_COLUMNS: tuple[str, ...] = (
    "channel", "mass bin", "clusters", "scale", "quantity", "posterior mean", "single samples", "H25, another data set"
)  # fmt: skip


def figure_arrays(rows: Sequence[Row]) -> dict[str, Array]:
    """Masses in the map [Msun], (N,) each, that the mass figure needs beside the metrics: mass, mass_pred, mass_std."""
    a, good = APERTURES.index("map"), [row for row in rows if "mass" in row]
    return {name: np.array([row[name][a] for row in good]) for name in ("mass", "mass_pred", "mass_std")}


def write_report(
    folder: str | Path,
    channels: Mapping[str, dict[str, Any]],
    arrays: Mapping[str, Mapping[str, Array]],
    meta: Mapping[str, Any],
) -> Path:
    """Write table1.md, power.png, profiles.png, masses.png, calibration.png, at last metrics.json; return the folder.

    Args:
        channels: {channel: what evaluate_channel returned}.
        arrays: {channel: what figure_arrays returned}; a channel left out has an empty mass panel.
        meta: model, data set, seed, version; stored as it is.
    """
    folder = require_writable(folder)
    warnings = [f"{name}: {sentence}" for name, result in channels.items() for sentence in result["warnings"]]
    with atomic_path(folder / "table1.md") as part:
        part.write_text(table1(channels, warnings))
    drawings = {
        "power.png": figures.power_figure(channels),
        "profiles.png": figures.profiles_figure(channels),
        "masses.png": figures.mass_figure({name: arrays.get(name, {}) for name in channels}),
        "calibration.png": figures.calibration_figure(channels),
    }
    for name, figure in drawings.items():
        figures.save(figure, folder / name)
    write_json(folder / "metrics.json", jsonable({"warnings": warnings, "meta": meta, "channels": channels}))
    return folder


def table1(channels: Mapping[str, dict[str, Any]], warnings: list[str]) -> str:
    """The table of b and r after Table 1 of Hsu et al. 2025, in Markdown; warnings, if any, are its first line."""
    head = [f"**WARNING: {' '.join(warnings)}**", ""] if warnings else []
    nyquist = next((f"{r['scales']['k_nyquist']:.1f}" for r in channels.values()), "-")
    head += [
        f"b and r averaged over bins of k, each bin once: large scales k < {metrics.K_SPLIT:g}, small scales "
        f"{metrics.K_SPLIT:g} <= k <= {nyquist} h/Mpc (Nyquist); per map, then averaged; errors resample clusters.",
        "If calibrated, b of samples is 1 and b - r of the mean is 0 (b - r: pooled, noise of the mean removed).",
        "",
        "| " + " | ".join(TABLE_COLUMNS) + " |",
        "|" + "---|" * len(TABLE_COLUMNS),
    ]
    rows = [
        _table_row(name, result, mass_bin, scale, quantity)
        for name, result in channels.items()
        for mass_bin in ("low", "high")
        for scale in ("small", "large")
        for quantity in ("b", "r", "b - r")
    ]
    return "\n".join(head + rows) + "\n"


def _table_row(channel: str, result: dict[str, Any], mass_bin: str, scale: str, quantity: str) -> str:
    content = result["bins"][mass_bin]
    names = ("b_minus_r_debiased", "") if quantity == "b - r" else (f"{quantity}_mean", f"{quantity}_sample")
    ours = [_cell(content.get("power", {}).get(name), scale) for name in names]
    paper = H25_TABLE1.get((channel, mass_bin, quantity, scale))
    theirs = "-" if paper is None else f"{paper:.3f}"
    cells = [channel.replace("_", " "), mass_bin, str(content["n_clusters"]), scale, quantity, *ours, theirs]
    return "| " + " | ".join(cells) + " |"


def _cell(entry: dict[str, Any] | None, scale: str) -> str:
    value = None if entry is None else entry[scale]
    if entry is None or value is None:
        return "-"
    error = entry[f"{scale}_error"]
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"

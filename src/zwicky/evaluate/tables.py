"""The tables of a report and of a comparison: headers and rows of text, for Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zwicky.evaluate.html import Strong

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
TABLE1_HEADER: tuple[str, ...] = (
    "channel", "mass bin", "clusters", "scale", "quantity", "posterior mean", "single samples", "H25, another data set"
)  # fmt: skip
UNKNOWN = "-"
HEADLINES: dict[str, tuple[str, tuple[str, ...], str]] = {  # what it is: (ideal, place in a bin, key)
    "mass of the map, median error": ("0", ("mass", "map"), "error_median"),
    "mass inside R500c, median error": ("0", ("mass", "r500c"), "error_median"),
    "mass inside R200m, median error": ("0", ("mass", "r200m"), "error_median"),
    "masses of the map inside 1 sigma": ("coverage_target", ("mass", "map"), "coverage"),
    "masses in R200m inside 1 sigma": ("coverage_target", ("mass", "r200m"), "coverage"),
    "pixels inside 1 sigma": ("coverage_target", ("pixel",), "coverage"),
    "pixels, median relative error": ("0", ("pixel",), "error_median"),
    "CRPS of pixels / mean": ("low", ("pixel",), "crps_over_mean"),
    "b of samples, weighted, k < 2 h/Mpc": ("1", ("power", "b_sample_weighted"), "large"),
    "b of samples, weighted, k >= 2 h/Mpc": ("1", ("power", "b_sample_weighted"), "small"),
    "r of the mean, k < 2 h/Mpc": ("high", ("power", "r_mean"), "large"),
    "r of the mean, k >= 2 h/Mpc": ("high", ("power", "r_mean"), "small"),
    "b - r of the mean, k < 2 h/Mpc": ("0", ("power", "b_minus_r_debiased"), "large"),
    "b - r of the mean, k >= 2 h/Mpc": ("0", ("power", "b_minus_r_debiased"), "small"),
    "SSIM of the mean, logarithmic": ("1", ("shape", "mean"), "ssim_log"),
    "PSNR of the mean, logarithmic [dB]": ("high", ("shape", "mean"), "psnr_log"),
    "offset of the centroid of the mean [kpc]": ("0", ("shape", "mean"), "centroid_offset_kpc"),
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; cells that are `Strong` are bold."""
    lines = [header, ["---"] * len(header), *rows]
    cells = [[f"**{cell}**" if isinstance(cell, Strong) else cell.replace("|", "\\|") for cell in line]
             for line in lines]  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def number(value: float | None, error: float | None = None, sign: bool = False) -> str:
    """value ± error, to two digits of the error; three decimals without one."""
    if value is None or not np.isfinite(value):
        return UNKNOWN
    known = error is not None and np.isfinite(error) and error > 0
    decimals = min(max(1 - int(np.floor(np.log10(error))), 0), 6) if known and error else 3
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    return f"{text} ± {error:.{decimals}f}" if known else text


def table1_rows(channels: Mapping[str, dict[str, Any]]) -> list[list[str]]:
    """The rows of Table 1 of Hsu et al. 2025, under TABLE1_HEADER, with b - r of each."""
    return [
        _table1_row(channel, result, mass_bin, scale, quantity)
        for channel, result in channels.items()
        for mass_bin in ("low", "high")
        for scale in ("small", "large")
        for quantity in ("b", "r", "b - r")
    ]


def _table1_row(channel: str, result: dict[str, Any], mass_bin: str, scale: str, quantity: str) -> list[str]:
    content = result["bins"][mass_bin]
    names = ("b_minus_r_debiased", "") if quantity == "b - r" else (f"{quantity}_mean", f"{quantity}_sample")
    ours = [_scale_cell(content.get("power", {}).get(name), scale) for name in names]
    paper = H25_TABLE1.get((channel, mass_bin, quantity, scale))
    theirs = UNKNOWN if paper is None else f"{paper:.3f}"
    return [channel.replace("_", " "), mass_bin, str(content["n_clusters"]), scale, quantity, *ours, theirs]


def _scale_cell(entry: dict[str, Any] | None, scale: str) -> str:
    if entry is None or entry[scale] is None:
        return UNKNOWN
    error = entry[f"{scale}_error"]
    return f"{entry[scale]:.3f}" if error is None else f"{entry[scale]:.3f} ± {error:.3f}"


def headline_rows(channels: Mapping[str, dict[str, Any]], mass_bin: str = "all") -> tuple[list[str], list[list[str]]]:
    """Header and rows of the numbers to look at first: what it is, what is ideal, and its value in each channel."""
    rows = []
    for label, (ideal, place, key) in HEADLINES.items():
        found = [_at(result["bins"][mass_bin], place) for result in channels.values()]
        wanted = next((number(entry[ideal]) for entry in found if ideal in entry), ideal)
        rows.append([label, wanted, *(_with_spread(entry, key) for entry in found)])
    return ["measure", "ideal", *(channel.replace("_", " ") for channel in channels)], rows


def _at(content: Mapping[str, Any], place: Sequence[str]) -> Mapping[str, Any]:
    for step in place:
        content = content.get(step, {})
    return content


def _with_spread(entry: Mapping[str, Any], key: str) -> str:
    """value ± error, and in brackets how far above and below it the 84th and 16th percentile of single maps are."""
    text, stem = number(entry.get(key), entry.get(f"{key}_error")), key.removesuffix("_median")
    plus, minus = entry.get(f"{stem}_plus"), entry.get(f"{stem}_minus")
    if text == UNKNOWN or plus is None or minus is None:
        return text
    decimals = len(text.split(" ")[0].partition(".")[2])
    return f"{text} (+{plus:.{decimals}f}, -{minus:.{decimals}f})"


# Comparison ---------------------------------------------------------------------------------------------------------


def comparison_rows(comparison: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one channel: each statistic of each model, in brackets its difference from the reference.

    The best model of each statistic is `Strong`. The first row has the number of maps of each model.

    Args:
        comparison: reference; statistics: key -> label, ideal (a number, "low" or "high"); models and differences:
            model -> key -> value, error, maps.
    """
    models = comparison["models"]
    rows = [["maps", "", *(str(max(entry["maps"] for entry in found.values())) for found in models.values())]]
    for key, statistic in comparison["statistics"].items():
        most = max(found[key]["maps"] for found in models.values())
        judged = {name: found[key]["value"] for name, found in models.items() if found[key]["maps"] == most}
        best = _best(judged, statistic["ideal"])
        cells = [_comparison_cell(comparison, name, key, name in best) for name in models]
        rows.append([statistic["label"], str(statistic["ideal"]), *cells])
    return ["statistic", "ideal", *models], rows


def _best(values: Mapping[str, float | None], ideal: float | str | None) -> set[str]:
    """The models nearest to the ideal; none where there is nothing to choose from."""
    known = {name: value for name, value in values.items() if value is not None and np.isfinite(value)}
    if len(known) < 2 or ideal is None:
        return set()
    signs = {"low": 1.0, "high": -1.0}
    distance = {
        name: signs[ideal] * value if isinstance(ideal, str) else abs(value - ideal) for name, value in known.items()
    }
    return {name for name, far in distance.items() if far == min(distance.values())}


def _comparison_cell(comparison: Mapping[str, Any], name: str, key: str, best: bool) -> str:
    entry, paired = comparison["models"][name][key], comparison["differences"].get(name, {}).get(key)
    text = number(entry["value"], entry["error"])
    if paired is not None and text != UNKNOWN:
        text += f" ({number(paired['value'], paired['error'], sign=True)})"
    return Strong(text) if best else text

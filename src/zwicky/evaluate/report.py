"""The report of a model on a set of maps, and the comparison of several: numbers, tables, figures and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zwicky.evaluate import figures, gallery, html, metrics, tables
from zwicky.evaluate.battery import jsonable
from zwicky.evaluate.figures import Example
from zwicky.evaluate.gallery import Material, Plate
from zwicky.evaluate.rows import APERTURES, Row
from zwicky.evaluate.tables import H25_TABLE1, TABLE1_HEADER, comparison_rows, headline_rows, table1_rows
from zwicky.io import atomic_path, require_writable
from zwicky.version import __version__

__all__ = ["FORMAT", "H25_TABLE1", "comparison_table", "figure_arrays", "table1", "write_comparison", "write_report"]

Array = NDArray[Any]

FORMAT: int = 1  # of metrics.json and comparison.json; counts up when a reader of the old one would go wrong
SCHEMA = Path(__file__).with_name("metrics.schema.json")
FORMATS: tuple[str, ...] = (".png", ".pdf")  # of the figures

SOURCES = (
    "H25: Hsu et al. 2025, arXiv 2410.02857; de Andres et al. 2024: arXiv 2311.02469. Their data are others, so "
    "that their numbers are not a target for this model."
)


def figure_arrays(rows: Sequence[Row]) -> dict[str, dict[str, Array]]:
    """Masses [Msun], (N,) each, that figures need beside the metrics: aperture -> mass, mass_pred, mass_std."""
    good = [row for row in rows if "mass" in row]
    return {
        aperture: {name: np.array([row[name][a] for row in good]) for name in ("mass", "mass_pred", "mass_std")}
        for a, aperture in enumerate(APERTURES)
    }


def write_report(
    folder: str | Path,
    channels: Mapping[str, dict[str, Any]],
    arrays: Mapping[str, gallery.Arrays],
    meta: Mapping[str, Any],
    examples: Sequence[Example] = (),
    sets: Mapping[str, Array] | None = None,
) -> Path:
    """Write table1.md, the figures as PNG and PDF, report.html, at last metrics.json; return the folder.

    Args:
        channels: {channel: what evaluate_channel returned}.
        arrays: {channel: what figure_arrays returned}; a channel left out has an empty mass panel.
        meta: model, data set, seed, version; stored as it is.
        examples: sightlines for the figures of maps; none, no such figures.
        sets: {name: M200m of every map (N,) [Msun]} of the sets of maps; none, no figure of them.
    """
    folder = require_writable(folder)
    warnings = [f"{name}: {sentence}" for name, result in channels.items() for sentence in result["warnings"]]
    _write(folder / "table1.md", table1(channels, warnings))
    blocks: list[str] = []
    for name, figure, plate in gallery.draw(Material(channels, arrays, examples, sets or {})):
        for suffix in FORMATS:
            figures.save(figure, folder / f"{name}{suffix}")
        blocks.append(_figure_block(folder / f"{name}.png", plate, len(blocks) + 1, float(figure.get_figwidth())))
    _write(folder / "report.html", _report_page(channels, meta, warnings, blocks))
    _write(folder / "metrics.json", _json({"warnings": warnings, "format": FORMAT, "meta": meta, "channels": channels}))
    return folder


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")


def _json(content: Mapping[str, Any]) -> str:
    """The content as JSON whose first line is the whole first entry."""
    (key, first), *others = jsonable(content).items()
    rest = json.dumps(dict(others), indent=2, allow_nan=False)
    return f"{{{json.dumps(key)}: {json.dumps(first, allow_nan=False)},{rest[1:]}\n"


def _figure_block(png: Path, plate: Plate, i: int, width_inch: float) -> str:
    return html.figure(png.read_bytes(), f"Figure {i}. {plate.title}", plate.caption, width_inch)


def _report_page(
    channels: Mapping[str, dict[str, Any]], meta: Mapping[str, Any], warnings: list[str], blocks: list[str]
) -> str:
    first = [
        html.heading("The numbers to look at first"),
        html.paragraph("All masses together. Errors come from resampling clusters, or simulations where there are five "
                       "or more; in brackets, where a number is a median, how far above and below it the 84th and "
                       "16th percentile of single maps are."),
        html.table(*headline_rows(channels)),
        html.heading("Table 1"),
        html.paragraph(_about_table1(channels)),
        html.table(TABLE1_HEADER, table1_rows(channels)),
        html.heading("Figures"),
    ]  # fmt: skip
    last = [
        html.heading("Settings and provenance"),
        html.table(["setting", "value"], _settings_rows(channels, meta)),
        html.paragraph(f"Zwicky {__version__}. All numbers are in metrics.json. {SOURCES}"),
    ]  # fmt: skip
    return html.page(f"Evaluation of {meta.get('model', 'a model')}", [*first, *blocks, *last], warnings)


def _settings_rows(channels: Mapping[str, dict[str, Any]], meta: Mapping[str, Any]) -> list[list[str]]:
    """What the report was made of: `meta`, whose request is taken apart, and the settings of each channel."""
    found = {key: value for key, value in {**meta, **meta.get("request", {})}.items() if key != "request"}
    for channel, result in channels.items():
        found |= {f"{key}, {channel.replace('_', ' ')}": value for key, value in result["settings"].items()}
    return [[key, _short(value)] for key, value in found.items()]


def _short(value: Any) -> str:
    text = str(jsonable(value))
    return text if len(text) <= 200 else f"{text[:200]} ..."


def table1(channels: Mapping[str, dict[str, Any]], warnings: list[str]) -> str:
    """The table of b and r after Table 1 of Hsu et al. 2025, in Markdown; warnings, if any, are its first line."""
    head = [f"**WARNING: {' '.join(warnings)}**", ""] if warnings else []
    return "\n".join([*head, _about_table1(channels), "", tables.markdown(TABLE1_HEADER, table1_rows(channels))])


def _about_table1(channels: Mapping[str, dict[str, Any]]) -> str:
    nyquist = next((f"{r['scales']['k_nyquist']:.1f}" for r in channels.values()), "-")
    return (
        f"b and r averaged over bins of k, each bin once: large scales k < {metrics.K_SPLIT:g}, small scales "
        f"{metrics.K_SPLIT:g} <= k <= {nyquist} h/Mpc (Nyquist); per map, then averaged; errors resample clusters, or "
        "whole simulations. "
        "If calibrated, b of samples is 1 and b - r of the mean is 0 (b - r: pooled, noise of the mean removed)."
    )


# Several models -----------------------------------------------------------------------------------------------------

ABOUT_COMPARISON = (
    "All models on the same sightlines, or on some of them, as their number says. In brackets: difference from "
    "{reference}, paired by sightline, with the error of resampling clusters, or simulations where there are five or "
    "more. The model nearest to the ideal is in bold, of those judged on all sightlines, whether or not the difference "
    "is significant."
)
FOREST = Plate(
    lambda material: {}, "Differences from the reference.",
    "One panel per statistic; points are paired differences on the same sightlines, bars one standard error. A bar "
    "that does not reach the dashed line by far is a difference. Whether less or more is better is in the table.",
)  # fmt: skip


def comparison_table(comparisons: Mapping[str, Mapping[str, Any]]) -> str:
    """Statistics of each model by channel, in Markdown: value ± error (difference ± error), the best in bold.

    Args:
        comparisons: {channel: what compare.compare returned}, see `tables.comparison_rows`.
    """
    parts = [ABOUT_COMPARISON.format(reference=_reference(comparisons)), ""]
    for channel, comparison in comparisons.items():
        parts += [f"## {channel.replace('_', ' ')}", "", tables.markdown(*comparison_rows(comparison))]
    return "\n".join(parts)


def write_comparison(folder: str | Path, comparisons: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write comparison.md, comparison.png, comparison.pdf, comparison.html, at last comparison.json; return the folder.

    Args:
        comparisons: as of `comparison_table`.
    """
    folder = require_writable(folder)
    _write(folder / "comparison.md", comparison_table(comparisons))
    figure = figures.comparison_figure(comparisons)
    for suffix in FORMATS:
        figures.save(figure, folder / f"comparison{suffix}")
    blocks = [html.paragraph(ABOUT_COMPARISON.format(reference=_reference(comparisons)))]
    for channel, comparison in comparisons.items():
        blocks += [html.heading(channel.replace("_", " ")), html.table(*comparison_rows(comparison))]
    blocks.append(_figure_block(folder / "comparison.png", FOREST, 1, float(figure.get_figwidth())))
    _write(folder / "comparison.html", html.page("Comparison of models", blocks))
    _write(folder / "comparison.json", _json({"format": FORMAT, "channels": comparisons}))
    return folder


def _reference(comparisons: Mapping[str, Mapping[str, Any]]) -> str:
    return next((str(comparison["reference"]) for comparison in comparisons.values()), "-")

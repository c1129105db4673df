"""The card of a model: what it expects, what it was trained on, and how well it did on held-out clusters.

The scores are those of `scores.json` in its folder, which `write_scores` makes of the report of `zwicky evaluate`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zwicky.io import UserError, require_file, write_json
from zwicky.model import KINDS, ModelConfig, find_model, model_id, read_model

SCORES = "scores.json"
KEPT = ("coverage", "error_median", "error_plus", "error_minus", "crps_over_mass", "crps_over_mean")


def model_card(name: str | Path) -> str:
    """The card of a shipped model or of one in a folder, in Markdown.

    Raises:
        UserError: there is no such model.
    """
    folder = find_model(name)
    config, networks = read_model(name)
    parameters = sum(p.numel() for p in networks.parameters()) / 1e6
    lines = [
        f"# {Path(name).name} ({model_id(name)})", "",
        f"{_kind(config)}, {parameters:.1f} million parameters.", "", "Expects",
        *(f"- {channel} [{config.units[channel] or 'dimensionless'}]" for channel in config.inputs),
        f"- any of them, on {config.pixels} x {config.pixels} pixels of {config.pixel_kpc:g} kpc (other pixels are "
        f"brought to these), at redshift {_range(*config.ranges['redshift'])}",
        f"- images {'with noise and beams, which it is told' if config.noisy else 'without noise or beams'}", "",
        "Gives", *(f"- {channel} [{config.units[channel]}]" for channel in config.targets), "",
        "Trained on", *_training(config), "", *_scores(folder),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _kind(config: ModelConfig) -> str:
    words = {"score": "Score model", "regression": "Regression", "h25": "Score model after Hsu et al. 2025"}
    apart = ", masses predicted apart from shapes" if config.mass else ""
    sampler = KINDS[config.kind].sampler
    return f"{words.get(config.kind, config.kind)} on a {config.architecture}{apart}, sampler {sampler}"


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _training(config: ModelConfig) -> list[str]:
    """What the training left: sightlines, clusters, masses, steps."""
    card = config.training
    if not card:
        return ["- unknown"]
    low, high = card["m200m_range"]
    return [
        f"- {card['sightlines']} sightlines of {card['clusters']} clusters, M200m {low:.1e} to {high:.1e} Msun",
        f"- {card['steps']} steps of {card['batch']} maps, seed {card['seed']}",
        *_validated(card.get("validation_clusters") if config.mass else None),
    ]


def _validated(clusters: int | None) -> list[str]:
    """How well the widths of masses are known; with few clusters, not very well."""
    if clusters is None:
        return []
    return [f"- widths of masses and maps set by {clusters} validation clusters: those of masses are known to "
            f"{1 / (2 * clusters**0.5):.0%}"]  # fmt: skip


def _scores(folder: Path) -> list[str]:
    """The table of scores, if the model has any."""
    if not (folder / SCORES).exists():
        return ["Scores on held-out clusters: not measured."]
    scores = json.loads((folder / SCORES).read_text())
    lines = [
        f"On {scores['sightlines']} sightlines of {scores['clusters']} held-out clusters, {scores['samples']} samples",
        "",
        "| channel | mass error | coverage of the mass | coverage of pixels (ideal) | CRPS of pixels / mean |",
        "|---|---|---|---|---|",
    ]
    for channel, s in scores["channels"].items():
        mass, pixel = s["mass"], s["pixel"]
        error = f"{mass['error_median']:+.3f} +{mass['error_plus']:.3f} -{mass['error_minus']:.3f}"
        cells = [
            channel, error, f"{mass['coverage']:.2f}", f"{pixel['coverage']:.2f} ({pixel['coverage_target']:.2f})",
            f"{pixel['crps_over_mean']:.4f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def write_scores(model: str | Path, report: str | Path) -> Path:
    """Keep the main numbers of a report in the folder of the model that it is of.

    Raises:
        UserError: there is no report, or it is of another model.
    """
    folder = find_model(model)
    metrics = json.loads(require_file(Path(report) / "metrics.json", "the report").read_text())
    request = metrics["meta"]["request"]
    if request["model_id"] != model_id(model):
        raise UserError(f"{report} is the report of another model than {model}.")
    channels, everything = {}, {}
    for name, result in metrics["channels"].items():
        everything = result["bins"]["all"]
        mass, pixel = everything["mass"]["map"], everything["pixel"]
        channels[name] = {"mass": _kept(mass), "pixel": _kept(pixel)}
    content = {
        "sightlines": everything["n_maps"], "clusters": everything["n_clusters"], "samples": request["samples"],
        "maps": request["maps"], "channels": channels,
    }  # fmt: skip
    write_json(folder / SCORES, content)
    return folder / SCORES


def _kept(numbers: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in numbers.items() if k in (*KEPT, "coverage_target")}

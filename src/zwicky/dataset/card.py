"""The data card of a set of maps: how it was made, what is in it, and its statistics, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable

import h5py
import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, failed_clusters
from zwicky.observe.sightlines import SPLITS

BATCH = 1 << 20  # pixels held in memory at a time
BIN_DEX = 0.1


def data_card(maps: MapSet) -> str:
    """The card, as text; the maps are read a few at a time."""
    with h5py.File(maps.path) as f:
        attributes = dict(f.attrs)
        simulation = f["simulation"][()] if "simulation" in f else np.zeros(len(maps), int)
    lines = [f"# {maps.path.name}", "", *_about(maps, attributes), "", "## Clusters and sightlines", ""]
    heads: tuple[str, ...] = ("split", "sightlines", "clusters", "simulations", "M200m [Msun]")
    lines += [*_table(heads, _splits(maps, simulation)), ""]
    lines += [*_table(("log10 M200m", "sightlines", "clusters"), _masses(maps)), "", "## Maps", ""]
    lines += _table(("channel", "unit", "least", "median", "mean", "largest", "not positive"), _channels(maps))
    if maps.instruments:
        heads = ("instrument", "channel", "unit", "beam [arcsec]", "noise", "known pixels", "source")
        lines += ["", "## Images", "", *_table(heads, _images(maps))]
    failed = failed_clusters(maps.path)
    if failed:
        lines += ["", "## Clusters left out", "", *(f"- {number}: {reason}" for number, reason in failed.items())]
    config = json.loads(attributes["config"])
    lines += ["", "## Settings", "", *_table(("setting", "value"), ((k, json.dumps(v)) for k, v in config.items()))]
    return "\n".join(lines) + "\n"


def _about(maps: MapSet, attributes: dict[str, object]) -> list[str]:
    cosmology = ", ".join(f"{name} {value:g}" for name, value in maps.cosmology.as_dict().items())
    pixel = "as wide as the cluster" if np.isnan(maps.pixel_kpc) else f"{maps.pixel_kpc:g} kpc"
    depth = float(str(attributes.get("depth_kpc", np.nan)))
    line_of_sight = "as deep as wide" if np.isnan(depth) else f"line of sight {depth:g} kpc"
    simulated = float(str(attributes.get("snapshot_redshift", maps.redshift)))
    origins = {json.dumps(o, sort_keys=True): o for o in json.loads(str(attributes.get("simulations", "[]")))}
    return [
        f"- made by zwicky {attributes.get('version', 'of unknown version')}, fingerprint {maps.fingerprint}",
        f"- {maps.pixels} x {maps.pixels} pixels of {pixel}, {line_of_sight}",
        f"- seen at redshift {maps.redshift:g}, simulated at {simulated:g}",
        f"- cosmology: {cosmology}",
        *(f"- simulation: {', '.join(f'{k} {v}' for k, v in o.items())}" for o in origins.values() if o),
    ]


def _splits(maps: MapSet, simulation: NDArray[np.int64]) -> Iterable[tuple[str, ...]]:
    for name in SPLITS:
        rows = maps.rows(name)
        masses = maps.halo["m200m"][rows]
        span = f"{masses.min():.2e} to {masses.max():.2e}" if len(rows) else ""
        counts = (len(np.unique(column[rows])) for column in (maps.cluster, simulation))
        yield name, str(len(rows)), *map(str, counts), span


def _masses(maps: MapSet) -> Iterable[tuple[str, ...]]:
    bins = np.floor(np.log10(maps.halo["m200m"]) / BIN_DEX + 1e-9).astype(int)
    for bin_ in np.unique(bins):
        rows = bins == bin_
        yield f"{bin_ * BIN_DEX:.1f} to {(bin_ + 1) * BIN_DEX:.1f}", str(rows.sum()), str(len(set(maps.cluster[rows])))


def _channels(maps: MapSet) -> Iterable[tuple[str, ...]]:
    for name, unit in maps.units.items():
        least, largest, total, medians, empty = np.inf, -np.inf, 0.0, [], 0
        for rows in _batches(maps):
            data = maps.read(name, rows)
            least, largest = min(least, data.min()), max(largest, data.max())
            total, empty = total + data.sum(dtype=float), empty + int((data <= 0).sum())
            medians += [float(np.median(image)) for image in data]
        pixels = len(maps) * maps.pixels**2
        numbers = (least, float(np.median(medians)), total / pixels, largest)
        yield name, unit or "none", *(f"{x:.3g}" for x in numbers), f"{100 * empty / pixels:.2g}%"


def _images(maps: MapSet) -> Iterable[tuple[str, ...]]:
    for name in maps.instruments:
        about, noise, known = maps.about(name), [], []
        for rows in _batches(maps):
            seen = maps.exposure(name, rows)
            noise.append(float(np.median(seen.noise)))
            known.append(float(seen.mask.mean()))
        source = json.loads(str(about["instrument"]))["source"]
        numbers = f"{float(str(about['fwhm_arcsec'])):g}", f"{np.median(noise):.3g}", f"{100 * np.mean(known):.1f}%"
        yield name, str(about["channel"]), str(about["unit"]) or "none", *numbers, source


def _batches(maps: MapSet) -> Iterable[slice]:
    """Rows, as many at a time as hold BATCH pixels, or one."""
    count = max(1, BATCH // maps.pixels**2)
    return (slice(start, start + count) for start in range(0, len(maps), count))


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ("---",) * len(heads), *rows)]

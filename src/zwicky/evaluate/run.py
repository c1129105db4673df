"""`zwicky evaluate`: sample the posterior of held-out sightlines and write the report.

The samples of one sightline are reduced to a row of small numbers in a file of its own, so that an evaluation resumes
where it stopped and needs the memory of one sightline only; the rows are removed when the report is there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, open_maps
from zwicky.diffusion.sample import SAMPLERS
from zwicky.evaluate.battery import summarise
from zwicky.evaluate.report import figure_arrays, write_report
from zwicky.evaluate.rows import MapGrid, Row, map_row
from zwicky.io import UserError, atomic_path, require_writable
from zwicky.observe.sightlines import SPLITS
from zwicky.products import SURFACE_DENSITY
from zwicky.reconstruct import Model, load_model
from zwicky.version import __version__


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate.

    Args:
        split: which clusters. sightlines: how many, spread evenly over the clusters; samples: of each.
        sampler, steps: see `Model.sample`; steps of 0 is the sampler's default. seed: of the samples.
    """

    split: str = "test"
    sightlines: int = 64
    samples: int = 50
    sampler: str = "dpm"
    steps: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {self.split!r}.")
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}.")
        if self.seed < 0:
            raise ValueError("the seed must not be negative.")
        if self.sightlines < 1 or self.samples < 2 or self.steps < 0 or self.steps == 1:
            raise ValueError("need sightlines >= 1, samples >= 2 and steps of 0 (default) or more than 1.")


def evaluate(
    models: Sequence[str | Path],
    maps: str | Path,
    folder: str | Path,
    config: EvaluateConfig,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the report of each model into `folder` (of several, into `folder`/<model>); return `folder`.

    Args:
        progress: called as progress(sightlines done, sightlines in all).

    Raises:
        UserError: a model or the map set cannot be used together.
    """
    folder, map_set = Path(folder), open_maps(maps)
    rows = choose_rows(map_set, config.split, config.sightlines)
    names = [Path(m).name for m in models]
    if len(set(names)) != len(names):
        raise UserError("the models to compare must have different names.")
    loaded = [load_model(path, device) for path in models]
    for model in loaded:
        _require_fit(model, map_set)
    for i, (model, name) in enumerate(zip(loaded, names, strict=True)):
        target = folder if len(models) == 1 else folder / name

        def tell(done: int, i: int = i) -> None:
            if progress:
                progress(i * len(rows) + done, len(models) * len(rows))

        _evaluate_one(model, map_set, rows, target, config, tell)
    return folder


def choose_rows(maps: MapSet, split: str, count: int) -> NDArray[np.int64]:
    """At most `count` rows of a split, as `MapSet.few` chooses them.

    Raises:
        UserError: there are none.
    """
    rows = maps.few(split, count)
    if len(rows) == 0:
        raise UserError(f"{maps.path} has no {split} rows.")
    return rows


def _evaluate_one(
    model: Model,
    maps: MapSet,
    rows: NDArray[np.int64],
    folder: Path,
    config: EvaluateConfig,
    tell: Callable[[int], None],
) -> None:
    request = {"model_id": model.id, "maps": maps.fingerprint, "version": __version__, **asdict(config)}
    if _is_done(folder / "metrics.json", request):
        shutil.rmtree(folder / "rows", ignore_errors=True)
        return tell(len(rows))
    work = require_writable(folder / "rows")
    _require_same(work / "request.json", request)
    for i, row in enumerate(rows):
        file = work / f"{row}.npz"
        if not file.exists():
            reduced = _reduce_row(model, maps, int(row), config)
            with atomic_path(file) as part, open(part, "wb") as f:
                np.savez(f, **reduced)  # type: ignore[arg-type]
        tell(i + 1)
    channels, arrays = {}, {}
    for name in _judged(model):
        reduced_rows = [_read_row(work / f"{row}.npz", name) for row in rows]
        channels[name] = summarise(
            reduced_rows, _grid(maps), maps.halo["m200m"][rows], maps.cluster[rows], config.samples,
            np.random.default_rng(config.seed),
        )  # fmt: skip
        arrays[name] = figure_arrays(reduced_rows)
    write_report(folder, channels, arrays, {"model": model.name, "request": request, "rows": rows})
    shutil.rmtree(work)


def _judged(model: Model) -> list[str]:
    """The targets that are surface densities, for which the measures are defined."""
    return [name for name in model.config.targets if model.config.units[name] == SURFACE_DENSITY]


def _grid(maps: MapSet) -> MapGrid:
    return MapGrid(maps.pixels, maps.pixel_kpc, maps.cosmology.h, maps.redshift)


def _reduce_row(model: Model, maps: MapSet, row: int, config: EvaluateConfig) -> Row:
    """The numbers of one row of maps, under "<channel>/<name>"."""
    samples = _sample_row(model, maps, row, config)
    radii = maps.halo["r500c"][row], maps.halo["r200m"][row]
    reduced: Row = {}
    for name in _judged(model):
        rng = np.random.default_rng([config.seed, row])
        truth = maps.read(name, np.array([row]))[0]
        numbers = map_row(truth, samples[name], _grid(maps), *radii, rng)
        reduced |= {f"{name}/{key}": value for key, value in numbers.items()}
    return reduced


def _read_row(path: Path, channel: str) -> Row:
    with np.load(path) as file:
        return {key.split("/")[1]: file[key] for key in file.files if key.split("/")[0] == channel}


def _sample_row(model: Model, maps: MapSet, row: int, config: EvaluateConfig) -> dict[str, NDArray]:
    """Samples {channel: (S, Y, X)} of one row, all inputs given."""
    inputs = {name: maps.read(name, np.array([row]))[0] for name in model.config.inputs}
    posterior = model.sample(
        inputs, maps.redshift, maps.pixel_kpc, config.samples, config.seed * 1_000_003 + row,
        sampler=config.sampler, steps=config.steps or None,
    )
    return posterior.samples


def _require_fit(model: Model, maps: MapSet) -> None:
    """Check that the maps are on the grid of the model and hold what it needs.

    Raises:
        UserError: they do not.
    """
    c = model.config
    if maps.pixels != c.pixels or abs(maps.pixel_kpc / c.pixel_kpc - 1) > 1e-6:
        raise UserError(
            f"{maps.path} has {maps.pixels} pixels of {maps.pixel_kpc:g} kpc a side and the model {model.name} "
            f"{c.pixels} of {c.pixel_kpc:g} kpc."
        )
    missing = {*c.targets, *c.inputs} - set(maps.units) | {"m200m", "r200m", "r500c"} - set(maps.halo)
    if missing:
        raise UserError(f"{maps.path} lacks {', '.join(sorted(missing))}.")


def _is_done(report: Path, request: dict) -> bool:
    """Whether the report of this request is there.

    Raises:
        UserError: there is a report of another request.
    """
    if not report.exists():
        return False
    if json.loads(report.read_text()).get("meta", {}).get("request") != request:
        raise UserError(f"{report.parent} holds the report of another evaluation; choose another folder.")
    return True


def _require_same(path: Path, request: dict) -> None:
    text = json.dumps(request, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise UserError(f"{path.parent} holds samples of another evaluation; remove it or choose another folder.")
    with atomic_path(path) as part:
        part.write_text(text)

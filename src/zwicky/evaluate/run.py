"""`zwicky evaluate`: sample the posterior of held-out sightlines and write the report.

The samples of one sightline are reduced to a row of small numbers in a file of its own, so that an evaluation resumes
where it stopped and needs the memory of one sightline only; the rows are removed when all reports are there. Several
models are judged on the same sightlines and compared (`compare`). Several processes may share the rows.
"""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, Seen, open_maps
from zwicky.dataset.workers import each
from zwicky.diffusion.sample import SAMPLERS
from zwicky.evaluate.battery import summarise
from zwicky.evaluate.compare import compare
from zwicky.evaluate.contest import Contestant, contestants
from zwicky.evaluate.figures import Example
from zwicky.evaluate.report import figure_arrays, write_comparison, write_report
from zwicky.evaluate.rows import MapGrid, Row, map_row
from zwicky.io import UserError, atomic_path, require_writable
from zwicky.observe.sightlines import SPLITS
from zwicky.prior import PRIORS
from zwicky.version import __version__

FEWEST_SIMULATIONS = 5  # whose differences tell an error
GAS = ("fgas200m", "fgas500c")  # gas fractions of halos, over which errors are shown


@dataclass(frozen=True)
class EvaluateConfig:
    """What to evaluate.

    Args:
        split: which clusters. sightlines: how many, spread evenly over the clusters; samples: of each.
        sampler, steps, prior: see `Model.sample`; "" and 0 are the defaults of the model. seed: of the samples.
        given: the channels that are given, if not all that a model takes; `none` alone for none.
        instruments: of the set, whose images are given in the place of the channels that they show.
    """

    split: str = "test"
    sightlines: int = 64
    samples: int = 50
    sampler: str = ""
    steps: int = 0
    seed: int = 0
    given: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    prior: str = "training"

    def __post_init__(self) -> None:
        if self.prior not in PRIORS:
            raise ValueError(f"prior must be one of {', '.join(PRIORS)}, not {self.prior!r}.")
        if self.split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {self.split!r}.")
        if self.sampler and self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, not {self.sampler!r}.")
        if self.seed < 0:
            raise ValueError("the seed must not be negative.")
        if self.sightlines < 1 or self.samples < 2 or self.steps < 0 or self.steps == 1:
            raise ValueError("need sightlines >= 1, samples >= 2 and steps of 0 (default) or more than 1.")

    @property
    def inputs(self) -> tuple[str, ...] | None:
        """The channels that are given, None for all."""
        return () if self.given == ("none",) else self.given or None


def evaluate(
    models: Sequence[str | Path],
    maps: str | Path,
    folder: str | Path,
    config: EvaluateConfig,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
    scheduler: str = "",
) -> Path:
    """Write the report of each model into `folder`; of several, into `folder`/<model>, and their comparison.

    Args:
        models: folders, shipped names or baselines, each with @N to be judged on N sightlines only; the first is the
            one that the others are compared with.
        progress: called as progress(sightlines done, sightlines in all).
        workers: processes of this machine that share the sightlines, by dask; 1 for none but this one.
        scheduler: address of a dask scheduler whose workers serve instead; they must see the same files.

    Raises:
        UserError: a model and the map set cannot be used together, or the folder holds another evaluation.
    """
    request = _Request(tuple(map(str, models)), str(maps), str(folder), config, device, uuid4().hex)
    folder, (map_set, tasks) = Path(folder), _tasks(request)
    if not (all(task.reported for task in tasks) and (len(tasks) == 1 or (folder / "comparison.json").exists())):
        for task in tasks:
            _require_same(require_writable(task.work) / "request.json", task.request)
        jobs = [_Job(request, which, int(row)) for which, task in enumerate(tasks) for row in task.rows]
        for done, _ in enumerate(each(_judge, jobs, _lost, workers, scheduler), 1):
            if progress:
                progress(done, len(jobs))
        for task in tasks:
            if not task.reported:
                _write_report(task, map_set, config)
        if len(tasks) > 1:
            _write_comparison(tasks, map_set, folder, config)
    for task in tasks:
        shutil.rmtree(task.work, ignore_errors=True)
    _tasks.cache_clear()
    return folder


@dataclass(frozen=True)
class _Request:
    """The arguments of an evaluation; `token` tells it from others that the same process has served."""

    models: tuple[str, ...]
    maps: str
    folder: str
    config: EvaluateConfig
    device: str
    token: str


@functools.lru_cache(maxsize=1)
def _tasks(request: _Request) -> tuple[MapSet, list[Task]]:
    """The set of maps and what is to be judged on it, made once by each process."""
    c, folder = request.config, Path(request.folder)
    maps = open_maps(request.maps).through(c.instruments)
    judged = contestants(request.models, maps, c.sampler, c.steps, request.device, c.inputs, c.prior)
    _require_shown(maps, {channel for one in judged for channel in one.inputs})
    return maps, [_task(one, maps, folder if len(judged) == 1 else folder / one.name, c) for one in judged]


@dataclass(frozen=True)
class _Job:
    """A row of maps that one of the models is to be judged on."""

    request: _Request
    which: int
    row: int


def _judge(job: _Job) -> list[int]:
    """The row of the job, now that its numbers are there."""
    maps, tasks = _tasks(job.request)
    _keep_row(tasks[job.which], maps, job.row, job.request.config)
    return [job.row]


def _lost(job: _Job) -> list[int]:
    raise UserError(f"the process that judged sightline {job.row} was lost again and again; it may want more memory.")


def _require_shown(maps: MapSet, inputs: set[str]) -> None:
    """Refuse instruments whose images nobody is given, by a UserError."""
    for channel, instrument in maps.shown.items():
        if channel not in inputs:
            given = ", ".join(sorted(inputs)) or "nothing"
            raise UserError(f"{instrument} shows {channel}, which is not among what is given: {given}.")


@dataclass(frozen=True)
class Task:
    """A contestant, the rows of maps that it is judged on, the folder of its report and what the report depends on."""

    contestant: Contestant
    rows: NDArray[np.int64]
    folder: Path
    request: dict[str, Any]

    @property
    def work(self) -> Path:
        """Folder of the numbers of each row."""
        return self.folder / "rows"

    @property
    def reported(self) -> bool:
        """Whether the report is there.

        Raises:
            UserError: there is the report of another request.
        """
        report = self.folder / "metrics.json"
        if not report.exists():
            return False
        if json.loads(report.read_text()).get("meta", {}).get("request") != self.request:
            raise UserError(f"{self.folder} holds the report of another evaluation; choose another folder.")
        return True

    def shown(self, maps: MapSet) -> list[int]:
        """Rows that figures show: clusters of the least, the middle and the largest mass."""
        order = self.rows[np.argsort(maps.halo["m200m"][self.rows], kind="stable")]
        return list(dict.fromkeys(int(order[i]) for i in (0, (len(order) - 1) // 2, -1)))

    def read(self, row: int, channel: str) -> Row:
        """The numbers of one row and channel."""
        with np.load(self.work / f"{row}.npz") as file:
            return {key.split("/")[1]: file[key] for key in file.files if key.split("/")[0] == channel}


def _task(c: Contestant, maps: MapSet, folder: Path, config: EvaluateConfig) -> Task:
    rows = choose_rows(maps, config.split, min(config.sightlines, c.most or config.sightlines))
    settings = {**asdict(config), "sightlines": len(rows)}
    request = {"model_id": c.id, "maps": maps.fingerprint, "version": __version__, **settings}
    return Task(c, rows, folder, json.loads(json.dumps(request)))


def choose_rows(maps: MapSet, split: str, count: int) -> NDArray[np.int64]:
    """At most `count` rows of a split, as `MapSet.few` chooses them.

    Raises:
        UserError: there are none.
    """
    rows = maps.few(split, count)
    if len(rows) == 0:
        raise UserError(f"{maps.path} has no {split} rows.")
    return rows


def _keep_row(task: Task, maps: MapSet, row: int, config: EvaluateConfig) -> None:
    """The numbers of one row of maps in a file, under "<channel>/<name>"; a row that is there is left alone."""
    file = task.work / f"{row}.npz"
    if file.exists():
        return
    c, halo = task.contestant, maps.halo
    seen, truth = maps.seen(row, c.inputs), {name: maps.read(name, np.array([row]))[0] for name in c.targets}
    samples = _sample_row(c, seen, row, config)
    reduced: Row = {}
    for name, t in truth.items():
        rng = np.random.default_rng([config.seed, row])
        numbers = map_row(t, samples[name], _grid(maps), halo["r500c"][row], halo["r200m"][row], rng, seen.images)
        reduced |= {f"{name}/{key}": value for key, value in numbers.items()}
    if row in task.shown(maps):
        reduced |= _example(seen.images, truth, samples)
    with atomic_path(file) as part, open(part, "wb") as f:
        np.savez(f, **reduced)  # type: ignore[arg-type]


def _example(inputs: Mapping[str, NDArray], truth: Mapping[str, NDArray], samples: Mapping[str, NDArray]) -> Row:
    """The maps that figures show of a sightline, under "example/<what>/<channel>"."""
    kinds = {
        "inputs": inputs, "truth": truth, "mean": {name: x.mean(0) for name, x in samples.items()},
        "std": {name: x.std(0, ddof=min(1, len(x) - 1)) for name, x in samples.items()},
        "sample": {name: x[0] for name, x in samples.items()},
    }  # fmt: skip
    return {f"example/{kind}/{name}": image for kind, found in kinds.items() for name, image in found.items()}


def _read_example(task: Task, maps: MapSet, row: int) -> Example:
    halo = {name: float(maps.halo[name][row]) for name in ("m200m", "r200m", "r500c")}
    with np.load(task.work / f"{row}.npz") as file:
        found: dict[str, dict[str, NDArray]] = {"inputs": {}}
        for key in file.files:
            if key.startswith("example/"):
                _, kind, channel = key.split("/")
                found.setdefault(kind, {})[channel] = file[key]
    return Example(**found, pixel_kpc=maps.pixel_kpc, halo=halo, units=maps.units)  # type: ignore[typeddict-item]


def _sample_row(c: Contestant, seen: Seen, row: int, config: EvaluateConfig) -> dict[str, NDArray]:
    """Samples {channel: (S, Y, X)} of one row."""
    return c.draw(seen, config.samples, config.seed * 1_000_003 + row)


def _grid(maps: MapSet) -> MapGrid:
    return MapGrid(maps.pixels, maps.pixel_kpc, maps.cosmology.h, maps.redshift)


def _write_report(task: Task, maps: MapSet, config: EvaluateConfig) -> None:
    channels, arrays, rows = {}, {}, task.rows
    for name in task.contestant.targets:
        reduced = [task.read(row, name) for row in rows]
        samples = next((len(row["profile_samples"]) for row in reduced if "profile_samples" in row), config.samples)
        channels[name] = summarise(
            reduced, _grid(maps), maps.halo["m200m"][rows], maps.cluster[rows], samples,
            np.random.default_rng(config.seed), halo={n: maps.halo[n][rows] for n in GAS if n in maps.halo},
            groups=_groups(maps, rows),
        )  # fmt: skip
        arrays[name] = figure_arrays(reduced)
    meta = {"model": task.contestant.name, "request": task.request, "rows": rows}
    examples = [_read_example(task, maps, row) for row in task.shown(maps)]
    sets = {split: maps.halo["m200m"][maps.rows(split)] for split in SPLITS}
    write_report(task.folder, channels, arrays, meta, examples, sets)


def _write_comparison(tasks: Sequence[Task], maps: MapSet, folder: Path, config: EvaluateConfig) -> None:
    """comparison.json: every channel that two of them predict, against the first that does."""
    judged = np.unique(np.concatenate([task.rows for task in tasks]))
    groups = dict(zip(judged.tolist(), _groups(maps, judged).tolist(), strict=True))
    found = {}
    for name in dict.fromkeys(name for task in tasks for name in task.contestant.targets):
        those = [task for task in tasks if name in task.contestant.targets]
        if len(those) < 2:
            continue
        of_models = {t.contestant.name: {int(row): t.read(row, name) for row in t.rows} for t in those}
        found[name] = compare(of_models, groups, _grid(maps).k, np.random.default_rng(config.seed))
    write_comparison(folder, found)


def _groups(maps: MapSet, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is resampled whole for errors: simulations, where there are enough of them, or clusters.

    Clusters of one simulation share its largest waves, and may stand in each other's maps.
    """
    simulations = maps.simulation[rows]
    return simulations if len(np.unique(simulations)) >= FEWEST_SIMULATIONS else maps.cluster[rows]


def _require_same(path: Path, request: dict) -> None:
    text = json.dumps(request, sort_keys=True)
    if path.exists() and path.read_text() != text:
        raise UserError(f"{path.parent} holds rows of another evaluation; remove it or choose another folder.")
    with atomic_path(path) as part:
        part.write_text(text)

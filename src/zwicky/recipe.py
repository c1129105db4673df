"""Recipes: a whole pipeline in one TOML file, run stage by stage into one folder.

    [simulate]  n, box, seeds, da, ...     ->  simulation-<seed>/snapshot.hdf5, halos.hdf5
    [clusters]  number, lowest, highest, ...   the same, with a planted cluster in each
    [halos]     min_mass, min_particles
    [observe]   per_bin, cap, ...          ->  maps.h5
    [train]     steps, batch, ...          ->  model/
    [evaluate]  sightlines, samples        ->  report/

A stage whose artefact is there is skipped; one that was cut off is resumed. The recipe is kept in the folder, and a
folder made by another recipe is refused. Several processes may share all but the training.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from zwicky.cosmology import Cosmology
from zwicky.dataset.build import build_maps
from zwicky.dataset.plan import ObserveConfig
from zwicky.dataset.workers import each
from zwicky.diffusion.noise import NoiseSchedule
from zwicky.evaluate.run import EvaluateConfig, evaluate
from zwicky.halos import find_halos, require_limits, write_halos
from zwicky.io import UserError, atomic_path, require_file, require_writable
from zwicky.observe.sightlines import even_shares
from zwicky.physics import PhysicsWeights
from zwicky.plant import planted, smallest_side
from zwicky.reconstruct import add_reference
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, simulate
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots import read_snapshot
from zwicky.train import TrainConfig, remark, train

HALOS = "halos.hdf5"
T = TypeVar("T")
Progress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class ClustersConfig:
    """Simulations of one planted cluster each, flat in log mass, in boxes just large enough.

    Args:
        number: of simulations. lowest, highest: M200m [Msun].
        spacing: between particles of a species [Mpc/h]; HYPER has half the default.
        seed: of the first simulation; the others follow.
    """

    number: int = 0
    lowest: float = 1e14
    highest: float = 2e15
    spacing: float = 2 * 500 / 1024
    seed: int = 1000

    def __post_init__(self) -> None:
        if self.number < 0 or self.seed < 0 or not 0 < self.lowest <= self.highest <= 1e17:
            raise ValueError("need number >= 0, seed >= 0 and 0 < lowest <= highest <= 1e17 Msun.")
        if not 0.01 <= self.spacing <= 10:
            raise ValueError("need a spacing from 0.01 to 10 Mpc/h.")

    def settings(self, cosmology: Cosmology) -> list[dict[str, Any]]:
        """n, box, cluster and seed of every simulation, of which any that follow one another are even in log mass.

        More of them begin with the same ones, so that a set can grow.
        """
        found = []
        for i, share in enumerate(even_shares(self.number)):
            mass = self.lowest * (self.highest / self.lowest) ** float(share)
            n = smallest_side(cosmology, mass, self.spacing)
            found.append({"n": n, "box": n * self.spacing, "cluster": mass, "seed": self.seed + i})
        return found


@dataclass(frozen=True)
class HalosConfig:
    """Which halos to keep: least M200m [Msun] and least number of particles inside R200m."""

    min_mass: float = 0.0
    min_particles: int = 200

    def __post_init__(self) -> None:
        require_limits(self.min_mass, self.min_particles)


@dataclass(frozen=True)
class Recipe:
    """All stages. `simulations` holds one configuration a seed of [simulate], and those of [clusters]."""

    simulations: tuple[SimulationConfig, ...]
    halos: HalosConfig = field(default_factory=HalosConfig)
    observe: ObserveConfig = field(default_factory=ObserveConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        missing = {*self.train.targets, *self.train.inputs} - set(self.observe.channels)
        if missing:
            raise ValueError(f"[train] needs channels that [observe] leaves out: {', '.join(sorted(missing))}.")
        self._check_evaluation()
        if self.observe.pixels % self.train.multiple:
            raise ValueError(f"[observe] pixels must be a multiple of {self.train.multiple} for this network.")
        depths = set()
        for s in self.simulations:
            nothing = Species(np.zeros((0, 3)), None, np.zeros(0))
            header = Particles(s.box_mpc, s.redshift_end, s.cosmology, nothing, nothing)
            pixel_kpc = 0.0 if self.observe.field_r200 else self.observe.pixel_in(header)
            self.observe.check_angles(header, pixel_kpc)
            if self.observe.pixels * pixel_kpc / 1000 * (1 + s.redshift_end) > s.box_mpc:
                raise ValueError(f"the maps of [observe] are wider than the box of [simulate], {s.box_mpc:.1f} Mpc.")
            depths.add(self.observe.depth_in(header, pixel_kpc))
        if len(depths) > 1:
            least = min(depths) / 1e3
            raise ValueError(f"[observe] depth_kpc is deeper than some boxes; all maps must be alike, {least:.1f} Mpc.")

    def _check_evaluation(self) -> None:
        """What would be found out only after hours."""
        judged = self.evaluate
        if unknown := set(judged.inputs or ()) - set(self.train.inputs):
            raise ValueError(f"[evaluate] gives channels that [train] does not take: {', '.join(sorted(unknown))}.")
        if missing := set(judged.instruments) - set(self.observe.instruments):
            raise ValueError(f"[evaluate] needs instruments that [observe] leaves out: {', '.join(sorted(missing))}.")
        if judged.prior != "training" and not self.train.mass:
            raise ValueError("another prior in [evaluate] needs mass = true in [train].")


def read_recipe(path: str | Path) -> Recipe:
    """The recipe of a TOML file.

    Raises:
        UserError: the file is missing, is not TOML, or has an unknown or impossible setting; the message names it.
    """
    content = _content(path)
    stages = (
        _simulations(content, str(path)),
        build(HalosConfig, content.get("halos", {}), f"{path}: [halos]"),
        build(ObserveConfig, content.get("observe", {}), f"{path}: [observe]"),
        build(TrainConfig, content.get("train", {}), f"{path}: [train]"),
        build(EvaluateConfig, content.get("evaluate", {}), f"{path}: [evaluate]"),
    )
    try:
        return Recipe(*stages)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def simulation_of(path: str | Path, seed: int) -> SimulationConfig:
    """The simulation of a seed in a recipe, whose other sections than [simulate] and [clusters] do not matter.

    Raises:
        UserError: as of `read_recipe`, or the recipe has no such seed.
    """
    found = {config.seed: config for config in _simulations(_content(path), str(path))}
    if seed not in found:
        raise UserError(f"{path} has no simulation of seed {seed}; it has {', '.join(map(str, found))}.")
    return found[seed]


def _content(path: str | Path) -> dict[str, dict[str, Any]]:
    """Sections of a recipe and their settings."""
    path = require_file(path, "the recipe")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a TOML file: {error}.") from error
    unknown = set(content) - {f.name for f in fields(Recipe)} - {"simulate", "clusters"}
    if unknown or "simulations" in content:
        raise UserError(f"{path} has an unknown section [{sorted(unknown or {'simulations'})[0]}].")
    for section, settings in content.items():
        if not isinstance(settings, dict):
            raise UserError(f"{path}: {section} must be a section, [{section}] with settings below it.")
    return content


def _simulations(content: dict[str, Any], path: str) -> tuple[SimulationConfig, ...]:
    """Those of the seeds of [simulate], and those of [clusters] with the other settings of [simulate]."""
    section, where = dict(content.get("simulate", {})), f"{path}: [simulate]"
    if {"seed", "seeds"} <= set(section):
        raise UserError(f"{where} has both seed and seeds; give one.")
    clusters = build(ClustersConfig, content.get("clusters", {}), f"{path}: [clusters]")
    one = [section.pop("seed")] if "seed" in section else [] if clusters.number else [0]
    seeds = section.pop("seeds", one)
    if not isinstance(seeds, list) or not (seeds or clusters.number) or len({str(s) for s in seeds}) != len(seeds):
        raise UserError(f"{where} seeds must be a list of different numbers.")
    free = [build(SimulationConfig, {**section, "seed": seed}, where) for seed in seeds]
    own = sorted({"n", "box", "cluster", "peak"} & set(section))
    if not seeds and own:
        raise UserError(f"{where} {own[0]} does nothing without seeds where [clusters] gives the boxes.")
    shared = {k: v for k, v in section.items() if k not in own}
    cosmology = build(SimulationConfig, shared, where).cosmology
    bound = [build(SimulationConfig, shared | each, f"{path}: [clusters]") for each in clusters.settings(cosmology)]
    if {c.seed for c in free} & {c.seed for c in bound}:
        raise UserError(f"{path}: [simulate] and [clusters] share a seed.")
    return (*free, *bound)


_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
_NESTED = {"cosmology": Cosmology, "pressure": PressureModel, "noise": NoiseSchedule, "physics": PhysicsWeights}


def build(kind: type[T], settings: dict[str, Any], where: str) -> T:
    """A configuration of `kind` from plain settings, checked for unknown names, wrong types and impossible values.

    Raises:
        UserError: with `where` and the name of the setting.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{where} has an unknown setting {name!r}; known are {', '.join(known)}.")
        if name in _NESTED:
            if not isinstance(value, dict):
                raise UserError(f"{where} {name} must be a section with settings, not {value!r}.")
            value = build(_NESTED[name], value, f"{where} {name}")
        values[name] = _typed(value, known[name].type, f"{where} {name}")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error


def _typed(value: Any, annotation: Any, where: str) -> Any:
    """`value` as the annotated type; numbers are not silently turned into others."""
    if is_dataclass(value):
        return value
    text = str(annotation)
    if text.startswith("tuple["):
        if not isinstance(value, list):
            raise UserError(f"{where} must be a list, not {value!r}.")
        kind = text.removeprefix("tuple[").split(",")[0]
        return tuple(_typed(element, kind, where) for element in value)
    allowed = _KINDS[text]
    if not isinstance(value, allowed) or (isinstance(value, bool) and text != "bool"):
        raise UserError(f"{where} must be of type {text}, not {value!r}.")
    return float(value) if isinstance(value, int | float) and text == "float" else value


@dataclass(frozen=True)
class _Simulated:
    """A simulation of a recipe with its halos: what a process of several is given to do."""

    config: SimulationConfig
    folder: Path
    halos: HalosConfig
    device: str


def run_recipe(
    path: str | Path,
    folder: str | Path,
    device: str = "cpu",
    progress: Progress | None = None,
    workers: int = 1,
    scheduler: str = "",
) -> Path:
    """Run all stages of a recipe into `folder`; return the folder of the report.

    Args:
        progress: called as progress(stage, done, in all, remark).
        workers: processes of this machine that share simulations, clusters and sightlines, by dask; 1 for none but
            this one.
        scheduler: address of a dask scheduler whose workers serve instead; they must see the same files.

    Raises:
        UserError: the recipe or the folder cannot be used.
    """
    recipe = read_recipe(path)
    folder = require_writable(folder)
    _keep_recipe(Path(path), folder)

    def tell(stage: str, done: int, total: int, remark: str = "") -> None:
        if progress:
            progress(stage, done, total, remark)

    jobs = [_Simulated(c, folder / f"simulation-{c.seed}", recipe.halos, device) for c in recipe.simulations]
    if workers > 1 or scheduler:
        left = [job for job in jobs if not (job.folder / HALOS).exists()]
        for done, seed in enumerate(each(_simulated, left, lambda job: [job.config.seed], workers, scheduler), 1):
            tell("simulate", done, len(left), f"seed {seed}")
    pairs = [_simulate_stage(job, tell) for job in jobs]
    maps = folder / "maps.h5"
    if not maps.exists():
        build_maps(pairs, maps, recipe.observe, lambda done, total: tell("observe", done, total), workers, scheduler)
    model = train(maps, folder / "model", recipe.train, device, lambda d, t, s: tell("train", d, t, remark(s)))
    add_reference(model, maps, device, lambda done, total: tell("outliers", done, total))
    report = folder / "report"
    evaluate([model], maps, report, recipe.evaluate, device, lambda d, t: tell("evaluate", d, t), workers, scheduler)
    return report


def _simulated(job: _Simulated) -> list[int]:
    """The seed of the simulation, now that it is done."""
    _simulate_stage(job, lambda *progress: None)
    return [job.config.seed]


def _simulate_stage(job: _Simulated, tell: Callable[..., None]) -> tuple[Path, Path]:
    """Snapshot and halos of a simulation, made as far as they are not there."""
    seed, folder = job.config.seed, job.folder
    stage, name = f"plant, seed {seed}", f"simulate, seed {seed}"
    config = planted(job.config, folder, lambda done, most, mass: tell(stage, done, most, mass), job.device)
    snapshot = simulate(
        config, folder, lambda done, total, z: tell(name, done, total, f"z = {z:.2f}"), device=job.device
    )
    halos = folder / HALOS
    if not halos.exists():
        found = find_halos(
            read_snapshot(snapshot), job.halos.min_mass, job.halos.min_particles,
            lambda done, total: tell(f"halos, seed {seed}", done, total),
        )
        write_halos(found, halos)
    return snapshot, halos


def _keep_recipe(path: Path, folder: Path) -> None:
    kept = folder / "recipe.toml"
    if kept.exists() and tomllib.loads(kept.read_text()) != tomllib.loads(path.read_text()):
        raise UserError(f"{folder} was made by another recipe ({kept}); choose another folder.")
    if not kept.exists():
        with atomic_path(kept) as part:
            part.write_text(path.read_text())

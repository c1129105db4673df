"""Training of the conditional score model, and of the published kinds of model beside it.

First the mean and the masses are trained, then the denoiser of what is left, each by Adam with a warm-up and a cosine
decay. What is kept is the exponential moving average of the weights; of the mean and of the masses that of the lowest
validation loss. The data and the noise of a step depend on (seed, step) alone and the optimiser is part of the
checkpoint, so that a resumed run equals the uninterrupted one to the bit on the same machine; the checkpoint keeps the
number of threads.
Directions are lost to the symmetries of the square that maps are turned by, so that channels must be scalars.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from zwicky.dataset.loader import BEAM, MapLoader, View, beam_widths
from zwicky.dataset.normalize import LogScale, fit_rows
from zwicky.dataset.store import MapSet, chunks, open_maps
from zwicky.device import THREADS, choose_device, cpu_threads
from zwicky.io import UserError, append_jsonl, keep_jsonl_until, require_writable
from zwicky.model import KINDS, ModelConfig, find_model, model_id, read_model, read_weights, save_model
from zwicky.physics import physics_of
from zwicky.prior import learnt
from zwicky.products import aperture_mass
from zwicky.recalibration import corrected_masses, corrected_spread
from zwicky.train_config import Stage, TrainConfig
from zwicky.trainer import Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["TrainConfig", "remark", "train"]

STATS = "stats.jsonl"
LEAST_SPREAD = 5e-3  # of ln M in any direction: finer differences between targets are not worth learning


def train(
    maps: str | Path,
    folder: str | Path,
    config: TrainConfig,
    device: str = "cpu",
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    checkpoint_seconds: float = 60.0,
    start: str | Path | None = None,
    time_budget: float = 0.0,
    tensorboard: str | Path | None = None,
) -> Path:
    """Train on a map set and return the folder of the finished model; resume where a checkpoint is found.

    Under torchrun, every process trains on its part of each batch.

    Args:
        maps: `maps.h5`. folder: of the model; `stats.jsonl` and the checkpoint live in `folder`.training until the end.
        device: cpu, cuda or auto. progress: called as progress(steps done, steps in all, latest numbers).
        checkpoint_seconds: least time between two checkpoints.
        start: a model to go on from (fine-tuning); its kind, channels, scalings, noise levels and networks, and whether
            it predicts masses apart, replace those of config.
        time_budget: seconds after which the training ends, its learning rate fallen by then; 0 for all steps.
        tensorboard: folder for the numbers of the training, shown by the program of that name.

    Raises:
        UserError: there is no such device, the map set lacks a channel or rows, the folder holds another training, or
            the training diverges.
    """
    folder, place, map_set = Path(folder), choose_device(device), open_maps(maps)
    identity = _identity(config, map_set, start)
    if (folder / "config.json").exists():
        shutil.rmtree(folder.with_name(folder.name + ".training"), ignore_errors=True)
        return _require_same(folder, identity)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write the model: {folder} is a file.")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"cannot write the model: {folder} holds other files; choose another folder.")
    telescopes = _instruments(map_set, config)
    model = _model_config(map_set, config, telescopes) if start is None else _continued(map_set, config, start)
    weights = None if start is None else read_weights(find_model(start))
    config = _of_kind(config, model)
    physics = physics_of(config.physics, map_set, model.targets, model.inputs, model.scales)
    work = require_writable(folder.with_name(folder.name + ".training"))
    view = _view(model, config, telescopes)
    train_set, validation_set = (MapLoader(map_set, split, view) for split in ("train", "validation"))
    fabric = _processes(place, config)
    way = _Way(work, fabric.is_global_zero, progress or (lambda *_: None), _board(tensorboard), checkpoint_seconds)
    done, threads = 0, THREADS
    for stage in way.left(config.stages):
        trainer = Trainer.new(config, model, stage, done, fabric, identity, weights, physics, threads)
        way.enter(trainer)
        with cpu_threads(trainer.threads):
            if start is None and not trainer.step:
                trainer.prepare(train_set)
            way.follow(trainer, train_set, validation_set, time_budget * stage.steps / config.steps)
            if trainer.is_last:
                model = corrected_spread(trainer, validation_set, corrected_masses(trainer, validation_set))
        weights, done, threads = trainer.kept, trainer.steps_done, trainer.threads
    if fabric.is_global_zero:
        _finish(folder, work, trainer, model)
    fabric.barrier()
    return folder


@dataclass
class _Way:
    """What a training leaves on its way: a checkpoint for each stage, statistics and news of its progress.

    Args:
        folder: of them. first: whether this is the process that writes. checkpoint_seconds: between two checkpoints.
    """

    folder: Path
    first: bool
    progress: Callable[[int, int, dict[str, float]], None]
    board: Callable[[dict[str, float]], None]
    checkpoint_seconds: float

    def checkpoint(self, stage: Stage) -> Path:
        """The checkpoint of a stage."""
        return self.folder / f"{stage.name}.safetensors"

    def left(self, stages: Sequence[Stage]) -> Sequence[Stage]:
        """Stages that are not done: a checkpoint holds what came of those before it."""
        begun = [i for i, stage in enumerate(stages) if self.checkpoint(stage).exists()]
        return stages[max(begun, default=0) :]

    def enter(self, trainer: Trainer) -> None:
        """Continue a stage that has begun, or begin it."""
        if self.checkpoint(trainer.stage).exists():
            trainer.load(self.checkpoint(trainer.stage))
        if self.first:
            keep_jsonl_until(self.folder / STATS, trainer.steps_done)
        if trainer.first and not trainer.step:
            trainer.save(self.checkpoint(trainer.stage))

    def follow(self, trainer: Trainer, train_set: MapLoader, validation_set: MapLoader, budget: float) -> None:
        """Train a stage to its end."""
        c, saved, validated = trainer.config, time.monotonic(), -1
        latest: dict[str, float] = {}
        while not trainer.finished and not (budget and trainer.elapsed >= budget):
            trainer.advance(train_set, budget)
            if trainer.steps_done % c.validate_every == 0 or trainer.step == trainer.stage.steps:
                latest, validated = self._validated(trainer, validation_set), trainer.step
            if self.first:
                self.progress(trainer.steps_done, c.steps, latest)
            if time.monotonic() - saved > self.checkpoint_seconds:
                trainer.save(self.checkpoint(trainer.stage))
                saved = time.monotonic()
        if validated != trainer.step:  # out of time, or resumed at the end
            self._validated(trainer, validation_set)

    def _validated(self, trainer: Trainer, loader: MapLoader) -> dict[str, float]:
        """The numbers of a validation, written in the place of any that are there of this step."""
        found = _validated(trainer, loader)
        if self.first:
            keep_jsonl_until(self.folder / STATS, trainer.steps_done - 1)
            append_jsonl(self.folder / STATS, found)
            self.board(found)
        return found


def _validated(trainer: Trainer, loader: MapLoader) -> dict[str, float]:
    """Step and losses of the validation split.

    Raises:
        UserError: they are infinite or NaN, and there are no better weights to keep.
    """
    found = trainer.validate(loader)
    lost = {trainer.judged(name) for name, value in found.items() if not math.isfinite(value)}
    if lost - {name.split(".")[0] for name in trainer.best}:
        raise UserError(f"the training diverged before step {trainer.steps_done}; take a lower learning rate.")
    return {"step": trainer.steps_done, **found}


def remark(latest: Mapping[str, float]) -> str:
    """The losses of the last validation in words, none before the first."""
    return ", ".join(f"{name} {value:.4f}" for name, value in latest.items() if name != "step")


def _processes(device: torch.device, config: TrainConfig) -> Fabric:
    """The processes of the training: one, or those that torchrun has started.

    Raises:
        UserError: a batch cannot be shared evenly.
    """
    from lightning_fabric import Fabric  # slow to import

    count = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch % (count * config.accumulate):
        raise UserError(f"a batch of {config.batch} maps cannot be shared by {count} x {config.accumulate} parts.")
    kind = "cuda" if device.type == "cuda" else "cpu"
    if count == 1:
        fabric = Fabric(accelerator=kind, devices=1)
    else:
        fabric = Fabric(accelerator=kind, devices=int(os.environ.get("LOCAL_WORLD_SIZE", count)), strategy="ddp",
                        num_nodes=count // int(os.environ.get("LOCAL_WORLD_SIZE", count)))  # fmt: skip
    fabric.launch()
    return fabric


def _board(folder: str | Path | None) -> Callable[[dict[str, float]], None]:
    """What writes the numbers of a validation for TensorBoard; nothing without a folder.

    Raises:
        UserError: the package is not there.
    """
    if folder is None:
        return lambda numbers: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("the package tensorboard is not installed; pip install tensorboard.") from error
    writer = SummaryWriter(str(folder))

    def write(numbers: dict[str, float]) -> None:
        for name, value in numbers.items():
            if name != "step":
                writer.add_scalar(name, value, int(numbers["step"]))
        writer.flush()

    return write


# The model ----------------------------------------------------------------------------------------------------------


def _model_config(maps: MapSet, c: TrainConfig, telescopes: Mapping[str, tuple[str, ...]]) -> ModelConfig:
    """The configuration of the model, with scalings fitted to the training rows."""
    _require_rows(maps, c)
    ln_pixel, beams = math.log(maps.pixel_kpc), math.log1p(max([BEAM[1], *beam_widths(maps, telescopes).values()]))
    ranges = {"redshift": (maps.redshift, maps.redshift), "ln_pixel_kpc": (ln_pixel, ln_pixel)}
    if c.noisy:
        ranges |= {f"beam_{name}": (0.0, beams) for name in c.inputs}
    network: dict[str, Any] = {"widths": list(c.widths), "blocks": c.blocks, "dropout": c.dropout}
    return ModelConfig(
        tuple(c.targets), tuple(c.inputs), _scales(maps, c), {n: maps.units[n] for n in (*c.targets, *c.inputs)},
        maps.pixels, maps.pixel_kpc, network | ({"patch": c.patch} if c.network == "unet" else {}), c.schedule, ranges,
        maps.cosmology.as_dict(), _card(maps, c), c.kind, c.network, c.noisy, c.local and KINDS[c.kind].mean,
        _mass(maps, c) if c.mass else {},
    )  # fmt: skip


def _require_rows(maps: MapSet, c: TrainConfig) -> None:
    """Check that a set can be trained on.

    Raises:
        UserError: it cannot.
    """
    if maps.pixels % c.multiple:
        raise UserError(f"{maps.path} has {maps.pixels} pixels a side; this network needs a multiple of {c.multiple}.")
    if len(maps.rows("train")) == 0 or len(maps.rows("validation")) == 0:
        raise UserError(f"{maps.path} has no training or no validation rows; it needs more clusters.")
    if not maps.pixel_kpc > 0:
        raise UserError(f"the maps of {maps.path} are as wide as R200c of their clusters, which no observer knows.")


def _scales(maps: MapSet, c: TrainConfig) -> dict[str, LogScale]:
    """Scalings of all channels."""

    def fitted(name: str, signed: bool = False) -> LogScale:
        try:
            return fit_rows(lambda rows: maps.read(name, rows), maps.rows("train"), KINDS[c.kind].scaling, signed)
        except ValueError as error:
            raise UserError(f"{name} of {maps.path}: {error}") from error

    return {name: fitted(name) for name in c.targets} | {name: fitted(name, c.noisy) for name in c.inputs}


def _mass(maps: MapSet, c: TrainConfig) -> dict[str, Any]:
    """What a model needs to predict masses apart."""
    ln_mass = _ln_masses(maps, c.targets)
    root = np.linalg.cholesky(np.atleast_2d(np.cov(ln_mass, ddof=0)) + LEAST_SPREAD**2 * np.eye(len(ln_mass)))
    prior = _learnt(maps, ln_mass)
    return {"mean": ln_mass.mean(1).tolist(), "root": root.tolist(), "widths": {}, "prior": prior}


def _ln_masses(maps: MapSet, targets: Sequence[str]) -> NDArray[np.float64]:
    """ln of the masses in the training maps [Msun], (C, N)."""
    parts = list(chunks(maps.rows("train")))
    return np.array([np.concatenate([np.log(aperture_mass(maps.read(name, part), maps.pixel_kpc)) for part in parts])
                     for name in targets])  # fmt: skip


def _learnt(maps: MapSet, ln_mass: NDArray[np.float64]) -> dict[str, Any]:
    """The distribution of masses of the training split."""
    return learnt(np.logaddexp.reduce(ln_mass), np.log(maps.halo["m200m"][maps.rows("train")]))


def _instruments(maps: MapSet, c: TrainConfig) -> dict[str, tuple[str, ...]]:
    """Input -> instruments whose images stand for it.

    Raises:
        UserError: the set has no such instrument, or no input is what it shows.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in c.instruments:
        shown = maps.channel_of(name)
        if shown not in c.inputs:
            raise UserError(f"{name} shows {shown}, which is not an input of the model.")
        found[shown] = (*found.get(shown, ()), name)
    return found


def _view(model: ModelConfig, c: TrainConfig, telescopes: Mapping[str, tuple[str, ...]]) -> View:
    return View(
        model.targets, model.inputs, model.scales, model.noisy, telescopes, c.clean, c.degrade, c.drop_channel,
        c.drop_pixels,
    )  # fmt: skip


def _continued(maps: MapSet, c: TrainConfig, start: str | Path) -> ModelConfig:
    """The configuration of a model that is trained on, for another set.

    Raises:
        UserError: the set does not fit the model.
    """
    model, _ = read_model(start)
    _require_rows(maps, replace(c, widths=tuple(model.network["widths"]), patch=model.network.get("patch", 1)))
    missing = {*model.targets, *model.inputs} - set(maps.units)
    if missing:
        raise UserError(f"{maps.path} lacks {', '.join(sorted(missing))}, which the model {start} needs.")
    if maps.pixels != model.pixels or abs(maps.pixel_kpc / model.pixel_kpc - 1) > 1e-6:
        raise UserError(f"the maps of {maps.path} have other pixels than those of the model {start}.")
    if c.noisy and not model.noisy:
        raise UserError(f"the model {start} is not told of noise: leave out instruments and degrade.")
    mass = model.mass and {**model.mass, "widths": {}, "prior": _learnt(maps, _ln_masses(maps, model.targets))}
    return replace(
        model, cosmology=maps.cosmology.as_dict(), training=_card(maps, c) | {"started_from": model.training},
        mass=mass, ranges=model.ranges | {"redshift": (maps.redshift, maps.redshift)},
    )  # fmt: skip


def _of_kind(config: TrainConfig, model: ModelConfig) -> TrainConfig:
    """The settings for a model that may be of another kind than they say.

    Raises:
        UserError: it cannot be trained with them.
    """
    try:
        return replace(config, kind=model.kind, mass=bool(model.mass))
    except ValueError as error:
        raise UserError(str(error)) from error


def _card(maps: MapSet, c: TrainConfig) -> dict[str, Any]:
    """What the model was trained on, for its card."""
    rows = maps.rows("train")
    mass = maps.halo["m200m"][rows]
    return {
        "sightlines": len(rows), "clusters": len(set(maps.cluster[rows].tolist())),
        "validation_clusters": len(set(maps.cluster[maps.rows("validation")].tolist())),
        "m200m_range": [float(mass.min()), float(mass.max())], "steps": c.steps, "batch": c.batch, "seed": c.seed,
        "maps": maps.config,
    }


def _finish(folder: Path, work: Path, trainer: Trainer, model: ModelConfig) -> None:
    """Write the model with its statistics, then drop the working folder."""
    stats = work / STATS
    model = replace(model, training={**model.training, "steps": trainer.steps_done})
    files = {STATS: stats.read_text() if stats.exists() else "", "training.json": trainer.identity}
    save_model(folder, model, trainer.kept, files)
    shutil.rmtree(work)


def _require_same(folder: Path, identity: str) -> Path:
    done = folder / "training.json"
    if done.exists() and done.read_text() != identity:
        raise UserError(f"{folder} holds a model trained with other settings or maps; choose another folder.")
    return folder


def _identity(config: TrainConfig, maps: MapSet, start: str | Path | None) -> str:
    """What a training depends on: its settings, its maps and where it started."""
    return json.dumps(
        {"maps": maps.fingerprint, "start": "" if start is None else model_id(start), **asdict(config)}, sort_keys=True
    )

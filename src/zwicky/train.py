"""Training of the conditional score model, and of the published kinds of model beside it.

Adam on the denoising loss with a warm-up and a cosine decay; the exponential moving average of the weights is what is
kept. The data and the noise of a step depend on (seed, step) alone and the optimiser is part of the checkpoint, so that
a resumed run equals the uninterrupted one to the bit on the same machine; the checkpoint keeps the number of threads.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from zwicky.dataset.loader import MapLoader
from zwicky.dataset.normalize import fit
from zwicky.dataset.store import MapSet, open_maps
from zwicky.device import THREADS, autocast, choose_device, cpu_threads
from zwicky.diffusion.denoise import Denoiser, denoising_loss
from zwicky.diffusion.noise import NoiseSchedule
from zwicky.io import UserError, append_jsonl, atomic_path, keep_jsonl_until, require_writable
from zwicky.model import KINDS, NETWORKS, ModelConfig, save_model
from zwicky.nn.ema import EMA

VALIDATION = 1 << 40  # steps from here on are the batches of the validation loss


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        targets, inputs: channels of the map set to predict and to condition on.
        steps, batch: optimiser steps and maps in each. learning_rate: peak, after `warmup` steps.
        ema: decay of the weights' average. clip: largest norm of the gradient.
        kind: what is trained, a name of `model.KINDS`. network: a name of `model.NETWORKS`.
        widths, blocks, patch, dropout: of the network; patch belongs to the `unet` alone.
        noise: the noise schedule, if not the one of the kind.
        drop_channel, drop_pixels: probabilities that an input is withheld, or has holes.
        validate_every: steps between validation losses. seed: of weights, data and noise.
    """

    targets: tuple[str, ...] = ("gas", "dark_matter")
    inputs: tuple[str, ...] = ("compton_y", "xray")
    steps: int = 4000
    batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 200
    ema: float = 0.998
    clip: float = 1.0
    kind: str = "score"
    network: str = "unet"
    widths: tuple[int, ...] = (32, 64, 128, 192)
    blocks: int = 1
    patch: int = 2
    dropout: float = 0.0
    noise: NoiseSchedule | None = None
    drop_channel: float = 0.15
    drop_pixels: float = 0.15
    validate_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.validate_every, *self.widths) < 1 or not self.learning_rate > 0:
            raise ValueError("steps, batch, validate_every, widths and learning_rate must be positive.")
        if not (0 <= self.ema < 1 and 0 <= self.drop_channel < 1 and 0 <= self.drop_pixels <= 1 and self.clip > 0):
            raise ValueError("ema and drop_channel must lie in [0, 1), drop_pixels in [0, 1], clip above 0.")
        if not self.targets or not self.inputs:
            raise ValueError("a model needs at least one target and one input channel.")
        if self.blocks < 1 or self.patch < 1 or not 0 <= self.dropout < 1 or self.warmup < 0 or self.seed < 0:
            raise ValueError("need blocks >= 1, patch >= 1, dropout in [0, 1), warmup >= 0 and seed >= 0.")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}.")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not {self.network!r}.")

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule."""
        return self.noise or KINDS[self.kind].noise

    @property
    def multiple(self) -> int:
        """What the number of pixels along a side must be a multiple of."""
        return (self.patch if self.network == "unet" else 1) * 2 ** (len(self.widths) - 1)

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to a hundredth."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        x = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, x))))


@dataclass
class Trainer:
    """Network, its average and its optimiser between two steps."""

    config: TrainConfig
    model: ModelConfig
    denoiser: Denoiser
    ema: EMA
    optimizer: torch.optim.Optimizer
    device: torch.device
    identity: str
    step: int = 0
    threads: int = THREADS

    def advance(self, loader: MapLoader) -> None:
        """One optimiser step."""
        c = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = c.rate(self.step)
        loss = self.loss(self.denoiser, loader, c.batch, c.seed, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), c.clip)
        self.optimizer.step()
        self.ema.update(self.denoiser)
        self.step += 1

    def loss(self, denoiser: Denoiser, loader: MapLoader, size: int, seed: int, step: int) -> torch.Tensor:
        """Denoising loss of the batch of a step."""
        batch, rng = loader.batch(size, seed, step)
        sigma = self.config.schedule.training_sigmas(size, rng)
        noise = torch.randn(batch.x.shape, generator=rng)
        scalars = self.model.scalars(self.model.ranges["redshift"][0], self.model.pixel_kpc, size)
        x, condition, s, sigma, noise = (t.to(self.device) for t in (batch.x, batch.condition, scalars, sigma, noise))
        with autocast(self.device):
            return denoising_loss(denoiser, x, condition, s, sigma, noise)

    @torch.no_grad()
    def validate(self, loader: MapLoader, batches: int = 8) -> float:
        """Loss of the averaged weights on fixed validation batches with fixed noise."""
        averaged = self.model.denoiser().to(self.device).eval()
        self.ema.copy_to(averaged)
        losses = [float(self.loss(averaged, loader, 32, self.config.seed, VALIDATION + i)) for i in range(batches)]
        return sum(losses) / len(losses)

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        tensors = {f"net.{k}": v for k, v in self.denoiser.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in slots.items()}
        with atomic_path(path) as part:
            metadata = {"step": str(self.step), "threads": str(self.threads), "config": self.identity}
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part, metadata)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it is damaged, or belongs to another configuration.
        """
        try:
            with safe_open(path, "pt") as f:
                metadata = f.metadata()
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged; move it away to start again.") from error
        if metadata["config"] != self.identity:
            raise UserError(f"{path} belongs to a training with other settings or maps; choose another folder.")
        self.step, self.threads = int(metadata["step"]), int(metadata["threads"])
        self.denoiser.load_state_dict(_part(tensors, "net."))
        self.ema.load_state_dict(_part(tensors, "ema."))
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in _part(tensors, "adam.").items():
            index, slot = name.split(".", 1)
            state.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def train(
    maps: str | Path,
    folder: str | Path,
    config: TrainConfig,
    device: str = "cpu",
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Train on a map set and return the folder of the finished model; resume where a checkpoint is found.

    Args:
        maps: `maps.h5`. folder: of the model; `stats.jsonl` and the checkpoint live in `folder`.training until the end.
        device: cpu, cuda or auto. progress: called as progress(steps done, steps in all, latest numbers).
        checkpoint_seconds: least time between two checkpoints.

    Raises:
        UserError: there is no such device, the map set lacks a channel or rows, or the folder holds another training.
    """
    folder, place, map_set = Path(folder), choose_device(device), open_maps(maps)
    if (folder / "config.json").exists():
        shutil.rmtree(folder.with_name(folder.name + ".training"), ignore_errors=True)
        return _require_same(folder, _identity(config, map_set))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"cannot write the model: {folder} is a file.")
    model = _model_config(map_set, config)
    work = require_writable(folder.with_name(folder.name + ".training"))
    train_set, validation_set = (_loader(map_set, split, config, model) for split in ("train", "validation"))
    trainer = _new_trainer(config, model, place, _identity(config, map_set))
    checkpoint, stats = work / "checkpoint.safetensors", work / "stats.jsonl"
    if checkpoint.exists():
        trainer.load(checkpoint)
    keep_jsonl_until(stats, trainer.step)
    saved = time.monotonic()
    latest: dict[str, float] = {}
    with cpu_threads(trainer.threads):
        while trainer.step < config.steps:
            trainer.advance(train_set)
            if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
                latest = {"step": trainer.step, "validation": trainer.validate(validation_set)}
                append_jsonl(stats, latest)
            if progress:
                progress(trainer.step, config.steps, latest)
            if time.monotonic() - saved > checkpoint_seconds:
                trainer.save(checkpoint)
                saved = time.monotonic()
    _finish(folder, work, trainer)
    return folder


def _model_config(maps: MapSet, c: TrainConfig) -> ModelConfig:
    """The configuration of the model, with scalings fitted to the training rows."""
    channels = [*c.targets, *c.inputs]
    rows = maps.rows("train")
    if maps.pixels % c.multiple:
        raise UserError(f"{maps.path} has {maps.pixels} pixels a side; this network needs a multiple of {c.multiple}.")
    if len(rows) == 0 or len(maps.rows("validation")) == 0:
        raise UserError(f"{maps.path} has no training or no validation rows; it needs more clusters.")
    if not maps.pixel_kpc > 0:
        raise UserError(f"the maps of {maps.path} are as wide as R200c of their clusters, which no observer knows.")
    ln_pixel = math.log(maps.pixel_kpc)
    network = dict(
        in_channels=len(c.targets) + 2 * len(c.inputs), out_channels=len(c.targets), scalar_features=2,
        widths=list(c.widths), blocks=c.blocks, dropout=c.dropout,
    )  # fmt: skip
    if c.network == "unet":
        network["patch"] = c.patch
    scaling = KINDS[c.kind].scaling
    return ModelConfig(
        tuple(c.targets), tuple(c.inputs), {name: fit(maps.read(name, rows), scaling) for name in channels},
        {name: maps.units[name] for name in channels}, maps.pixels, maps.pixel_kpc, network, c.schedule,
        {"redshift": (maps.redshift, maps.redshift), "ln_pixel_kpc": (ln_pixel, ln_pixel)},
        maps.cosmology.as_dict(), _card(maps, c), c.kind, c.network,
    )


def _card(maps: MapSet, c: TrainConfig) -> dict[str, Any]:
    """What the model was trained on, for its card."""
    rows = maps.rows("train")
    mass = maps.halo["m200m"][rows]
    return {
        "sightlines": len(rows), "clusters": len(set(maps.cluster[rows].tolist())),
        "m200m_range": [float(mass.min()), float(mass.max())], "steps": c.steps, "batch": c.batch, "seed": c.seed,
        "maps": maps.config,
    }


def _loader(maps: MapSet, split: str, c: TrainConfig, model: ModelConfig) -> MapLoader:
    return MapLoader(maps, split, c.targets, c.inputs, model.scales, c.drop_channel, c.drop_pixels)


def _new_trainer(c: TrainConfig, model: ModelConfig, device: torch.device, identity: str) -> Trainer:
    torch.manual_seed(c.seed)
    denoiser = model.denoiser().to(device)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=c.learning_rate, betas=(0.9, 0.99))
    return Trainer(c, model, denoiser, EMA(denoiser, c.ema), optimizer, device, identity)


def _finish(folder: Path, work: Path, trainer: Trainer) -> None:
    """Write the model with its statistics, then drop the working folder."""
    files = {"stats.jsonl": (work / "stats.jsonl").read_text(), "training.json": trainer.identity}
    save_model(folder, trainer.model, trainer.ema.weights, files)
    shutil.rmtree(work)


def _require_same(folder: Path, identity: str) -> Path:
    done = folder / "training.json"
    if done.exists() and done.read_text() != identity:
        raise UserError(f"{folder} holds a model trained with other settings or maps; choose another folder.")
    return folder


def _identity(config: TrainConfig, maps: MapSet) -> str:
    """What a training depends on: its settings and its maps."""
    return json.dumps({"maps": maps.fingerprint, **asdict(config)}, sort_keys=True)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

"""The state of a training between two steps: networks, their average, the optimiser.

Several processes (torchrun) share a step: each takes its part of the same batch, with the same noise as one process
would draw, and Lightning Fabric averages the gradients. So a training by two processes is that of one, to rounding and
but for dropout; the first process keeps the time for all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from zwicky.dataset.loader import Batch, MapLoader, brightness
from zwicky.device import THREADS, autocast
from zwicky.diffusion.denoise import weighted_error
from zwicky.diffusion.noise import add_noise
from zwicky.diffusion.sample import seeded_noise
from zwicky.io import DAMAGE, UserError, atomic_path
from zwicky.model import KINDS, ModelConfig, Networks
from zwicky.nn.ema import EMA
from zwicky.nn.mass import log_density
from zwicky.physics import Physics
from zwicky.posterior import sample_maps
from zwicky.train_config import TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION = 1 << 40  # steps from here on are the batches of the validation loss
CRPS_MAPS, CRPS_SAMPLES, CRPS_LEVELS = 16, 8, 8


@final
class Objective(nn.Module):
    """What is minimised: the denoising loss and, where masses are predicted apart, - ln p(ln M | y) of each target.

    The two share no weights, so that their sum weighs neither. With `physics`, its terms are part of the first.

    Args:
        inputs: how many images the condition holds. bright: see `TrainConfig`.
    """

    def __init__(self, networks: Networks, inputs: int, bright: float = 0.0, physics: Physics | None = None) -> None:
        super().__init__()
        self.networks, self.inputs, self.bright, self.physics = networks, inputs, bright, physics

    def forward(
        self, x: Tensor, condition: Tensor, told: Tensor, u: Tensor | None, sigma: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the two losses, each averaged over the batch.

        Args:
            x, condition: see `Batch`. told: numbers, (B, Q). u: standardised ln M, (B, C). sigma: (B,). noise: like x.
        """
        scalars = told if u is None else torch.cat([told, u], 1)
        D = self.networks.denoiser(add_noise(x, sigma, noise), sigma, condition, scalars)
        weight = brightness(condition, self.inputs, self.bright)
        loss = weighted_error(self.networks.denoiser, D, x, sigma, weight)
        if self.physics is not None:
            with torch.autocast(x.device.type, enabled=False):
                loss = loss + self.physics(D, x, sigma)
        if u is None or self.networks.mass is None:
            return loss, torch.zeros_like(loss)
        with torch.autocast(x.device.type, enabled=False):
            return loss, -log_density(u, *self.networks.mass(condition, told)).mean() / u.shape[1]


@dataclass
class Trainer:
    """All of a training that changes.

    Args:
        fabric: the processes. objective, optimizer: as it has set them up.
        best: weights of the lowest CRPS, with `patience`. head: weights of the encoder of masses with the lowest
            validation loss `mass`; it has learnt the clusters by heart long before the maps are done. elapsed: seconds
            of training so far.
    """

    config: TrainConfig
    model: ModelConfig
    fabric: Fabric
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    identity: str
    step: int = 0
    threads: int = THREADS
    elapsed: float = 0.0
    crps: float = float("inf")
    waited: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    mass: float = float("inf")
    head: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def new(
        cls, config: TrainConfig, model: ModelConfig, fabric: Fabric, identity: str,
        start: Mapping[str, Tensor] | None = None, physics: Physics | None = None,
    ) -> Trainer:  # fmt: skip
        """A training that begins, with fresh weights or those of `start`."""
        torch.manual_seed(config.seed)
        networks = model.networks()
        if start is not None:
            networks.load_state_dict(start)
        optimizer = torch.optim.Adam(networks.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
        ema = EMA(networks.to(fabric.device), config.ema)
        objective, optimizer = fabric.setup(Objective(networks, len(model.inputs), config.bright, physics), optimizer)
        return cls(config, model, fabric, objective, optimizer, ema, identity)

    @property
    def networks(self) -> Networks:
        """The networks with the weights of now."""
        return self.objective.module.networks  # type: ignore[union-attr, return-value]

    @property
    def kept(self) -> dict[str, Tensor]:
        """Weights of the finished model: the average of now or, with `patience`, of the lowest CRPS; `head` apart."""
        return (self.best or self.ema.weights) | self.head

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    def advance(self, loader: MapLoader, budget: float = 0.0) -> None:
        """One optimiser step.

        Args:
            budget: seconds that the training may take, by which the learning rate falls; 0 for as many as it needs.
        """
        c, began = self.config, time.monotonic()
        if c.dropout:
            entropy = np.random.SeedSequence([c.seed, self.step, self.fabric.global_rank])
            torch.manual_seed(int(entropy.generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = c.rate(self.step, max(self.elapsed / budget, self.step / c.steps) if budget else None)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._parts(c.batch, c.accumulate)
        batch, sigma, noise = self.draw(loader, c.batch, c.seed, self.step)
        for i, part in enumerate(parts):
            with self.fabric.no_backward_sync(self.objective, enabled=i < len(parts) - 1):  # type: ignore[arg-type]
                loss, mass = self._loss(self.objective, batch.part(part), sigma[part], noise[part])
                self.fabric.backward((loss + mass) / len(parts))
        for module in (self.networks.denoiser, self.networks.mass):
            if module is not None:
                torch.nn.utils.clip_grad_norm_(module.parameters(), c.clip)
        self.optimizer.step()
        self.ema.update(self.networks)
        self.step += 1
        self.elapsed = self.fabric.broadcast(self.elapsed + time.monotonic() - began)

    def _parts(self, size: int, count: int) -> list[slice]:
        """The parts of a batch that this process works through, one after the other."""
        world, rank = self.fabric.world_size, self.fabric.global_rank
        share = size // world
        step = -(-share // count)
        return [slice(i, min(i + step, (rank + 1) * share)) for i in range(rank * share, (rank + 1) * share, step)]

    def draw(self, loader: MapLoader, size: int, seed: int, step: int) -> tuple[Batch, Tensor, Tensor]:
        """The batch of a step with its noise levels and noise."""
        batch, rng = loader.batch(size, seed, step)
        sigma = self.model.noise.training_sigmas(size, rng)
        return batch, sigma, torch.randn(batch.x.shape, generator=rng)

    def told(self, batch: Batch) -> Tensor:
        """The numbers that the networks are told, (B, Q)."""
        values: dict[str, Tensor | float] = {name: ends[0] for name, ends in self.model.ranges.items()}
        values |= {f"beam_{name}": torch.log1p(batch.beams[:, i]) for i, name in enumerate(self.model.inputs)}
        return self.model.scalars(values, len(batch.x))

    def masses(self, batch: Batch) -> Tensor | None:
        """Standardised ln M (B, C), or None where they are not predicted apart."""
        return self.model.standard_mass(batch.ln_mass) if self.model.mass else None

    def _loss(self, objective: nn.Module, batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        tensors = [batch.x, batch.condition, self.told(batch), self.masses(batch), sigma, noise]
        with autocast(self.device):
            return objective(*(None if t is None else t.to(self.device) for t in tensors))

    @torch.no_grad()
    def validate(self, loader: MapLoader, batches: int = 8) -> dict[str, float]:
        """Losses of the averaged weights on fixed validation batches with fixed noise; with `patience`, the CRPS."""
        objective = Objective(self.averaged(), len(self.model.inputs), self.config.bright)
        drawn = [self.draw(loader, 32, self.config.seed, VALIDATION + i) for i in range(batches)]
        losses = [self._loss(objective, *each) for each in drawn]
        found = {"validation": sum(float(loss) for loss, _ in losses) / batches}
        if self.model.mass:
            found["mass"] = self.fabric.broadcast(sum(float(mass) for _, mass in losses) / batches)
            if found["mass"] < self.mass:
                self.mass, self.head = found["mass"], self._average("mass.")
        if self.config.patience:
            found["crps"] = self._validate_crps(objective.networks, loader)
        return found

    def averaged(self) -> Networks:
        """Networks with the averaged weights, in evaluation mode."""
        networks = self.model.networks().to(self.device).eval()
        self.ema.copy_to(networks)
        return networks

    def _validate_crps(self, networks: Networks, loader: MapLoader) -> float:
        """CRPS of the normalised pixels of few maps and samples; keeps the weights of the lowest."""
        batch, _, _ = self.draw(loader, CRPS_MAPS, self.config.seed, VALIDATION)
        x, _ = self.samples(networks, batch, CRPS_SAMPLES, CRPS_LEVELS)
        spread = (x[:, :, None] - x[:, None]).abs().mean((0, 3, 4, 5)).sum() / (CRPS_SAMPLES * (CRPS_SAMPLES - 1))
        crps = self.fabric.broadcast(float((x - batch.x[:, None]).abs().mean() - spread / 2))
        self.waited += 1
        if crps < self.crps:
            self.crps, self.waited = crps, 0
            self.best = self._average()
        return crps

    def _average(self, prefix: str = "") -> dict[str, Tensor]:
        """A copy of the averaged weights whose names begin so."""
        return {k: v.detach().clone() for k, v in self.ema.weights.items() if k.startswith(prefix)}

    def samples(self, networks: Networks, batch: Batch, count: int, levels: int) -> tuple[Tensor, Tensor]:
        """Samples of the normalised maps of a batch given their true masses, and their means, (B, count, C, Y, X)."""
        u, told, sampler = self.masses(batch), self.told(batch), KINDS[self.model.kind].sampler
        scalars = told if u is None else torch.cat([told, u], 1)
        drawn = []
        for s in range(count):
            noise = seeded_noise(tuple(batch.x.shape[1:]), s, range(len(batch.x)), self.device)
            parts = batch.condition, scalars, noise, sampler, levels, self.device
            drawn.append(sample_maps(networks, self.model, *parts))
        return tuple(torch.stack(part, 1) for part in zip(*drawn, strict=True))  # type: ignore[return-value]

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do, but for the time."""
        return self.step >= self.config.steps or bool(self.config.patience and self.waited >= self.config.patience)

    # On disk --------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a checkpoint, by the first process alone."""
        if not self.fabric.is_global_zero:
            return
        tensors = {f"net.{k}": v for k, v in self.networks.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()} | {f"head.{k}": v for k, v in self.head.items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in slots.items()}
        numbers = {name: repr(getattr(self, name)) for name in ("step", "threads", "elapsed", "crps", "waited", "mass")}
        with atomic_path(path) as part:
            metadata = {**numbers, "config": self.identity}
            save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, part, metadata)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            UserError: it is damaged, or belongs to another configuration.
        """
        try:
            with safe_open(path, "pt") as f:
                metadata = f.metadata() or {}
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path} is damaged; move it away to start again.") from error
        if metadata.get("config") != self.identity:
            raise UserError(f"{path} belongs to a training with other settings or maps; choose another folder.")
        try:
            self._take(metadata, tensors)
        except DAMAGE as error:
            raise UserError(f"{path} is damaged; move it away to start again.") from error

    def _take(self, metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> None:
        """The state of a checkpoint."""
        self.step, self.threads, self.waited = (int(metadata[name]) for name in ("step", "threads", "waited"))
        self.elapsed, self.crps, self.mass = (float(metadata[name]) for name in ("elapsed", "crps", "mass"))
        self.networks.load_state_dict(_part(tensors, "net."))
        self.ema.load_state_dict(_part(tensors, "ema."))
        self.best, self.head = _part(tensors, "best."), _part(tensors, "head.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "adam.").items():
            index, slot = name.split(".", 1)
            state.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

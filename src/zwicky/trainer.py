"""The state of a training between two steps: networks, their average, the optimiser.

Several processes (torchrun) share a step: each takes its part of the same batch, with the same noise as one process
would draw, and Lightning Fabric averages the gradients. So a training by two processes is that of one, to rounding and
but for dropout; the first process keeps the time for all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
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
from zwicky.nn.mean import gaussian_error, squared
from zwicky.physics import Physics
from zwicky.posterior import Drawn, draw_maps
from zwicky.train_config import Stage, TrainConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VALIDATION = 1 << 40  # steps from here on are the batches of the validation loss
PIXELS = 1 << 43  # steps from here on are the batches that what pixels say is fitted to
PIXEL_BATCHES, SPECTRA_BATCHES, PIXEL_MAPS = 32, 12, 16
NUMBERS = ("first", "step", "threads", "elapsed", "waited", "lowest")  # of a checkpoint
CRPS_MAPS, CRPS_SAMPLES, CRPS_LEVELS = 16, 8, 8


@final
class Objective(nn.Module):
    """What a stage minimises, one loss for each of the networks that it trains.

    mean        - ln p of the maps about the mean (`nn.mean`)
    mass        - ln p(ln M | y) of each target, where masses are predicted apart
    denoiser    the denoising loss of what is left of the mean, or of the maps

    The networks share no weights, so that the sum weighs neither. With `physics`, its terms are part of the first and
    the last.

    Args:
        inputs: how many images the condition holds. bright: see `TrainConfig`.
    """

    def __init__(
        self, networks: Networks, stage: str, inputs: int, bright: float = 0.0, physics: Physics | None = None
    ) -> None:
        super().__init__()
        self.networks, self.stage, self.inputs, self.bright, self.physics = networks, stage, inputs, bright, physics

    def forward(
        self, x: Tensor, condition: Tensor, told: Tensor, u: Tensor | None, sigma: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Return the losses, each averaged over the batch.

        Args:
            x, condition: see `Batch`. told: numbers, (B, Q). u: standardised ln M, (B, C). sigma: (B,). noise: like x.
        """
        scalars = told if u is None else torch.cat([told, u], 1)
        weight = brightness(condition, self.inputs, self.bright)
        if self.stage == "denoiser":
            return {"denoiser": self._denoising(x, condition, scalars, sigma, noise, weight)}
        losses = {}
        if u is not None:
            with torch.autocast(x.device.type, enabled=False):
                losses["mass"] = -log_density(u, *self.networks.masses(condition, told)).mean() / u.shape[1]
        return {"mean": self._mean(x, condition, scalars, weight), **losses}

    def _mean(self, x: Tensor, condition: Tensor, scalars: Tensor, weight: Tensor) -> Tensor:
        assert self.networks.mean is not None
        mu, s = self.networks.mean(condition, scalars)
        with torch.autocast(x.device.type, enabled=False):
            loss = gaussian_error(mu, s, x, weight * squared(s) if self.networks.mean.training else weight)
            return loss if self.physics is None else loss + self.physics(mu, x, torch.zeros_like(x[:, 0, 0, 0]))

    def _denoising(
        self, x: Tensor, condition: Tensor, scalars: Tensor, sigma: Tensor, noise: Tensor, weight: Tensor
    ) -> Tensor:
        denoiser, mu, s = self.networks.denoiser, torch.zeros_like(x), torch.ones(1, device=x.device)
        assert denoiser is not None
        if self.networks.mean is not None:
            with torch.no_grad():
                mu, s, condition = self.networks.reference(condition, scalars)
        rho = (x - mu) / s
        D = denoiser(add_noise(rho, sigma, noise), sigma, condition, scalars)
        with torch.autocast(x.device.type, enabled=False):
            loss = weighted_error(D, rho, denoiser.c_out(sigma, condition), weight)
        if self.physics is None:
            return loss
        with torch.autocast(x.device.type, enabled=False):
            return loss + self.physics(mu + s * D, x, sigma)


@dataclass
class Trainer:
    """All of a stage of a training that changes.

    Args:
        stage: which. first: steps of the stages before. fabric: the processes.
        objective, optimizer: as it has set them up. step: of the stage. elapsed: seconds of the stage so far.
        lowest: of the numbers of validations after which weights are chosen: losses of the mean and the masses, which
            learn the clusters by heart before the stage is done, and the CRPS of the denoiser, with `patience`.
        best: the weights of then. waited: validations since.
    """

    config: TrainConfig
    model: ModelConfig
    stage: Stage
    first: int
    fabric: Fabric
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    identity: str
    step: int = 0
    threads: int = THREADS
    elapsed: float = 0.0
    waited: int = 0
    lowest: dict[str, float] = field(default_factory=dict)
    best: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def new(
        cls, config: TrainConfig, model: ModelConfig, stage: Stage, first: int, fabric: Fabric, identity: str,
        start: Mapping[str, Tensor] | None = None, physics: Physics | None = None, threads: int = THREADS,
    ) -> Trainer:  # fmt: skip
        """A stage that begins, with fresh weights or those of `start`."""
        torch.manual_seed(config.seed)
        networks = model.networks()
        if start is not None:
            networks.load_state_dict(start)
        for name, module in networks.named_children():
            trains = (name == "denoiser") == (stage.name == "denoiser")
            module.train(trains).requires_grad_(trains)
        trained = [p for p in networks.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=config.learning_rate, betas=(0.9, 0.99))
        ema = EMA(networks.to(fabric.device), config.ema)
        of_stage = Objective(networks, stage.name, len(model.inputs), config.bright, physics)
        objective, optimizer = fabric.setup(of_stage, optimizer)
        return cls(config, model, stage, first, fabric, objective, optimizer, ema, identity, threads=threads)

    def prepare(self, loader: MapLoader) -> None:
        """Fit what the networks of the stage start from, before its first step.

        Raises:
            UserError: a set of inputs is nowhere seen together.
        """
        if self.stage.name == "mean":
            self._fit_pixels(loader)
        else:
            self._fit_spectra(loader)
        self.ema = EMA(self.networks, self.config.ema)

    @torch.no_grad()
    def _fit_spectra(self, loader: MapLoader) -> None:
        """Fit the spectra of what is left of the mean, for each set of inputs."""
        networks = self.networks
        if networks.mean is None or networks.denoiser is None or networks.denoiser.spectra is None:
            return
        k = len(self.model.inputs)

        def left() -> Iterator[tuple[Tensor, Tensor]]:
            for i in range(SPECTRA_BATCHES):
                batch, _ = loader.whole().batch(PIXEL_MAPS, self.config.seed, PIXELS + i)
                u, told = self.masses(batch), self.told(batch)
                scalars = (told if u is None else torch.cat([told, u], 1)).to(self.device)
                for given in product((0.0, 1.0), repeat=k):
                    keep = batch.condition.new_tensor(given).repeat(self.model.planes // k)[:, None, None]
                    with autocast(self.device):
                        mu, s, planes = networks.reference((batch.condition * keep).to(self.device), scalars)
                    yield (batch.x.to(self.device) - mu) / s, planes

        networks.denoiser.spectra.fit(left())

    def _fit_pixels(self, loader: MapLoader) -> None:
        """Fit what each pixel says by itself, where the mean starts from it."""
        local = self.networks.mean and self.networks.mean.local
        if not local:
            return
        k, bright = len(self.model.inputs), self.config.bright

        def maps() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            for i in range(PIXEL_BATCHES):
                batch, _ = loader.whole().batch(PIXEL_MAPS, self.config.seed, PIXELS + i)
                masks = batch.condition[:, k : 2 * k]
                weights = []
                for case in range(2**k):
                    given = local.given(case, batch.condition)
                    known = torch.where(given[k : 2 * k] > 0, masks, 1).amin(1, keepdim=True)
                    weights.append(known * brightness(batch.condition * given, k, bright))
                yield batch.x, batch.condition, torch.stack(weights)

        try:
            local.fit(maps())
        except ValueError as error:
            raise UserError(f"{loader.maps.path}: {error}") from error

    @property
    def networks(self) -> Networks:
        """The networks with the weights of now."""
        return self.objective.module.networks  # type: ignore[union-attr, return-value]

    @property
    def kept(self) -> dict[str, Tensor]:
        """Weights of the finished stage: the average of now, or the best."""
        return self.ema.weights | self.best

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    def advance(self, loader: MapLoader, budget: float = 0.0) -> None:
        """One optimiser step.

        Args:
            budget: seconds that the stage may take, by which the learning rate falls; 0 for as many as it needs.
        """
        c, n, began = self.config, self.stage.steps, time.monotonic()
        if self.model.network.get("dropout"):
            entropy = np.random.SeedSequence([c.seed, self.steps_done, self.fabric.global_rank])
            torch.manual_seed(int(entropy.generate_state(1)[0]))
        for group in self.optimizer.param_groups:
            group["lr"] = c.rate(self.step, n, max(self.elapsed / budget, self.step / n) if budget else None)
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._parts(c.batch, c.accumulate)
        batch, sigma, noise = self.draw(loader, c.batch, c.seed, self.steps_done)
        for i, part in enumerate(parts):
            with self.fabric.no_backward_sync(self.objective, enabled=i < len(parts) - 1):  # type: ignore[arg-type]
                losses = self._losses(self.objective, batch.part(part), sigma[part], noise[part])
                self.fabric.backward(torch.stack([*losses.values()]).sum() / len(parts))
        for module in self.networks.children():
            torch.nn.utils.clip_grad_norm_(module.parameters(), c.clip)
        self.optimizer.step()
        self.ema.update(self.networks)
        self.step += 1
        self.elapsed = self.fabric.broadcast(self.elapsed + time.monotonic() - began)

    @property
    def steps_done(self) -> int:
        """Steps of the training so far, with those of the stages before."""
        return self.first + self.step

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

    def _losses(self, objective: nn.Module, batch: Batch, sigma: Tensor, noise: Tensor) -> dict[str, Tensor]:
        tensors = [batch.x, batch.condition, self.told(batch), self.masses(batch), sigma, noise]
        with autocast(self.device):
            return objective(*(None if t is None else t.to(self.device) for t in tensors))

    @torch.no_grad()
    def validate(self, loader: MapLoader, batches: int = 8) -> dict[str, float]:
        """Losses of the averaged weights on fixed validation batches with fixed noise; with `patience`, the CRPS."""
        objective = Objective(self.averaged(), self.stage.name, len(self.model.inputs), self.config.bright)
        drawn = [self.draw(loader, 32, self.config.seed, VALIDATION + i) for i in range(batches)]
        losses = [self._losses(objective, *each) for each in drawn]
        found = {name: self.fabric.broadcast(sum(float(loss[name]) for loss in losses) / batches) for name in losses[0]}
        if self.config.patience and self.stage.name == "denoiser":
            found["crps"] = self.fabric.broadcast(self._crps(objective.networks, loader))
        self.waited += 1
        for name, value in found.items():
            if name != "denoiser" and value < self.lowest.get(name, float("inf")):
                self.lowest[name] = value
                self.best |= self._average(self.judged(name))
                self.waited *= self.judged(name) != self.stage.name
        return found

    def judged(self, name: str) -> str:
        """The network that a number of a validation is about."""
        return self.stage.name if name == "crps" else name

    def averaged(self) -> Networks:
        """Networks with the averaged weights, in evaluation mode."""
        networks = self.model.networks().to(self.device).eval()
        self.ema.copy_to(networks)
        return networks

    def _crps(self, networks: Networks, loader: MapLoader) -> float:
        """CRPS of the normalised pixels of few maps and samples."""
        batch, _, _ = self.draw(loader, CRPS_MAPS, self.config.seed, VALIDATION)
        x = self.samples(networks, batch, CRPS_SAMPLES, CRPS_LEVELS).x
        spread = (x[:, :, None] - x[:, None]).abs().mean((0, 3, 4, 5)).sum() / (CRPS_SAMPLES * (CRPS_SAMPLES - 1))
        return float((x - batch.x[:, None]).abs().mean() - spread / 2)

    def _average(self, network: str) -> dict[str, Tensor]:
        """A copy of the averaged weights of one of the networks."""
        return {k: v.detach().clone() for k, v in self.ema.weights.items() if k.startswith(f"{network}.")}

    def samples(self, networks: Networks, batch: Batch, count: int, levels: int) -> Drawn:
        """Samples of the normalised maps of a batch given their true masses, (B, count, C, Y, X)."""
        u, told, sampler = self.masses(batch), self.told(batch), KINDS[self.model.kind].sampler
        scalars = told if u is None else torch.cat([told, u], 1)
        drawn = []
        for s in range(count):
            noise = seeded_noise(tuple(batch.x.shape[1:]), s, range(len(batch.x)), self.device)
            parts = batch.condition, scalars, noise, sampler, levels, self.device
            drawn.append(draw_maps(networks, self.model, *parts))
        return Drawn(*(torch.stack(part, 1) for part in zip(*drawn, strict=True)))

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do in this stage, but for the time."""
        patience = self.config.patience if self.is_last else 0
        return self.step >= self.stage.steps or bool(patience and self.waited >= patience)

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.stage == self.config.stages[-1]

    # On disk --------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write a checkpoint, by the first process alone."""
        if not self.fabric.is_global_zero:
            return
        tensors = {f"net.{k}": v for k, v in self.networks.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for i, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in slots.items()}
        numbers = {name: json.dumps(getattr(self, name)) for name in NUMBERS}
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
        for name in NUMBERS:
            setattr(self, name, json.loads(metadata[name]))
        self.networks.load_state_dict(_part(tensors, "net."))
        self.ema.load_state_dict(_part(tensors, "ema."))
        self.best = _part(tensors, "best.")
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "adam.").items():
            index, slot = name.split(".", 1)
            state.setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

"""The settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from zwicky.diffusion.noise import NoiseSchedule
from zwicky.model import KINDS, NETWORKS
from zwicky.physics import PhysicsWeights

# Published methods, as settings that differ from ours: `zwicky train --baseline NAME`. The layers of the U-Nets
# of de Andres et al. are not known; here they are of the width asked for, see whole images and predict one map.
_SEEN_WHOLE: dict[str, Any] = {
    "kind": "regression", "local": False, "drop_channel": 0.0, "drop_pixels": 0.0, "bright": 0.0,
}  # fmt: skip
# The learning rate of Hsu et al. 2025 is 1e-4, for trainings a hundred times as long; in 300 steps the loss falls to
# 0.77 with it and to 0.20 with ours.
_H25: dict[str, Any] = {**_SEEN_WHOLE, "kind": "h25", "ema": 0.9999}
BASELINES: dict[str, dict[str, Any]] = {
    "unet": _SEEN_WHOLE,
    "h25": {**_H25, "network": "ncsnpp", "widths": (32, 32, 32, 32), "blocks": 2},  # published: 256 x 4
    "h25_unet": _H25,  # the recipe on our network
    "deandres_sz": {**_SEEN_WHOLE, "targets": ("total",), "inputs": ("compton_y",)},
    "deandres_xray": {**_SEEN_WHOLE, "targets": ("total",), "inputs": ("xray",)},
    "deandres_stars": {**_SEEN_WHOLE, "targets": ("total",), "inputs": ("stars",)},
    "deandres_multi": {**_SEEN_WHOLE, "targets": ("total",), "inputs": ("compton_y", "xray", "stars")},
}


class Stage(NamedTuple):
    """A part of a training, of the mean and the masses or of the denoiser."""

    name: Literal["mean", "denoiser"]
    steps: int


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        targets, inputs: channels of the map set to predict and to condition on.
        steps, batch: optimiser steps and maps in each. learning_rate: peak, after `warmup` steps of each stage, or a
            quarter of them.
        mean_share: of the steps, for the mean and the masses; the rest is for the denoiser of what is left.
        accumulate: parts that a batch is worked through in, to save memory.
        ema: decay of the weights' average. clip: largest norm of the gradient.
        kind: what is trained, a name of `model.KINDS`. network: a name of `model.NETWORKS`.
        widths, blocks, patch, dropout: of the network; patch belongs to the `unet` alone.
        mass: whether the masses in the map are predicted apart, and the maps given them.
        local: whether the mean starts from what each pixel says (`nn.local`); of kinds with a mean.
        noise: the noise schedule, if not the one of the kind.
        drop_channel, drop_pixels: probabilities that an input is withheld, or has holes; all are withheld at a third of
            the first besides.
        instruments: of the map set, whose images stand for their channel. clean: share of images that do not.
        degrade: probability that an image without noise gets a random beam and white noise.
        bright: pixels weigh exp(bright v) in the loss, v the mean of their scaled inputs.
        validate_every: steps between validation losses.
        patience: validations without a lower CRPS, of a regression without a lower loss, after which the training ends
            early; 0 for never.
        physics: weights of further losses, see `zwicky.physics`.
        spread_maps: validation maps by which the spread of samples is corrected, scale by scale; 0 for none.
        seed: of weights, data and noise.
    """

    targets: tuple[str, ...] = ("gas", "dark_matter")
    inputs: tuple[str, ...] = ("compton_y", "xray")
    steps: int = 4000
    batch: int = 16
    learning_rate: float = 1e-3
    mean_share: float = 0.4
    accumulate: int = 1
    warmup: int = 200
    ema: float = 0.998
    clip: float = 1.0
    kind: str = "score"
    network: str = "unet"
    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 1
    patch: int = 2
    dropout: float = 0.0
    mass: bool = False
    local: bool = True
    noise: NoiseSchedule | None = None
    drop_channel: float = 0.15
    drop_pixels: float = 0.15
    instruments: tuple[str, ...] = ()
    clean: float = 0.2
    degrade: float = 0.0
    bright: float = 0.7
    validate_every: int = 200
    patience: int = 0
    physics: PhysicsWeights = field(default_factory=PhysicsWeights)
    spread_maps: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.validate_every, *self.widths) < 1 or not self.learning_rate > 0:
            raise ValueError("steps, batch, validate_every, widths and learning_rate must be positive.")
        if not (0 <= self.ema < 1 and 0 <= self.drop_channel < 1 and 0 <= self.drop_pixels <= 1 and self.clip > 0):
            raise ValueError("ema and drop_channel must lie in [0, 1), drop_pixels in [0, 1], clip above 0.")
        if not (0 <= self.clean <= 1 and 0 <= self.degrade <= 1):
            raise ValueError("clean and degrade must lie in [0, 1].")
        if not self.targets or not self.inputs:
            raise ValueError("a model needs at least one target and one input channel.")
        if self.blocks < 1 or self.patch < 1 or not 0 <= self.dropout < 1 or self.warmup < 0 or self.seed < 0:
            raise ValueError("need blocks >= 1, patch >= 1, dropout in [0, 1), warmup >= 0 and seed >= 0.")
        if self.spread_maps < 0:
            raise ValueError("spread_maps must not be negative.")
        if not 0 <= self.bright <= 10:
            raise ValueError("bright must lie in [0, 10].")
        if not 0 < self.mean_share < 1:
            raise ValueError("mean_share must lie in (0, 1).")
        if self.patience < 0 or self.accumulate < 1 or self.batch % self.accumulate:
            raise ValueError("need patience >= 0 and a batch that is a multiple of accumulate >= 1.")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}.")
        if self.steps < len(self.stages):
            raise ValueError(f"a training of the kind {self.kind} needs {len(self.stages)} steps, one for each stage.")
        if self.network not in NETWORKS:
            raise ValueError(f"network must be one of {', '.join(NETWORKS)}, not {self.network!r}.")
        if self.mass and KINDS[self.kind].scaling != "standard":
            raise ValueError(f"a model of the kind {self.kind} does not know masses apart.")

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule."""
        return self.noise or KINDS[self.kind].noise

    @property
    def stages(self) -> list[Stage]:
        """What is trained, one after the other."""
        kind = KINDS[self.kind]
        if not (kind.mean and kind.form):
            return [Stage("mean" if kind.mean else "denoiser", self.steps)]
        first = min(max(1, round(self.mean_share * self.steps)), self.steps - 1)
        return [Stage("mean", first), Stage("denoiser", self.steps - first)]

    @property
    def noisy(self) -> bool:
        """Whether images may have noise."""
        return bool(self.instruments) or self.degrade > 0

    @property
    def multiple(self) -> int:
        """What the number of pixels along a side must be a multiple of."""
        return (self.patch if self.network == "unet" else 1) * 2 ** (len(self.widths) - 1)

    def rate(self, step: int, steps: int, share: float | None = None) -> float:
        """Learning rate of a step of a stage: linear warm-up, then a cosine to a hundredth.

        Args:
            share: of the stage that is done, if not told by the step.
        """
        warmup = min(self.warmup, steps // 4)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        x = (step - warmup) / max(1, steps - warmup) if share is None else share
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, x))))

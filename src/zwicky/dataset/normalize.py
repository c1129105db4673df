"""One global, invertible scaling per channel, so that relative intensities between clusters survive.

    v = (ln(1 + x / floor) - mean) / std,       x = floor (exp(mean + std v) - 1)

`floor` is a low percentile of the training maps: below it the scaling turns linear, above it logarithmic. `mean` and
`std` make the training pixels of v zero-mean and unit-variance, which the preconditioned denoiser assumes, or, for
models of Hsu et al. 2025, bring them to [0, 1].
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

FLOOR_PERCENTILE = 5.0
SCALINGS = ("standard", "unit")
Array = TypeVar("Array", NDArray, torch.Tensor)


@dataclass(frozen=True)
class LogScale:
    """Scaling of one channel; `low` and `high` are the extremes of v over the training maps.

    Args:
        floor: in the unit of the channel, positive. mean, std: of ln(1 + x / floor).
    """

    floor: float
    mean: float
    std: float
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        if not (self.floor > 0 and self.std > 0):
            raise ValueError("a channel must have positive values and some contrast to be normalised.")

    def forward(self, x: Array) -> Array:
        """v of x, any shape; negative x (noise) counts as zero."""
        if isinstance(x, torch.Tensor):
            return (torch.log1p(x.clamp_min(0) / self.floor) - self.mean) / self.std
        return (np.log1p(np.maximum(x, 0) / self.floor) - self.mean) / self.std

    def inverse(self, v: Array) -> Array:
        """x of v, any shape, never negative."""
        if isinstance(v, torch.Tensor):
            return self.floor * torch.expm1(self.mean + self.std * v).clamp_min(0)
        return self.floor * np.maximum(np.expm1(self.mean + self.std * v), 0)

    def as_dict(self) -> dict[str, float]:
        """For the configuration of a model."""
        return asdict(self)


def fit(maps: NDArray[np.float32], scaling: str = "standard") -> LogScale:
    """The scaling of a channel from its training maps (S, Y, X).

    Args:
        scaling: `standard`, zero mean and unit variance, or `unit`, from 0 to 1 over the training pixels.

    Raises:
        ValueError: there is nothing to scale.
    """
    sample = maps[:: max(1, len(maps) // 500)]
    positive = sample[sample > 0]
    if len(positive) == 0:
        raise ValueError("a channel without a positive pixel cannot be normalised.")
    floor = float(np.percentile(positive, FLOOR_PERCENTILE))
    log = np.log1p(np.maximum(sample, 0) / floor)
    scale = LogScale(floor, float(log.mean(dtype=np.float64)), float(log.std(dtype=np.float64)))
    low, high = scale.forward(np.array([maps.min(), maps.max()], float))
    if scaling == "unit":
        return LogScale(floor, scale.mean + scale.std * low, scale.std * (high - low), 0.0, 1.0)
    return replace(scale, low=float(low), high=float(high))

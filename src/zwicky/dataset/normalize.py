"""One global, invertible scaling per channel, so that relative intensities between clusters survive.

    v = (w(x) - mean) / std,     w = ln(1 + x / floor)                          maps that are never negative
                                 w = asinh(x / 2 f) + ln(f / floor),   f = sqrt(floor^2 + noise^2)     images with noise

`floor` is a low percentile of the training maps: below it the scaling turns linear, above it logarithmic. Noise of rms
`noise` raises the level from which the scaling is logarithmic, so that noise alone stays of order one and a bright
pixel keeps its value. `mean` and `std` make the training pixels of v zero-mean and unit-variance, which the
preconditioned denoiser assumes, or, for models of Hsu et al. 2025, bring them to [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

FLOOR_PERCENTILE = 5.0
SCALINGS = ("standard", "unit")
SAMPLE = 500  # maps that a scaling is fitted to, at most
Array = TypeVar("Array", NDArray, torch.Tensor)


@dataclass(frozen=True)
class LogScale:
    """Scaling of one channel; `low` and `high` are the extremes of v over the training maps.

    Args:
        floor: in the unit of the channel, positive. mean, std: of w.
        signed: whether the images may be negative (noise).
    """

    floor: float
    mean: float
    std: float
    low: float = -np.inf
    high: float = np.inf
    signed: bool = False

    def __post_init__(self) -> None:
        if not (self.floor > 0 and self.std > 0):
            raise ValueError("a channel must have positive values and some contrast to be normalised.")

    def forward(self, x: Array, noise: Array | float = 0.0) -> Array:
        """v of x, any shape; without `signed`, negative x counts as zero and noise for nothing.

        Args:
            noise: rms of x, of a shape that fits.
        """
        xp: Any = torch if isinstance(x, torch.Tensor) else np
        if not self.signed:
            return (xp.log1p(xp.clip(x, 0, None) / self.floor) - self.mean) / self.std
        f = (self.floor**2 + noise**2) ** 0.5
        return (xp.arcsinh(x / (2 * f)) + self.level(noise) * self.std - self.mean) / self.std

    def level(self, noise: Array | float) -> Any:
        """ln(f / floor) / std, how the network is told the noise; 0 without noise."""
        xp: Any = torch if isinstance(noise, torch.Tensor) else np
        return 0.5 * xp.log1p((noise / self.floor) ** 2) / self.std

    def inverse(self, v: Array) -> Array:
        """x of v without noise, any shape, never negative."""
        xp: Any = torch if isinstance(v, torch.Tensor) else np
        w = self.mean + self.std * v
        return xp.clip(2 * self.floor * xp.sinh(w) if self.signed else self.floor * xp.expm1(w), 0, None)

    def as_dict(self) -> dict[str, Any]:
        """For the configuration of a model."""
        return asdict(self)


def fit(maps: NDArray[np.float32], scaling: str = "standard", signed: bool = False) -> LogScale:
    """The scaling of a channel from its training maps (S, Y, X); see `fit_rows`."""
    return fit_rows(lambda rows: maps[rows], np.arange(len(maps)), scaling, signed)


def fit_rows(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    rows: NDArray[np.int64],
    scaling: str = "standard",
    signed: bool = False,
) -> LogScale:
    """The scaling of a channel from rows that are read in parts.

    Args:
        read: rows -> maps (R, Y, X). rows: of the training split.
        scaling: `standard`, zero mean and unit variance, or `unit`, from 0 to 1 over the training pixels.
        signed: whether images of the channel may be negative.

    Raises:
        ValueError: there is nothing to scale, or negative values where there may be none.
    """
    sample = read(rows[:: max(1, -(-len(rows) // SAMPLE))])
    positive = sample[sample > 0]
    if len(positive) == 0:
        raise ValueError("a channel without a positive pixel cannot be normalised.")
    floor = float(np.percentile(positive, FLOOR_PERCENTILE))
    least, most = _extremes(read, rows)
    if least < 0 and not signed:
        raise ValueError("a channel with negative values cannot be normalised without noise.")
    raw = LogScale(floor, 0.0, 1.0, signed=signed)
    w = raw.forward(np.maximum(sample, 0))
    scale = LogScale(floor, float(w.mean(dtype=np.float64)), float(w.std(dtype=np.float64)), signed=signed)
    low, high = scale.forward(np.array([least, most]))
    if scaling == "unit":
        return LogScale(floor, scale.mean + scale.std * low, scale.std * (high - low), 0.0, 1.0, signed)
    return replace(scale, low=float(low), high=float(high))


def _extremes(
    read: Callable[[NDArray[np.int64]], NDArray[np.float32]], rows: NDArray[np.int64]
) -> tuple[float, float]:
    parts: Iterable[NDArray[np.float32]] = (read(rows[i : i + SAMPLE]) for i in range(0, len(rows), SAMPLE))
    low, high = zip(*((float(maps.min()), float(maps.max())) for maps in parts), strict=True)
    return min(low), max(high)

"""What a reconstruction without a network achieves: the linear filter and the scaling relations, fitted to the maps.

Each is fitted to the training rows of the set that it is judged on, and returns samples like a model does.

    wiener            the linear filter of all inputs (`zwicky.wiener`)
    scaling_<input>   ln Sigma(R) = a(R) + b(R) ln(sum of the input),    scatter correlated between radii

The scaling relation knows the total signal only and paints the profile of clusters of that signal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, chunks
from zwicky.io import UserError
from zwicky.observe.sky import distance
from zwicky.wiener import WienerFilter, training_rows

Array = NDArray[np.float64]



class Baseline(Protocol):
    """What every entry of BASELINES returns when it is fitted."""

    targets: tuple[str, ...]
    inputs: tuple[str, ...]

    def sample(self, inputs: Mapping[str, NDArray], n: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """Samples {target: (n, P, P)} given images {input: (P, P)}, in the units of the map set."""


# Scaling relation ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScalingRelation:
    """Profiles painted by the total signal of one input.

    Args:
        signal: (2,) mean and rms of ln(sum of the input).
        intercept, slope: (C * R,) of ln Sigma in the rings of all targets, against the standardised signal.
        root: (C * R, C * R), Cholesky root of the covariance of the scatter.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    pixels: int
    signal: Array
    intercept: Array
    slope: Array
    root: Array

    @classmethod
    def fit(cls, maps: MapSet, targets: Sequence[str], inputs: Sequence[str]) -> ScalingRelation:
        """Least squares over the training rows."""
        rows = training_rows(maps)
        parts = [_signal_and_profiles(maps, targets, inputs[0], chunk) for chunk in chunks(rows)]
        ln_s, ln_sigma = (np.concatenate(part) for part in zip(*parts, strict=True))
        mean, std = ln_s.mean(), ln_s.std()
        u = (ln_s - mean) / std
        slope, intercept = (u @ ln_sigma) / (u @ u), ln_sigma.mean(0)
        scatter = ln_sigma - intercept - u[:, None] * slope
        covariance = scatter.T @ scatter / len(u)
        root = np.linalg.cholesky(covariance + 1e-8 * np.trace(covariance) / len(slope) * np.eye(len(slope)))
        return cls(tuple(targets), (inputs[0],), maps.pixels, np.array([mean, std]), intercept, slope, root)

    def sample(self, inputs: Mapping[str, NDArray], n: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """See `Baseline`."""
        mean, std = self.signal
        u = (_ln_sum(np.asarray(inputs[self.inputs[0]], dtype=float)[None])[0] - mean) / std
        ln_sigma = self.intercept + self.slope * u + rng.standard_normal((n, len(self.slope))) @ self.root.T
        profiles = np.exp(ln_sigma).reshape(n, len(self.targets), -1)
        ring = _rings(self.pixels)
        return {name: profiles[:, i][:, ring] for i, name in enumerate(self.targets)}


def _signal_and_profiles(
    maps: MapSet, targets: Sequence[str], name: str, rows: NDArray[np.int64]
) -> tuple[Array, Array]:
    """ln of the summed input (N,), and ln Sigma in the rings of all targets (N, C * R)."""
    ring = _rings(maps.pixels).ravel()
    weight = np.bincount(ring)
    profiles = []
    for target in targets:
        flat = maps.read(target, rows).astype(float).reshape(len(rows), -1)
        mean = np.stack([np.bincount(ring, row) for row in flat]) / weight
        profiles.append(np.log(np.maximum(mean, 1e-6 * mean.mean())))
    return _ln_sum(maps.read(name, rows).astype(float)), np.concatenate(profiles, axis=1)


def _ln_sum(images: Array) -> Array:
    """ln of the sum over each map (N,); a signal lost in noise counts as a thousandth of the sum of absolute values."""
    total, most = images.sum((-2, -1)), np.abs(images).sum((-2, -1))
    return np.log(np.maximum(total, 1e-3 * most + np.finfo(float).tiny))


def _rings(pixels: int) -> NDArray[np.int64]:
    """Number of the ring, one pixel wide, of each pixel, (P, P)."""
    return distance(pixels).astype(np.int64)


# All of them --------------------------------------------------------------------------------------------------------


# How to fit, and to which input (None: to all): the first whose name begins like this
BASELINES: dict[str, tuple[Callable[..., Any], str | None]] = {
    "wiener": (WienerFilter.fit, None),
    "scaling_sz": (ScalingRelation.fit, "compton_y"),
    "scaling_xray": (ScalingRelation.fit, "xray"),
}


def fit_baseline(name: str, maps: MapSet, targets: Sequence[str], inputs: Sequence[str]) -> Baseline:
    """The baseline of this name, fitted to the training rows of a set.

    Raises:
        UserError: the set has no training rows, or lacks a channel, or the inputs have not what it needs.
    """
    fit, own = BASELINES[name]
    needed = [channel for channel in inputs if channel.startswith(own or "")][: 1 if own else None]
    if not needed:
        raise UserError(f"the baseline {name} needs {own or 'at least one channel'}, which is not given.")
    missing = {*targets, *needed} - set(maps.units)
    if missing:
        raise UserError(f"{maps.path} lacks {', '.join(sorted(missing))}, which the baseline {name} needs.")
    if len(maps.rows("train")) < 2:
        raise UserError(f"{maps.path} has no training rows to fit the baseline {name} to.")
    return fit(maps, targets, needed)

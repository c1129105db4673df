"""What a reconstruction without a network achieves: the linear filter and the scaling relations, fitted to the maps.

Each is fitted to the training rows of the set that it is judged on, and returns samples like a model does.

    wiener            t = <t> + sum_i W_i(k) (s_i - <s_i>),   W = C_ts C_ss^-1 of each mode;   s: scaled inputs
    scaling_<input>   ln Sigma(R) = a(R) + b(R) ln(sum of the input),    scatter correlated between radii

The Wiener filter is linear in Compton y and in the root of the surface brightness of X-rays, which goes with the square
of the density. Its samples add the power that is left, as a homogeneous Gaussian field. The scaling relation knows the
total signal only and paints the profile of clusters of that signal.
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

Array = NDArray[np.float64]

CALIBRATION = 2000  # rows that a baseline is fitted to, at most
EXPONENT: dict[str, float] = {"xray": 0.5}  # of an input in the linear filter, by the first word of its name; else 1


class Baseline(Protocol):
    """What every entry of BASELINES returns when it is fitted."""

    targets: tuple[str, ...]
    inputs: tuple[str, ...]

    def sample(self, inputs: Mapping[str, NDArray], n: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """Samples {target: (n, P, P)} given images {input: (P, P)}, in the units of the map set."""


# Linear filter ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WienerFilter:
    """The linear filter of all inputs at once, mode by mode.

    Args:
        mean_target: (C, P, P). mean_input: (I, P, P), scaled.
        weight: (C, I, P, P // 2 + 1), W of each mode.
        spread: (C, C, P, P // 2 + 1), a root of the covariance of the modes of the targets that is left.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    mean_target: Array
    mean_input: Array
    weight: Array
    spread: Array

    @classmethod
    def fit(cls, maps: MapSet, targets: Sequence[str], inputs: Sequence[str]) -> WienerFilter:
        """The filter of the training rows; means and spectra in rings of one fundamental wavenumber."""
        c, p, rows = len(targets), maps.pixels, _training_rows(maps)
        mean = sum(_scaled(maps, targets, inputs, chunk).sum(0) for chunk in chunks(rows)) / len(rows)
        covariance = np.zeros((len(mean), len(mean), p, p // 2 + 1))
        for chunk in chunks(rows):
            modes = np.fft.rfft2(_scaled(maps, targets, inputs, chunk) - mean)
            covariance += np.einsum("nayx,nbyx->abyx", modes, modes.conj()).real
        covariance = _ring_means(covariance / len(rows))
        weight, rest = _regression(covariance, c)
        return cls(tuple(targets), tuple(inputs), mean[:c], mean[c:], weight, rest)

    def sample(self, inputs: Mapping[str, NDArray], n: int, rng: np.random.Generator) -> dict[str, NDArray]:
        """See `Baseline`."""
        s = np.stack([_scale(name, inputs[name]) for name in self.inputs]) - self.mean_input
        modes = np.einsum("ciyx,iyx->cyx", self.weight, np.fft.rfft2(s))
        p, c = s.shape[-1], len(self.targets)
        white = np.fft.rfft2(rng.standard_normal((n, c, p, p))) / p
        draws = modes + np.einsum("cdyx,ndyx->ncyx", self.spread, white)
        x = self.mean_target + np.fft.irfft2(draws, s=(p, p))
        return {name: x[:, i] for i, name in enumerate(self.targets)}


def _regression(covariance: Array, c: int) -> tuple[Array, Array]:
    """W = C_ts C_ss^-1 and the Cholesky root of C_tt - W C_st, of covariances (C + I, C + I, Y, X)."""
    C = np.moveaxis(covariance, (0, 1), (-2, -1))
    unit = np.sqrt(np.maximum(np.diagonal(C, axis1=-2, axis2=-1), np.finfo(float).tiny))
    R = C / (unit[..., :, None] * unit[..., None, :]) + 1e-9 * np.eye(C.shape[-1])  # correlations: of order one
    W = np.linalg.solve(R[..., c:, c:], R[..., c:, :c]).swapaxes(-1, -2)
    rest = R[..., :c, :c] - W @ R[..., c:, :c]
    root = np.linalg.cholesky(rest + 1e-12 * np.eye(c)) * unit[..., :c, None]
    W = W * unit[..., :c, None] / unit[..., None, c:]
    return np.moveaxis(W, (-2, -1), (0, 1)), np.moveaxis(root, (-2, -1), (0, 1))


def _ring_means(power: Array) -> Array:
    """The mean over the modes of each ring one fundamental wide, in place of each mode, (..., P, P // 2 + 1)."""
    p = power.shape[-2]
    ring = np.rint(np.hypot(np.fft.fftfreq(p, 1 / p)[:, None], np.fft.rfftfreq(p, 1 / p))).astype(int)
    flat = power.reshape(-1, ring.size)
    means = np.stack([np.bincount(ring.ravel(), row) for row in flat]) / np.bincount(ring.ravel())
    return means[:, ring].reshape(power.shape)


def _scaled(maps: MapSet, targets: Sequence[str], inputs: Sequence[str], rows: NDArray[np.int64]) -> Array:
    """Targets and scaled inputs of rows, (N, C + I, P, P)."""
    read = [maps.read(name, rows).astype(float) for name in targets]
    return np.stack([*read, *(_scale(name, maps.read(name, rows)) for name in inputs)], axis=1)


def _scale(name: str, image: NDArray) -> Array:
    """An input as the linear filter sees it: x^p, with the sign of x."""
    image = np.asarray(image, dtype=float)
    return np.sign(image) * np.abs(image) ** EXPONENT.get(name.split("_")[0], 1.0)


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
        rows = _training_rows(maps)
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


def _training_rows(maps: MapSet) -> NDArray[np.int64]:
    """Rows to fit to: those of the training split, thinned evenly."""
    rows = maps.rows("train")
    return rows[:: max(1, -(-len(rows) // CALIBRATION))]


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

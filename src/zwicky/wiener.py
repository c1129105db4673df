"""The linear filter from some channels of a set of maps to others, mode by mode.

    t = <t> + sum_i W_i(k) (s_i - <s_i>),     W = C_ts C_ss^-1

It is linear in Compton y and in the root of the surface brightness of X-rays, which goes with the square of the
density. Its samples add the power that is left, as a homogeneous Gaussian field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet, chunks
from zwicky.grid import waves

Array = NDArray[np.float64]

CALIBRATION = 2000  # rows that are fitted to, at most
EXPONENT: dict[str, float] = {"xray": 0.5}  # of an input, by the first word of its name; else 1


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
    def fit(cls, maps: MapSet, targets: Sequence[str], inputs: Sequence[str], *, roots: bool = False) -> WienerFilter:
        """The filter of the training rows; means and spectra in rings of one fundamental wavenumber.

        Args:
            roots: whether targets are scaled as inputs are, and so are the samples.
        """
        c, p, rows = len(targets), maps.pixels, training_rows(maps)
        mean = sum(_scaled(maps, targets, inputs, chunk, roots).sum(0) for chunk in chunks(rows)) / len(rows)
        covariance = np.zeros((len(mean), len(mean), p, p // 2 + 1))
        for chunk in chunks(rows):
            modes = np.fft.rfft2(_scaled(maps, targets, inputs, chunk, roots) - mean)
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
    ring = np.rint(waves(p)).astype(int)
    flat = power.reshape(-1, ring.size)
    means = np.stack([np.bincount(ring.ravel(), row) for row in flat]) / np.bincount(ring.ravel())
    return means[:, ring].reshape(power.shape)


def _scaled(
    maps: MapSet, targets: Sequence[str], inputs: Sequence[str], rows: NDArray[np.int64], roots: bool
) -> Array:
    """Targets and scaled inputs of rows, (N, C + I, P, P)."""
    read = [_scale(name, maps.read(name, rows)) if roots else maps.read(name, rows).astype(float) for name in targets]
    return np.stack([*read, *(_scale(name, maps.read(name, rows)) for name in inputs)], axis=1)


def _scale(name: str, image: NDArray) -> Array:
    """An input as the linear filter sees it: x^p, with the sign of x."""
    image = np.asarray(image, dtype=float)
    return np.sign(image) * np.abs(image) ** EXPONENT.get(name.split("_")[0], 1.0)


def training_rows(maps: MapSet) -> NDArray[np.int64]:
    """Rows to fit to: those of the training split, thinned evenly."""
    rows = maps.rows("train")
    return rows[:: max(1, -(-len(rows) // CALIBRATION))]

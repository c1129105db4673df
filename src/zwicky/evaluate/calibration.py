"""Is the posterior as wide as its errors? Coverage, ranks and TARP, with their finite-sample targets.

    coverage   P(|t - m| < s),  m and s the mean and the S - 1 standard deviation of S samples;
               if calibrated and Gaussian, (t - m) / (s sqrt(1 + 1/S)) is Student's t with S - 1 degrees of freedom
    PIT        u = (rank of t among the samples + U[0, 1)) / (S + 1),  uniform for any S if calibrated
    TARP       share f of samples nearer to a random point than the truth is: uniform if calibrated
               (Lemos et al. 2023, arXiv:2302.03026)

Samples lie on axis 1: truth (N, ...), samples (N, S, ...).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from zwicky.evaluate.metrics import posterior_std

Array = NDArray[Any]

LEVELS: Array = np.linspace(0.05, 0.95, 19)  # credible levels of the coverage curve


def coverage(samples: Array, truth: Array) -> float:
    """Fraction of entries with |t - m| < std."""
    return float(covered(samples, truth).mean())


def covered(samples: Array, truth: Array) -> Array:
    """Whether each entry of the truth lies inside the central 1 sigma interval, |t - m| < std, (N, ...) of bool."""
    return np.abs(truth - samples.mean(1)) < posterior_std(samples)


def coverage_target(n_samples: int) -> float:
    """Coverage of 1 sigma expected of a calibrated Gaussian posterior with S samples: .673 for S = 50, .683 for many.

    Raises:
        ValueError: fewer than two samples, which have no width.
    """
    if n_samples < 2:
        raise ValueError(f"coverage needs at least 2 samples, not {n_samples}.")
    edge = 1.0 / np.sqrt(1.0 + 1.0 / n_samples)
    return float(1.0 - 2.0 * stats.t.sf(edge, n_samples - 1))


def pit(samples: Array, truth: Array, rng: np.random.Generator) -> Array:
    """Randomised rank u of each truth among its samples, (N, ...) in [0, 1); ties are broken at random."""
    below = (samples < truth[:, None]).sum(1)
    ties = (samples == truth[:, None]).sum(1)
    return (below + rng.random(truth.shape) * (ties + 1)) / (samples.shape[1] + 1)


def coverage_at_levels(u: Array, levels: ArrayLike = LEVELS) -> Array:
    """Fraction of truths inside the central interval between sample quantiles, at each level, (L,).

    The target is the level itself for any number of samples, because u is randomised between order statistics.

    Args:
        u: PIT values of any shape. levels: (L,) in (0, 1).
    """
    distance = np.sort(2.0 * np.abs(u.ravel() - 0.5))
    return np.searchsorted(distance, np.asarray(levels), side="left") / distance.size


def rank_histogram(u: Array, bins: int = 20) -> Array:
    """Counts of PIT values in equal bins, (bins,): flat if calibrated, a cup if too narrow, a dome if too wide."""
    return np.histogram(u, bins=bins, range=(0.0, 1.0))[0]


def rank_chi2(counts: Array) -> tuple[float, float]:
    """chi^2 of a rank histogram against a flat one, and its p-value; holds for independent entries only.

    Neighbouring pixels are not independent: apply it to one number per independent group.
    """
    expected = counts.sum() / len(counts)
    chi2 = float(((counts - expected) ** 2).sum() / expected)
    return chi2, float(stats.chi2.sf(chi2, len(counts) - 1))


def tarp(
    samples: Array,
    truth: Array,
    rng: np.random.Generator,
    levels: ArrayLike = LEVELS,
    reference: Array | None = None,
) -> Array:
    """Expected coverage of regions around random points, at each level, (L,); the level itself if calibrated.

    Axes are scaled to the range of the truths, and reference points are uniform in that box.

    Args:
        samples: (N, S, D). truth: (N, D).
        reference: (N, D) points to use instead, in units of the box.

    Reference: Lemos et al. 2023, arXiv:2302.03026, algorithm 2.
    """
    low, width = truth.min(0), np.ptp(truth, axis=0)
    width = np.where(width > 0, width, 1.0)
    reference = rng.random(truth.shape) if reference is None else reference
    distance = np.linalg.norm((samples - low) / width - reference[:, None], axis=-1)
    distance_true = np.linalg.norm((truth - low) / width - reference, axis=-1)
    f = np.sort(pit(distance, distance_true, rng))
    return np.searchsorted(f, np.asarray(levels), side="left") / f.size


def max_deviation(curve: ArrayLike, levels: ArrayLike = LEVELS) -> float:
    """Largest distance of a coverage curve from the diagonal."""
    return float(np.max(np.abs(np.asarray(curve) - np.asarray(levels))))


def deviation_limit(n_independent: int) -> float:
    """Largest deviation that chance allows a calibrated curve at 95%: 1.36 / sqrt(n) (Kolmogorov)."""
    return 1.36 / float(np.sqrt(n_independent))

"""Measures of a posterior on maps, as pure functions of arrays.

    P_ab(k) = < Re a_k conj(b_k) >        over the modes of an azimuthal bin; never the modulus of a single mode
    b(k)    = sqrt(P_mm / P_tt)           transfer of the prediction m of the truth t
    r(k)    = P_mt / sqrt(P_mm P_tt)      correlation
    e       = sum(m) / sum(t) - 1         mass error

A calibrated posterior obeys b_mean = r_mean, b_sample = 1 and r_sample = r_mean^2. With S samples in the mean,
b_S^2 = r^2 + (1 - r^2) / S and r_S = r^2 / b_S, so the identity is tested after that noise has been taken away.

Shapes: truth t (N, Y, X), samples x (N, S, Y, X), mean m (N, Y, X), one channel at a time, linear surface density
[Msun / kpc^2]. k is comoving [h / Mpc]; a proper pixel is a comoving one at z = 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.grid import mode_counts
from zwicky.products import ratio

Array = NDArray[Any]

K_SPLIT: float = 2.0  # between large and small scales [h / Mpc], Hsu et al. 2025 Table 1


class Powers(NamedTuple):
    """Auto and cross power of truth t, posterior mean m and single samples x, each (N, K) [(Msun/kpc^2)^2 Mpc^2].

    xx and xt are averages over the samples of one map.
    """

    tt: Array
    mm: Array
    mt: Array
    xx: Array
    xt: Array


# Power spectra ------------------------------------------------------------------------------------------------------


def fundamental(pixels: int, pixel_mpc: float, *, h: float) -> float:
    """Smallest wavenumber of a map, 2 pi / L [h / Mpc]."""
    return 2.0 * np.pi / (pixels * pixel_mpc * h)


def nyquist(pixel_mpc: float, *, h: float) -> float:
    """Largest wavenumber along an axis, pi / pixel [h / Mpc]."""
    return np.pi / (pixel_mpc * h)


def default_k_edges(pixels: int, pixel_mpc: float, *, h: float, split: float = K_SPLIT) -> Array:
    """Bin edges from the fundamental to Nyquist, (K + 1,) [h / Mpc].

    Bins are even in log k, at least a factor sqrt(2) wide so that none is empty, and `split` is an edge if inside.
    """
    # A relative 1e-6 at both ends keeps the fundamental and Nyquist inside whatever the rounding.
    low, high = fundamental(pixels, pixel_mpc, h=h) * (1 - 1e-6), nyquist(pixel_mpc, h=h) * (1 + 1e-6)
    corners = [low, split, high] if low < split < high else [low, high]
    parts = [_log_edges(a, b) for a, b in itertools.pairwise(corners)]
    return np.concatenate([parts[0][:1], *(part[1:] for part in parts)])


def _log_edges(low: float, high: float) -> Array:
    bins = max(1, int(np.log(high / low) / np.log(np.sqrt(2.0))))
    return np.geomspace(low, high, bins + 1)


def radial_bins(pixels: int, pixel_mpc: float, k_edges: ArrayLike, *, h: float) -> tuple[Array, Array]:
    """Mean wavenumber and averaging weights of the azimuthal bins.

    Args:
        pixels: side of the map.
        pixel_mpc: side of a pixel [Mpc, comoving].
        k_edges: (K + 1,) [h / Mpc].

    Returns:
        k: (K,) mean |k| of the modes in each bin [h / Mpc]; NaN for a bin without modes.
        weights: (pixels * (pixels // 2 + 1), K), sums to one over the modes of a bin, for the half plane of rfft2.
    """
    k_y = np.fft.fftfreq(pixels, pixel_mpc * h / (2 * np.pi))
    k_x = np.fft.rfftfreq(pixels, pixel_mpc * h / (2 * np.pi))
    k = np.hypot(k_y[:, None], k_x[None, :]).ravel()
    edges = np.asarray(k_edges, dtype=float)
    bins = np.digitize(k, edges) - 1
    weights = (bins[:, None] == np.arange(len(edges) - 1)) * np.tile(mode_counts(pixels), pixels)[:, None]
    total = weights.sum(0)
    weights = np.divide(weights, total, out=np.full(weights.shape, np.nan), where=total > 0)
    return k @ weights, weights


def power_spectra(a: Array, b: Array, pixel_mpc: float, k_edges: ArrayLike, *, h: float) -> Array:
    """P_ab(k) = <Re a_k conj(b_k)> of maps without window or padding, (..., K) [unit(a) unit(b) Mpc^2].

    Args:
        a, b: (..., P, P) maps; leading axes broadcast.
        pixel_mpc: side of a pixel [Mpc, comoving].
        k_edges: (K + 1,) [h / Mpc].
    """
    pixels = a.shape[-1]
    _, weights = radial_bins(pixels, pixel_mpc, k_edges, h=h)
    return _binned(np.fft.rfft2(a), np.fft.rfft2(b), weights) * (pixel_mpc / pixels) ** 2


def _binned(a_k: Array, b_k: Array, weights: Array) -> Array:
    product = a_k.real * b_k.real + a_k.imag * b_k.imag
    return product.reshape(*product.shape[:-2], -1) @ weights


def posterior_powers(truth: Array, samples: Array, pixel_mpc: float, k_edges: ArrayLike, *, h: float) -> Powers:
    """The five powers of each map that b and r are made of.

    Args:
        truth: (N, P, P). samples: (N, S, P, P).
    """
    pixels = truth.shape[-1]
    _, weights = radial_bins(pixels, pixel_mpc, k_edges, h=h)
    rows = [_powers_of_map(t, x, weights) for t, x in zip(truth, samples, strict=True)]
    return Powers(*(np.stack(column) * (pixel_mpc / pixels) ** 2 for column in zip(*rows, strict=True)))


def _powers_of_map(t: Array, x: Array, weights: Array) -> Powers:
    t_k, x_k = np.fft.rfft2(t), np.fft.rfft2(x)
    m_k = x_k.mean(0)
    xx, xt = _binned(x_k, x_k, weights).mean(0), _binned(m_k, t_k, weights)  # mean of x conj(t) is m conj(t)
    return Powers(_binned(t_k, t_k, weights), _binned(m_k, m_k, weights), xt, xx, xt)


def transfer(P_mm: Array, P_tt: Array, *, pooled: bool = False) -> Array:
    """b(k) = sqrt(P_mm / P_tt), (K,).

    Args:
        P_mm, P_tt: (N, K).
        pooled: average the powers over maps first; otherwise b is taken per map and averaged.
    """
    P_mm, P_tt = _pool(pooled, P_mm, P_tt)
    return nan_mean(np.sqrt(ratio(np.maximum(P_mm, 0.0), P_tt)))


def sample_transfer(xx: Array, tt: Array, mm: Array) -> Array:
    """b(k) of samples of maps that all count alike, (K,): sqrt(sum_n P_xx / P_mm / sum_n P_tt / P_mm); 1 if calibrated.

    The mean over maps of sqrt(P_xx / P_tt) is not 1 then: by Jensen's inequality it is exp(3 s^2 / 8) for P_tt that
    scatter by s in ln about what the image tells, 1.06 for s = 0.4. A weight by the mean of the samples knows no more
    of the truth than the image tells.

    Args:
        xx, tt, mm: (N, K), see `Powers`.
    """
    return transfer(ratio(xx, mm), ratio(tt, mm), pooled=True)


def correlation(P_mt: Array, P_mm: Array, P_tt: Array, *, pooled: bool = False) -> Array:
    """r(k) = P_mt / sqrt(P_mm P_tt), (K,); arguments (N, K), `pooled` as in `transfer`. NaN without power."""
    P_mt, P_mm, P_tt = _pool(pooled, P_mt, P_mm, P_tt)
    return nan_mean(ratio(P_mt, np.sqrt(np.maximum(P_mm, 0.0) * P_tt)))


def linear_correlation(P_it: Array, P_ij: Array, P_tt: Array) -> Array:
    """r(k) of the best linear filter of several images m = sum_i w_i i, a Wiener filter, (K,), per map and averaged.

    w(k) = < P_ij >^-1 < P_it > over maps: one filter for all of them.

    Args:
        P_it: (N, I, K). P_ij: (N, I, I, K). P_tt: (N, K).
    """
    it, ij = P_it.mean(0).T, np.moveaxis(P_ij.mean(0), -1, 0)  # (K, I), (K, I, I)
    size = np.sqrt(np.maximum(np.einsum("kii->ki", ij), np.finfo(float).tiny))  # images have units of their own
    inverse = np.linalg.pinv(ij / (size[:, :, None] * size[:, None, :]), rcond=1e-10, hermitian=True)
    w = np.einsum("kij,kj->ki", inverse, it / size) / size
    P_mt, P_mm = np.einsum("ki,nik->nk", w, P_it), np.einsum("ki,nijk,kj->nk", w, P_ij, w)
    return correlation(P_mt, P_mm, P_tt)


def _pool(pooled: bool, *powers: Array) -> tuple[Array, ...]:
    return tuple(p.mean(0, keepdims=True) for p in powers) if pooled else powers


def nan_mean(values: Array, axis: int = 0) -> Array:
    """Mean over the finite entries along an axis; NaN, without a warning, where there are none."""
    finite = np.isfinite(values)
    return ratio(np.where(finite, values, 0.0).sum(axis), finite.sum(axis))


def scale_averages(k: Array, curve: Array, split: float = K_SPLIT) -> tuple[float, float]:
    """Average of a curve over its bins at large (k < split) and small (k >= split) scales; each bin counts once.

    Args:
        k: (K,) [h / Mpc]. curve: (K,).
    """
    large = k < split
    return float(nan_mean(curve[large])), float(nan_mean(curve[~large]))


def debiased_mean_power(powers: Powers, n_samples: int) -> Array:
    """P_mm of the mean of infinitely many samples, (N, K): P_mm - (P_xx - P_mm) / (S - 1)."""
    return powers.mm - (powers.xx - powers.mm) / max(n_samples - 1, 1)


def identity_residual(powers: Powers, n_samples: int | None = None) -> Array:
    """b_mean - r_mean of the pooled powers, (K,): zero if calibrated, positive if over-confident.

    Args:
        n_samples: S; if given, the noise of the finite mean is taken away first.
    """
    mm = powers.mm if n_samples is None else debiased_mean_power(powers, n_samples)
    return transfer(mm, powers.tt, pooled=True) - correlation(powers.mt, mm, powers.tt, pooled=True)


def expected_mean_transfer(r: ArrayLike, n_samples: int) -> Array:
    """b of the mean of S samples of a calibrated posterior: b_S^2 = r^2 + (1 - r^2) / S, r that of the exact mean."""
    r2 = np.square(np.asarray(r, dtype=float))
    return np.sqrt(r2 + (1.0 - r2) / n_samples)


def expected_mean_correlation(r: ArrayLike, n_samples: int) -> Array:
    """r of the mean of S samples of a calibrated posterior: r_S = r^2 / b_S."""
    return np.square(np.asarray(r, dtype=float)) / expected_mean_transfer(r, n_samples)


def expected_sample_correlation(r: ArrayLike) -> Array:
    """r of single samples of a calibrated posterior: r_sample = r_mean^2."""
    return np.square(np.asarray(r, dtype=float))


# Masses -------------------------------------------------------------------------------------------------------------


def mass_error(m: Array, t: Array, mask: Array | None = None) -> Array:
    """e = sum(m) / sum(t) - 1 of each map, (N,).

    Args:
        m, t: (N, Y, X).
        mask: (Y, X) or (N, Y, X) weights, or None for the whole map.
    """
    weight: Any = 1.0 if mask is None else mask
    return ratio(np.sum(m * weight, axis=(-2, -1)), np.sum(t * weight, axis=(-2, -1))) - 1.0


def spread(values: Array) -> tuple[float, float, float]:
    """Median, +(84th - 50th) and -(50th - 16th) percentile; both as positive widths; NaN is left out."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return float("nan"), float("nan"), float("nan")
    low, median, high = np.percentile(finite, [16.0, 50.0, 84.0])
    return float(median), float(high - median), float(median - low)


def mass_slopes(mass_true: Array, mass_pred: Array) -> tuple[float, float]:
    """Slopes in log mass of E[M_hat | M] and of E[M | M_hat].

    The second is one for a calibrated posterior mean; the first is then below one, because the mean reverts to the
    mean of the population at fixed truth.

    Args:
        mass_true, mass_pred: (N,) [Msun], positive. NaN comes back for fewer than two different masses.
    """
    good = (mass_true > 0) & (mass_pred > 0)
    if good.sum() < 2:
        return float("nan"), float("nan")
    c = np.cov(np.log(mass_true[good]), np.log(mass_pred[good]))
    forward, backward = ratio(c[0, 1], np.diag(c))
    return float(forward), float(backward)


def terciles(x: Array, bins: int = 3) -> tuple[Array, Array]:
    """Edges (bins + 1,) of bins with equally many finite values of x (N,), and the bin of each value, -1 for NaN."""
    finite = np.isfinite(x)
    if not finite.any():
        return np.full(bins + 1, np.nan), np.full(x.shape, -1)
    edges = np.quantile(x[finite], np.linspace(0.0, 1.0, bins + 1))
    return edges, np.where(finite, np.digitize(x, edges[1:-1]), -1)


def binned_means(y: Array, index: Array, bins: int) -> Array:
    """Mean of y (N, ...) over the rows of each bin, (bins, ...); NaN for an empty bin.

    Args:
        index: (N,) the bin of each row; others than 0 to bins - 1 belong to none.
    """
    return np.stack([nan_mean(y[index == b]) for b in range(bins)])


# Profiles -----------------------------------------------------------------------------------------------------------


def profile_differences(profile_pred: Array, profile_true: Array) -> tuple[Array, Array]:
    """Fractional differences of the population mean and of the population spread, each (R,).

    Args:
        profile_pred, profile_true: (N, R). The spread is the standard deviation over maps, NaN for a single map.
    """
    mean = ratio(profile_pred.mean(0), profile_true.mean(0)) - 1.0
    return mean, ratio(profile_pred.std(0), profile_true.std(0)) - 1.0


# Pixels -------------------------------------------------------------------------------------------------------------


def posterior_std(samples: Array) -> Array:
    """Unbiased (S - 1) standard deviation of the samples, (N, ...) from (N, S, ...); zero for a single sample."""
    return samples.std(axis=1, ddof=1) if samples.shape[1] > 1 else np.zeros_like(samples[:, 0])


def standardised_error(m: Array, t: Array, std: Array) -> Array:
    """(m - t) / std; NaN where the posterior has no width."""
    return ratio(m - t, std)


def crps(samples: Array, t: Array) -> Array:
    """Continuous ranked probability score, fair in the number of samples, (N, ...) [unit of t]; smaller is better.

    CRPS = mean |x_s - t| - sum_{s,s'} |x_s - x_s'| / (2 S (S - 1))                    (Ferro 2014, doi:10.1002/qj.2270)

    Args:
        samples: (N, S, ...). t: (N, ...).
    """
    S = samples.shape[1]
    error = np.abs(samples - t[:, None]).mean(1)
    if S < 2:
        return error
    order = (2.0 * np.arange(S) - S + 1.0).reshape(1, S, *([1] * (t.ndim - 1)))
    return error - (order * np.sort(samples, axis=1)).sum(1) / (S * (S - 1))


def signal_to_noise(image: Array, noise: Array) -> float:
    """Total signal-to-noise ratio of an image with noise: sqrt(sum (d / sigma)^2 - pixels), zero if that is negative.

    Args:
        image: d, signal and noise. noise: standard deviation sigma of each pixel; those where it is not positive or not
            finite are left out.
    """
    good = np.isfinite(image) & np.isfinite(noise) & (noise > 0)
    excess = float(((image[good] / noise[good]) ** 2 - 1.0).sum())
    return float(np.sqrt(max(excess, 0.0)))


# Errors of the measures ---------------------------------------------------------------------------------------------


def bootstrap_over_clusters(
    values: Array, cluster_ids: ArrayLike, statistic: Callable[[Array], Any], n: int, rng: np.random.Generator
) -> Array:
    """The statistic on n resamplings of whole clusters, (n, ...); projections of a cluster are never parted.

    Args:
        values: (N, ...) one row per map.
        cluster_ids: (N,) the cluster of each map.
        statistic: function of rows (N', ...).
        n: number of resamplings.
    """
    _, inverse = np.unique(np.asarray(cluster_ids), return_inverse=True)
    members = [np.flatnonzero(inverse == c) for c in range(int(inverse.max()) + 1)]
    draws = rng.integers(len(members), size=(n, len(members)))
    return np.array([statistic(values[np.concatenate([members[c] for c in draw])]) for draw in draws])

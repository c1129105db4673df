"""Statistics of the rows of one mass bin, with errors by resampling clusters: masses, shapes, convergence.

    half-width = (84th - 16th percentile) / 2;   E[ln M_hat | M] and E[ln M | M_hat] are means in bins of equal number
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zwicky.evaluate import calibration, metrics
from zwicky.evaluate.convergence import prefix_sizes
from zwicky.evaluate.rows import APERTURES, Row
from zwicky.products import ratio

Array = NDArray[Any]

RANK_BINS: int = 10  # of the histograms of one number a map
REGRESSION_BINS: int = 5
TERCILES: int = 3
IMAGE: tuple[str, ...] = ("ssim_log", "psnr_log", "ssim", "psnr")
SHAPE: tuple[str, ...] = ("peak_offset_kpc", "centroid_offset_kpc", "ellipticity_difference", "angle_deg")


class Bootstrap:
    """Value and error of statistics of the rows of one mass bin; the error is NaN for fewer than two clusters."""

    def __init__(self, ids: Array, n: int, rng: np.random.Generator, groups: Array | None = None) -> None:
        self.ids, self.n, self.rng = ids, n, rng
        self.groups = ids if groups is None else groups
        self.n_clusters, self.n_groups = len(np.unique(ids)), len(np.unique(self.groups))

    def __call__(self, values: Array, statistic: Callable[[Array], Any]) -> tuple[Array, Array]:
        value = np.asarray(statistic(values))
        if self.n_groups < 2:
            return value, np.full(value.shape, np.nan)
        return value, metrics.bootstrap_over_clusters(values, self.groups, statistic, self.n, self.rng).std(0, ddof=1)

    @property
    def independent(self) -> Array:
        """A row of each group: sightlines of one cluster, or of clusters of one simulation, are not independent."""
        return np.unique(self.groups, return_index=True)[1]


def with_error(name: str, pair: tuple[Array, Array]) -> dict[str, Array]:
    """{name: value, name_error: error}."""
    return {name: pair[0], f"{name}_error": pair[1]}


def target(n_samples: int) -> float:
    """Coverage of one sigma expected of a calibrated posterior; NaN for a single sample."""
    return calibration.coverage_target(n_samples) if n_samples > 1 else float("nan")


# Masses -------------------------------------------------------------------------------------------------------------


def mass_metrics(rows: Row, a: int, boot: Bootstrap, n_samples: int) -> dict[str, Any]:
    """Errors, coverage, ranks and regressions of the masses in aperture number `a`."""
    M, M_hat, u = rows["mass"][:, a], rows["mass_pred"][:, a], rows["mass_pit"][:, a]
    error, inside = mass_errors(rows)
    summary, summary_error = boot(error[:, a], metrics.spread)
    slopes, slopes_error = boot(np.stack([M, M_hat], axis=1), lambda v: metrics.mass_slopes(v[:, 0], v[:, 1]))
    chi2, p_value = calibration.rank_chi2(calibration.rank_histogram(u[boot.independent], bins=5))
    levels = boot(u, calibration.coverage_at_levels)
    return {
        "error_median": summary[0], "error_plus": summary[1], "error_minus": summary[2],
        "error_median_error": summary_error[0], "error_plus_error": summary_error[1],
        "error_minus_error": summary_error[2],
        **with_error("coverage", boot(inside[:, a], metrics.nan_mean)), "coverage_target": target(n_samples),
        **with_error("levels", levels), "levels_max_deviation": calibration.max_deviation(levels[0]),
        "levels_limit_95": calibration.deviation_limit(boot.n_groups),
        "ranks": calibration.rank_histogram(u, RANK_BINS),
        "rank_chi2": chi2, "rank_dof": 4, "rank_p_value": p_value,
        **with_error("crps_over_mass", boot(ratio(rows["mass_crps"][:, a], M), metrics.nan_mean)),
        "slope_pred_given_true": slopes[0], "slope_pred_given_true_error": slopes_error[0],
        "slope_true_given_pred": slopes[1], "slope_true_given_pred_error": slopes_error[1],
        "regression": {"pred_given_true": regression(M, M_hat, boot), "true_given_pred": regression(M_hat, M, boot)},
    }  # fmt: skip


def mass_errors(rows: Row) -> tuple[Array, Array]:
    """Fractional errors of the masses and whether they are less than one sigma, (N, A); NaN for an empty aperture."""
    M, M_hat = rows["mass"], rows["mass_pred"]
    return ratio(M_hat, M) - 1.0, np.where(M > 0, np.abs(M - M_hat) < rows["mass_std"], np.nan)


def regression(given: Array, sought: Array, boot: Bootstrap) -> dict[str, Any]:
    """E[ln sought | given]: mean log ratio ln(sought / given) in bins of `given` (N,) [Msun] of equal number.

    `mass` is the geometric mean of `given` in each bin, (REGRESSION_BINS,) as all the curves.
    """
    good = (given > 0) & (sought > 0)
    log = np.where(good, np.log(np.where(good, given, 1.0)), np.nan)
    log_ratio = np.where(good, np.log(np.where(good, sought, 1.0)) - log, np.nan)
    edges, index = metrics.terciles(log, REGRESSION_BINS)
    values = np.stack([log, log_ratio, index.astype(float)], axis=-1)
    mean, error = boot(values, lambda v: metrics.binned_means(v[:, :2], v[:, 2], REGRESSION_BINS))
    return {
        "edges": np.exp(edges), "mass": np.exp(mean[:, 0]), "log_ratio": mean[:, 1], "log_ratio_error": error[:, 1],
        "n_maps": np.bincount(index[index >= 0], minlength=REGRESSION_BINS),
    }  # fmt: skip


def by_property(rows: Row, properties: Mapping[str, Array], boot: Bootstrap, n_samples: int) -> dict[str, Any]:
    """Mass errors and coverage in terciles of each property (N,), in each aperture."""
    return {name: _in_terciles(rows, np.asarray(x, float), boot, n_samples) for name, x in properties.items()}


def _in_terciles(rows: Row, x: Array, boot: Bootstrap, n_samples: int) -> dict[str, Any]:
    edges, index = metrics.terciles(x, TERCILES)
    values = np.concatenate([np.stack(mass_errors(rows), axis=-1).reshape(len(x), -1), index[:, None]], axis=1)
    members = [np.flatnonzero(index == b) for b in range(TERCILES)]
    found, error = boot(values, _tercile_numbers)
    return {
        "edges": edges, "median": [np.median(x[m]) if len(m) else np.nan for m in members],
        "n_maps": [len(m) for m in members], "n_clusters": [len(np.unique(boot.ids[m])) for m in members],
        "coverage_target": target(n_samples),
        "mass": {aperture: {
            **with_error("error_median", (found[:, a, 0], error[:, a, 0])),
            **with_error("error_half_width", (found[:, a, 1], error[:, a, 1])),
            **with_error("coverage", (found[:, a, 2], error[:, a, 2])),
        } for a, aperture in enumerate(APERTURES)},
    }  # fmt: skip


def _tercile_numbers(values: Array) -> Array:
    """Median and half-width of the error, and coverage, (TERCILES, A, 3) of rows (N, 2 A + 1) of `_in_terciles`."""
    numbers, index = values[:, :-1].reshape(len(values), -1, 2), values[:, -1]
    found = [[(*median_and_width(error), metrics.nan_mean(inside)) for error, inside in np.moveaxis(part, 0, -1)]
             for part in (numbers[index == b] for b in range(TERCILES))]  # fmt: skip
    return np.array(found, dtype=float)


def median_and_width(values: Array) -> tuple[float, float]:
    """Median and half-width of values, NaN left out."""
    median, plus, minus = metrics.spread(values)
    return median, 0.5 * (plus + minus)


# Shapes -------------------------------------------------------------------------------------------------------------


def shape_metrics(rows: Row, boot: Bootstrap) -> dict[str, Any]:
    """Similarity, offsets, ellipticities and peaks, of the mean and of single samples."""
    kinds = {"mean": slice(0, 1), "sample": slice(1, None)}
    return {
        "true_ellipticity": metrics.spread(rows["shape_true"]), "true_disturbance": metrics.spread(rows["disturbance"]),
        **{kind: {**_image_numbers(rows["image"][:, s], boot), **_shape_numbers(rows["shape"][:, s], boot),
                  **_peak_numbers(rows["peaks"][:, s], boot)} for kind, s in kinds.items()},
    }  # fmt: skip


def _image_numbers(values: Array, boot: Bootstrap) -> dict[str, Array]:
    """Averages over maps (N, n, 4); where maps are identical the PSNR is infinite and left out."""
    value, error = boot(values, lambda v: metrics.nan_mean(v.reshape(-1, len(IMAGE))))
    return {key: item for i, name in enumerate(IMAGE) for key, item in with_error(name, (value[i], error[i])).items()}


def _shape_numbers(values: Array, boot: Bootstrap) -> dict[str, Array]:
    """Median of the differences (N, n, 4) from the truth, and how far above and below it their 84th and 16th are."""
    value, error = boot(values, lambda v: np.array([metrics.spread(d) for d in v.reshape(-1, len(SHAPE)).T]))
    parts = ("", "_plus", "_minus")
    return {key: item for i, name in enumerate(SHAPE) for j, part in enumerate(parts)
            for key, item in with_error(name + part, (value[i, j], error[i, j])).items()}  # fmt: skip


def _peak_numbers(counts: Array, boot: Bootstrap) -> dict[str, Any]:
    """Completeness and purity of peaks from the counts (N, n, 6) of `shapes.peak_counts`, summed over maps."""

    def shares(values: Array) -> Array:
        true, predicted, found, real, found_chance, real_chance = values.sum((0, 1))
        return ratio(np.array([found, real, found_chance, real_chance]), np.array([true, predicted, true, predicted]))

    value, error = boot(counts, shares)
    names = ("completeness", "purity", "completeness_by_chance", "purity_by_chance")
    per_map = counts.mean((0, 1))
    return {"true_peaks_per_map": per_map[0], "peaks_per_map": per_map[1],
            **{key: item for i, name in enumerate(names)
               for key, item in with_error(name, (value[i], error[i])).items()}}  # fmt: skip


# Convergence with the number of samples -----------------------------------------------------------------------------


def convergence_metrics(rows: Row, boot: Bootstrap, n_samples: int, k: Array) -> dict[str, Any]:
    """How variance, squared error, mass error and power of the mean settle; curves (C,) over `samples`.

    `variance_over_final` and its `scatter` between maps: ratio of each map's mean variance to that of all samples.
    `skill`: squared error of the mean over that variance, of all maps; `skill_target` if calibrated, 1 + 1/n.
    """
    n = np.array(prefix_sizes(n_samples), dtype=float)
    variance, squared, mass = np.moveaxis(rows["settling"], -1, 0)
    settled = ratio(variance, np.broadcast_to(variance[:, -1:], variance.shape))
    b = np.sqrt(ratio(rows["settling_power"], rows["powers"][:, None, 0]))  # (N, C, K)
    large = k < metrics.K_SPLIT
    averages = [metrics.nan_mean(b[..., keep], axis=-1) for keep in (large, ~large)]
    return {
        "samples": n.astype(int),
        **with_error("variance_over_final", boot(settled, metrics.nan_mean)),
        "variance_over_final_scatter": np.sqrt(metrics.nan_mean((settled - metrics.nan_mean(settled)) ** 2)),
        **with_error("skill", boot(np.stack([squared, variance], axis=1), _skill)), "skill_target": 1.0 + 1.0 / n,
        **with_error("mass_error", boot(mass, lambda v: np.array([median_and_width(c) for c in v.T]).T)),
        **with_error("b_mean_large", boot(averages[0], metrics.nan_mean)),
        **with_error("b_mean_small", boot(averages[1], metrics.nan_mean)),
    }  # fmt: skip


def _skill(values: Array) -> Array:
    """Mean squared error (C,) over the mean variance of all samples, of values (N, 2, C)."""
    squared, variance = values.mean(0)
    return ratio(squared, np.broadcast_to(variance[-1], squared.shape))

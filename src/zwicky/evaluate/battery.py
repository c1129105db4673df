"""The battery: every measure of a posterior on a set of maps, with errors from resampling whole clusters.

Every map is first reduced to a row of small numbers (`rows.map_row`). What is reported are statistics of rows, in bins
of the true M200m.

    all, low: 2e14 <= M200m < 6e14, high: 6e14 <= M200m < 1e15 [Msun]        (bins of Hsu et al. 2025, "H25")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.evaluate import calibration, metrics
from zwicky.evaluate.metrics import Powers
from zwicky.evaluate.rows import APERTURES, Z_EDGES, MapGrid, Row, flat, map_rows
from zwicky.products import ratio

Array = NDArray[Any]

MASS_BINS: dict[str, tuple[float, float]] = {"all": (0.0, np.inf), "low": (2e14, 6e14), "high": (6e14, 1e15)}  # [Msun]
N_BOOTSTRAP: int = 200


# One channel --------------------------------------------------------------------------------------------------------


def evaluate_channel(
    truth: Array,
    samples: Array,
    *,
    pixel_kpc: float,
    h: float,
    r200m_kpc: ArrayLike,
    r500c_kpc: ArrayLike,
    m200m: ArrayLike,
    cluster_ids: ArrayLike,
    rng: np.random.Generator,
    n_bootstrap: int = N_BOOTSTRAP,
    redshift: float = 0.0,
) -> dict[str, Any]:
    """All measures of one channel, in each mass bin, ready for JSON (what is undefined is None).

    Args:
        truth: (N, P, P) surface density [Msun / kpc^2]. samples: (N, S, P, P).
        pixel_kpc: side of a pixel [kpc, proper]; 1 + redshift times that, comoving, sets the wavenumbers.
        h: Hubble constant in 100 km/s/Mpc.
        r200m_kpc, r500c_kpc: (N,) [kpc, proper]. m200m: (N,) [Msun].
        cluster_ids: (N,) the cluster that each map shows.
        rng: for the bootstrap, ties of ranks and reference points.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check_shapes(truth, samples, r200m_kpc, r500c_kpc, m200m, cluster_ids)
    grid = MapGrid(truth.shape[-1], pixel_kpc, h, redshift)
    rows = map_rows(truth, samples, grid, r500c_kpc, r200m_kpc, rng)
    return summarise(rows, grid, m200m, cluster_ids, samples.shape[1], rng, n_bootstrap)


def summarise(
    rows: Sequence[Row],
    grid: MapGrid,
    m200m: ArrayLike,
    cluster_ids: ArrayLike,
    n_samples: int,
    rng: np.random.Generator,
    n_bootstrap: int = N_BOOTSTRAP,
) -> dict[str, Any]:
    """All measures of the rows of one channel; arguments and result as of `evaluate_channel`."""
    usable = [i for i, row in enumerate(rows) if not (row["bad_truth"] or row["bad_samples"])]
    good = [rows[i] for i in usable]
    mass, ids = np.asarray(m200m, dtype=float)[usable], np.asarray(cluster_ids)[usable]
    members = {name: np.flatnonzero((mass >= low) & (mass < high)) for name, (low, high) in MASS_BINS.items()}
    settings = dict(
        n_maps=len(rows), n_samples=n_samples, n_bootstrap=n_bootstrap, pixel_kpc=grid.pixel_kpc, h=grid.h
    )
    return jsonable({
        "settings": settings,
        "scales": _scales(grid),
        "bins": {name: _bin_metrics(good, m, ids, n_samples, grid.k, rng, n_bootstrap) for name, m in members.items()},
        "warnings": find_warnings(rows, n_samples),
    })  # fmt: skip


def find_warnings(rows: Sequence[Row], n_samples: int) -> list[str]:
    """Sentences on what makes the numbers of a model void: NaN, constant maps, no spread, no response to the input."""
    flags = ("bad_truth", "bad_samples", "constant", "no_width")
    count = {name: sum(bool(row[name]) for row in rows) for name in flags}
    n, good, found = len(rows), [row for row in rows if "profile" in row], []
    if count["bad_truth"]:
        found.append(f"{count['bad_truth']} true maps hold NaN or infinity; left out.")
    if count["bad_samples"]:
        found.append(f"the model returned NaN or infinity for {count['bad_samples']} of {n} maps; left out.")
    if count["constant"]:
        found.append(f"the model returned constant maps for {count['constant']} of {n} maps.")
    if n_samples < 2:
        found.append("there is a single sample per map: no posterior width, no calibration.")
    elif count["no_width"] and count["no_width"] == n - count["bad_samples"]:
        found.append("all samples of a map are equal: the posterior has no width.")
    if len(good) > 1:
        predicted = np.stack([row["profile_samples"].mean(0) for row in good])
        if flat(predicted) and not flat(np.stack([row["profile"] for row in good])):
            found.append("the model returned the same maps for every cluster.")
    return found


def _check_shapes(truth: Array, samples: Array, *per_map: ArrayLike) -> None:
    n, square = len(truth), truth.ndim == 3 and truth.shape[-1] == truth.shape[-2]
    if not square or samples.ndim != 4 or (n, *truth.shape[1:]) != (samples.shape[0], *samples.shape[2:]):
        raise ValueError(f"need truth (N, P, P) and samples (N, S, P, P), not {truth.shape} and {samples.shape}.")
    if any(np.shape(values) != (n,) for values in per_map):
        raise ValueError(f"radii, masses and cluster_ids must have shape ({n},), one entry per map.")


def _scales(grid: MapGrid) -> dict[str, Any]:
    """The axes that the curves are drawn on."""
    return {
        "k": grid.k, "k_edges": grid.k_edges, "k_unit": "h/Mpc (comoving)", "k_split": metrics.K_SPLIT,
        "k_nyquist": metrics.nyquist(grid.pixel_mpc, h=grid.h),
        "averages": "over bins of k, each bin once; b and r per map, then averaged; 'pooled' averages powers first",
        "profile_edges_kpc": grid.edges_kpc, "levels": calibration.LEVELS, "z_edges": Z_EDGES,
    }  # fmt: skip


# One mass bin -------------------------------------------------------------------------------------------------------


class _Bootstrap:
    """Value and error of statistics of the rows of one mass bin; the error is NaN for fewer than two clusters."""

    def __init__(self, ids: Array, n: int, rng: np.random.Generator) -> None:
        self.ids, self.n, self.rng = ids, n, rng
        self.n_clusters = len(np.unique(ids))

    def __call__(self, values: Array, statistic: Callable[[Array], Any]) -> tuple[Array, Array]:
        value = np.asarray(statistic(values))
        if self.n_clusters < 2 or self.n < 2:
            return value, np.full(value.shape, np.nan)
        return value, metrics.bootstrap_over_clusters(values, self.ids, statistic, self.n, self.rng).std(0, ddof=1)


def _bin_metrics(
    maps: list[Row], members: Array, ids: Array, n_samples: int, k: Array, rng: np.random.Generator, n_bootstrap: int,
) -> dict[str, Any]:  # fmt: skip
    counts = {"n_maps": len(members), "n_clusters": len(np.unique(ids[members]))}
    if not len(members):
        return counts
    rows = {name: np.stack([maps[i][name] for i in members]) for name in maps[0]}
    boot = _Bootstrap(ids[members], n_bootstrap, rng)
    return {
        **counts,
        "power": _power_metrics(rows, boot, n_samples, k),
        "mass": {name: _mass_metrics(rows, a, boot, n_samples) for a, name in enumerate(APERTURES)},
        "profile": _profile_metrics(rows, boot, n_samples),
        "pixel": _pixel_metrics(rows, boot, n_samples),
        "tarp": _tarp_metrics(rows, boot, rng),
    }


def _power_curves(values: Array, n_samples: int) -> dict[str, Array]:
    """Curves (K,) of the powers of maps (N, 5, K)."""
    P = Powers(*np.moveaxis(values, 1, 0))
    return {
        "b_mean": metrics.transfer(P.mm, P.tt),
        "r_mean": metrics.correlation(P.mt, P.mm, P.tt),
        "b_sample": metrics.transfer(P.xx, P.tt),
        "r_sample": metrics.correlation(P.xt, P.xx, P.tt),
        "b_mean_pooled": metrics.transfer(P.mm, P.tt, pooled=True),
        "r_mean_pooled": metrics.correlation(P.mt, P.mm, P.tt, pooled=True),
        "b_sample_pooled": metrics.transfer(P.xx, P.tt, pooled=True),
        "r_sample_pooled": metrics.correlation(P.xt, P.xx, P.tt, pooled=True),
        "b_minus_r": metrics.identity_residual(P),
        "b_minus_r_debiased": metrics.identity_residual(P, n_samples),
    }


def _power_metrics(rows: Row, boot: _Bootstrap, n_samples: int, k: Array) -> dict[str, Any]:
    names = list(_power_curves(rows["powers"], n_samples))

    def statistic(values: Array) -> Array:
        curves = np.stack(list(_power_curves(values, n_samples).values()))
        averages = np.array([metrics.scale_averages(k, curve) for curve in curves])
        return np.concatenate([averages, curves], axis=1)

    value, error = boot(rows["powers"], statistic)
    return {
        name: {
            "large": value[i, 0], "large_error": error[i, 0], "small": value[i, 1], "small_error": error[i, 1],
            "curve": value[i, 2:], "curve_error": error[i, 2:],
        }
        for i, name in enumerate(names)
    }  # fmt: skip


def _mass_metrics(rows: Row, a: int, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
    M, M_hat, std = rows["mass"][:, a], rows["mass_pred"][:, a], rows["mass_std"][:, a]
    summary, summary_error = boot(ratio(M_hat, M) - 1.0, metrics.spread)
    inside, inside_error = boot(np.where(M > 0, np.abs(M - M_hat) < std, np.nan), metrics.nan_mean)
    slopes, slopes_error = boot(np.stack([M, M_hat], axis=1), lambda v: metrics.mass_slopes(v[:, 0], v[:, 1]))
    _, one_a_cluster = np.unique(boot.ids, return_index=True)  # sightlines of one cluster are not independent
    chi2, p_value = calibration.rank_chi2(calibration.rank_histogram(rows["mass_pit"][one_a_cluster, a], bins=5))
    return {
        "error_median": summary[0], "error_plus": summary[1], "error_minus": summary[2],
        "error_median_error": summary_error[0], "error_plus_error": summary_error[1],
        "error_minus_error": summary_error[2],
        "coverage": inside, "coverage_error": inside_error, "coverage_target": _target(n_samples),
        "levels": calibration.coverage_at_levels(rows["mass_pit"][:, a]),
        "rank_chi2": chi2, "rank_dof": 4, "rank_p_value": p_value,
        "crps_over_mass": metrics.nan_mean(ratio(rows["mass_crps"][:, a], M)),
        "slope_pred_given_true": slopes[0], "slope_pred_given_true_error": slopes_error[0],
        "slope_true_given_pred": slopes[1], "slope_true_given_pred_error": slopes_error[1],
    }  # fmt: skip


def _profile_metrics(rows: Row, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
    t, x = rows["profile"], rows["profile_samples"]
    m, s = x.mean(1), x.shape[1]

    def differences(values: Array) -> Array:
        true, pred, samples = values[:, 0], values[:, 1], values[:, 2:]
        of_samples = metrics.profile_differences(samples.reshape(-1, true.shape[1]), np.repeat(true, s, axis=0))
        return np.stack([*metrics.profile_differences(pred, true), *of_samples])

    value, error = boot(np.concatenate([t[:, None], m[:, None], x], axis=1), differences)
    inside, inside_error = boot(calibration.covered(x, t).astype(float), lambda v: v.mean(0))
    return {
        "mean_difference": value[0], "mean_difference_error": error[0],
        "spread_difference": value[1], "spread_difference_error": error[1],
        "sample_mean_difference": value[2], "sample_spread_difference": value[3],
        "sample_spread_difference_error": error[3],
        "median_absolute_difference": np.median(np.abs(ratio(m, t) - 1.0), axis=0),
        "coverage": inside, "coverage_error": inside_error, "coverage_target": _target(n_samples),
        "true_percentiles": _band(t), "mean_percentiles": _band(m), "true_mean": t.mean(0), "pred_mean": m.mean(0),
    }  # fmt: skip


def _band(values: Array) -> Array:
    """16th, 50th and 84th percentile over axis 0, (3, R)."""
    return np.percentile(values, [16.0, 50.0, 84.0], axis=0)


def _pixel_metrics(rows: Row, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
    inside, inside_error = boot(rows["covered"], np.mean)
    crps, crps_error = boot(rows["crps"], lambda v: v[:, 0].mean() / v[:, 1].mean())
    moments, moments_error = boot(rows["z_moments"], metrics.nan_mean)
    ratio = rows["ratio"][np.isfinite(rows["ratio"])]
    error = metrics.spread(ratio) if ratio.size else (np.nan, np.nan, np.nan)
    levels, levels_error = boot(rows["levels"], lambda v: v.mean(0))
    return {
        "coverage": inside, "coverage_error": inside_error, "coverage_target": _target(n_samples),
        "levels": levels, "levels_error": levels_error, "levels_max_deviation": calibration.max_deviation(levels),
        "ranks": rows["ranks"].sum(0), "z_counts": rows["z_counts"].sum(0),
        "z_mean": moments[0], "z_mean_error": moments_error[0],
        "z_rms": np.sqrt(moments[1]), "z_rms_target": _z_rms_target(n_samples),
        "error_median": error[0], "error_plus": error[1], "error_minus": error[2],
        "crps_over_mean": crps, "crps_over_mean_error": crps_error,
    }  # fmt: skip


def _target(n_samples: int) -> float:
    return calibration.coverage_target(n_samples) if n_samples > 1 else float("nan")


def _z_rms_target(n_samples: int) -> float:
    """rms of (m - t)/std if calibrated: sqrt((1 + 1/S) (S - 1)/(S - 3)), from Student's t."""
    S = n_samples
    return float(np.sqrt((1 + 1 / S) * (S - 1) / (S - 3))) if S > 3 else float("nan")


def _tarp_metrics(rows: Row, boot: _Bootstrap, rng: np.random.Generator) -> dict[str, Any]:
    """TARP of the log profile, one vector per map."""
    floor = np.finfo(float).tiny
    log = [np.log(np.maximum(rows[name], floor)) for name in ("profile_samples", "profile")]
    curve = calibration.tarp(log[0], log[1], rng)
    deviation, limit = calibration.max_deviation(curve), calibration.deviation_limit(boot.n_clusters)
    return {"levels": curve, "max_deviation": deviation, "limit_95": limit, "vector": "log profile"}


def jsonable(value: Any) -> Any:
    """The same nest of dicts and lists in plain Python types; NaN and infinity become None."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return jsonable(value.tolist())
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

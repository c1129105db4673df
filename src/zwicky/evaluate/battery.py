"""The battery: every measure of a posterior on a set of maps, with errors from resampling whole clusters.

Every map is first reduced to a row of small numbers (`rows.map_row`). What is reported are statistics of rows, in bins
of the true M200m.

    all, low: 2e14 <= M200m < 6e14, high: 6e14 <= M200m < 1e15 [Msun]        (bins of Hsu et al. 2025, "H25")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.evaluate import calibration, metrics, shapes
from zwicky.evaluate.metrics import Powers
from zwicky.evaluate.rows import APERTURES, INPUT, Z_EDGES, MapGrid, Row, flat, map_rows
from zwicky.evaluate.statistics import (
    RANK_BINS,
    Bootstrap,
    by_property,
    convergence_metrics,
    mass_metrics,
    shape_metrics,
    target,
    with_error,
)
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
    inputs: Mapping[str, Array] | None = None,
    halo: Mapping[str, ArrayLike] | None = None,
) -> dict[str, Any]:
    """All measures of one channel, in each mass bin, ready for JSON (what is undefined is None).

    Args:
        truth: (N, P, P) surface density [Msun / kpc^2]. samples: (N, S, P, P).
        pixel_kpc: side of a pixel [kpc, proper]; 1 + redshift times that, comoving, sets the wavenumbers.
        h: Hubble constant in 100 km/s/Mpc.
        r200m_kpc, r500c_kpc: (N,) [kpc, proper]. m200m: (N,) [Msun].
        cluster_ids: (N,) the cluster that each map shows.
        rng: for the bootstrap, ties of ranks and reference points.
        inputs: channel -> images (N, P, P) that the model was given. halo: see `summarise`.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check_shapes(truth, samples, r200m_kpc, r500c_kpc, m200m, cluster_ids)
    grid = MapGrid(truth.shape[-1], pixel_kpc, h, redshift)
    rows = map_rows(truth, samples, grid, r500c_kpc, r200m_kpc, rng, inputs)
    return summarise(rows, grid, m200m, cluster_ids, samples.shape[1], rng, n_bootstrap, halo)


def summarise(
    rows: Sequence[Row],
    grid: MapGrid,
    m200m: ArrayLike,
    cluster_ids: ArrayLike,
    n_samples: int,
    rng: np.random.Generator,
    n_bootstrap: int = N_BOOTSTRAP,
    halo: Mapping[str, ArrayLike] | None = None,
    groups: ArrayLike | None = None,
) -> dict[str, Any]:
    """All measures of the rows of one channel; arguments and result as of `evaluate_channel`.

    Args:
        groups: (N,) what is resampled whole, such as simulations; clusters if None.
        halo: name -> property of each map (N,), such as fgas200m or a signal-to-noise ratio; errors of masses are given
            in terciles of each, of m200m, and of the disturbance that `map_row` finds. NaN belongs to none.
    """
    usable = [i for i, row in enumerate(rows) if not (row["bad_truth"] or row["bad_samples"])]
    good = [rows[i] for i in usable]
    mass, ids = np.asarray(m200m, dtype=float)[usable], np.asarray(cluster_ids)[usable]
    together = ids if groups is None else np.asarray(groups)[usable]
    members = {name: np.flatnonzero((mass >= low) & (mass < high)) for name, (low, high) in MASS_BINS.items()}
    properties = {name: np.asarray(x, dtype=float)[usable] for name, x in (halo or {}).items()}
    properties |= {"m200m": mass, "disturbance": np.array([float(row["disturbance"]) for row in good])}
    settings = dict(
        n_maps=len(rows), n_samples=n_samples, n_bootstrap=n_bootstrap, pixel_kpc=grid.pixel_kpc, h=grid.h
    )
    return jsonable({
        "settings": settings,
        "scales": _scales(grid),
        "bins": {
            name: _bin_metrics(
                [good[i] for i in m], {key: x[m] for key, x in properties.items()}, n_samples, grid.k,
                Bootstrap(ids[m], n_bootstrap, rng, together[m]),
            ) for name, m in members.items()
        },
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
        "log_range_dex": shapes.DEX, "peak_contrast": [shapes.CONTRAST, shapes.FAINT],
        "peak_smoothing_kpc": shapes.smoothing_kpc(grid.pixel_kpc), "peaks_matched_in_sigma": shapes.MATCH,
    }  # fmt: skip


# One mass bin -------------------------------------------------------------------------------------------------------


def _bin_metrics(
    maps: list[Row], properties: dict[str, Array], n_samples: int, k: Array, boot: Bootstrap
) -> dict[str, Any]:
    counts = {"n_maps": len(maps), "n_clusters": boot.n_clusters}
    if not maps:
        return counts
    rows = {name: np.stack([row[name] for row in maps]) for name in maps[0]}
    return {
        **counts,
        "power": _power_metrics(rows, boot, n_samples, k),
        "mass": {name: mass_metrics(rows, a, boot, n_samples) for a, name in enumerate(APERTURES)},
        "by_property": by_property(rows, properties, boot, n_samples),
        "profile": _profile_metrics(rows, boot, n_samples),
        "pixel": _pixel_metrics(rows, boot, n_samples),
        "shape": shape_metrics(rows, boot),
        "convergence": convergence_metrics(rows, boot, n_samples, k),
        "tarp": _tarp_metrics(rows, boot),
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
        "b_sample_weighted": metrics.sample_transfer(P.xx, P.tt, P.mm),
        "r_sample_pooled": metrics.correlation(P.xt, P.xx, P.tt, pooled=True),
        "b_minus_r": metrics.identity_residual(P),
        "b_minus_r_debiased": metrics.identity_residual(P, n_samples),
    }


def _input_curves(P_tt: Array, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Correlation (K,) of each input with the truth, and of the best linear filter of all of them.

    Args:
        P_tt: (N, K). inputs: (N, 1 + I, K) as in a row.
    """
    if not inputs:
        return {}
    P = np.stack(list(inputs.values()), axis=1)  # (N, I, 1 + I, K)
    P_it, P_ij = P[:, :, 0], P[:, :, 1:]
    each = {f"r_{name}": metrics.correlation(P_it[:, i], P_ij[:, i, i], P_tt) for i, name in enumerate(inputs)}
    return each | {"r_inputs_linear": metrics.linear_correlation(P_it, P_ij, P_tt)}


def _power_metrics(rows: Row, boot: Bootstrap, n_samples: int, k: Array) -> dict[str, Any]:
    inputs = [name for name in rows if name.startswith(INPUT)]
    together = np.concatenate([rows[name] for name in ("powers", *inputs)], axis=1)  # (N, 5 + I (1 + I), K)

    def curves(values: Array) -> dict[str, Array]:
        images = dict(zip(inputs, np.split(values[:, 5:], max(len(inputs), 1), axis=1), strict=False))
        return _power_curves(values[:, :5], n_samples) | _input_curves(values[:, 0], images)

    def statistic(values: Array) -> Array:
        found = np.stack(list(curves(values).values()))
        averages = np.array([metrics.scale_averages(k, curve) for curve in found])
        return np.concatenate([averages, found], axis=1)

    value, error = boot(together, statistic)
    return {
        name: {
            "large": value[i, 0], "large_error": error[i, 0], "small": value[i, 1], "small_error": error[i, 1],
            "curve": value[i, 2:], "curve_error": error[i, 2:],
        }
        for i, name in enumerate(curves(together))
    }  # fmt: skip


def _profile_metrics(rows: Row, boot: Bootstrap, n_samples: int) -> dict[str, Any]:
    t, x = rows["profile"], rows["profile_samples"]
    m, s = x.mean(1), x.shape[1]

    def differences(values: Array) -> Array:
        true, pred, samples = values[:, 0], values[:, 1], values[:, 2:]
        of_samples = metrics.profile_differences(samples.reshape(-1, true.shape[1]), np.repeat(true, s, axis=0))
        return np.stack([*metrics.profile_differences(pred, true), *of_samples])

    value, error = boot(np.concatenate([t[:, None], m[:, None], x], axis=1), differences)
    inside = calibration.covered(x, t).astype(float)
    return {
        "mean_difference": value[0], "mean_difference_error": error[0],
        "spread_difference": value[1], "spread_difference_error": error[1],
        "sample_mean_difference": value[2], "sample_spread_difference": value[3],
        "sample_spread_difference_error": error[3],
        "median_absolute_difference": np.median(np.abs(ratio(m, t) - 1.0), axis=0),
        **with_error("coverage", boot(inside, lambda v: v.mean(0))), "coverage_target": target(n_samples),
        **with_error("coverage_all", boot(inside, np.mean)), **_profile_ranks(rows["profile_pit"], boot),
        **with_error("crps_over_profile", boot(np.stack([rows["profile_crps"], t], axis=1), _ratio_of_means)),
        "true_percentiles": _band(t), "mean_percentiles": _band(m), "true_mean": t.mean(0), "pred_mean": m.mean(0),
    }  # fmt: skip


def _profile_ranks(u: Array, boot: Bootstrap) -> dict[str, Any]:
    """Coverage of all annuli at each level, and ranks of each annulus (R, RANK_BINS) with chi^2 over groups."""
    levels = boot(u, calibration.coverage_at_levels)
    tests = [calibration.rank_chi2(calibration.rank_histogram(ranks, bins=5)) for ranks in u[boot.independent].T]
    return {
        **with_error("levels", levels), "levels_max_deviation": calibration.max_deviation(levels[0]),
        "ranks": np.stack([calibration.rank_histogram(ranks, RANK_BINS) for ranks in u.T]),
        "rank_chi2": [chi2 for chi2, _ in tests], "rank_dof": 4, "rank_p_value": [p for _, p in tests],
    }  # fmt: skip


def _ratio_of_means(values: Array) -> Array:
    """mean(a) / mean(b) over maps, (R,) of values (N, 2, R)."""
    return ratio(*values.mean(0))


def _band(values: Array) -> Array:
    """16th, 50th and 84th percentile over axis 0, (3, R)."""
    return np.percentile(values, [16.0, 50.0, 84.0], axis=0)


def _pixel_metrics(rows: Row, boot: Bootstrap, n_samples: int) -> dict[str, Any]:
    inside, inside_error = boot(rows["covered"], np.mean)
    crps, crps_error = boot(rows["crps"], lambda v: v[:, 0].mean() / v[:, 1].mean())
    moments, moments_error = boot(rows["z_moments"], metrics.nan_mean)
    ratio = rows["ratio"][np.isfinite(rows["ratio"])]
    error = metrics.spread(ratio) if ratio.size else (np.nan, np.nan, np.nan)
    levels, levels_error = boot(rows["levels"], lambda v: v.mean(0))
    return {
        "coverage": inside, "coverage_error": inside_error, "coverage_target": target(n_samples),
        "levels": levels, "levels_error": levels_error, "levels_max_deviation": calibration.max_deviation(levels),
        "ranks": rows["ranks"].sum(0), "z_counts": rows["z_counts"].sum(0),
        "z_mean": moments[0], "z_mean_error": moments_error[0],
        "z_rms": np.sqrt(moments[1]), "z_rms_target": _z_rms_target(n_samples),
        "error_median": error[0], "error_plus": error[1], "error_minus": error[2],
        "crps_over_mean": crps, "crps_over_mean_error": crps_error,
    }  # fmt: skip


def _z_rms_target(n_samples: int) -> float:
    """rms of (m - t)/std if calibrated: sqrt((1 + 1/S) (S - 1)/(S - 3)), from Student's t."""
    S = n_samples
    return float(np.sqrt((1 + 1 / S) * (S - 1) / (S - 3))) if S > 3 else float("nan")


def _tarp_metrics(rows: Row, boot: Bootstrap) -> dict[str, Any]:
    """TARP of the log profile, one vector per map."""
    floor = np.finfo(float).tiny
    log = [np.log(np.maximum(rows[name], floor)) for name in ("profile_samples", "profile")]
    curve = calibration.tarp(log[0], log[1], boot.rng)
    deviation, limit = calibration.max_deviation(curve), calibration.deviation_limit(boot.n_groups)
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

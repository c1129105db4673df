"""The report of a model on a set of maps: metrics.json, table1.md and the figures.

Every map is first reduced to one row of small numbers (powers, masses, profiles, counts). Everything in the report is
a statistic of rows, in bins of the true M200m, with errors from resampling whole clusters.

    all, low: 2e14 <= M200m < 6e14, high: 6e14 <= M200m < 1e15 [Msun]        (bins of Hsu et al. 2025, "H25")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.evaluate import calibration, figures, metrics
from zwicky.evaluate.metrics import Powers
from zwicky.io import atomic_path, require_writable, write_json
from zwicky.products import aperture_mask, default_profile_edges, radial_profile, ratio

Array = NDArray[Any]
Rows = dict[str, Array]

MASS_BINS: dict[str, tuple[float, float]] = {"all": (0.0, np.inf), "low": (2e14, 6e14), "high": (6e14, 1e15)}  # [Msun]
APERTURES: tuple[str, ...] = ("map", "r500c", "r200m")
Z_EDGES: Array = np.linspace(-5.0, 5.0, 51)  # histogram of standardised errors
N_BOOTSTRAP: int = 200

# (channel, mass bin, quantity, scale) -> value of Hsu et al. 2025, Table 1
H25_TABLE1: dict[tuple[str, str, str, str], float] = {
    ("gas", "low", "b", "small"): 1.023, ("gas", "low", "b", "large"): 1.004,
    ("gas", "low", "r", "small"): 0.932, ("gas", "low", "r", "large"): 0.998,
    ("gas", "high", "b", "small"): 1.004, ("gas", "high", "b", "large"): 1.008,
    ("gas", "high", "r", "small"): 0.949, ("gas", "high", "r", "large"): 0.998,
    ("dark_matter", "low", "b", "small"): 0.928, ("dark_matter", "low", "b", "large"): 1.030,
    ("dark_matter", "low", "r", "small"): 0.832, ("dark_matter", "low", "r", "large"): 0.995,
    ("dark_matter", "high", "b", "small"): 0.888, ("dark_matter", "high", "b", "large"): 1.008,
    ("dark_matter", "high", "r", "small"): 0.821, ("dark_matter", "high", "r", "large"): 0.994,
}  # fmt: skip
TABLE_COLUMNS: tuple[str, ...] = (
    "channel", "mass bin", "clusters", "scale", "quantity", "posterior mean", "single samples", "H25, another data set"
)  # fmt: skip


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
    usable = np.flatnonzero(np.isfinite(truth).all(axis=(1, 2)) & _finite_maps(samples))
    radii = np.stack([np.asarray(r500c_kpc, dtype=float), np.asarray(r200m_kpc, dtype=float)], axis=1)
    pixels, n_samples, h_com = truth.shape[-1], samples.shape[1], h * (1 + redshift)  # wavenumbers: pixel (1 + z) h
    k_edges = metrics.default_k_edges(pixels, pixel_kpc / 1e3, h=h_com)
    edges_kpc = default_profile_edges(pixels, pixel_kpc)
    maps = [
        _row(truth[i].astype(float), samples[i].astype(float), radii[i], pixel_kpc, h_com, k_edges, edges_kpc, rng)
        for i in usable
    ]
    mass, ids = np.asarray(m200m, dtype=float)[usable], np.asarray(cluster_ids)[usable]
    scales = _scales(pixels, pixel_kpc, h_com, k_edges, edges_kpc)
    members = {name: np.flatnonzero((mass >= low) & (mass < high)) for name, (low, high) in MASS_BINS.items()}
    return jsonable({
        "settings": dict(n_maps=len(truth), n_samples=n_samples, n_bootstrap=n_bootstrap, pixel_kpc=pixel_kpc, h=h),
        "scales": scales,
        "bins": {name: _bin_metrics(maps, m, ids, n_samples, scales, rng, n_bootstrap) for name, m in members.items()},
        "warnings": find_warnings(truth, samples),
    })  # fmt: skip


def find_warnings(truth: Array, samples: Array) -> list[str]:
    """Sentences on what makes the numbers of a model void: NaN, constant maps, no spread, no response to the input."""
    finite, found = _finite_maps(samples), []
    if not np.isfinite(truth).all():
        found.append(f"{int((~np.isfinite(truth).all(axis=(1, 2))).sum())} true maps hold NaN or infinity; left out.")
    if not finite.all():
        found.append(f"the model returned NaN or infinity for {int((~finite).sum())} of {len(finite)} maps; left out.")
    good = samples[finite]
    constant = np.array([_flat(x.reshape(len(x), -1).T) for x in good], dtype=bool)
    if constant.any():
        found.append(f"the model returned constant maps for {int(constant.sum())} of {len(finite)} maps.")
    if samples.shape[1] < 2:
        found.append("there is a single sample per map: no posterior width, no calibration.")
    elif len(good) and all(_flat(x) for x in good):
        found.append("all samples of a map are equal: the posterior has no width.")
    if len(good) > 1 and _flat(good.mean(1)) and not _flat(truth):
        found.append("the model returned the same maps for every cluster.")
    return found


def _flat(values: Array) -> bool:
    """Whether the values do not change along axis 0, to one part in a million."""
    return bool(np.ptp(values, axis=0).max() <= 1e-6 * np.abs(values).max())


def _finite_maps(samples: Array) -> Array:
    return np.array([np.isfinite(x).all() for x in samples], dtype=bool)


def _check_shapes(truth: Array, samples: Array, *per_map: ArrayLike) -> None:
    n, square = len(truth), truth.ndim == 3 and truth.shape[-1] == truth.shape[-2]
    if not square or samples.ndim != 4 or (n, *truth.shape[1:]) != (samples.shape[0], *samples.shape[2:]):
        raise ValueError(f"need truth (N, P, P) and samples (N, S, P, P), not {truth.shape} and {samples.shape}.")
    if any(np.shape(values) != (n,) for values in per_map):
        raise ValueError(f"radii, masses and cluster_ids must have shape ({n},), one entry per map.")


def _scales(pixels: int, pixel_kpc: float, h: float, k_edges: Array, edges_kpc: Array) -> dict[str, Any]:
    """The axes that the curves are drawn on."""
    k, _ = metrics.radial_bins(pixels, pixel_kpc / 1e3, k_edges, h=h)
    return {
        "k": k, "k_edges": k_edges, "k_unit": "h/Mpc (comoving)", "k_split": metrics.K_SPLIT,
        "k_nyquist": metrics.nyquist(pixel_kpc / 1e3, h=h),
        "averages": "over bins of k, each bin once; b and r per map, then averaged; 'pooled' averages powers first",
        "profile_edges_kpc": edges_kpc, "levels": calibration.LEVELS, "z_edges": Z_EDGES,
    }  # fmt: skip


# One map ------------------------------------------------------------------------------------------------------------


def _row(
    t: Array, x: Array, radii_kpc: Array, pixel_kpc: float, h: float, k_edges: Array, edges_kpc: Array,
    rng: np.random.Generator,
) -> Rows:  # fmt: skip
    """The small numbers of one map: t (P, P), x (S, P, P)."""
    t, x = t[None], x[None]
    powers = metrics.posterior_powers(t, x, pixel_kpc / 1e3, k_edges, h=h)
    return {
        "powers": np.concatenate(powers),
        **_mass_row(t, x, radii_kpc, pixel_kpc, rng),
        **_profile_row(t, x, edges_kpc, pixel_kpc),
        **_pixel_row(t, x, rng),
    }


def _mass_row(t: Array, x: Array, radii_kpc: Array, pixel_kpc: float, rng: np.random.Generator) -> Rows:
    """Masses [Msun] in the apertures, (A,) each."""
    circles = [aperture_mask(t.shape[-1], pixel_kpc, float(radius)) for radius in radii_kpc]
    weights = np.stack([np.ones(t.shape[-2:]), *circles]).reshape(len(APERTURES), -1) * pixel_kpc**2
    M, M_x = t.reshape(1, -1) @ weights.T, x.reshape(*x.shape[:2], -1) @ weights.T
    std, u = metrics.posterior_std(M_x)[0], calibration.pit(M_x, M, rng)[0]
    crps = metrics.crps(M_x, M)[0]
    return {"mass": M[0], "mass_pred": M_x.mean(1)[0], "mass_std": std, "mass_pit": u, "mass_crps": crps}


def _profile_row(t: Array, x: Array, edges_kpc: Array, pixel_kpc: float) -> Rows:
    both = radial_profile(np.concatenate([t, x[0]]), edges_kpc, pixel_kpc)
    return {"profile": both[0], "profile_samples": both[1:]}


def _pixel_row(t: Array, x: Array, rng: np.random.Generator) -> Rows:
    m = x.mean(1)
    z = metrics.standardised_error(m, t, metrics.posterior_std(x))
    u = calibration.pit(x, t, rng)
    moments = np.array([metrics.nan_mean(z.ravel()), metrics.nan_mean(z.ravel() ** 2)])
    ratio = np.divide(m, t, out=np.full(t.shape, np.nan), where=t > 0) - 1.0
    return {
        "z_counts": np.histogram(z[np.isfinite(z)], bins=Z_EDGES)[0], "z_moments": moments,
        "covered": np.array(calibration.coverage(x, t)), "levels": calibration.coverage_at_levels(u),
        "ranks": calibration.rank_histogram(u), "ratio": ratio.ravel().astype(np.float32),
        "crps": np.array([metrics.crps(x, t).mean(), t.mean()]),
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
    maps: list[Rows], members: Array, ids: Array, n_samples: int, scales: dict[str, Any], rng: np.random.Generator,
    n_bootstrap: int,
) -> dict[str, Any]:  # fmt: skip
    counts = {"n_maps": len(members), "n_clusters": len(np.unique(ids[members]))}
    if not len(members):
        return counts
    rows = {name: np.stack([maps[i][name] for i in members]) for name in maps[0]}
    boot = _Bootstrap(ids[members], n_bootstrap, rng)
    return {
        **counts,
        "power": _power_metrics(rows, boot, n_samples, scales["k"]),
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


def _power_metrics(rows: Rows, boot: _Bootstrap, n_samples: int, k: Array) -> dict[str, Any]:
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


def _mass_metrics(rows: Rows, a: int, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
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


def _profile_metrics(rows: Rows, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
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


def _pixel_metrics(rows: Rows, boot: _Bootstrap, n_samples: int) -> dict[str, Any]:
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


def _tarp_metrics(rows: Rows, boot: _Bootstrap, rng: np.random.Generator) -> dict[str, Any]:
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


# On disk ------------------------------------------------------------------------------------------------------------


def figure_arrays(truth: Array, samples: Array, *, pixel_kpc: float) -> dict[str, Array]:
    """Masses in the map [Msun], (N,) each, that the mass figure needs beside the metrics: mass, mass_pred, mass_std."""
    good = np.isfinite(truth).all(axis=(1, 2)) & _finite_maps(samples)
    M_x = samples[good].sum(axis=(2, 3), dtype=float) * pixel_kpc**2
    M = truth[good].sum(axis=(1, 2), dtype=float) * pixel_kpc**2
    return {"mass": M, "mass_pred": M_x.mean(1), "mass_std": metrics.posterior_std(M_x)}


def write_report(
    folder: str | Path,
    channels: Mapping[str, dict[str, Any]],
    arrays: Mapping[str, Mapping[str, Array]],
    meta: Mapping[str, Any],
) -> Path:
    """Write table1.md, power.png, profiles.png, masses.png, calibration.png, at last metrics.json; return the folder.

    Args:
        channels: {channel: what evaluate_channel returned}.
        arrays: {channel: what figure_arrays returned}; a channel left out has an empty mass panel.
        meta: model, data set, seed, version; stored as it is.
    """
    folder = require_writable(folder)
    warnings = [f"{name}: {sentence}" for name, result in channels.items() for sentence in result["warnings"]]
    with atomic_path(folder / "table1.md") as part:
        part.write_text(table1(channels, warnings))
    drawings = {
        "power.png": figures.power_figure(channels),
        "profiles.png": figures.profiles_figure(channels),
        "masses.png": figures.mass_figure({name: arrays.get(name, {}) for name in channels}),
        "calibration.png": figures.calibration_figure(channels),
    }
    for name, figure in drawings.items():
        figures.save(figure, folder / name)
    write_json(folder / "metrics.json", jsonable({"warnings": warnings, "meta": meta, "channels": channels}))
    return folder


def table1(channels: Mapping[str, dict[str, Any]], warnings: list[str]) -> str:
    """The table of b and r after Table 1 of Hsu et al. 2025, in Markdown; warnings, if any, are its first line."""
    head = [f"**WARNING: {' '.join(warnings)}**", ""] if warnings else []
    nyquist = next((f"{r['scales']['k_nyquist']:.1f}" for r in channels.values()), "-")
    head += [
        f"b and r averaged over bins of k, each bin once: large scales k < {metrics.K_SPLIT:g}, small scales "
        f"{metrics.K_SPLIT:g} <= k <= {nyquist} h/Mpc (Nyquist); per map, then averaged; errors resample clusters.",
        "If calibrated, b of samples is 1 and b - r of the mean is 0 (b - r: pooled, noise of the mean removed).",
        "",
        "| " + " | ".join(TABLE_COLUMNS) + " |",
        "|" + "---|" * len(TABLE_COLUMNS),
    ]
    rows = [
        _table_row(name, result, mass_bin, scale, quantity)
        for name, result in channels.items()
        for mass_bin in ("low", "high")
        for scale in ("small", "large")
        for quantity in ("b", "r", "b - r")
    ]
    return "\n".join(head + rows) + "\n"


def _table_row(channel: str, result: dict[str, Any], mass_bin: str, scale: str, quantity: str) -> str:
    content = result["bins"][mass_bin]
    names = ("b_minus_r_debiased", "") if quantity == "b - r" else (f"{quantity}_mean", f"{quantity}_sample")
    ours = [_cell(content.get("power", {}).get(name), scale) for name in names]
    paper = H25_TABLE1.get((channel, mass_bin, quantity, scale))
    theirs = "-" if paper is None else f"{paper:.3f}"
    cells = [channel.replace("_", " "), mass_bin, str(content["n_clusters"]), scale, quantity, *ours, theirs]
    return "| " + " | ".join(cells) + " |"


def _cell(entry: dict[str, Any] | None, scale: str) -> str:
    value = None if entry is None else entry[scale]
    if entry is None or value is None:
        return "-"
    error = entry[f"{scale}_error"]
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"

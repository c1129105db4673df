"""Several models side by side on the same clusters: statistics of each, and paired differences from the first.

Clusters differ far more than models do, so a difference is taken on the same sightlines, and its error comes from
resampling clusters with all models kept together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zwicky.evaluate import metrics
from zwicky.evaluate.battery import N_BOOTSTRAP, jsonable
from zwicky.evaluate.calibration import coverage_target
from zwicky.evaluate.rows import APERTURES, Row
from zwicky.evaluate.statistics import mass_errors, median_and_width
from zwicky.products import ratio

Array = NDArray[Any]
MAP, R500C = APERTURES.index("map"), APERTURES.index("r500c")


@dataclass(frozen=True)
class Statistic:
    """One number to compare models by.

    Args:
        label: for tables. ideal: what a perfect calibrated posterior has; "low" or "high" where less or more is better;
            "coverage" for that of one sigma of as many samples.
        of_row: the numbers of a row that it is made of, (q,). of_rows: the statistic of (N, q).
    """

    label: str
    ideal: float | str
    of_row: Callable[[Row, Array], Array]
    of_rows: Callable[[Array], float]


def _mean(values: Array) -> float:
    return float(metrics.nan_mean(values.ravel()))


def _median(values: Array) -> float:
    return median_and_width(values)[0]


def _half_width(values: Array) -> float:
    return median_and_width(values)[1]


def _mass_error(a: int) -> Callable[[Row, Array], Array]:
    return lambda row, k: np.atleast_1d(mass_errors(row)[0][a])


def _r_mean(P: metrics.Powers) -> Array:
    return metrics.correlation(P.mt, P.mm, P.tt)


def _scale(curve: Callable[[metrics.Powers], Array], large: bool) -> Callable[[Row, Array], Array]:
    """A curve (K,) of the powers of one map, averaged over the bins of large or of small scales."""

    def of_row(row: Row, k: Array) -> Array:
        powers = metrics.Powers(*row["powers"][:, None])
        return np.atleast_1d(metrics.scale_averages(k, curve(powers))[0 if large else 1])

    return of_row


def _sample_powers(large: bool) -> Callable[[Row, Array], Array]:
    """P_xx, P_tt and P_mm of one map in the bins of large or of small scales, (3 K',) flat."""

    def of_row(row: Row, k: Array) -> Array:
        P = metrics.Powers(*row["powers"])
        return np.stack([P.xx, P.tt, P.mm])[:, (k < metrics.K_SPLIT) == large].ravel()

    return of_row


def _b_sample(values: Array) -> float:
    xx, tt, mm = values.reshape(len(values), 3, -1).swapaxes(0, 1)
    return float(metrics.nan_mean(metrics.sample_transfer(xx, tt, mm)))


STATISTICS: dict[str, Statistic] = {
    "mass_median": Statistic("mass error, median", 0.0, _mass_error(MAP), _median),
    "mass_half_width": Statistic("mass error, half-width", "low", _mass_error(MAP), _half_width),
    "mass_half_width_r500c": Statistic("mass error in R500c, half-width", "low", _mass_error(R500C), _half_width),
    "mass_crps": Statistic(
        "CRPS of the mass / mass", "low", lambda row, k: ratio(row["mass_crps"], row["mass"])[MAP : MAP + 1], _mean
    ),
    "profile_error": Statistic(
        "profile, mean of |m / t - 1|", "low",
        lambda row, k: np.abs(ratio(row["profile_samples"].mean(0), row["profile"]) - 1), _mean,
    ),
    "pixel_crps": Statistic(
        "CRPS of pixels / mean", "low", lambda row, k: row["crps"],
        lambda v: float(ratio(v[:, 0].mean(), v[:, 1].mean())),
    ),
    "r_mean_large": Statistic("r of the mean, k < 2", "high", _scale(_r_mean, True), _mean),
    "r_mean_small": Statistic("r of the mean, k >= 2", "high", _scale(_r_mean, False), _mean),
    "b_sample_weighted_large": Statistic("b of samples, weighted, k < 2", 1.0, _sample_powers(True), _b_sample),
    "b_sample_weighted_small": Statistic("b of samples, weighted, k >= 2", 1.0, _sample_powers(False), _b_sample),
    "coverage_pixels": Statistic("coverage of pixels", "coverage", lambda row, k: np.atleast_1d(row["covered"]), _mean),
    "coverage_mass": Statistic(
        "coverage of the mass", "coverage", lambda row, k: mass_errors(row)[1][MAP : MAP + 1], _mean,
    ),
}  # fmt: skip
CALIBRATION = tuple(key for key in STATISTICS if key.startswith(("b_sample", "coverage")))  # need a posterior


def compare(
    rows: Mapping[str, Mapping[int, Row]],
    groups: Mapping[int, int],
    k: Array,
    rng: np.random.Generator,
    n_bootstrap: int = N_BOOTSTRAP,
) -> dict[str, Any]:
    """The comparison of models in one channel, ready for JSON (what is undefined is None).

    Args:
        rows: model -> {sightline: its row}; the first model is the reference. groups: sightline -> what is
            resampled whole, such as its cluster.
        k: (K,) wavenumbers of the bins [h / Mpc]. rng: for the bootstrap.

    Returns:
        reference; statistics: name -> label and ideal; models: name -> statistic -> value, error, maps;
        differences: name -> statistic -> value, error, maps, the model minus the reference on the maps of both.
    """
    names = list(rows)
    reference = rows[names[0]]
    usable = {m: [i for i, row in found.items() if "mass" in row] for m, found in rows.items()}
    models: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for name in names:
        shared = [i for i in usable[name] if i in set(usable[names[0]])]
        models[name] = _statistics([rows[name]], usable[name], groups, k, rng, n_bootstrap)
        if name != names[0]:
            differences[name] = _statistics([rows[name], reference], shared, groups, k, rng, n_bootstrap)
    counts = {len(row["profile_samples"]) for found in rows.values() for row in found.values() if "mass" in row}
    covered = round(coverage_target(max(counts)), 3) if max(counts, default=1) > 1 else np.nan
    ideals = {key: covered if s.ideal == "coverage" else s.ideal for key, s in STATISTICS.items()}
    statistics = {key: {"label": s.label, "ideal": ideals[key]} for key, s in STATISTICS.items()}
    return jsonable(
        {"reference": names[0], "statistics": statistics, "models": models, "differences": differences}
    )


def _statistics(
    of_models: list[Mapping[int, Row]],
    sightlines: list[int],
    groups: Mapping[int, int],
    k: Array,
    rng: np.random.Generator,
    n: int,
) -> dict[str, Any]:
    """Each statistic of one model, or of the first of two minus the second, on these sightlines."""
    found: dict[str, Any] = {}
    ids = np.array([groups[i] for i in sightlines])
    single = any(len(model[i]["profile_samples"]) < 2 for model in of_models for i in sightlines[:1])
    for key, s in STATISTICS.items():
        if not sightlines or (single and key in CALIBRATION):
            found[key] = {"value": None, "error": None, "maps": 0}
            continue
        values = np.stack([[s.of_row(model[i], k) for model in of_models] for i in sightlines])  # (N, models, q)

        def statistic(v: Array, s: Statistic = s) -> float:
            each = [s.of_rows(v[:, m]) for m in range(v.shape[1])]
            return each[0] if len(each) == 1 else each[0] - each[1]

        error = np.nan
        if len(np.unique(ids)) > 1:
            error = metrics.bootstrap_over_clusters(values, ids, statistic, n, rng).std(ddof=1)
        found[key] = {"value": statistic(values), "error": error, "maps": len(sightlines)}
    return found

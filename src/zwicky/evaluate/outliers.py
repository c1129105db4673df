"""Does the warning of an outlier fire where it should? Scores of like clusters against those of other physics.

    false alarms(c) = P(score < c | like clusters),    caught(c) = P(score < c | other clusters)

over all c are the ROC curve; its area is the chance that an other cluster scores lower than a like one. A case has
failed where the mass of gas or of dark matter inside R200m is off by more than 3 standard deviations of its posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zwicky.evaluate.metrics import bootstrap_over_clusters, ratio
from zwicky.products import aperture_mass
from zwicky.reconstruct import Model

Array = NDArray[np.float64]

FAILED = 3.0  # standard deviations of the mass
RESAMPLINGS = 400
SHARES = ("caught", "failed", "caught_failed")


class Cases(NamedTuple):
    """Reconstructed sightlines, (N,) each: their scores, errors of mass [posterior standard deviations], clusters."""

    score: Array
    pull: Array
    cluster: NDArray[np.int64]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Whether the mass is off."""
        return self.pull > FAILED


def judge(
    model: Model,
    inputs: Mapping[str, NDArray],
    truth: Mapping[str, NDArray],
    r200m_kpc: Array,
    cluster: NDArray[np.int64],
    redshift: float,
    n: int = 20,
) -> Cases:
    """Reconstruct sightlines with a model that has a reference.

    Args:
        inputs, truth: channel -> (N, P, P) on the grid of the model. r200m_kpc: (N,). n: samples of each.
    """
    scores, pulls = [], []
    for i, radius in enumerate(r200m_kpc):
        posterior = model.sample({c: y[i] for c, y in inputs.items()}, redshift, model.config.pixel_kpc, n, seed=i)
        scores.append(np.nan if posterior.outlier is None else posterior.outlier.score)
        errors = []
        for channel, maps in truth.items():
            mass = posterior.mass(channel, float(radius))
            true = aperture_mass(maps[i], posterior.pixel_kpc, float(radius))
            errors.append(abs(mass.mean() - true) / mass.std(ddof=1))
        pulls.append(max(errors))
    return Cases(np.array(scores), np.array(pulls), np.asarray(cluster))


def roc(like: Array, other: Array) -> tuple[Array, Array]:
    """False alarms and share caught as the limit rises from below all scores to above, (K,) each from 0 to 1."""
    limits = np.concatenate([[-np.inf], np.unique(np.concatenate([like, other])), [np.inf]])
    alarms, caught = (np.searchsorted(np.sort(scores), limits) / len(scores) for scores in (like, other))
    return alarms, caught


def area(like: Array, other: Array) -> float:
    """Area under the ROC curve, P(other < like) with ties halved: 0.5 if the score cannot tell, 1 if it always can."""
    return float(np.mean((other[:, None] < like) + 0.5 * (other[:, None] == like)))


def shares(cases: Cases, limit: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """Shares of cases and their errors, from resampling whole clusters: `caught`, `failed`, `caught_failed`.

    `caught` is the share of all cases with a score below the limit, `caught_failed` that of the failed ones, NaN where
    there are none.
    """
    columns = np.stack([cases.score < limit, cases.failed], 1).astype(float)

    def each(rows: Array) -> Array:
        both = rows[:, 0] * rows[:, 1]
        return np.array([rows[:, 0].mean(), rows[:, 1].mean(), float(ratio(both.sum(), rows[:, 1].sum()))])

    drawn = np.ma.masked_invalid(bootstrap_over_clusters(columns, cases.cluster, each, RESAMPLINGS, rng))
    both = zip(each(columns), np.ma.filled(drawn.std(0).astype(float), np.nan), strict=True)
    return {name: (float(v), float(e)) for name, (v, e) in zip(SHARES, both, strict=True)}

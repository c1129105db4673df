"""Another prior for the mass of a cluster than the one it was trained under.

A training set is made flat in ln M200m, the sky is not. Samples of the posterior under the training prior p_0 become
samples under p by weights

    w = p(ln M200m) / p_0(ln M200m),      p = 1 (flat) or dn / dln M of Tinker et al. 2008 (mass_function),

with M200m by its mean relation to the mass in the map over the training set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from colossus.lss import mass_function
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology, colossus_of

Array = NDArray[np.float64]

PRIORS = ("training", "flat", "mass_function")
BINS = 12  # of the histogram of ln M200m of the training set


def learnt(ln_map: Array, ln_m200m: Array) -> dict[str, Any]:
    """What weights need to know of a training set: the mean relation of the masses, and their distribution.

    Args:
        ln_map: ln of all matter in the maps [Msun], (N,). ln_m200m: of their clusters, (N,).
    """
    spread = np.ptp(ln_map) > 1e-6 and len(ln_map) > 2
    slope, offset = np.polyfit(ln_map, ln_m200m, 1) if spread else (1.0, float(np.mean(ln_m200m - ln_map)))
    counts, edges = np.histogram(ln_m200m, BINS)
    density = np.maximum(counts, 1) / counts.sum() / np.diff(edges)
    return {"slope": float(slope), "offset": float(offset), "edges": edges.tolist(), "density": density.tolist()}


def weights(prior: str, ln_map: Array, known: dict[str, Any], cosmology: Cosmology, redshift: float) -> Array:
    """w of masses in the map, of the shape of `ln_map` [ln Msun], largest 1 along the last axis.

    Args:
        known: what `learnt` returned.

    Raises:
        ValueError: there is no such prior.
    """
    if prior not in PRIORS:
        raise ValueError(f"the prior must be one of {', '.join(PRIORS)}, not {prior!r}.")
    if prior == "training":
        return np.ones_like(ln_map)
    ln_m = known["slope"] * ln_map + known["offset"]
    middles = (np.array(known["edges"])[1:] + np.array(known["edges"])[:-1]) / 2
    ln_w = -np.interp(ln_m, middles, np.log(known["density"]))
    if prior == "mass_function":
        ln_w = ln_w + np.log(abundance(cosmology, np.exp(ln_m), redshift))
    return np.exp(ln_w - ln_w.max(-1, keepdims=True))


def abundance(cosmology: Cosmology, m200m: Array, redshift: float) -> Array:
    """dn / dln M [comoving Mpc^-3] of M200m [Msun], after Tinker et al. 2008 (arXiv 0803.2706), by colossus."""
    flat = np.ravel(m200m)
    with colossus_of(cosmology):
        found = mass_function.massFunction(
            flat * cosmology.h, redshift, mdef="200m", model="tinker08", q_in="M", q_out="dndlnM"
        )
    return (found * cosmology.h**3).reshape(np.shape(m200m))

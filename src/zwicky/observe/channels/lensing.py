"""Weak lensing: the convergence that a source behind the cluster sees.

    kappa = Sigma / Sigma_crit,   Sigma_crit = c^2 D_s / (4 pi G D_l D_ls),   angular diameter distances
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.scene import Scene, Weight, universe
from zwicky.simulate.state import Species
from zwicky.units import C_CGS, G_MPC


def critical_surface_density(scene: Scene, source: float) -> float:
    """Sigma_crit [Msun / kpc^2] for a source at this redshift.

    Raises:
        ValueError: the source is not behind the cluster, or the cluster is at redshift 0.
    """
    if not source > scene.redshift > 0:
        raise ValueError(
            f"a source at redshift {source:g} is not lensed by a cluster at {scene.redshift:g}; place the cluster at a "
            "redshift above 0 and below that of the source."
        )
    ours = universe(scene.cosmology)
    d_l, d_s = (ours.comoving_transverse_distance(z).to_value("Mpc") for z in (scene.redshift, source))
    curvature = ours.Ok0 / ours.hubble_distance.to_value("Mpc") ** 2
    between = d_s * np.sqrt(1 + curvature * d_l**2) - d_l * np.sqrt(1 + curvature * d_s**2)  # Hogg 1999, eq. 19
    ratio = d_s / between / (d_l / (1 + scene.redshift))  # D_s / (D_l D_ls) [1/Mpc]
    return float((C_CGS / 1e5) ** 2 * ratio / (4 * np.pi * G_MPC) / 1e6)


def convergence(source: float) -> Weight:
    """The weight of kappa for sources at this redshift: mass over Sigma_crit [kpc^2]."""

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        return species.masses / critical_surface_density(scene, source)

    return weight

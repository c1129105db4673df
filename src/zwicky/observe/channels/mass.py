"""Surface density of gas, dark matter, stars or all matter, and the mean column that normalises it.

    Sigma_x = sum_i m_i w_i / area,     S_x = Sigma_x / (Omega_x rho_crit l)                (Hsu et al. 2025, eq. 3)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.observe.scene import Scene
from zwicky.simulate.state import Species


def mass(species: Species, scene: Scene) -> NDArray[np.float64]:
    """Mass of each particle [Msun], (P,): the map is a surface density [Msun / kpc^2]."""
    return species.masses


def mean_column(channel: str, cosmology: Cosmology, depth_kpc: float, scale_factor: float = 1.0) -> float:
    """Cosmic mean surface density Omega_x rho_crit l of a mass channel [Msun / kpc^2].

    Args:
        channel: "gas", "dark_matter" or "total".
        cosmology: gives Omega_x and rho_crit today.
        depth_kpc: length l of the line of sight, proper [kpc].
        scale_factor: a; the proper mean density grows as a^-3.

    Raises:
        ValueError: the channel is none of these.

    Reference: Hsu et al. 2025, eq. 3.
    """
    c = cosmology
    omega = {"gas": c.omega_b, "dark_matter": c.omega_m - c.omega_b, "total": c.omega_m}
    if channel not in omega:
        raise ValueError(f"{channel!r} is no mass channel; these are: {', '.join(omega)}.")
    return omega[channel] * c.rho_crit0 / scale_factor**3 * 1e-9 * depth_kpc

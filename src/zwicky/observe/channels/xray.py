"""Bolometric free-free X-ray surface brightness.

    S = int l dl = sum_i L_i w_i / area                                                 (Hsu et al. 2025, eq. 7)

L_i comes from the SPH density of each particle, never from a mesh: l goes as density squared, and a mesh of 100 kpc
cells loses half of it in clumps. S is emitted power per unit area; cosmological dimming is not in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.emissivity import free_free_luminosity
from zwicky.simulate.state import Species
from zwicky.units import KPC


def xray(species: Species, scale_factor: float) -> NDArray[np.float64]:
    """Luminosity of each gas particle [erg s^-1 cm^-2 kpc^2], (P,): the map is S [erg s^-1 cm^-2].

    Raises:
        ValueError: the gas has no density or no temperature.
    """
    if species.density is None or species.temperature is None:
        raise ValueError("xray needs the density and temperature of the gas, which these particles do not have.")
    return free_free_luminosity(species.masses, species.density, species.temperature) / KPC**2

"""Mean temperatures of the gas along the line of sight.

    T = sum_i w_i T_i / sum_i w_i        w: bolometric emission, or rho T^(-3/4) m, which a spectrum fitted by one
                                         temperature measures (spectroscopic-like; Mazzotta et al. 2004)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.channels.xray import require
from zwicky.observe.emissivity import free_free_luminosity
from zwicky.observe.scene import Scene, Weight
from zwicky.simulate.state import Species
from zwicky.units import KEV_IN_K

COLDEST = 0.5  # keV: colder gas does not shine in the band of the spectra


def emission(species: Species, scene: Scene) -> NDArray[np.float64]:
    """Bolometric luminosity of each gas particle [erg s^-1], (P,)."""
    return free_free_luminosity(species.masses, *require(species, "temperature"))


def spectroscopic(species: Species, scene: Scene) -> NDArray[np.float64]:
    """m rho T^(-3/4) of each gas particle hotter than COLDEST, in the units of `Species`, (P,); T in keV."""
    density, temperature = require(species, "temperature_sl")
    kT = temperature / KEV_IN_K
    return np.where(kT > COLDEST, species.masses * density * np.maximum(kT, COLDEST) ** -0.75, 0.0)


def times_temperature(weight: Weight) -> Weight:
    """The weight times T [keV]."""

    def weighted(species: Species, scene: Scene) -> NDArray[np.float64]:
        found = weight(species, scene)  # which says if the temperature is missing
        return found * species.temperature / KEV_IN_K  # type: ignore[operator]

    return weighted

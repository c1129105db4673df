"""X-ray surface brightness: bolometric of free-free emission, or of a band, with lines if the scene has a table.

    S = int l dl = sum_i L_i w_i / area                                                 (Hsu et al. 2025, eq. 7)

L_i comes from the SPH density of each particle, never from a mesh: l goes as density squared, and a mesh of 100 kpc
cells loses half of it in clumps. S is emitted power per unit area; cosmological dimming is not in it.
A band is that of the observer: the gas emits it (1 + z) times higher, and hydrogen in front absorbs of it. It is a map
of power, or of photons.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.emissivity import band_luminosity, free_free_luminosity
from zwicky.observe.scene import Scene, Weight
from zwicky.simulate.state import Species
from zwicky.units import KPC, Z_SOLAR


def require(species: Species, channel: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Density and temperature of the gas.

    Raises:
        ValueError: the gas has no density or no temperature.
    """
    if species.density is None or species.temperature is None:
        raise ValueError(f"{channel} needs the density and temperature of the gas, which these particles do not have.")
    return species.density, species.temperature


def xray(species: Species, scene: Scene) -> NDArray[np.float64]:
    """Luminosity of each gas particle [erg s^-1 cm^-2 kpc^2], (P,): the map is S [erg s^-1 cm^-2].

    Raises:
        ValueError: the gas has no density or no temperature.
    """
    return free_free_luminosity(species.masses, *require(species, "xray")) / KPC**2


def band(low_kev: float, high_kev: float, photons: bool = False) -> Weight:
    """The weight of the emission that is seen between two energies [keV], or of its photons, absorption included.

    Raises:
        ValueError: the band is empty or not between 0.05 and 20 keV.
    """
    if not 0.05 <= low_kev < high_kev <= 20:
        raise ValueError(f"an X-ray band must be between 0.05 and 20 keV, not {low_kev:g} to {high_kev:g} keV.")

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        gas, edges = (species.masses, *require(species, "xray")), (low_kev, high_kev)
        z, column, table = scene.redshift, scene.hydrogen_column, scene.emissivity
        if table is None:
            return band_luminosity(*gas, edges, z, column, photons) / KPC**2
        return table.luminosity(*gas, _metallicity(species, scene), edges, z, column, photons) / KPC**2

    return weight


def _metallicity(species: Species, scene: Scene) -> NDArray[np.float64] | float:
    """Of each particle, in the solar unit of the table: of the gas itself where it is known."""
    if species.metallicity is None or scene.emissivity is None:
        return scene.metallicity
    return species.metallicity * (Z_SOLAR / scene.emissivity.solar_metals)

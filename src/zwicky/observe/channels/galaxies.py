"""Galaxies: how many there are, and their light; the light of stars.

    members  sum_i [m_i > m] / area                    light  I = sum_i m_i w_i / (M/L) / area
    log10 (M/L) = a + b (g - r) - 0.15                 Bell et al. 2003 (astro-ph/0302543), table 7, in solar units
    (M/L)_u = (M/L)_g 10^(0.4 [(u - g) - (u - g)_sun])

One ratio of mass to light holds for all galaxies, and for all stars where no table (`populations`) is given: that of
old ones, of the colour of elliptical galaxies today, g - r = 0.77 (Fukugita, Shimasaku & Ichikawa 1995, table 3). u - g
is that of which table 7 gives the same (M/L)_g. 0.15 dex turn the "diet Salpeter" masses of table 7, which are 0.15 dex
below those of Salpeter, into those of a Kroupa or Chabrier initial mass function (Garcia-Benito et al. 2019, arXiv
1811.08431: 0.29 dex from Salpeter to Chabrier). At this colour log10 (M/L)_r is 0.39 here, and 0.43, 0.46 and 0.51 by
Zibetti, Charlot & Rix 2009 and by Roediger & Courteau 2015 with the models BC03 and FSPS: brightness is known to 30%.
There is no age, no metallicity, no dust and no K-correction: a band is that of the galaxy at rest, and stars younger
than a few Gyr shine brighter.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zwicky.observe.populations import SUN
from zwicky.observe.scene import Scene, Weight
from zwicky.simulate.state import Species
from zwicky.units import Z_SOLAR

BELL = {"g": (-0.499, 1.519), "r": (-0.306, 1.097), "i": (-0.222, 0.864), "z": (-0.223, 0.689)}  # a, b of g - r
BELL_UG = (-0.221, 0.485)  # a, b of (M/L)_g by u - g
COLOUR = 0.77  # g - r
IMF = -0.15  # of log10 (M/L)
COLOUR_UG = (BELL["g"][0] + BELL["g"][1] * COLOUR - BELL_UG[0]) / BELL_UG[1]
MASS_TO_LIGHT = {band: 10 ** (a + b * COLOUR + IMF) for band, (a, b) in BELL.items()}  # [Msun / Lsun]
MASS_TO_LIGHT["u"] = MASS_TO_LIGHT["g"] * 10 ** (0.4 * (COLOUR_UG - SUN["u"] + SUN["g"]))


def members(log_mass: float) -> Weight:
    """The weight that counts galaxies above 10^log_mass [Msun] in stars, per Mpc^2 [kpc^2 / Mpc^2]."""

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        return np.where(species.masses > 10**log_mass, 1e6, 0.0)

    return weight


def light(band: str) -> Weight:
    """The weight of the light of old stars in one of the bands u, g, r, i, z of SDSS [Lsun]."""

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        return species.masses / MASS_TO_LIGHT[band]

    return weight


def star_light(band: str) -> Weight:
    """The weight of the light of star particles [Lsun]: by age and metals with a table, else as `light`."""
    old = light(band)

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        if scene.populations is None:
            return old(species, scene)
        if species.age is None or species.metallicity is None:
            missing = "ages" if species.age is None else "metallicities"
            raise ValueError(f"the table of stellar populations needs {missing} of stars, which this snapshot lacks.")
        return scene.populations.luminosity(band, species.masses, species.age, species.metallicity * Z_SOLAR)

    return weight

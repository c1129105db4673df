"""Thermal and kinetic Sunyaev-Zeldovich effect.

    y = sigma_T / (m_e c^2) int n_e k T dl,     S = T_cmb y                            (Hsu et al. 2025, eqs. 4 and 5)
    dT = T_cmb y f(nu, T),   f = (dI / y) / (dI / (dT / T))                             thermal, relativistic
    dT / T = -sigma_T int n_e v / c dl,   v > 0 where the gas recedes                   kinetic
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.observe.emissivity import compton_y_weight, electron_number
from zwicky.observe.scene import Scene, Weight
from zwicky.observe.sz_spectrum import change_of_temperature
from zwicky.simulate.state import Species
from zwicky.units import C_CGS, KEV_IN_K, KPC, SIGMA_T, T_CMB


def compton_y(species: Species, scene: Scene) -> NDArray[np.float64]:
    """Integrated Compton parameter of each gas particle [kpc^2], (P,): the map is y.

    Raises:
        ValueError: the gas has no temperature.
    """
    if species.temperature is None:
        raise ValueError("compton_y needs the temperature of the gas, which these particles do not have.")
    return compton_y_weight(species.masses, species.temperature)


def kinetic(species: Species, scene: Scene) -> NDArray[np.float64]:
    """sigma_T N_e v / c [kpc^2] of each gas particle that moves with v towards the observer, (P,): the map is dT / T.

    Raises:
        ValueError: the gas has no velocities.
    """
    if species.velocities is None:
        raise ValueError("ksz needs the velocities of the gas, which these particles do not have.")
    approach = species.velocities[:, 2].astype(float) * 1e5 / C_CGS
    if species.temperature is not None:
        approach *= species.temperature > 0  # 0 marks gas without free electrons
    return SIGMA_T / KPC**2 * electron_number(species.masses) * approach


def brightness(frequency_ghz: float) -> Weight:
    """The weight of the thermal effect at one frequency [uK kpc^2]: the map is a change of the CMB temperature.

    Raises:
        ValueError: the frequency is not from 1 to 2000 GHz.
    """
    if not 1 <= frequency_ghz <= 2000:
        raise ValueError(f"the SZ effect can be made at 1 to 2000 GHz, not at {frequency_ghz:g} GHz.")

    def weight(species: Species, scene: Scene) -> NDArray[np.float64]:
        y = compton_y(species, scene)
        kT = species.temperature / KEV_IN_K  # type: ignore[operator]
        return T_CMB * 1e6 * y * change_of_temperature(frequency_ghz, kT)

    return weight


def temperature_decrement(y: ArrayLike) -> NDArray[np.float64]:
    """T_cmb y [uK], any shape: the size of the effect without its dependence on frequency (Hsu et al. 2025, eq. 5)."""
    return T_CMB * 1e6 * np.asarray(y, dtype=float)

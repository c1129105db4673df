"""Thermal Sunyaev-Zeldovich effect.

    y = sigma_T / (m_e c^2) int n_e k T dl,     S = T_cmb y                            (Hsu et al. 2025, eqs. 4 and 5)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.observe.emissivity import compton_y_weight
from zwicky.simulate.state import Species
from zwicky.units import T_CMB


def compton_y(species: Species, scale_factor: float) -> NDArray[np.float64]:
    """Integrated Compton parameter of each gas particle [kpc^2], (P,): the map is y.

    Raises:
        ValueError: the gas has no temperature.
    """
    if species.temperature is None:
        raise ValueError("compton_y needs the temperature of the gas, which these particles do not have.")
    return compton_y_weight(species.masses, species.temperature)


def temperature_decrement(y: ArrayLike) -> NDArray[np.float64]:
    """T_cmb y [uK], any shape: the size of the effect without its dependence on frequency (Hsu et al. 2025, eq. 5)."""
    return T_CMB * 1e6 * np.asarray(y, dtype=float)

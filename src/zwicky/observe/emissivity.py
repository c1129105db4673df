"""What each gas particle contributes to SZ and X-ray maps: pure functions of its mass, density and temperature.

    N_e   = m / (mu_e m_p),   mu_e = 2 / (1 + X)                              fully ionised hydrogen and helium
    y     = sigma_T / (m_e c^2) int n_e k T dl   ->   sigma_T / (m_e c^2) N_e k T / area
    l     = c_ff T^(1/2) n_e sum_i g(gamma_i^2) Z_i^2 n_i,   gamma_i^2 = Z_i^2 Ry / kT        (Hsu et al. 2025, eq. 6)
    L     = l m / rho,   n_H = X rho / m_p,   n_He = (1 - X) rho / (4 m_p)

g is the exact non-relativistic free-free Gaunt factor averaged over frequency (Karzas & Latter 1961; van Hoof et al.
2014). A luminosity here is bolometric bremsstrahlung alone: no lines, no metals, no electron-electron term and no
relativistic correction (+1% at 2 keV, +5% at 10 keV).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from zwicky.units import C_CGS, K_B, KEV, KPC, M_ELECTRON, M_PROTON, MPC, MSUN, MU_E, SIGMA_T, X_HYDROGEN

C_FREE_FREE = 1.42556e-27  # [erg cm^3 s^-1 K^-1/2], 2^5 pi e^6 / (3 h m_e c^3) (2 pi k / (3 m_e))^1/2
RYDBERG = 13.605693123e-3 * KEV  # [erg], infinite nuclear mass

LOG_GAMMA2 = np.linspace(-4.5, 2.0, 27)
# Made by `python validation/gaunt_table.py`, one number for each of LOG_GAMMA2.
GAUNT = (
    1.109353, 1.111595, 1.114589, 1.118588, 1.123923, 1.131031, 1.140472,
    1.152940, 1.169260, 1.190318, 1.216907, 1.249433, 1.287459, 1.329155,
    1.370881, 1.407295, 1.432377, 1.441328, 1.432551, 1.408395, 1.373975,
    1.334860, 1.295270, 1.257645, 1.223115, 1.192082, 1.164579,
)  # fmt: skip


def electron_number(mass_gas: ArrayLike) -> NDArray[np.float64]:
    """Number of electrons N_e in fully ionised gas of mass_gas [Msun], any shape."""
    return np.asarray(mass_gas, dtype=float) * (MSUN / (MU_E * M_PROTON))


def compton_y_weight(mass: ArrayLike, temperature: ArrayLike) -> NDArray[np.float64]:
    """sigma_T / (m_e c^2) N_e k T [kpc^2]: divided by an area [kpc^2] it is the Compton y averaged over that area.

    Args:
        mass: of gas [Msun], any shape.
        temperature: of the electrons [K], same shape.

    Reference: Hsu et al. 2025, eq. 4.
    """
    cross_section = SIGMA_T * K_B / (M_ELECTRON * C_CGS**2) / KPC**2  # [kpc^2 K^-1]
    return cross_section * electron_number(mass) * np.asarray(temperature, dtype=float)


def gaunt_factor(gamma2: ArrayLike) -> NDArray[np.float64]:
    """Frequency-averaged free-free Gaunt factor at gamma^2 = Z^2 Ry / kT, any shape; held constant off the table."""
    smallest, largest = 10.0 ** LOG_GAMMA2[0], 10.0 ** LOG_GAMMA2[-1]
    return np.asarray(_gaunt_spline()(np.log10(np.clip(gamma2, smallest, largest))))


def free_free_luminosity(mass: ArrayLike, density: ArrayLike, temperature: ArrayLike) -> NDArray[np.float64]:
    """Bolometric free-free luminosity of each particle [erg s^-1].

    Args:
        mass: of gas [Msun], any shape.
        density: of gas at the particle, proper [Msun / Mpc^3], same shape.
        temperature: of the gas [K], same shape.

    Reference: Hsu et al. 2025, eq. 6, with the exact constant and Gaunt factor in place of 1.4e-27 and a fixed one.
    """
    T = np.asarray(temperature, dtype=float)
    nucleons = np.asarray(density, dtype=float) * (MSUN / MPC**3 / M_PROTON)  # [cm^-3]
    gamma2 = RYDBERG / (K_B * np.maximum(T, 1.0))
    g_Z2 = X_HYDROGEN * gaunt_factor(gamma2) + (1.0 - X_HYDROGEN) * gaunt_factor(4.0 * gamma2)  # per nucleon
    return C_FREE_FREE * np.sqrt(T) * electron_number(mass) * nucleons * g_Z2


@functools.lru_cache(maxsize=1)
def _gaunt_spline() -> CubicSpline:
    """The table as a cubic spline in log10 gamma^2."""
    return CubicSpline(LOG_GAMMA2, GAUNT)

"""What each gas particle contributes to SZ and X-ray maps: pure functions of its mass, density and temperature.

    N_e   = m / (mu_e m_p),   mu_e = 2 / (1 + X)                              fully ionised hydrogen and helium
    y     = sigma_T / (m_e c^2) int n_e k T dl   ->   sigma_T / (m_e c^2) N_e k T / area
    l     = c_ff T^(1/2) n_e sum_i g(gamma_i^2) Z_i^2 n_i,   gamma_i^2 = Z_i^2 Ry / kT        (Hsu et al. 2025, eq. 6)
    L     = l m / rho,   n_H = X rho / m_p,   n_He = (1 - X) rho / (4 m_p)
    L(E1, E2) = int dE dL/dE exp(-N_H sigma(E / (1 + z)))  from E1 (1 + z) to E2 (1 + z),   g -> g(u, gamma^2) e^-u du
    N(E1, E2) = the same of dL/dE / E: photons, E being their energy where they are emitted

g is the exact non-relativistic free-free Gaunt factor, averaged over frequency or at a photon energy of u kT (Karzas &
Latter 1961; van Hoof et al. 2014). A luminosity here is bremsstrahlung alone: no lines, no metals, no electron-electron
term and no relativistic correction (+1% at 2 keV, +5% at 10 keV).
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline, RectBivariateSpline

from zwicky.units import C_CGS, K_B, KEV, KEV_IN_K, KPC, M_ELECTRON, M_PROTON, MPC, MSUN, MU_E, SIGMA_T, X_HYDROGEN

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

LOG_T = np.log(np.geomspace(0.02, 60.0, 240) * KEV_IN_K)  # of the tables of bands
BAND_POINTS = 201  # energies in a band
ABSORPTION_EDGES = (0.1, 0.284, 0.4, 0.532, 0.707, 0.867, 1.303, 1.84, 2.471, 3.21, 4.038, 7.111, 8.331)  # [keV]
ABSORPTION = (
    (17.3, 608.1, -2150.0), (34.6, 267.9, -476.1), (78.1, 18.8, 4.3), (71.4, 66.8, -51.4), (95.5, 145.8, -61.1),
    (308.9, -380.6, 294.0), (120.6, 169.3, -47.7), (141.3, 146.8, -31.5), (202.7, 104.7, -17.0), (342.7, 18.7, 0.0),
    (352.2, 18.7, 0.0), (433.9, -2.4, 0.75), (629.0, 30.9, 0.0), (701.2, 25.2, 0.0),
)  # fmt: skip


def electron_number(mass_gas: ArrayLike) -> NDArray[np.float64]:
    """Number of electrons N_e in fully ionised gas of mass_gas [Msun], any shape."""
    return np.asarray(mass_gas, dtype=float) * (MSUN / (MU_E * M_PROTON))


def nucleon_density(density: ArrayLike) -> NDArray[np.float64]:
    """Nucleons of gas of proper density [Msun / Mpc^3], any shape [cm^-3]."""
    return np.asarray(density, dtype=float) * (MSUN / MPC**3 / M_PROTON)


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
    gamma2 = RYDBERG / (K_B * np.maximum(np.asarray(temperature, dtype=float), 1.0))
    g_Z2 = X_HYDROGEN * gaunt_factor(gamma2) + (1.0 - X_HYDROGEN) * gaunt_factor(4.0 * gamma2)
    return _bremsstrahlung(mass, density, temperature, g_Z2)


def _bremsstrahlung(
    mass: ArrayLike, density: ArrayLike, temperature: ArrayLike, g_Z2: NDArray[np.float64]
) -> NDArray[np.float64]:
    """c_ff T^(1/2) N_e n g_Z2 [erg s^-1], n the density of nucleons and g_Z2 the sum of g Z^2 n_i over it."""
    T = np.asarray(temperature, dtype=float)
    return C_FREE_FREE * np.sqrt(T) * electron_number(mass) * nucleon_density(density) * g_Z2


def band_luminosity(
    mass: ArrayLike,
    density: ArrayLike,
    temperature: ArrayLike,
    band_kev: tuple[float, float],
    redshift: float = 0.0,
    hydrogen_column: float = 0.0,
    photons: bool = False,
) -> NDArray[np.float64]:
    """Free-free luminosity of each particle in a band, less what is absorbed on the way [erg s^-1], or photons [s^-1].

    Args:
        mass, density, temperature: as for `free_free_luminosity`.
        band_kev: of the observer; the gas emits it at (1 + redshift) times these energies.
        redshift: of the cluster.
        hydrogen_column: of the Milky Way [cm^-2].
        photons: count photons, each of the energy at which it is emitted, in the place of erg.
    """
    table = _band_table(band_kev, redshift, hydrogen_column, photons)
    log_T = np.log(np.maximum(np.asarray(temperature, dtype=float), 1.0))
    return _bremsstrahlung(mass, density, temperature, np.interp(log_T, LOG_T, table, left=0.0))


@functools.lru_cache(maxsize=16)
def _band_table(
    band_kev: tuple[float, float], redshift: float, hydrogen_column: float, photons: bool
) -> NDArray[np.float64]:
    """Sum over ions of Z^2 n_i per nucleon times int g e^-u exp(-N_H sigma) du, over E [erg] for photons, at LOG_T."""
    energy = np.geomspace(*band_kev, BAND_POINTS)  # as observed [keV]
    passed = np.exp(-hydrogen_column * photoelectric_cross_section(energy))
    if photons:
        passed /= energy * ((1 + redshift) * KEV)
    kT = np.exp(LOG_T)[:, None] * (K_B / KEV)
    u = energy * (1 + redshift) / kT
    total = np.zeros(len(LOG_T))
    for Z, abundance in ((1, X_HYDROGEN), (2, 1.0 - X_HYDROGEN)):
        g = spectral_gaunt_factor(u, np.broadcast_to(Z**2 * RYDBERG / KEV / kT, u.shape))
        total += abundance * simpson(g * np.exp(-u) * passed * u, x=np.log(energy), axis=1)
    return total


def spectral_gaunt_factor(u: ArrayLike, gamma2: ArrayLike) -> NDArray[np.float64]:
    """Free-free Gaunt factor at photon energy u kT and gamma^2 = Z^2 Ry / kT, shapes alike; held off the table."""
    log_u, log_gamma2, spline = _spectral_spline()
    x = np.clip(np.log10(u), log_u[0], log_u[-1])
    return np.asarray(spline(x, np.clip(np.log10(gamma2), log_gamma2[0], log_gamma2[-1]), grid=False))


@functools.lru_cache(maxsize=1)
def _spectral_spline() -> tuple[NDArray[np.float64], NDArray[np.float64], RectBivariateSpline]:
    """The table of `python validation/gaunt_table.py --spectrum`: its axes and a spline."""
    rows = np.loadtxt(Path(__file__).with_name("gaunt.csv"), delimiter=",")
    log_gamma2 = np.linspace(-4.5, 1.0, rows.shape[1] - 1)
    return rows[:, 0], log_gamma2, RectBivariateSpline(rows[:, 0], log_gamma2, rows[:, 1:])


def photoelectric_cross_section(energy_kev: ArrayLike) -> NDArray[np.float64]:
    """Absorption by cold gas of solar abundances, per hydrogen atom [cm^2], at 0.03 to 20 keV, any shape.

    Reference: Morrison & McCammon 1983, table 2; its last interval is used beyond 10 keV.
    """
    E = np.asarray(energy_kev, dtype=float)
    c = np.array(ABSORPTION)[np.searchsorted(ABSORPTION_EDGES, E, side="right")]
    return (c[..., 0] + c[..., 1] * E + c[..., 2] * E**2) / E**3 * 1e-24


@functools.lru_cache(maxsize=1)
def _gaunt_spline() -> CubicSpline:
    """The table as a cubic spline in log10 gamma^2."""
    return CubicSpline(LOG_GAMMA2, GAUNT)

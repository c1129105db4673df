"""The spectrum of the thermal Sunyaev-Zeldovich effect, without and with relativistic corrections.

    x = h nu / (k T_cmb),    I0(x) = x^3 / (e^x - 1),    theta = k T_e / (m_e c^2)
    dI / y = g(x) = x^4 e^x / (e^x - 1)^2 [x coth(x / 2) - 4]                                       theta << 1
    dI / y = (1 / theta) int dp f(p) int dt P(t; p) [I0(x / t) - I0(x)]                             any theta

P(t; p) is the probability that a photon of an isotropic field leaves an electron of momentum p m_e c with t times its
frequency, |ln t| <= 2 asinh p, and f the distribution of Maxwell and Juettner (Ensslin & Kaiser 2000):

    P(t; p) = -3 |1 - t| / (32 p^6 t) [1 + (10 + 8 p^2 + 4 p^4) t + t^2]
              + 3 (1 + t) / (8 p^5) [(3 + 3 p^2 + p^4) / (1 + p^2)^(1/2) - (3 + 2 p^2) / (2 p) (2 asinh p - |ln t|)]

Intensities are in units of 2 (k T_cmb)^3 / (h c)^2.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import kve

from zwicky.units import C_CGS, H_PLANCK, K_B, KEV, M_ELECTRON, T_CMB

REST_ENERGY = M_ELECTRON * C_CGS**2 / KEV  # [keV]
NODES = 96  # of each integral
WARMEST = 60.0  # keV, above all gas in clusters


def reduced_frequency(frequency_ghz: ArrayLike) -> NDArray[np.float64]:
    """x = h nu / (k T_cmb), any shape."""
    return H_PLANCK * np.asarray(frequency_ghz, dtype=float) * 1e9 / (K_B * T_CMB)


def planck_slope(frequency_ghz: ArrayLike) -> NDArray[np.float64]:
    """dI / (dT / T_cmb) of the CMB, x^4 e^x / (e^x - 1)^2, any shape."""
    x = reduced_frequency(frequency_ghz)
    return x**4 * np.exp(x) / np.expm1(x) ** 2


def thermal_spectrum(frequency_ghz: ArrayLike) -> NDArray[np.float64]:
    """g(x), any shape: dI / y without relativistic corrections."""
    x = reduced_frequency(frequency_ghz)
    return planck_slope(frequency_ghz) * (x / np.tanh(x / 2) - 4)


def relativistic_spectrum(frequency_ghz: float, temperature_kev: ArrayLike) -> NDArray[np.float64]:
    """dI / y at one frequency for electrons of these temperatures [keV], (T,), of gas at rest, scattered once.

    Raises:
        ValueError: a temperature is not between 0.1 and 100 keV.
    """
    kT = np.atleast_1d(np.asarray(temperature_kev, dtype=float))
    if not ((kT >= 0.1) & (kT <= 100)).all():
        raise ValueError("the relativistic SZ spectrum is for temperatures from 0.1 to 100 keV.")
    x, inverse = float(reduced_frequency(frequency_ghz)), REST_ENERGY / kT
    node, weight = np.polynomial.legendre.leggauss(NODES)
    reach = np.sqrt(60 / inverse + (30 / inverse) ** 2)  # of p: the Boltzmann factor is e^-30 there
    p = 0.5 * (1 + node) * reach[:, None]
    boltzmann = np.exp(-inverse[:, None] * (p**2 / (1 + np.sqrt(1 + p**2))))
    f = inverse[:, None] / kve(2, inverse)[:, None] * p**2 * boltzmann
    return (0.5 * reach[:, None] * weight * f * _mean_change(p, x)).sum(1) * inverse


def change_of_temperature(frequency_ghz: float, temperature_kev: ArrayLike) -> NDArray[np.float64]:
    """(dT / T_cmb) / y at one frequency for electrons of these temperatures [keV], any shape: f(x) if they are cold.

    dI = dT / T_cmb `planck_slope`; dI / y comes from a spline in temperature.
    """
    kT = np.clip(np.asarray(temperature_kev, dtype=float), 0.0, WARMEST)
    return _temperature_spline(frequency_ghz)(kT) / float(planck_slope(frequency_ghz))


@functools.lru_cache(maxsize=8)
def _temperature_spline(frequency_ghz: float) -> CubicSpline:
    """dI / y as a function of kT [keV]."""
    kT = np.concatenate([[0.0], np.linspace(0.5, WARMEST, 60)])
    hot = relativistic_spectrum(frequency_ghz, kT[1:])
    return CubicSpline(kT, np.concatenate([np.atleast_1d(thermal_spectrum(frequency_ghz)), hot]))


def _mean_change(p: NDArray[np.float64], x: float) -> NDArray[np.float64]:
    """int dt P(t; p) [I0(x / t) - I0(x)], in s = ln t on both sides of the kink at t = 1; shape of p."""
    node, weight = np.polynomial.legendre.leggauss(NODES)
    half = np.arcsinh(p)[..., None]
    t = np.exp(half * np.concatenate([node - 1, node + 1]))
    change = _planck(x / t) - _planck(x)
    return (half * np.tile(weight, 2) * t * scattering(t, p[..., None]) * change).sum(-1)


def scattering(t: ArrayLike, p: ArrayLike) -> NDArray[np.float64]:
    """P(t; p) for |ln t| <= 2 asinh p; shapes broadcast."""
    t, p = np.asarray(t, dtype=float), np.asarray(p, dtype=float)
    first = -3 * np.abs(1 - t) / (32 * p**6 * t) * (1 + (10 + 8 * p**2 + 4 * p**4) * t + t**2)
    left = 2 * np.arcsinh(p) - np.abs(np.log(t))
    inner = (3 + 3 * p**2 + p**4) / np.sqrt(1 + p**2) - (3 + 2 * p**2) / (2 * p) * left
    return first + 3 * (1 + t) / (8 * p**5) * inner


def _planck(x: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(x, dtype=float)
    return x**3 * np.exp(-x) / -np.expm1(-x)

"""The split of 1/r^2 into a smooth part for a mesh and a short part for pairs, by the prolate function.

The prolate spheroidal wave function psi_c of order zero (Liang et al., arXiv 2505.09727) has, among functions that end
at r_c, the most compact Fourier transform. With s = r / r_c,

    Phi(s) = int_0^s psi_c / int_0^1 psi_c,
    long range     F = Phi / r^2 - Phi' / r   ->  mesh with the filter psi_c(k r_c / c) / psi_c(0), zero for k > c / r_c
    short range    F = 1 / r^2 - (long range)  for r < r_c, exactly zero beyond.

F_long / r is an even analytic function of r: one polynomial in s^2, so that a pair costs no table look-up. So is the
long part of the scalar 1/r^2 = Phi^2 / r^2 (mesh) + (1 - Phi^2) / r^2 (pairs), and that of the potential 1/r, which is
1/r_c plus the integral of F_long from r to r_c, so that the short part ends at zero.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy.special import pro_ang1

PROLATE_C = 9.0
DEGREE = 8  # of the polynomials in s^2, right to 2e-5 of the whole force or scalar


def prolate(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """psi_c(x) / psi_c(0) on [0, 1]."""
    return pro_ang1(0, 0, PROLATE_C, np.minimum(x, 1 - 1e-12))[0] / pro_ang1(0, 0, PROLATE_C, 0.0)[0]


@functools.lru_cache(maxsize=1)
def split_table() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """s = r / r_c, Phi(s) and Phi'(s) on a fine grid of [0, 1]."""
    s = np.linspace(0.0, 1.0, 2049)
    psi = prolate(s)
    odd = (psi[1:-1:2] * 4 + psi[:-2:2] + psi[2::2]) * (s[1] / 3)  # Simpson over pairs of intervals
    cumulative = np.concatenate([[0.0], np.cumsum(odd)])
    return s[::2], cumulative / cumulative[-1], psi[::2] / cumulative[-1]


def _even_polynomial(s: NDArray[np.float64], f: NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients (constant first) of the polynomial in s^2 that fits f, by least squares."""
    fit = np.polynomial.Chebyshev.fit(s**2, f, DEGREE, domain=[0, 1])
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef)


def _force_polynomial() -> tuple[float, ...]:
    """F_long r_c^2 / s as a polynomial in s^2."""
    s, phi, dphi = split_table()
    f = (phi[1:] / s[1:] ** 2 - dphi[1:] / s[1:]) / s[1:]
    return _even_polynomial(s[16:], f[15:])


def _scalar_polynomial() -> tuple[float, ...]:
    """Phi^2 / s^2 as a polynomial in s^2."""
    s, phi, _ = split_table()
    return _even_polynomial(s[1:], (phi[1:] / s[1:]) ** 2)


def _potential_polynomial(force: tuple[float, ...]) -> tuple[float, ...]:
    """V_long r_c as a polynomial in s^2: 1 + int_s^1 s' FORCE(s'^2) ds'."""
    s = np.linspace(0.0, 1.0, 400)
    integral = np.polynomial.Polynomial([0.0, *(c / (2 * i + 2) for i, c in enumerate(force))])
    return _even_polynomial(s, 1 + integral(1.0) - integral(s**2))


FORCE = _force_polynomial()
SCALAR = _scalar_polynomial()
POTENTIAL = _potential_polynomial(FORCE)

"""Tables of the non-relativistic free-free Gaunt factor, as stored in zwicky.observe.

In emissivity.py its average over frequency, in gaunt.csv its value at photon energies of u k T:

    g(u, gamma^2) = int_0^inf dx e^-x g(E_i, E_f)
    <g>(gamma^2) = int_0^inf du e^-u int_0^inf dx e^-x g(E_i, E_f),   E_f = x / gamma^2,  E_i = (x + u) / gamma^2
                 = int_0^inf dt t e^-t h(t / gamma^2),                h(E) = int_0^1 ds g(E, s E)
    g = 2 sqrt(3) / (pi eta_i eta_f) [(eta_i^2 + eta_f^2 + 2 eta_i^2 eta_f^2) I_0
                                      - 2 eta_i eta_f sqrt((1 + eta_i^2) (1 + eta_f^2)) I_1] I_0
    I_l = (-z)^(l+1) / 4 e^(pi (eta_f - eta_i) / 2) |Gamma(l+1+i eta_i) Gamma(l+1+i eta_f)| / Gamma(2l+2) G_l
    G_l = |(eta_f - eta_i) / (eta_f + eta_i)|^(i (eta_i + eta_f)) 2F1(l+1-i eta_f, l+1-i eta_i; 2l+2; z)
    z = -4 eta_i eta_f / (eta_f - eta_i)^2,   eta = E^-1/2,   E in units of Z^2 Ry,   gamma^2 = Z^2 Ry / kT

(Karzas & Latter 1961; Sutherland 1998; van Hoof et al. 2014, arXiv 1407.5048). The average over initial and final
energies collapses to one function h of the initial energy, so that two thousand hypergeometric functions serve the
whole table. Needs mpmath. A few seconds, and some minutes with --spectrum, which writes the second table:

    python validation/gaunt_table.py [--spectrum src/zwicky/observe/gaunt.csv]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mpmath
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.interpolate import CubicSpline

LOG_GAMMA2 = np.linspace(-4.5, 2.0, 27)
SPECTRUM_LOG_GAMMA2 = np.linspace(-4.5, 1.0, 23)
SPECTRUM_LOG_U = np.linspace(-3.5, 1.75, 22)
RYDBERG_KEV = 13.605693123e-3


def coulomb_integral(l: int, eta_i: mpmath.mpf, eta_f: mpmath.mpf) -> mpmath.mpf:
    """I_l of the module docstring."""
    i = mpmath.mpc(0, 1)
    z = -4 * eta_i * eta_f / (eta_f - eta_i) ** 2
    phase = mpmath.exp(i * (eta_i + eta_f) * mpmath.log((eta_f - eta_i) / (eta_f + eta_i)))
    G = mpmath.re(phase * mpmath.hyp2f1(l + 1 - i * eta_f, l + 1 - i * eta_i, 2 * l + 2, z))
    gammas = abs(mpmath.gamma(l + 1 + i * eta_i) * mpmath.gamma(l + 1 + i * eta_f)) / mpmath.gamma(2 * l + 2)
    return (-z) ** (l + 1) / 4 * mpmath.exp(mpmath.pi * (eta_f - eta_i) / 2) * gammas * G


def gaunt(E_i: float, E_f: float) -> float:
    """Free-free Gaunt factor g(E_i, E_f) of one pair of energies [Z^2 Ry]."""
    eta_i, eta_f = 1 / mpmath.sqrt(E_i), 1 / mpmath.sqrt(E_f)
    with mpmath.workdps(20 + int(3 * (eta_i + min(eta_f, 3 * eta_i + 10)))):
        I0, I1 = coulomb_integral(0, eta_i, eta_f), coulomb_integral(1, eta_i, eta_f)
        first = (eta_i**2 + eta_f**2 + 2 * eta_i**2 * eta_f**2) * I0
        second = 2 * eta_i * eta_f * mpmath.sqrt((1 + eta_i**2) * (1 + eta_f**2)) * I1
        return float(2 * mpmath.sqrt(3) / (mpmath.pi * eta_i * eta_f) * (first - second) * I0)


def mean_over_final_energy(E: float, nodes: int = 24) -> float:
    """h(E) = int_0^1 g(E, s E) ds, with s = 1 - (1 - w^2)^3 to smooth both ends."""
    w, weight = np.polynomial.legendre.leggauss(nodes)
    w, weight = 0.5 * (w + 1), 0.5 * weight
    s = 1 - (1 - w**2) ** 3
    return float(sum(6 * w * (1 - w**2) ** 2 * weight * [gaunt(E, E * x) for x in s]))


def frequency_average(gamma2: NDArray[np.float64], per_dex: int = 4) -> NDArray[np.float64]:
    """<g> at each gamma^2, from h tabulated in log E and interpolated by a cubic spline."""
    log_E = np.arange(-3.5, 6.25 + 0.5 / per_dex, 1 / per_dex)
    h = CubicSpline(log_E, [mean_over_final_energy(10.0**x) for x in log_E])
    log_t = np.linspace(-5, np.log10(45.0), 3000)
    t = 10.0**log_t
    argument = np.clip(log_t - np.log10(gamma2)[:, None], log_E[0], log_E[-1])
    integrand = t**2 * np.exp(-t) * h(argument) * np.log(10)
    return trapezoid(integrand, log_t, axis=1)


def at_photon_energy(u: float, gamma2: float, nodes: int = 20) -> float:
    """g(u, gamma^2), with x = w^2 to smooth the end at x = 0; e^-x ends the integral at x = 36."""
    w, weight = np.polynomial.legendre.leggauss(nodes)
    w, weight = 3.0 * (w + 1), 3.0 * weight
    return float(sum(2 * w * weight * np.exp(-(w**2)) * [gaunt((x + u) / gamma2, x / gamma2) for x in w**2]))


def write_spectrum(path: Path) -> None:
    """The second table as a CSV: a row for each photon energy, a column for each gamma^2."""
    rows = [[at_photon_energy(10.0**u, 10.0**g) for g in SPECTRUM_LOG_GAMMA2] for u in SPECTRUM_LOG_U]
    head = "Free-free Gaunt factor; made by validation/gaunt_table.py. Columns: log10 u, then log10 gamma^2 ="
    header = f"{head} {' '.join(f'{g:.2f}' for g in SPECTRUM_LOG_GAMMA2)}"
    np.savetxt(path, np.column_stack([SPECTRUM_LOG_U, rows]), fmt="%.5f", delimiter=",", header=header)


def main() -> None:
    """Print the table, then the values at a few temperatures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectrum", type=Path, help="write the table of the spectrum here")
    o = parser.parse_args()
    if o.spectrum:
        return write_spectrum(o.spectrum)
    table = frequency_average(10**LOG_GAMMA2)
    for start in range(0, len(table), 7):
        print("    " + ", ".join(f"{g:.6f}" for g in table[start : start + 7]) + ",")
    spline = CubicSpline(LOG_GAMMA2, table)
    for kT in (0.5, 1, 2, 5, 10, 15):
        print(f"kT = {kT:4} keV  gamma^2 = {RYDBERG_KEV / kT:.5f}  <g> = {spline(np.log10(RYDBERG_KEV / kT)):.4f}")


if __name__ == "__main__":
    main()

"""The equation of one pair, in plain numbers of float32: compiled once for the CPU and once for CUDA.

numba keeps what it compiled as long as the file of the loops is the same: who changes an equation here, or the split,
must touch `cpu_gravity.py`, `cpu_mesh.py` and `cpu_sph.py` as well.

Lengths are in units of the cutoff r_c for gravity (`split`); SPH takes any.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from zwicky.kernels.split import FORCE, POTENTIAL, SCALAR

f = np.float32


def equations(jit: Callable[[Callable], Any]) -> SimpleNamespace:
    """All functions below, compiled by `jit`."""

    @jit
    def offset(u, v, unit):
        """u - v of two fixed-point coordinates, through the nearest image, times `unit`."""
        return f(np.int32(u - v)) * unit

    @jit
    def polynomial(c, x):
        """Polynomial of degree 8 with coefficients c."""
        p = f(c[8])
        p = p * x + f(c[7])
        p = p * x + f(c[6])
        p = p * x + f(c[5])
        p = p * x + f(c[4])
        p = p * x + f(c[3])
        p = p * x + f(c[2])
        p = p * x + f(c[1])
        return p * x + f(c[0])

    @jit
    def inverse(r2, h2):
        """1 / r from the squares of r and of the softening radius h, 1 / h below it: what the next three share."""
        return f(1) / math.sqrt(max(r2, h2))

    @jit
    def force_over_r(r2, per_r, h2, per_h2, per_h3):
        """Short-range force of a unit mass over r; below h the mass is a sphere with density ~ (1 - r^2/h^2)^2.

        per_r: of `inverse`; per_h2 = 1 / h^2, per_h3 = 1 / h^3.
        """
        q2 = r2 * per_h2
        soft = (f(4.375) - f(5.25) * q2 + f(1.875) * q2 * q2) * per_h3
        pull = (soft if r2 < h2 else per_r * per_r * per_r) - polynomial(FORCE, r2)
        return pull if r2 < f(1) else f(0)

    @jit
    def short_inverse_square(r2, per_r, h2, per_h2):
        """Short-range part of 1 / r^2, softened below h; zero for the particle itself and at its very place."""
        q2 = r2 * per_h2
        soft = (f(3) - f(3) * q2 + q2 * q2) * per_h2
        value = (soft if r2 < h2 else per_r * per_r) - polynomial(SCALAR, r2)
        return value if (r2 < f(1)) & (r2 > f(0)) else f(0)

    @jit
    def short_inverse(r2, per_r, h2, per_h2):
        """Short-range part of 1 / r, softened below h; zero for the particle itself and at its very place."""
        q2 = r2 * per_h2
        soft = f(2.1875) - q2 * (f(2.1875) - q2 * (f(1.3125) - q2 * f(0.3125)))
        value = (soft * math.sqrt(per_h2) if r2 < h2 else per_r) - polynomial(POTENTIAL, r2)
        return value if (r2 < f(1)) & (r2 > f(0)) else f(0)

    @jit
    def wendland(q):
        """Wendland C2 kernel without its norm 21 / (2 pi h^3): (1 - q)^4 (1 + 4 q)."""
        t = max(f(1) - q, f(0))
        t2 = t * t
        return t2 * t2 * (f(1) + f(4) * q)

    @jit
    def wendland_slope(r, per_h):
        """-dW/dr / r of the Wendland C2 kernel without 20 norm: (1 - q)^3 / h^5."""
        t = max(f(1) - r * per_h, f(0))
        per_h2 = per_h * per_h
        return t * t * t * per_h2 * per_h2 * per_h

    @jit
    def viscosity(vr, r, hubble, sound, rho):
        """Pi_ij / alpha = -v_sig w / (rho_i + rho_j), w = v.r / r + H r < 0, v_sig = c_i + c_j - 3 w.

        sound, rho: sums over the two particles.
        """
        w = min(vr / max(r, f(1e-12)) + hubble * r, f(0))
        return -w * (sound - f(3) * w) / rho

    @jit
    def pressure_pair(r, vr, c_rho, sound, rho, alpha, per_hi, per_hj, hubble):
        """(c_i / rho_i + c_j / rho_j + Pi_ij) times the sum of both slopes, and the slope of i alone.

        r, vr: distance and v_ij . r_ij. c_rho, sound, rho, alpha: sums over the two particles.
        """
        slope_i = wendland_slope(r, per_hi)
        slope = slope_i + wendland_slope(r, per_hj)
        return (c_rho + alpha * viscosity(vr, r, hubble, sound, rho)) * slope, slope_i

    @jit
    def pcs_weights(d):
        """The four weights of the piecewise cubic spline, d cells above the second of the four mesh points."""
        e = f(1) - d
        w0 = e * e * e * f(1 / 6)
        w3 = d * d * d * f(1 / 6)
        w1 = f(2 / 3) - d * d + f(0.5) * d * d * d
        return w0, w1, f(1) - w0 - w1 - w3, w3

    return SimpleNamespace(**{k: v for k, v in locals().items() if k != "jit"})

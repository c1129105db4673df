"""Smoothed particle hydrodynamics with the Wendland C2 kernel and a prescribed temperature.

    W(r, h) = 21 / (2 pi h^3) (1 - q)^4 (1 + 4 q),  q = r / h <= 1,     rho_i = sum_j m_j W(r_ij, h_i)
    dp_i/dt = - sum_j m_j (c_i / rho_i + c_j / rho_j + Pi_ij) (grad W(r_ij, h_i) + grad W(r_ij, h_j)) / 2

with c = P / rho the specific pressure. Each pair term is antisymmetric, so that momentum is kept (Springel 2005).
Pi_ij is the artificial viscosity of the signal-velocity form, -(alpha / 2) v_sig w / rho_ij, v_sig = sqrt(c_i) +
sqrt(c_j) - 3 w, for approaching pairs, w = v_ij . r_ij / |r_ij| + H a r_ij < 0 (Monaghan 1997); alpha = 0 turns it off.

The support radius h holds about N_NEIGHBOURS particles of the gas; it is bounded below by twice the softening and above
by the reach of the gravitational pair sum (voids then have fewer neighbours, where pressure does not matter).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from zwicky.grid import TWO32, Cells

N_NEIGHBOURS = 64
_NORM = 21.0 / (2.0 * np.pi)


@numba.njit(fastmath=True, error_model="numpy")
def _density_run(x, y, z, m, j0, j1, xi, yi, zi, unit):
    """Sum of m W h^3 / norm over particles j0..j1; `unit` turns fixed-point lengths into q."""
    f = np.float32
    total = f(0)
    x, y, z, m = x[j0:j1], y[j0:j1], z[j0:j1], m[j0:j1]
    for j in range(len(x)):
        dx = f(np.int32(x[j] - xi)) * unit
        dy = f(np.int32(y[j] - yi)) * unit
        dz = f(np.int32(z[j] - zi)) * unit
        q = np.sqrt(dx * dx + dy * dy + dz * dz)
        t = max(f(1) - q, f(0))
        t2 = t * t
        total += m[j] * t2 * t2 * (f(1) + f(4) * q)
    return total


def density(
    cells: Cells, m: NDArray[np.float32], h: NDArray[np.float32], wanted: NDArray[np.bool_], box: float
) -> NDArray[np.float32]:
    """sum_j m_j W(r_ij, h_i) (P,) at the `wanted` sorted particles, zero at the others.

    Args:
        m: (P,) masses that count; 0 leaves a particle out. h: (P,) support radii, at most two cells. box: side.
    """
    with numba.parallel_chunksize(cells.n):
        return _density(cells.position, m, h, wanted, cells.start, cells.n, box / TWO32)


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _density(position, m, h, wanted, start, n, box_units):
    x, y, z = position[0], position[1], position[2]
    out = np.zeros(len(m), np.float32)
    side = np.float32(box_units * TWO32 / n)
    for column in numba.prange(n * n):
        ix = column // n
        iy = column % n
        for iz in range(n):
            c = column * n + iz
            for i in range(start[c], start[c + 1]):
                if not wanted[i]:
                    continue
                reach = 1 if h[i] <= side else 2
                unit = np.float32(box_units / h[i])
                total = np.float32(0)
                for a in range(-reach, reach + 1):
                    for b in range(-reach, reach + 1):
                        base = (((ix + a) % n) * n + (iy + b) % n) * n
                        lo = start[base + max(iz - reach, 0)]
                        hi = start[base + min(iz + reach + 1, n)]
                        total += _density_run(x, y, z, m, lo, hi, x[i], y[i], z[i], unit)
                        if iz < reach or iz > n - 1 - reach:
                            lo = start[base + (n + iz - reach if iz < reach else 0)]
                            hi = start[base + (n if iz < reach else iz + reach + 1 - n)]
                            total += _density_run(x, y, z, m, lo, hi, x[i], y[i], z[i], unit)
                out[i] = total * np.float32(_NORM) / (h[i] * h[i] * h[i])
    return out


@numba.njit(fastmath=True, error_model="numpy")
def _pressure_run(
    x, y, z, v, c_rho, sound, rho, h, j0, j1, i, length, hubble, alpha
):
    """Sum over particles j0..j1 of (c_i/rho_i + c_j/rho_j + Pi) grad W-bar, for equal masses of one."""
    f = np.float32
    ax = f(0)
    ay = f(0)
    az = f(0)
    xi, yi, zi, ui, vi, wi = x[i], y[i], z[i], v[0, i], v[1, i], v[2, i]
    c_rho_i, sound_i, rho_i, hi_inv = c_rho[i], sound[i], rho[i], f(1) / h[i]
    x, y, z, vx, vy, vz = x[j0:j1], y[j0:j1], z[j0:j1], v[0, j0:j1], v[1, j0:j1], v[2, j0:j1]
    c_rho, sound, rho, h = c_rho[j0:j1], sound[j0:j1], rho[j0:j1], h[j0:j1]
    for j in range(len(x)):
        dx = f(np.int32(xi - x[j])) * length
        dy = f(np.int32(yi - y[j])) * length
        dz = f(np.int32(zi - z[j])) * length
        r = np.sqrt(dx * dx + dy * dy + dz * dz)
        hj_inv = f(1) / h[j]
        ti = max(f(1) - r * hi_inv, f(0))
        tj = max(f(1) - r * hj_inv, f(0))
        slope_i = ti * ti * ti * hi_inv * hi_inv * hi_inv * hi_inv * hi_inv
        slope_j = tj * tj * tj * hj_inv * hj_inv * hj_inv * hj_inv * hj_inv
        gradient = slope_i + slope_j  # grad W-bar = -(norm * 10) * this * (dx, dy, dz)
        push = c_rho_i + c_rho[j]
        vr = (ui - vx[j]) * dx + (vi - vy[j]) * dy + (wi - vz[j]) * dz
        w = min(vr / max(r, f(1e-12)) + hubble * r, f(0))
        push -= alpha * w * (sound_i + sound[j] - f(3) * w) / (rho_i + rho[j])
        ax += push * gradient * dx
        ay += push * gradient * dy
        az += push * gradient * dz
    return ax, ay, az


def pressure_acceleration(
    cells: Cells,
    velocity: NDArray[np.float32],
    mass: float,
    specific: NDArray[np.float32],
    rho: NDArray[np.float32],
    h: NDArray[np.float32],
    box: float,
    hubble: float,
    alpha: float,
) -> NDArray[np.float32]:
    """-grad P / rho (P, 3) of sorted gas particles of equal `mass`.

    Args:
        velocity: (3, P) peculiar. specific: (P,) P / rho. rho: (P,) comoving density. h: (P,) support radii, at most
            two cells.
        hubble: a H, so that hubble * r is the Hubble flow in the unit of `velocity`.
        alpha: strength of the viscosity.
    """
    c_rho, sound = specific / rho, np.sqrt(specific)
    widest = _widest_nearby(h, cells.start, cells.n)
    numbers = (np.float32(mass), np.float32(hubble), np.float32(alpha))
    with numba.parallel_chunksize(cells.n):
        return _pressure(
            cells.position, velocity, c_rho, sound, rho, h, widest, cells.start, cells.n, box / TWO32, *numbers
        )


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _pressure(position, velocity, c_rho, sound, rho, h, widest, start, n, box_units, mass, hubble, alpha):
    x, y, z = position[0], position[1], position[2]
    out = np.zeros((len(h), 3), np.float32)
    side = np.float32(box_units * TWO32 / n)
    length = np.float32(box_units)
    scale = np.float32(10.0 * _NORM) * mass
    for column in numba.prange(n * n):
        ix = column // n
        iy = column % n
        for iz in range(n):
            c = column * n + iz
            reach = 1 if widest[c] <= side else 2
            for i in range(start[c], start[c + 1]):
                ax = np.float32(0)
                ay = np.float32(0)
                az = np.float32(0)
                for a in range(-reach, reach + 1):
                    for b in range(-reach, reach + 1):
                        base = (((ix + a) % n) * n + (iy + b) % n) * n
                        lo = start[base + max(iz - reach, 0)]
                        hi = start[base + min(iz + reach + 1, n)]
                        g = _pressure_run(
                            x, y, z, velocity, c_rho, sound, rho, h, lo, hi, i, length, hubble, alpha
                        )
                        ax += g[0]
                        ay += g[1]
                        az += g[2]
                        if iz < reach or iz > n - 1 - reach:
                            lo = start[base + (n + iz - reach if iz < reach else 0)]
                            hi = start[base + (n if iz < reach else iz + reach + 1 - n)]
                            g = _pressure_run(
                                x, y, z, velocity, c_rho, sound, rho, h, lo, hi, i, length, hubble, alpha
                            )
                            ax += g[0]
                            ay += g[1]
                            az += g[2]
                out[i, 0] = ax * scale
                out[i, 1] = ay * scale
                out[i, 2] = az * scale
    return out


@numba.njit(parallel=True, cache=True)
def _widest_nearby(h, start, n):
    """Largest h in the 5^3 cells around each cell."""
    own = np.zeros(n**3, np.float32)
    for c in numba.prange(n**3):
        for i in range(start[c], start[c + 1]):
            own[c] = max(own[c], h[i])
    out = np.zeros(n**3, np.float32)
    for column in numba.prange(n * n):
        for iz in range(n):
            widest = np.float32(0)
            for a in range(-2, 3):
                for b in range(-2, 3):
                    for d in range(-2, 3):
                        cell = (((column // n + a) % n) * n + (column % n + b) % n) * n + (iz + d) % n
                        widest = max(widest, own[cell])
            out[column * n + iz] = widest
    return out


def next_support_radius(
    h: NDArray[np.float32], rho: NDArray[np.float32], mass: float, lowest: float, highest: float
) -> NDArray[np.float32]:
    """The support radius that would hold N_NEIGHBOURS particles of `mass` at density rho, approached geometrically."""
    ideal = np.cbrt(N_NEIGHBOURS * mass / (4.0 / 3.0 * np.pi * rho))
    return np.clip(np.sqrt(h * ideal), lowest, highest).astype(np.float32)

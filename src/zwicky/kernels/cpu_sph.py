"""SPH on CPUs: density, and the sums of the equation of motion."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zwicky.kernels import TWO32
from zwicky.kernels.cpu_near import (
    corners,
    fast,
    gap2,
    inner,
    loop,
    new_ends,
    new_room,
    pad_vectors,
    select_near,
    surround,
)
from zwicky.kernels.threads import share_out

_wendland, _pressure_pair = fast.wendland, fast.pressure_pair


@inner
def _density_sum(near, count, x, y, z, per_h):
    """Sum of m W h^3 / norm over the first `count` particles (x, y, z, m) of `near`."""
    total = np.float32(0)
    xs, ys, zs, m = near[0, :count], near[1, :count], near[2, :count], near[3, :count]
    for j in range(len(xs)):
        dx, dy, dz = xs[j] - x, ys[j] - y, zs[j] - z
        total += m[j] * _wendland(np.sqrt(dx * dx + dy * dy + dz * dz) * per_h)
    return total


def density(position: Tensor, mass: Tensor, h: Tensor, wanted: Tensor, start: Tensor, n: int, unit: float) -> Tensor:
    """See `kernels`: sum_j m_j W(r_ij, h_i) h_i^3 / norm (P,) at the `wanted` sorted particles, zero at the others.

    Args:
        mass: (P,); 0 leaves a particle out. h: (P,) support radii, at most five cells. unit: one fixed-point unit, in
            the unit of h.
    """
    out = torch.zeros(len(mass))
    arrays = (t.numpy() for t in (position, mass, h, wanted, start, out))
    share_out(_density, n * n, *arrays, n, np.float32(unit))
    return out


@loop
def _density(begin, end, position, m, h, wanted, start, out, n, unit):
    x, y, z = position[0], position[1], position[2]
    side = unit * np.float32(TWO32 / n)
    ends, edges = new_ends()
    room = new_room(4, 1024)
    for column in range(begin, end):
        for iz in range(n):
            i0, i1 = start[column * n + iz], start[column * n + iz + 1]
            widest = np.float32(0)
            for i in range(i0, i1):
                widest = max(widest, h[i]) if wanted[i] else widest
            if widest == 0:
                continue
            reach = int(np.ceil(widest / side))
            room, count, parts = surround(
                x, y, z, start, n, column, iz, reach, unit, widest, wanted, ends, edges, room
            )
            index, place, who, near, mine, spot, _ = room
            for part in range(parts):
                first, last = edges[part], edges[part + 1]
                if first == last:
                    continue
                if parts == 1:
                    who, near, near_count = index, place, count
                else:
                    widest = np.float32(0)
                    for i in range(first, last):
                        widest = max(widest, h[mine[i]])
                    low, high = corners(spot, first, last)
                    near_count = select_near(index, place, 0, count, low, high, widest, who, near)
                for j in range(near_count):
                    near[3, j] = m[who[j]]
                vectors = pad_vectors(near, near_count)
                for i in range(first, last):
                    per_h = np.float32(1) / h[mine[i]]
                    out[mine[i]] = _density_sum(near, vectors, spot[0, i], spot[1, i], spot[2, i], per_h)


@inner
def _pressure_sum(near, count, me, hubble):
    """Sums over the first `count` particles of `near`: acceleration, div v, curl v of `me`.

    Rows of `near` and numbers of `me`: x, y, z, three velocities, c / rho, sound, rho, 1 / h, half the viscosity alpha.
    """
    f = np.float32
    ax = f(0)
    ay = f(0)
    az = f(0)
    div = f(0)
    rx = f(0)
    ry = f(0)
    rz = f(0)
    x, y, z, vx, vy, vz = me[0], me[1], me[2], me[3], me[4], me[5]
    c_rho, sound, rho, per_h, half_alpha = me[6], me[7], me[8], me[9], me[10]
    xs, ys, zs, us, vs = near[0, :count], near[1, :count], near[2, :count], near[3, :count], near[4, :count]
    ws, c_rhos, sounds, rhos = near[5, :count], near[6, :count], near[7, :count], near[8, :count]
    per_hs, half_alphas = near[9, :count], near[10, :count]
    for j in range(len(xs)):
        dx, dy, dz = x - xs[j], y - ys[j], z - zs[j]
        dvx, dvy, dvz = vx - us[j], vy - vs[j], vz - ws[j]
        r = np.sqrt(dx * dx + dy * dy + dz * dz)
        vr = dvx * dx + dvy * dy + dvz * dz
        push, slope_i = _pressure_pair(
            r, vr, c_rho + c_rhos[j], sound + sounds[j], rho + rhos[j], half_alpha + half_alphas[j], per_h, per_hs[j],
            hubble,
        )
        ax += push * dx
        ay += push * dy
        az += push * dz
        div += slope_i * vr
        rx += slope_i * (dvy * dz - dvz * dy)
        ry += slope_i * (dvz * dx - dvx * dz)
        rz += slope_i * (dvx * dy - dvy * dx)
    return ax, ay, az, div, rx, ry, rz


def pressure(
    position: Tensor, gas: Tensor, widest: Tensor, start: Tensor, n: int, unit: float, hubble: float
) -> Tensor:
    """See `kernels`: the sums of SPH over pairs of particles of mass one, in units of 10 norm, (P, 7).

    Columns: sum (c_i / rho_i + c_j / rho_j + Pi_ij) grad W-bar (3), rho div v / 2 (1), rho curl v / 2 (3).

    Args:
        gas: (P, 8) columns: velocity (3), P / rho^2, speed of sound, density, 1 / h, half the strength alpha of the
            viscosity; no support radius h is longer than a cell.
        widest: (n^3,) largest h of the 3^3 cells around a cell.
        unit: one fixed-point unit, in the unit of h. hubble: velocity of the Hubble flow over distance.
    """
    out = torch.empty(len(gas), 7)
    arrays = (t.numpy() for t in (position, gas, widest, start, out))
    share_out(_pressure, n * n, *arrays, n, np.float32(unit), np.float32(hubble))
    return out


@loop
def _pressure(begin, end, position, gas, widest, start, out, n, unit, hubble):
    x, y, z = position[0], position[1], position[2]
    ends, edges = new_ends()
    room, me, everyone = new_room(11, 1024), np.empty(11, np.float32), np.ones(len(gas), np.bool_)
    for column in range(begin, end):
        for iz in range(n):
            c = column * n + iz
            if start[c] == start[c + 1]:
                continue
            room, count, parts = surround(
                x, y, z, start, n, column, iz, 1, unit, widest[c], everyone, ends, edges, room
            )
            index, place, who, near, mine, spot, _ = room
            for part in range(parts):
                first, last = edges[part], edges[part + 1]
                if first == last:
                    continue
                if parts == 1:
                    who, near, near_count = index, place, count
                else:
                    low, high = corners(spot, first, last)
                    near_count = _select_mutual(index, place, count, low, high, mine, first, last, gas, who, near)
                for j in range(near_count):
                    for d in range(8):
                        near[3 + d, j] = gas[who[j], d]
                for i in range(first, last):
                    me[0], me[1], me[2] = spot[0, i], spot[1, i], spot[2, i]
                    me[3:] = gas[mine[i]]
                    sums = _pressure_sum(near, near_count, me, hubble)
                    for d in range(7):
                        out[mine[i], d] = sums[d]


@inner
def _select_mutual(index, place, count, low, high, mine, first, last, gas, who, near):
    """Those of the particles near a cell whose kernel reaches a part of it, or that the kernel of the part reaches."""
    per_h = gas[mine[first], 6]
    for i in range(first, last):
        per_h = min(per_h, gas[mine[i], 6])
    found = 0
    for j in range(count):
        dx, dy, dz = place[0, j], place[1, j], place[2, j]
        who[found] = index[j]
        near[0, found], near[1, found], near[2, found] = dx, dy, dz
        reach = min(per_h, gas[index[j], 6])
        found += gap2(dx, dy, dz, low, high) * reach * reach < np.float32(1)
    return found

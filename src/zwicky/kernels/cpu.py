"""The kernels for CPUs, by numba on all cores: sums over pairs here, cells and meshes in `cpu_mesh`.

What is near the particles of a cell is copied once into buffers, without what is farther than the sum reaches. The loop
over pairs then runs through contiguous numbers and is long enough for vectors. It divides without a check for zero
(error_model="numpy") and slices from zero: an index that might be negative would turn loads into gathers. Full
cells are worked through in parts, around which fewer particles are near; gravity takes pairs of different parts once.
Sums run in an order that does not depend on the number of threads, so that results repeat to the bit. What loops with
fastmath call is always inlined: a function that is not has two copies in a process that compiled it and one in a
process that loads it from the cache, which fastmath may round differently.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from zwicky.kernels import TWO32
from zwicky.kernels.cpu_mesh import deposit, gather, sort_cells
from zwicky.kernels.pairs import equations
from zwicky.kernels.threads import share_out

__all__ = ["density", "deposit", "gather", "gravity", "potential", "pressure", "sort_cells"]
MOST_RUNS = 250  # rows of the 11^2 around a cell (sph.longest_support), each in two parts where it wraps
VECTOR = 16  # particles that a vector instruction takes at once, at most
FAR = np.float32(10)  # the place of a particle that is not there
FEW, MOST_PARTS = 48, 6  # particles of a cell that are worked through together, and most parts of a cell along a side

_inner = numba.njit(forceinline=True, fastmath=True, error_model="numpy")
_loop = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")

_fast = equations(numba.njit(inline="always", fastmath=True, error_model="numpy"))
_offset, _wendland, _pressure_pair = _fast.offset, _fast.wendland, _fast.pressure_pair
_inverse, _force_over_r, _short_inverse, _short_inverse_square = (
    _fast.inverse, _fast.force_over_r, _fast.short_inverse, _fast.short_inverse_square
)  # fmt: skip


@_inner
def _add_runs(start, n, column, low, high, first, last, runs, total):
    """Runs of particles in cells `low` to `high` (excluded) of a column, added to the others."""
    base = column * n
    for wrap in range(-n, n + 1, n):
        lo, hi = max(low + wrap, 0), min(high + wrap, n)
        if hi > lo and start[base + hi] > start[base + lo]:
            first[runs], last[runs] = start[base + lo], start[base + hi]
            total += last[runs] - first[runs]
            runs += 1
    return runs, total


@_inner
def _runs(start, n, column, iz, reach, first, last):
    """Runs of particles in the (2 reach + 1)^3 cells around cell (column, iz): how many runs, how many particles."""
    runs, total = 0, 0
    for a in range(-reach, reach + 1):
        for b in range(-reach, reach + 1):
            there = (column // n + a) % n * n + (column + b) % n
            runs, total = _add_runs(start, n, there, iz - reach, iz + reach + 1, first, last, runs, total)
    return runs, total


@_inner
def _forward_runs(start, n, column, iz, first, last):
    """Runs of particles in the 13 cells next to cell (column, iz) that come after it: each two are paired once."""
    ix, iy = column // n, column % n
    runs, total = _add_runs(start, n, column, iz + 1, iz + 2, first, last, 0, 0)
    runs, total = _add_runs(start, n, ix * n + (iy + 1) % n, iz - 1, iz + 2, first, last, runs, total)
    for b in range(-1, 2):
        there = (ix + 1) % n * n + (iy + b) % n
        runs, total = _add_runs(start, n, there, iz - 1, iz + 2, first, last, runs, total)
    return runs, total


@_inner
def _corners(place, i0, i1):
    """Lowest and highest corner of the box around places i0..i1."""
    low = high = place[0, i0], place[1, i0], place[2, i0]
    for i in range(i0, i1):
        low = min(low[0], place[0, i]), min(low[1], place[1, i]), min(low[2], place[2, i])
        high = max(high[0], place[0, i]), max(high[1], place[1, i]), max(high[2], place[2, i])
    return low, high


@_inner
def _gap2(x, y, z, low, high):
    """Squared distance of a place to a box."""
    f = np.float32
    ex = max(max(low[0] - x, x - high[0]), f(0))
    ey = max(max(low[1] - y, y - high[1]), f(0))
    ez = max(max(low[2] - z, z - high[2]), f(0))
    return ex * ex + ey * ey + ez * ez


@_inner
def _place(x, y, z, first, last, origin, unit, index, place, count):
    """Particles first..last: their index, and their place relative to particle `origin`; the new count."""
    for j in range(first, last):
        index[count] = j
        place[0, count] = _offset(x[j], x[origin], unit)
        place[1, count] = _offset(y[j], y[origin], unit)
        place[2, count] = _offset(z[j], z[origin], unit)
        count += 1
    return count


@_inner
def _near(x, y, z, origin, low, high, first, last, runs, unit, radius, index, place, count):
    """The same for the particles of the runs that are within `radius` of a box."""
    for k in range(runs):
        for j in range(first[k], last[k]):
            dx, dy, dz = _offset(x[j], x[origin], unit), _offset(y[j], y[origin], unit), _offset(z[j], z[origin], unit)
            index[count] = j
            place[0, count], place[1, count], place[2, count] = dx, dy, dz
            count += _gap2(dx, dy, dz, low, high) < radius * radius
    return count


@_inner
def _ends():
    """Room for the runs around a cell, and for the edges of its parts."""
    return np.empty((2, MOST_RUNS), np.int64), np.empty(MOST_PARTS**3 + 2, np.int64)


@_inner
def _room(rows, size):
    """Index and numbers of what is near a cell, of what is near a part of it, and of the cell's own; and labels."""
    place, near = np.empty((rows, size), np.float32), np.empty((rows, size), np.float32)
    spot, integers = np.empty((3, size), np.float32), np.empty((4, size), np.int64)
    return integers[0], place, integers[1], near, integers[2], spot, integers[3]


@_inner
def _parts(index, place, count, low, high, label, old, room, edges):
    """Sort the first `count` particles by k^3 parts of the box around them: k^3; part c is edges[c]..edges[c + 1]."""
    f = np.float32
    k = min(MOST_PARTS, max(1, int((count / FEW) ** (1 / 3) + 0.5)))
    per_x = f(0.9999 * k) / max(high[0] - low[0], f(1e-9))
    per_y = f(0.9999 * k) / max(high[1] - low[1], f(1e-9))
    per_z = f(0.9999 * k) / max(high[2] - low[2], f(1e-9))
    edges[: k**3 + 2] = 0
    for i in range(count):
        a, b, c = place[0, i] - low[0], place[1, i] - low[1], place[2, i] - low[2]
        label[i], old[i] = (int(a * per_x) * k + int(b * per_y)) * k + int(c * per_z), index[i]
        edges[label[i] + 2] += 1
        room[0, i], room[1, i], room[2, i] = place[0, i], place[1, i], place[2, i]
    for c in range(k**3):
        edges[c + 2] += edges[c + 1]
    for i in range(count):
        j = edges[label[i] + 1]
        edges[label[i] + 1] += 1
        index[j] = old[i]
        place[0, j], place[1, j], place[2, j] = room[0, i], room[1, i], room[2, i]
    return k**3


@_inner
def _surround(x, y, z, start, n, column, iz, reach, unit, radius, chosen, ends, edges, room):
    """What is near the chosen particles of a cell, and these sorted by parts: room that grows, how many near, k^3."""
    runs, total = _runs(start, n, column, iz, reach, ends[0], ends[1])
    if total + VECTOR > len(room[0]):
        room = _room(len(room[1]), 2 * (total + VECTOR))
    index, place, who, near, mine, spot, label = room
    i0, i1 = start[column * n + iz], start[column * n + iz + 1]
    own = 0
    for i in range(i0, i1):
        own = _place(x, y, z, i, i + 1, i0, unit, mine, spot, own) if chosen[i] else own
    low, high = _corners(spot, 0, own)
    count = _near(x, y, z, i0, low, high, ends[0], ends[1], runs, unit, radius, index, place, 0)
    return room, count, _parts(mine, spot, own, low, high, label, who, near, edges)


@_inner
def _select(index, place, first, last, low, high, radius, who, near):
    """Those of particles first..last near a cell that are within `radius` of a box: index and place, and how many."""
    count = 0
    for j in range(first, last):
        dx, dy, dz = place[0, j], place[1, j], place[2, j]
        who[count] = index[j]
        near[0, count], near[1, count], near[2, count] = dx, dy, dz
        count += _gap2(dx, dy, dz, low, high) < radius * radius
    return count


@_inner
def _pad(near, count):
    """Massless particles far away, up to a whole number of vectors: the new count."""
    while count % VECTOR:
        near[0, count], near[1, count], near[2, count], near[3, count] = FAR, FAR, FAR, 0
        count += 1
    return count


@_inner
def _pull(near, back, count, i, me, h2, per_h2, per_h3):
    """Short-range force of the first `count` particles (x, y, z, m) of `near` on the i-th, and of its mass on them."""
    fx = np.float32(0)
    fy = np.float32(0)
    fz = np.float32(0)
    x, y, z = near[0, i], near[1, i], near[2, i]
    xs, ys, zs, m = near[0, :count], near[1, :count], near[2, :count], near[3, :count]
    back_x, back_y, back_z = back[0, :count], back[1, :count], back[2, :count]
    for j in range(len(xs)):
        dx, dy, dz = xs[j] - x, ys[j] - y, zs[j] - z
        r2 = dx * dx + dy * dy + dz * dz
        pull = _force_over_r(r2, _inverse(r2, h2), h2, per_h2, per_h3)
        mine, theirs = m[j] * pull, me * pull
        fx += mine * dx
        fy += mine * dy
        fz += mine * dz
        back_x[j] -= theirs * dx
        back_y[j] -= theirs * dy
        back_z[j] -= theirs * dz
    back[0, i] += fx
    back[1, i] += fy
    back[2, i] += fz


@_inner
def _pull_and_scalar(near, back, count, i, me, h2, per_h2, per_h3):
    """The same, and the short-range sums of m / r^2."""
    fx = np.float32(0)
    fy = np.float32(0)
    fz = np.float32(0)
    scalar = np.float32(0)
    x, y, z = near[0, i], near[1, i], near[2, i]
    xs, ys, zs, m = near[0, :count], near[1, :count], near[2, :count], near[3, :count]
    back_x, back_y, back_z, back_s = back[0, :count], back[1, :count], back[2, :count], back[3, :count]
    for j in range(len(xs)):
        dx, dy, dz = xs[j] - x, ys[j] - y, zs[j] - z
        r2 = dx * dx + dy * dy + dz * dz
        per_r = _inverse(r2, h2)
        pull = _force_over_r(r2, per_r, h2, per_h2, per_h3)
        square = _short_inverse_square(r2, per_r, h2, per_h2)
        mine, theirs = m[j] * pull, me * pull
        fx += mine * dx
        fy += mine * dy
        fz += mine * dz
        scalar += m[j] * square
        back_x[j] -= theirs * dx
        back_y[j] -= theirs * dy
        back_z[j] -= theirs * dz
        back_s[j] += me * square
    back[0, i] += fx
    back[1, i] += fy
    back[2, i] += fz
    back[3, i] += scalar


@_inner
def _potential_sum(near, back, count, i, me, h2, per_h2):
    """Short-range part of sum m / r, likewise."""
    total = np.float32(0)
    x, y, z = near[0, i], near[1, i], near[2, i]
    xs, ys, zs, m = near[0, :count], near[1, :count], near[2, :count], near[3, :count]
    back_s = back[3, :count]
    for j in range(len(xs)):
        dx, dy, dz = xs[j] - x, ys[j] - y, zs[j] - z
        r2 = dx * dx + dy * dy + dz * dz
        value = _short_inverse(r2, _inverse(r2, h2), h2, per_h2)
        total += m[j] * value
        back_s[j] += me * value
    back[3, i] += total


def gravity(position: Tensor, mass: Tensor, wanted: Tensor, start: Tensor, n: int, unit: float, h2: float) -> Tensor:
    """See `kernels`: short-range force on every sorted particle, and sum of m / r^2 at the `wanted` ones, (P, 4).

    In units of mass / r_c^2. Cells must be r_c or wider, and four or more along a side.

    Args:
        unit: one fixed-point unit over r_c. h2: squared softening radius over r_c^2.
    """
    return _pair_sums(position, mass, wanted, start, n, unit, h2, False)


def potential(position: Tensor, mass: Tensor, start: Tensor, n: int, unit: float, h2: float) -> Tensor:
    """See `kernels`: short-range part of sum m / r at every sorted particle (P,), in units of mass / r_c.

    Arguments are those of `gravity`.
    """
    wanted = torch.ones_like(mass, dtype=torch.bool)
    return _pair_sums(position, mass, wanted, start, n, unit, h2, True)[:, 3].contiguous()


def _pair_sums(
    position: Tensor, mass: Tensor, wanted: Tensor, start: Tensor, n: int, unit: float, h2: float, energy: bool
) -> Tensor:
    """Force and scalar, or potential in the place of the scalar, of all particles (P, 4).

    Particles act on those of their own cell and of later ones, and these on them. Blocks of columns of one colour, of
    1 x 2 or more, write to different particles.
    """
    out = torch.zeros(len(mass), 4)
    arrays = [t.numpy() for t in (position, mass, wanted, start, out)]
    blocks = n // 2, n // 4
    x, y = (np.arange(2 * b + 1) * n // (2 * b) for b in blocks)
    for colour in range(4):
        edges = x[colour // 2 :], y[colour % 2 :]
        share_out(_gravity, blocks[0] * blocks[1], *edges, *arrays, n, np.float32(unit), np.float32(h2), energy)
    out[:, 3] *= wanted
    return out


@_loop
def _gravity(begin, end, edges_x, edges_y, position, m, wanted, start, out, n, unit, h2, energy):
    ends, edges = _ends()
    room, back = _room(4, 1024), np.empty((4, 1024), np.float32)
    for block in range(begin, end):
        bx, by = 2 * (block // (n // 4)), 2 * (block % (n // 4))
        for ix in range(edges_x[bx], edges_x[bx + 1]):
            for iy in range(edges_y[by], edges_y[by + 1]):
                for iz in range(n):
                    c = (ix * n + iy) * n + iz
                    if start[c] < start[c + 1]:
                        room, back = _cell_gravity(
                            position, m, wanted, start, out, n, c, unit, h2, energy, ends, edges, room, back
                        )


@_inner
def _cell_gravity(position, m, wanted, start, out, n, c, unit, h2, energy, ends, edges, room, back):
    """Pairs of the particles of cell c with one another and with those of later cells; returns room that grows."""
    x, y, z = position[0], position[1], position[2]
    per_h2 = np.float32(1) / h2
    per_h3 = per_h2 * np.sqrt(per_h2)
    i0, i1 = start[c], start[c + 1]
    own = i1 - i0
    runs, total = _forward_runs(start, n, c // n, c % n, ends[0], ends[1])
    if own + total + VECTOR > len(room[0]):
        size = 2 * (own + total + VECTOR)
        room, back = _room(4, size), np.empty((4, size), np.float32)
    index, place, who, near, label, _, _ = room
    _place(x, y, z, i0, i1, i0, unit, index, place, 0)
    low, high = _corners(place, 0, own)
    parts = _parts(index, place, own, low, high, label, who, near, edges)
    count = _near(x, y, z, i0, low, high, ends[0], ends[1], runs, unit, np.float32(1), index, place, own)
    for part in range(parts):
        first, last = edges[part], edges[part + 1]
        if first == last:
            continue
        mine = last - first
        if parts == 1:
            who, near, near_count = index, place, count
        else:
            low, high = _corners(place, first, last)
            near_count = _select(index, place, first, count, low, high, np.float32(1), who, near)
        scalar = False
        for j in range(near_count):
            scalar |= wanted[who[j]]
            near[3, j] = m[who[j]] if j >= mine else np.float32(0)  # pairs in the part come up from both sides
        vectors = _pad(near, near_count)
        back[:, :vectors] = 0
        for i in range(mine):
            me = m[who[i]]
            if energy:
                _potential_sum(near, back, vectors, i, me, h2, per_h2)
            elif scalar:
                _pull_and_scalar(near, back, vectors, i, me, h2, per_h2, per_h3)
            else:
                _pull(near, back, vectors, i, me, h2, per_h2, per_h3)
        for j in range(near_count):
            for d in range(4):
                out[who[j], d] += back[d, j]
    return room, back


@_inner
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


@_loop
def _density(begin, end, position, m, h, wanted, start, out, n, unit):
    x, y, z = position[0], position[1], position[2]
    side = unit * np.float32(TWO32 / n)
    ends, edges = _ends()
    room = _room(4, 1024)
    for column in range(begin, end):
        for iz in range(n):
            i0, i1 = start[column * n + iz], start[column * n + iz + 1]
            widest = np.float32(0)
            for i in range(i0, i1):
                widest = max(widest, h[i]) if wanted[i] else widest
            if widest == 0:
                continue
            reach = int(np.ceil(widest / side))
            room, count, parts = _surround(
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
                    low, high = _corners(spot, first, last)
                    near_count = _select(index, place, 0, count, low, high, widest, who, near)
                for j in range(near_count):
                    near[3, j] = m[who[j]]
                vectors = _pad(near, near_count)
                for i in range(first, last):
                    per_h = np.float32(1) / h[mine[i]]
                    out[mine[i]] = _density_sum(near, vectors, spot[0, i], spot[1, i], spot[2, i], per_h)


@_inner
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


@_loop
def _pressure(begin, end, position, gas, widest, start, out, n, unit, hubble):
    x, y, z = position[0], position[1], position[2]
    ends, edges = _ends()
    room, me, everyone = _room(11, 1024), np.empty(11, np.float32), np.ones(len(gas), np.bool_)
    for column in range(begin, end):
        for iz in range(n):
            c = column * n + iz
            if start[c] == start[c + 1]:
                continue
            room, count, parts = _surround(
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
                    low, high = _corners(spot, first, last)
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


@_inner
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
        found += _gap2(dx, dy, dz, low, high) * reach * reach < np.float32(1)
    return found

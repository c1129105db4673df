"""What is near the particles of a cell, copied into buffers of contiguous numbers, for loops over pairs on CPUs.

Only what a sum reaches is copied, once for all particles of a cell, so that the loop over pairs is long enough for
vectors. It divides without a check for zero (error_model="numpy") and slices from zero: an index that might be negative
would turn loads into gathers. Full cells are worked through in parts, around which fewer particles are near.

What loops with fastmath call is always inlined: a function that is not has two copies in a process that compiled it and
one in a process that loads it from the cache, which fastmath may round differently.
"""

from __future__ import annotations

import numba
import numpy as np

from zwicky.kernels.pairs import equations

MOST_RUNS = 250  # rows of the 11^2 around a cell (sph.longest_support), each in two parts where it wraps
VECTOR = 16  # particles that a vector instruction takes at once, at most
FAR = np.float32(10)  # the place of a particle that is not there
FEW, MOST_PARTS = 48, 6  # particles of a cell that are worked through together, and most parts of a cell along a side

inner = numba.njit(forceinline=True, fastmath=True, error_model="numpy")
loop = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
fast = equations(numba.njit(inline="always", fastmath=True, error_model="numpy"))
_offset = fast.offset


@inner
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


@inner
def runs_around(start, n, column, iz, reach, first, last):
    """Runs of particles in the (2 reach + 1)^3 cells around cell (column, iz): how many runs, how many particles."""
    runs, total = 0, 0
    for a in range(-reach, reach + 1):
        for b in range(-reach, reach + 1):
            there = (column // n + a) % n * n + (column + b) % n
            runs, total = _add_runs(start, n, there, iz - reach, iz + reach + 1, first, last, runs, total)
    return runs, total


@inner
def forward_runs(start, n, column, iz, first, last):
    """Runs of particles in the 13 cells next to cell (column, iz) that come after it: each two are paired once."""
    ix, iy = column // n, column % n
    runs, total = _add_runs(start, n, column, iz + 1, iz + 2, first, last, 0, 0)
    runs, total = _add_runs(start, n, ix * n + (iy + 1) % n, iz - 1, iz + 2, first, last, runs, total)
    for b in range(-1, 2):
        there = (ix + 1) % n * n + (iy + b) % n
        runs, total = _add_runs(start, n, there, iz - 1, iz + 2, first, last, runs, total)
    return runs, total


@inner
def corners(place, i0, i1):
    """Lowest and highest corner of the box around places i0..i1."""
    low = high = place[0, i0], place[1, i0], place[2, i0]
    for i in range(i0, i1):
        low = min(low[0], place[0, i]), min(low[1], place[1, i]), min(low[2], place[2, i])
        high = max(high[0], place[0, i]), max(high[1], place[1, i]), max(high[2], place[2, i])
    return low, high


@inner
def gap2(x, y, z, low, high):
    """Squared distance of a place to a box."""
    f = np.float32
    ex = max(max(low[0] - x, x - high[0]), f(0))
    ey = max(max(low[1] - y, y - high[1]), f(0))
    ez = max(max(low[2] - z, z - high[2]), f(0))
    return ex * ex + ey * ey + ez * ez


@inner
def add_places(x, y, z, first, last, origin, unit, index, place, count):
    """Particles first..last: their index, and their place relative to particle `origin`; the new count."""
    for j in range(first, last):
        index[count] = j
        place[0, count] = _offset(x[j], x[origin], unit)
        place[1, count] = _offset(y[j], y[origin], unit)
        place[2, count] = _offset(z[j], z[origin], unit)
        count += 1
    return count


@inner
def add_near(x, y, z, origin, low, high, first, last, runs, unit, radius, index, place, count):
    """The same for the particles of the runs that are within `radius` of a box."""
    for k in range(runs):
        for j in range(first[k], last[k]):
            dx, dy, dz = _offset(x[j], x[origin], unit), _offset(y[j], y[origin], unit), _offset(z[j], z[origin], unit)
            index[count] = j
            place[0, count], place[1, count], place[2, count] = dx, dy, dz
            count += gap2(dx, dy, dz, low, high) < radius * radius
    return count


@inner
def new_ends():
    """Room for the runs around a cell, and for the edges of its parts."""
    return np.empty((2, MOST_RUNS), np.int64), np.empty(MOST_PARTS**3 + 2, np.int64)


@inner
def new_room(rows, size):
    """Index and numbers of what is near a cell, of what is near a part of it, and of the cell's own; and labels."""
    place, near = np.empty((rows, size), np.float32), np.empty((rows, size), np.float32)
    spot, integers = np.empty((3, size), np.float32), np.empty((4, size), np.int64)
    return integers[0], place, integers[1], near, integers[2], spot, integers[3]


@inner
def sort_parts(index, place, count, low, high, label, old, room, edges):
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


@inner
def surround(x, y, z, start, n, column, iz, reach, unit, radius, chosen, ends, edges, room):
    """What is near the chosen particles of a cell, and these sorted by parts: room that grows, how many near, k^3."""
    runs, total = runs_around(start, n, column, iz, reach, ends[0], ends[1])
    if total + VECTOR > len(room[0]):
        room = new_room(len(room[1]), 2 * (total + VECTOR))
    index, place, who, near, mine, spot, label = room
    i0, i1 = start[column * n + iz], start[column * n + iz + 1]
    own = 0
    for i in range(i0, i1):
        own = add_places(x, y, z, i, i + 1, i0, unit, mine, spot, own) if chosen[i] else own
    low, high = corners(spot, 0, own)
    count = add_near(x, y, z, i0, low, high, ends[0], ends[1], runs, unit, radius, index, place, 0)
    return room, count, sort_parts(mine, spot, own, low, high, label, who, near, edges)


@inner
def select_near(index, place, first, last, low, high, radius, who, near):
    """Those of particles first..last near a cell that are within `radius` of a box: index and place, and how many."""
    count = 0
    for j in range(first, last):
        dx, dy, dz = place[0, j], place[1, j], place[2, j]
        who[count] = index[j]
        near[0, count], near[1, count], near[2, count] = dx, dy, dz
        count += gap2(dx, dy, dz, low, high) < radius * radius
    return count


@inner
def pad_vectors(near, count):
    """Massless particles far away, up to a whole number of vectors: the new count."""
    while count % VECTOR:
        near[0, count], near[1, count], near[2, count], near[3, count] = FAR, FAR, FAR, 0
        count += 1
    return count

"""Short-range gravity and its potential on CPUs: each pair of particles is taken once, and acts on both."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zwicky.kernels.cpu_near import (
    VECTOR,
    add_near,
    add_places,
    corners,
    fast,
    forward_runs,
    inner,
    loop,
    new_ends,
    new_room,
    pad_vectors,
    select_near,
    sort_parts,
)
from zwicky.kernels.threads import share_out

_inverse, _force_over_r, _short_inverse, _short_inverse_square = (
    fast.inverse, fast.force_over_r, fast.short_inverse, fast.short_inverse_square
)  # fmt: skip


@inner
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


@inner
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


@inner
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


@loop
def _gravity(begin, end, edges_x, edges_y, position, m, wanted, start, out, n, unit, h2, energy):
    ends, edges = new_ends()
    room, back = new_room(4, 1024), np.empty((4, 1024), np.float32)
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


@inner
def _cell_gravity(position, m, wanted, start, out, n, c, unit, h2, energy, ends, edges, room, back):
    """Pairs of the particles of cell c with one another and with those of later cells; returns room that grows."""
    x, y, z = position[0], position[1], position[2]
    per_h2 = np.float32(1) / h2
    per_h3 = per_h2 * np.sqrt(per_h2)
    i0, i1 = start[c], start[c + 1]
    own = i1 - i0
    runs, total = forward_runs(start, n, c // n, c % n, ends[0], ends[1])
    if own + total + VECTOR > len(room[0]):
        size = 2 * (own + total + VECTOR)
        room, back = new_room(4, size), np.empty((4, size), np.float32)
    index, place, who, near, label, _, _ = room
    add_places(x, y, z, i0, i1, i0, unit, index, place, 0)
    low, high = corners(place, 0, own)
    parts = sort_parts(index, place, own, low, high, label, who, near, edges)
    count = add_near(x, y, z, i0, low, high, ends[0], ends[1], runs, unit, np.float32(1), index, place, own)
    for part in range(parts):
        first, last = edges[part], edges[part + 1]
        if first == last:
            continue
        mine = last - first
        if parts == 1:
            who, near, near_count = index, place, count
        else:
            low, high = corners(place, first, last)
            near_count = select_near(index, place, first, count, low, high, np.float32(1), who, near)
        scalar = False
        for j in range(near_count):
            scalar |= wanted[who[j]]
            near[3, j] = m[who[j]] if j >= mine else np.float32(0)  # pairs in the part come up from both sides
        vectors = pad_vectors(near, near_count)
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

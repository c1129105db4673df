"""Coarser grids for kernels of many pixels, and the way from them to the pixels.

A kernel with a support radius of more than THRESHOLD cells goes a level up, where cells are twice as wide. Level l has
cells of 2^l pixels that start at a corner of the map, and GHOST more on every side. From the coarsest level down the
sums v of cells are split in two along each axis and added to those of the level below:

    left, right = (v -+ d) / 2,   d_i = (22 (v_(i+1) - v_(i-1)) - 3 (v_(i+2) - v_(i-2))) / 128,   |d| <= LIMIT |v|

which is exact for polynomials of degree four as long as the limit is not reached, and keeps the sum of every cell. The
limit keeps maps of one sign at that sign and bounds ratios of two of them, which at the outer edge of all particles,
below 1e-4 of the median of a map, may leave the range of the particles' own. It is off where signs are mixed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

THRESHOLD = 16.0  # cells: 3e-5 rms of a map of 2048 x 2048; 12 gives 1e-4 and is a fifth faster
LIMIT = 0.25
GHOST = 4  # two cells of the stencil, and the ghosts of the level below are two more
Array = Any  # of numpy on the CPU, where waiting threads of torch would cost more than they gain; else a tensor
Deposit = Callable[[Any, float, int, int], Array]  # of which particles, cells per pixel, ghosts and cells of a side


def choose_levels(places: Array, support_radius: Array, pixels: int) -> Array:
    """Level of each particle, (P,) of whole numbers.

    A kernel that ends inside the map, in a cell that its last pixel cuts, stays below: the cell would take some of its
    mass out of the map.

    Args:
        places: (P, 3) x, y and any z, in pixels from a corner of the map. support_radius: (P,) in pixels.
    """
    up = support_radius > THRESHOLD
    level = up * 0
    for step in range(1, pixels.bit_length() + 1):
        if not up.any():
            break
        up = up & (support_radius > THRESHOLD * 2 ** (step - 1))
        whole = pixels >> step << step
        for axis in (0, 1) if whole < pixels else ():
            end = places[:, axis] + support_radius
            up = up & ~((end > whole) & (end <= pixels))
        level = level + up
    return level


def cascade(deposit: Deposit, level: Array, pixels: int, weights: Array) -> Array:
    """Map (pixels, pixels, C) of all levels, in the unit of the weights.

    Args:
        deposit: which (P,) of the particles to take, cells in a pixel, ghosts, cells along a side -> (side, side, C).
        level: (P,) of each particle. weights: (P, C).
    """
    top = int(level.max()) if len(level) else 0
    if top == 0:
        return deposit(slice(None), 1.0, 0, pixels)
    mixed, image = (weights < 0).any(0) & (weights > 0).any(0), None
    for step in range(top, -1, -1):
        ghost = GHOST if step else 0
        side = -(-pixels >> step) + 2 * ghost
        new = deposit(level == step, 0.5**step, ghost, side)
        if image is not None:
            begin = GHOST - ghost
            new += refine(image, mixed)[begin : begin + side, begin : begin + side]
        image = new
    return image


def refine(coarse: Array, mixed: Array) -> Array:
    """Sums of cells half as wide, (2 n - 8, 2 n - 8, C): the outer two cells of coarse (n, n, C) are only looked at.

    Args:
        mixed: (C,) True where weights have both signs, so that there is no limit.
    """
    return _split(_split(coarse, mixed).swapaxes(0, 1), mixed).swapaxes(0, 1)


def _split(v: Array, mixed: Array) -> Array:
    """Both halves of every cell along the first axis, from five neighbours."""
    cells = len(v) - 4
    before2, before, here, after, after2 = (v[k : k + cells] for k in range(5))
    d = (after - before) * (22 / 128) - (after2 - before2) * (3 / 128)
    most = abs(here) * LIMIT
    most[..., mixed] = np.inf
    d = d.clip(-most, most)
    stack = torch.stack if isinstance(v, torch.Tensor) else np.stack
    return 0.5 * stack((here - d, here + d), 1).reshape(2 * cells, *v.shape[1:])

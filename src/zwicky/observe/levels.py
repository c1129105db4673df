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

import torch
from torch import Tensor

THRESHOLD = 16.0  # cells: 3e-5 rms of a map of 2048 x 2048; 12 gives 1e-4 and is a fifth faster
LIMIT = 0.25
GHOST = 4  # two cells of the stencil, and the ghosts of the level below are two more
Deposit = Callable[[Any, float, int, int], Tensor]  # of which particles, cells per pixel, ghosts and cells of a side


def choose_levels(places: Any, support_radius: Any, pixels: int) -> Any:
    """Level of each particle, (P,) of whole numbers; numpy arrays or tensors.

    A kernel that ends inside the map, in a cell that its last pixel cuts, stays below: the cell would take some of its
    mass out of the map.

    Args:
        places: (P, 3) x, y and any z, in pixels from a corner of the map. support_radius: (P,) in pixels.
    """
    up = support_radius > THRESHOLD
    level, ends = up * 0, (places[:, :2] + support_radius[:, None]) if up.any() else places
    for step in range(1, pixels.bit_length() + 1):
        if not up.any():
            break
        whole = pixels >> step << step
        cut = ((ends > whole) & (ends <= pixels)).any(1)
        up = up & (support_radius > THRESHOLD * 2 ** (step - 1)) & ~cut
        level = level + up
    return level


def cascade(deposit: Deposit, level: Any, pixels: int, weights: Any) -> Tensor:
    """Map (pixels, pixels, C) of all levels, in the unit of the weights.

    Args:
        deposit: which (P,) of the particles to take, cells in a pixel, ghosts, cells along a side -> (side, side, C).
        level: (P,) of each particle. weights: (P, C).
    """
    top = int(level.max()) if len(level) else 0
    if top == 0:
        return deposit(slice(None), 1.0, 0, pixels)
    mixed, image = torch.as_tensor((weights < 0).any(0) & (weights > 0).any(0)), None
    for step in range(top, -1, -1):
        ghost = GHOST if step else 0
        side = -(-pixels >> step) + 2 * ghost
        new = deposit(level == step, 0.5**step, ghost, side)
        if image is not None:
            begin = GHOST - ghost
            new += refine(image, mixed)[begin : begin + side, begin : begin + side]
        image = new
    assert image is not None
    return image


def refine(coarse: Tensor, mixed: Tensor) -> Tensor:
    """Sums of cells half as wide, (2 n - 8, 2 n - 8, C): the outer two cells of coarse (n, n, C) are only looked at.

    Args:
        mixed: (C,) True where weights have both signs, so that there is no limit.
    """
    return _split(_split(coarse, 0, mixed), 1, mixed)


def _split(v: Tensor, axis: int, mixed: Tensor) -> Tensor:
    """Both halves of every cell along an axis, from five neighbours."""
    cells = v.shape[axis] - 4
    before2, before, here, after, after2 = (v.narrow(axis, k, cells) for k in range(5))
    d = (after - before).mul_(22 / 128).sub_((after2 - before2).mul_(3 / 128))
    most = here.abs().mul_(LIMIT).masked_fill_(mixed, torch.inf)
    d = torch.clamp(d, -most, most)
    return torch.stack((here - d, here + d), axis + 1).flatten(axis, axis + 1).mul_(0.5)

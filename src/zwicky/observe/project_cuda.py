"""Projection on a CUDA device: `project` for tensors, one thread for each particle.

The weights w(pixel) are those of `project`, and large kernels go through the same `levels`, so that a thread walks at
most (2 THRESHOLD + 2)^2 cells but for the few kernels that end at the border. Sums are of integers,

    n(pixel) = sum_i trunc(u weight_i w_i(pixel)),   u = 2^k,   2^61 <= u sum_i |weight_i| < 2^62  for each channel,

which are the same in any order, so that results repeat to the bit. The table of G and the weights are float64: a pixel
is a second difference of G of the order of 1 / H^2, of which float32 would leave 1e-5; most of the time goes into the
sums anyway.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zwicky.kernels.cuda import SIMULATED, cuda, launch
from zwicky.observe import project as on_cpu
from zwicky.observe.levels import cascade, choose_levels

DEVICE = "cpu" if SIMULATED else "cuda"


def project(
    positions: Tensor, support_radius: Tensor, weights: Tensor, width: float, pixels: int,
    kernel: str = "wendland",
) -> Tensor:
    """Maps of weight per unit area (C, pixels, pixels), float64; arguments as for `project.project`, not checked.

    Args:
        positions: (P, 3). support_radius: (P,). weights: (P, C). All float64. kernel: of `project.KERNELS`.
    """
    per_length = pixels / width
    lengths = positions * per_length + 0.5 * pixels, support_radius * per_length
    units, G = (
        torch.tensor(v, dtype=torch.float64, device=weights.device)
        for v in ([_units(total) for total in weights.abs().sum(0).tolist()], on_cpu.cumulative_kernel(kernel))
    )

    def deposit(which: Any, scale: float, ghost: int, side: int) -> Tensor:
        sums = torch.zeros((side, side, weights.shape[1]), dtype=torch.int64, device=weights.device)
        mine = [v[which].contiguous() for v in (*lengths, weights)]
        launch(_deposit, len(mine[1]), *mine, units, scale, ghost, G, sums)
        return sums / units

    image = cascade(deposit, choose_levels(*lengths, pixels), pixels, weights)
    return image.movedim(-1, 0).contiguous() * per_length**2


def _units(total: float) -> float:
    """How many units of fixed point make one: a power of two that brings `total` below 2^62."""
    return 2.0 ** min(62 - math.frexp(total)[1], 1000)


_locate = cuda.jit(device=True)(on_cpu._locate.py_func)


@cuda.jit(device=True)
def _cumulative(a, row0, row1, f, s):
    """G(a, b), where b lies a fraction f between two rows of the table and has the sign s."""
    k, t, sign = _locate(a, len(row0))
    low = row0[k] + f * (row1[k] - row0[k])
    high = row0[k + 1] + f * (row1[k + 1] - row0[k + 1])
    return s * sign * (low + t * (high - low))


@cuda.jit
def _deposit(positions, support_radius, weights, units, scale, ghost, G, sums):
    """Add particles to sums (y, x, channel); lengths as for `project._deposit`."""
    p = cuda.grid(1)
    if p >= len(support_radius):
        return
    x, y, H = positions[p, 0] * scale + ghost, positions[p, 1] * scale + ghost, support_radius[p] * scale
    side = len(sums)
    if not (x + H >= 0 and x - H < side and y + H >= 0 and y - H < side):
        return
    i0, i1 = int(max(x - H, 0.0)), int(min(x + H, side - 1.0))
    j0, j1 = int(max(y - H, 0.0)), int(min(y + H, side - 1.0))
    if i0 == i1 and j0 == j1 and x - H >= i0 and x + H < i0 + 1 and y - H >= j0 and y + H < j0 + 1:
        _add(sums, j0, i0, 1.0, weights, units, p)
    elif H > 0:
        _deposit_rows(x, y, H, weights, units, G, sums, p, i0, i1, j0, j1)


@cuda.jit(device=True)
def _deposit_rows(x, y, H, weights, units, G, sums, p, i0, i1, j0, j1):
    """Walk along the rows j0 to j1: a pixel is the difference of two columns of G between the edges of the row."""
    per_H = 1.0 / H
    for j in range(j0, j1 + 1):
        n0, f0, s0 = _locate((j - y) * per_H, len(G))
        n1, f1, s1 = _locate((j + 1 - y) * per_H, len(G))
        a = (i0 - x) * per_H
        left = _cumulative(a, G[n1], G[n1 + 1], f1, s1) - _cumulative(a, G[n0], G[n0 + 1], f0, s0)
        for i in range(i0, i1 + 1):
            a = (i + 1 - x) * per_H
            right = _cumulative(a, G[n1], G[n1 + 1], f1, s1) - _cumulative(a, G[n0], G[n0 + 1], f0, s0)
            _add(sums, j, i, max(right - left, 0.0), weights, units, p)
            left = right


@cuda.jit(device=True)
def _add(sums, j, i, share, weights, units, p):
    """Add the share of every channel's weight to one cell, in fixed point."""
    for c in range(weights.shape[1]):
        cuda.atomic.add(sums, (j, i, c), int(share * weights[p, c] * units[c]))

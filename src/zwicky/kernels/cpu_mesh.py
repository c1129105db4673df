"""Cell lists and meshes for CPUs, without fastmath: their sums are few, and the same wherever they were compiled."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

from zwicky.kernels import PCS_ORDER, TWO32
from zwicky.kernels.pairs import equations
from zwicky.kernels.threads import share_out

_pcs_weights = equations(numba.njit).pcs_weights


def sort_cells(fixed: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """See `kernels`: the order of positions (P, 3) in n^3 cells, stable, and where each cell starts (n^3 + 1,)."""
    order, start = _sort_cells(fixed.numpy(), n)
    return torch.from_numpy(order), torch.from_numpy(start)


@numba.njit(cache=True)
def _sort_cells(fixed, n):
    count = len(fixed)
    key = np.empty(count, np.int64)
    start = np.zeros(n**3 + 1, np.int64)
    for p in range(count):
        c = 0
        for axis in range(3):
            c = c * n + ((np.int64(fixed[p, axis]) & 0xFFFFFFFF) * n >> 32)
        key[p] = c
        start[c + 1] += 1
    for c in range(n**3):
        start[c + 1] += start[c]
    fill = start[:-1].copy()
    order = np.empty(count, np.int64)
    for p in range(count):
        order[fill[key[p]]] = p
        fill[key[p]] += 1
    return order, start


def deposit(position: Tensor, weight: Tensor, start: Tensor, cells: int, n: int) -> Tensor:
    """See `kernels`: sum of `weight` (P,) per point of an n^3 mesh."""
    planes = max(1, int(np.ceil(PCS_ORDER * cells / n)))  # planes of cells that make a block wide enough
    blocks = 2 * max(1, cells // (2 * planes))
    first_plane = np.arange(blocks + 1) * cells // blocks
    mesh = np.zeros((n, n, n), np.float32)
    bounds = start.numpy()[first_plane * cells**2]
    for colour in range(2):  # blocks of one colour do not touch one another
        share_out(_deposit, blocks // 2, colour, position.numpy(), weight.numpy(), bounds, mesh)
    return torch.from_numpy(mesh)


@numba.njit(forceinline=True)
def _mesh_point(u, n):
    """First of the four mesh points along one axis, and their weights, for the fixed-point coordinate u."""
    g = np.float64(np.int64(u) & 0xFFFFFFFF) * (n / TWO32)
    i = np.int64(g)
    return i - 1, _pcs_weights(np.float32(g - i))


@numba.njit(nogil=True, cache=True)
def _deposit(begin, end, colour, position, weight, bounds, mesh):
    """Add the particles of blocks of one colour, which do not touch one another, to the mesh."""
    n = mesh.shape[0]
    for half in range(begin, end):
        for p in range(bounds[2 * half + colour], bounds[2 * half + colour + 1]):
            ix, wx = _mesh_point(position[0, p], n)
            iy, wy = _mesh_point(position[1, p], n)
            iz, wz = _mesh_point(position[2, p], n)
            for a in range(4):
                x = (ix + a) % n
                for b in range(4):
                    y = (iy + b) % n
                    w = weight[p] * wx[a] * wy[b]
                    for c in range(4):
                        mesh[x, y, (iz + c) % n] += w * wz[c]


def gather(position: Tensor, mesh: Tensor) -> Tensor:
    """See `kernels`: mesh (n, n, n) at positions (3, P): (P,) float32."""
    out = torch.empty(position.shape[1])
    share_out(_gather, len(out), position.numpy(), mesh.numpy(), out.numpy())
    return out


@numba.njit(nogil=True, cache=True)
def _gather(begin, end, position, mesh, out):
    n = mesh.shape[0]
    for p in range(begin, end):
        ix, wx = _mesh_point(position[0, p], n)
        iy, wy = _mesh_point(position[1, p], n)
        iz, wz = _mesh_point(position[2, p], n)
        total = np.float32(0.0)
        for a in range(4):
            x = (ix + a) % n
            for b in range(4):
                y = (iy + b) % n
                w = wx[a] * wy[b]
                for c in range(4):
                    total += w * wz[c] * mesh[x, y, (iz + c) % n]
        out[p] = total

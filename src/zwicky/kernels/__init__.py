"""Sums over particles that array libraries cannot do: cell lists, meshes, pairs. One set for each kind of device.

    pairs   the equation of one pair, written once for both compilers
    cpu     numba, all cores                  cuda    numba-cuda

Both sets have the same functions; they take and return torch tensors on their device and know no units. Positions are
int32 in units of box / 2^32, so that the periodic wrap and the minimum image are integer overflow.

    sort_cells(fixed, n)                                        order and start of the particles of n^3 cells
    deposit(position, weight, start, cells, n)                  PCS sum on a mesh
    gather(position, mesh)                                      PCS interpolation
    gravity(position, mass, wanted, start, n, unit, h2)         short-range force, and sum of m / r^2
    potential(position, mass, start, n, unit, h2)               short-range part of sum m / r
    density(position, mass, h, wanted, start, n, unit)          SPH density
    pressure(position, gas, widest, start, n, unit, hubble)     SPH acceleration, div v, curl v
"""

from importlib import import_module
from types import ModuleType

import torch

TWO32 = 4294967296.0  # units of fixed point in the side of a box
PCS_ORDER = 4
BACKENDS = {"cpu": "zwicky.kernels.cpu", "cuda": "zwicky.kernels.cuda"}


def kernels(device: torch.device) -> ModuleType:
    """The kernels of a device."""
    return import_module(BACKENDS[device.type])

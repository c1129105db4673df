"""Smoothed particle hydrodynamics with the Wendland C2 kernel and a prescribed temperature.

    W(r, h) = 21 / (2 pi h^3) (1 - q)^4 (1 + 4 q),  q = r / h <= 1,     rho_i = sum_j m_j W(r_ij, h_i)
    dp_i/dt = - sum_j m_j (c_i / rho_i + c_j / rho_j + Pi_ij) (grad W(r_ij, h_i) + grad W(r_ij, h_j)) / 2

with c = P / rho the specific pressure. Each pair term is antisymmetric, so that momentum is kept (Springel 2005).
Pi_ij is the artificial viscosity of the signal-velocity form, -alpha v_sig w / (rho_i + rho_j), v_sig = c_si + c_sj -
3 w, for approaching pairs, w = v_ij . r_ij / |r_ij| + H a r_ij < 0 (Monaghan 1997); alpha = 0 turns it off. Where gas
turns more than it is squeezed, alpha is multiplied by |div v| / (|div v| + |curl v| + 1e-4 c_s / h) (Balsara 1995).

The support radius h holds about N_NEIGHBOURS particles of the gas, within bounds (voids have fewer neighbours, where
pressure does not matter).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from zwicky.grid import TWO32, Cells
from zwicky.kernels import kernels

N_NEIGHBOURS = 128  # with 64, noise of the sums makes gas at rest 10% denser than it should be
NORM = 21.0 / (2.0 * np.pi)


def density(cells: Cells, mass: Tensor, h: Tensor, wanted: Tensor, box: float) -> Tensor:
    """sum_j m_j W(r_ij, h_i) (P,) at the `wanted` sorted particles, zero at the others.

    Args:
        mass: (P,) masses that count; 0 leaves a particle out. h: (P,) support radii, at most `longest_support`.
        box: side.

    Raises:
        ValueError: a support radius is too long for the lists.
    """
    if len(h) and not float(torch.where(wanted, h, 0.0).max()) <= longest_support(cells.n, box):
        raise ValueError(f"support radii are too long for lists of {cells.n} cells a side.")
    sums = kernels(mass.device).density(cells.position, mass, h, wanted, cells.start, cells.n, box / TWO32)
    return sums * NORM / h**3


def longest_support(n: int, box: float) -> float:
    """Longest support radius for lists of n^3 cells: five cells, and with one more cell not beyond half of the box."""
    return 0.9999 * min(5.0, n / 2 - 1) * box / n


def pressure_acceleration(
    cells: Cells,
    velocity: Tensor,
    mass: float,
    specific: Tensor,
    rho: Tensor,
    h: Tensor,
    box: float,
    hubble: float,
    alpha: Tensor,
) -> tuple[Tensor, Tensor]:
    """-grad P / rho (P, 3) of sorted gas particles of equal `mass`, and the limiter of Balsara (P,).

    Args:
        velocity: (3, P) peculiar. specific: (P,) P / rho. rho: (P,) comoving density. h: (P,) support radii, at most
            a cell.
        hubble: a H, so that hubble * r is the Hubble flow in the unit of `velocity`.
        alpha: (P,) strength of the viscosity of each particle; a pair has the mean of its two.
    """
    sound = specific.sqrt()
    gas = torch.stack([*velocity, specific / rho, sound, rho, 1 / h, alpha / 2], 1)
    sums = kernels(rho.device).pressure(
        cells.position, gas, _widest_nearby(cells, h), cells.start, cells.n, box / TWO32, hubble
    ) * (10 * NORM * mass)
    divergence, curl = 2 * sums[:, 3].abs() / rho, 2 * sums[:, 4:].norm(dim=1) / rho
    limiter = divergence / (divergence + curl + 1e-4 * sound / h + 1e-30)
    return sums[:, :3], limiter


def _widest_nearby(cells: Cells, h: Tensor) -> Tensor:
    """Largest h in the 3^3 cells around each cell, (n^3,)."""
    n = cells.n
    cell = torch.repeat_interleave(torch.arange(n**3, device=h.device), cells.start.diff())
    widest = torch.zeros(n**3, dtype=h.dtype, device=h.device).scatter_reduce_(0, cell, h, "amax").view(n, n, n)
    for _ in range(3):
        rows = pad(widest.reshape(1, n * n, n), (1, 1), mode="circular")
        widest = max_pool1d(rows, 3, stride=1).view(n, n, n).permute(1, 2, 0)
    return widest.reshape(-1)


def next_support_radius(h: Tensor, rho: Tensor, mass: float, lowest: float, highest: float) -> Tensor:
    """The support radius that would hold N_NEIGHBOURS particles of `mass` at density rho, approached geometrically."""
    ideal = (N_NEIGHBOURS * mass / (4.0 / 3.0 * np.pi * rho.double())) ** (1 / 3)
    return torch.sqrt(h * ideal).clamp(lowest, highest).float()

"""Particles and meshes in a periodic cube: fixed-point positions, cell lists, PCS deposit and gather, power spectra.

Positions are int32 in units of box / 2^32, so that the periodic wrap and the minimum image are integer overflow:
x_j - x_i, taken modulo 2^32 and read as a signed number, is the nearest image. 250 Mpc/h / 2^32 is 0.06 pc.

The piecewise cubic spline (PCS) spreads a particle over 4^3 mesh points (Sefusatti et al. 2016, arXiv 1512.07295):

    w(s) = (4 - 6 s^2 + 3 |s|^3) / 6  for |s| < 1,    (2 - |s|)^3 / 6  for 1 <= |s| < 2,    W(k) = sinc(k d / 2)^4

Arrays of the simulator are torch tensors on any device; the sums over particles are those of `kernels`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zwicky.kernels import PCS_ORDER, TWO32, kernels


def to_fixed(positions: NDArray[np.floating], box: float) -> NDArray[np.int32]:
    """Fixed-point int32 positions of `positions` (P, 3) in a cube of side `box` (same length unit)."""
    turns = np.asarray(positions, dtype=np.float64) / box
    return np.floor((turns - np.floor(turns)) * TWO32).astype(np.uint64).astype(np.uint32).view(np.int32)


def wrapped(x: NDArray[np.float64], box: float) -> NDArray[np.float64]:
    """Places in [0, box), which the remainder alone does not promise: -1e-17 becomes the box."""
    x = x % box
    x[x >= box] = 0.0
    return x


def from_fixed(fixed: NDArray[np.int32], box: float) -> NDArray[np.float64]:
    """Positions in [0, box) of int32 fixed-point positions."""
    return fixed.view(np.uint32).astype(np.float64) * (box / TWO32)


@dataclass(frozen=True)
class Cells:
    """Particles sorted into n^3 cells: cell (i, j, k) holds order[start[c]:start[c + 1]], c = (i n + j) n + k.

    `order` (P,) and `start` (n^3 + 1,) are int64; `position` (3, P) are the int32 coordinates in sorted order.
    """

    n: int
    order: Tensor
    start: Tensor
    position: Tensor

    def restore(self, values: Tensor) -> Tensor:
        """`values` in sorted order, brought back to the order of the particles."""
        out = torch.empty_like(values)
        out[self.order] = values
        return out


def sort_into_cells(fixed: Tensor, n: int) -> Cells:
    """Sort fixed-point positions (P, 3) into n^3 cells; within a cell the order of the particles is kept."""
    order, start = kernels(fixed.device).sort_cells(fixed, n)
    return Cells(n, order, start, fixed[order].T.contiguous())


def deposit(cells: Cells, weight: Tensor, n: int) -> Tensor:
    """PCS deposit of sorted particles: sum of `weight` (P, in the order of the cells) per mesh point, (n, n, n)."""
    return kernels(weight.device).deposit(cells.position, weight, cells.start, cells.n, n)


def gather(cells: Cells, mesh: Tensor) -> Tensor:
    """PCS interpolation of a mesh (n, n, n) to sorted particles, (P,) float32."""
    return kernels(mesh.device).gather(cells.position, mesh)


def waves(ny: int, nx: int | None = None) -> NDArray[np.float64]:
    """Waves along a side of each mode of a real transform of a map of ny x nx pixels, (ny, nx // 2 + 1)."""
    nx = ny if nx is None else nx
    return np.hypot(np.fft.fftfreq(ny, 1 / ny)[:, None], np.fft.rfftfreq(nx, 1 / nx))


def mode_counts(n: int) -> NDArray[np.float64]:
    """How many modes of the full transform each column of a real one of n points stands for: 1 or 2, (n // 2 + 1,)."""
    counts = np.full(n // 2 + 1, 2.0)
    counts[0] = 1.0
    if n % 2 == 0:
        counts[-1] = 1.0
    return counts


def rfft(mesh: Tensor) -> Tensor:
    """Unnormalised real FFT of a mesh, (n, n, n//2 + 1) complex64."""
    return torch.fft.rfftn(mesh)


def irfft(modes: Tensor) -> Tensor:
    """Inverse of `rfft`."""
    n = modes.shape[0]
    return torch.fft.irfftn(modes, s=(n, n, n))


def wavenumbers(n: int, box: float) -> tuple[Tensor, Tensor, Tensor]:
    """k_x, k_y, k_z [1 / unit of box] of `rfft`, float64, broadcastable to (n, n, n//2 + 1)."""
    k = 2 * np.pi * torch.fft.fftfreq(n, d=box / n, dtype=torch.float64)
    kz = 2 * np.pi * torch.fft.rfftfreq(n, d=box / n, dtype=torch.float64)
    return k[:, None, None], k[None, :, None], kz[None, None, :]


def derivative_wavenumbers(n: int, box: float) -> tuple[Tensor, Tensor, Tensor]:
    """`wavenumbers` for gradients: the Nyquist plane, whose derivative has no sign, is set to zero."""
    k = wavenumbers(n, box)
    if n % 2 == 0:
        for component in k:
            component.view(-1)[n // 2] = 0.0
    return k


def pcs_window(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """The three factors of the PCS window W(k) on the modes of `rfft`; W = product."""
    full = torch.sinc(torch.fft.fftfreq(n, dtype=torch.float64)) ** PCS_ORDER
    half = torch.sinc(torch.fft.rfftfreq(n, dtype=torch.float64)) ** PCS_ORDER
    return full[:, None, None], full[None, :, None], half[None, None, :]


def density_contrast(
    positions: NDArray[np.floating], box: float, n: int, weights: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """delta = rho / mean - 1 of particles on an n^3 mesh by PCS; positions (P, 3) in the unit of box."""
    fixed = torch.from_numpy(to_fixed(positions, box))
    cells = sort_into_cells(fixed, max(8, n // 2))
    w = np.ones(len(fixed)) if weights is None else np.asarray(weights, dtype=np.float64)
    weight = torch.from_numpy((w * (n**3 / w.sum())).astype(np.float32))
    return np.asarray(deposit(cells, weight[cells.order], n) - 1.0)


def power_spectrum(
    delta_a: NDArray[np.float32] | Tensor,
    box: float,
    delta_b: NDArray[np.float32] | Tensor | None = None,
    pcs: bool = True,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Binned (cross-)power of one or two meshes: mean k [1/unit], P(k) [unit^3], number of modes.

    Bins are one fundamental mode wide and end at the Nyquist wavenumber; P_ab = <Re a b*> V. With `pcs` the window of
    the deposit is divided out. Shot noise is not subtracted.
    """
    n = delta_a.shape[0]
    a = rfft(torch.as_tensor(delta_a))
    b = a if delta_b is None else rfft(torch.as_tensor(delta_b))
    kx, ky, kz = (k.to(a.device) for k in wavenumbers(n, box))
    k = torch.sqrt(kx**2 + ky**2 + kz**2)
    p = (a * b.conj()).real.double() * (box**3 / float(n) ** 6)
    if pcs:
        wx, wy, wz = (w.to(a.device) for w in pcs_window(n))
        p = p / (wx * wy * wz) ** 2
    twice = torch.full_like(k, 2.0)  # modes with k_z > 0 stand for themselves and their conjugates
    twice[..., 0] = 1.0
    if n % 2 == 0:
        twice[..., -1] = 1.0
    index = torch.round(k * (box / (2 * np.pi))).long().flatten()
    sums = [torch.bincount(index, (twice * v).flatten()) for v in (torch.ones_like(k), k, p)]
    modes, total_k, total_p = (s[1 : n // 2 + 1].cpu().numpy() for s in sums)
    return total_k / modes, total_p / modes, np.rint(modes).astype(np.int64)

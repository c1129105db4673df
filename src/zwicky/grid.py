"""Particles and meshes in a periodic cube: fixed-point positions, cell lists, PCS deposit and gather, power spectra.

Positions are int32 in units of box / 2^32, so that the periodic wrap and the minimum image are integer overflow:
x_j - x_i, taken modulo 2^32 and read as a signed number, is the nearest image. 250 Mpc/h / 2^32 is 0.06 pc.

The piecewise cubic spline (PCS) spreads a particle over 4^3 mesh points (Sefusatti et al. 2016, arXiv 1512.07295):

    w(s) = (4 - 6 s^2 + 3 |s|^3) / 6  for |s| < 1,    (2 - |s|)^3 / 6  for 1 <= |s| < 2,    W(k) = sinc(k d / 2)^4

Sums run in an order that does not depend on the number of threads, so that results repeat to the bit. The kernels here
do without fastmath: with it, freshly compiled code and code from numba's cache rounded a deposit differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray

TWO32 = 4294967296.0
PCS_ORDER = 4


def to_fixed(positions: NDArray[np.floating], box: float) -> NDArray[np.int32]:
    """Fixed-point int32 positions of `positions` (P, 3) in a cube of side `box` (same length unit)."""
    turns = np.asarray(positions, dtype=np.float64) / box
    return np.floor((turns - np.floor(turns)) * TWO32).astype(np.uint64).astype(np.uint32).view(np.int32)


def from_fixed(fixed: NDArray[np.int32], box: float) -> NDArray[np.float64]:
    """Positions in [0, box) of int32 fixed-point positions."""
    return fixed.view(np.uint32).astype(np.float64) * (box / TWO32)


@dataclass(frozen=True)
class Cells:
    """Particles sorted into n^3 cells: cell (i, j, k) holds order[start[c]:start[c + 1]], c = (i n + j) n + k.

    `position` (3, P) are the int32 coordinates in sorted order.
    """

    n: int
    order: NDArray[np.int64]
    start: NDArray[np.int64]
    position: NDArray[np.int32]

    def restore(self, values: NDArray) -> NDArray:
        """`values` in sorted order, brought back to the order of the particles."""
        out = np.empty_like(values)
        out[self.order] = values
        return out


def sort_into_cells(fixed: NDArray[np.int32], n: int) -> Cells:
    """Sort fixed-point positions (P, 3) into n^3 cells; within a cell the order of the particles is kept."""
    order, start = _counting_sort(fixed, n)
    return Cells(n, order, start, np.ascontiguousarray(fixed[order].T))


@numba.njit(cache=True)
def _counting_sort(fixed, n):
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


@numba.njit
def _pcs(u, n):
    """First mesh index and the four PCS weights along one axis for the fixed-point coordinate u."""
    g = np.float64(np.int64(u) & 0xFFFFFFFF) * (n / 4294967296.0)
    i = np.int64(g)
    d = np.float32(g - i)
    e = np.float32(1.0) - d
    sixth = np.float32(1.0 / 6.0)
    w0 = e * e * e * sixth
    w3 = d * d * d * sixth
    w1 = np.float32(2.0 / 3.0) - d * d + np.float32(0.5) * d * d * d
    w2 = np.float32(1.0) - w0 - w1 - w3
    return i - 1, (w0, w1, w2, w3)


@numba.njit(parallel=True, cache=True)
def _deposit_blocks(position, weight, bounds, mesh):
    """Add particles to the mesh; blocks of planes of one colour do not touch one another."""
    n = mesh.shape[0]
    blocks = len(bounds) - 1
    for colour in range(2):
        for half in numba.prange(blocks // 2):
            block = 2 * half + colour
            for p in range(bounds[block], bounds[block + 1]):
                ix, wx = _pcs(position[0, p], n)
                iy, wy = _pcs(position[1, p], n)
                iz, wz = _pcs(position[2, p], n)
                for a in range(4):
                    x = (ix + a) % n
                    for b in range(4):
                        y = (iy + b) % n
                        w = weight[p] * wx[a] * wy[b]
                        for c in range(4):
                            mesh[x, y, (iz + c) % n] += w * wz[c]


def deposit(cells: Cells, weight: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """PCS deposit of sorted particles: sum of `weight` (P, in the order of the cells) per mesh point, (n, n, n)."""
    planes = max(1, int(np.ceil(PCS_ORDER * cells.n / n)))  # planes of cells that make a block wide enough
    blocks = 2 * max(1, cells.n // (2 * planes))
    if blocks == 2 and cells.n < 2 * planes:
        raise ValueError(f"{cells.n} planes of cells are too few for a mesh of {n}.")
    first_plane = np.arange(blocks + 1) * cells.n // blocks
    mesh = np.zeros((n, n, n), np.float32)
    _deposit_blocks(cells.position, weight, cells.start[first_plane * cells.n**2], mesh)
    return mesh


@numba.njit(parallel=True, cache=True)
def gather(position, mesh):
    """PCS interpolation of mesh (n, n, n) to fixed-point positions (3, P): (P,) float32."""
    n = mesh.shape[0]
    out = np.empty(position.shape[1], np.float32)
    for p in numba.prange(position.shape[1]):
        ix, wx = _pcs(position[0, p], n)
        iy, wy = _pcs(position[1, p], n)
        iz, wz = _pcs(position[2, p], n)
        total = np.float32(0.0)
        for a in range(4):
            x = (ix + a) % n
            for b in range(4):
                y = (iy + b) % n
                w = wx[a] * wy[b]
                for c in range(4):
                    total += w * wz[c] * mesh[x, y, (iz + c) % n]
        out[p] = total
    return out


def rfft(mesh: NDArray[np.float32]) -> torch.Tensor:
    """Unnormalised real FFT of a mesh, (n, n, n//2 + 1) complex64."""
    return torch.fft.rfftn(torch.from_numpy(mesh))


def irfft(modes: torch.Tensor) -> NDArray[np.float32]:
    """Inverse of `rfft`."""
    n = modes.shape[0]
    return torch.fft.irfftn(modes, s=(n, n, n)).numpy()


def wavenumbers(n: int, box: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """k_x, k_y, k_z [1 / unit of box] of `rfft`, float64, broadcastable to (n, n, n//2 + 1)."""
    k = 2 * np.pi * torch.fft.fftfreq(n, d=box / n, dtype=torch.float64)
    kz = 2 * np.pi * torch.fft.rfftfreq(n, d=box / n, dtype=torch.float64)
    return k[:, None, None], k[None, :, None], kz[None, None, :]


def pcs_window(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The three factors of the PCS window W(k) on the modes of `rfft`; W = product."""
    full = torch.sinc(torch.fft.fftfreq(n, dtype=torch.float64)) ** PCS_ORDER
    half = torch.sinc(torch.fft.rfftfreq(n, dtype=torch.float64)) ** PCS_ORDER
    return full[:, None, None], full[None, :, None], half[None, None, :]


def density_contrast(
    positions: NDArray[np.floating], box: float, n: int, weights: NDArray[np.floating] | None = None
) -> NDArray[np.float32]:
    """delta = rho / mean - 1 of particles on an n^3 mesh by PCS; positions (P, 3) in the unit of box."""
    fixed = to_fixed(positions, box)
    cells = sort_into_cells(fixed, max(8, n // 2))
    w = np.ones(len(fixed)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = (w * (n**3 / w.sum())).astype(np.float32)
    return deposit(cells, w[cells.order], n) - np.float32(1.0)


def power_spectrum(
    delta_a: NDArray[np.float32], box: float, delta_b: NDArray[np.float32] | None = None, pcs: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Binned (cross-)power of one or two meshes: mean k [1/unit], P(k) [unit^3], number of modes.

    Bins are one fundamental mode wide and end at the Nyquist wavenumber; P_ab = <Re a b*> V. With `pcs` the window of
    the deposit is divided out. Shot noise is not subtracted.
    """
    n = delta_a.shape[0]
    a = rfft(delta_a)
    b = a if delta_b is None else rfft(delta_b)
    kx, ky, kz = wavenumbers(n, box)
    k = torch.sqrt(kx**2 + ky**2 + kz**2)
    p = (a * b.conj()).real.double() * (box**3 / float(n) ** 6)
    if pcs:
        wx, wy, wz = pcs_window(n)
        p = p / (wx * wy * wz) ** 2
    twice = torch.full_like(k, 2.0)  # modes with k_z > 0 stand for themselves and their conjugates
    twice[..., 0] = 1.0
    if n % 2 == 0:
        twice[..., -1] = 1.0
    fundamental = 2 * np.pi / box
    index = torch.round(k / fundamental).long().flatten().numpy()
    w = twice.flatten().numpy()
    modes = np.bincount(index, w)[1 : n // 2 + 1]
    mean_k = np.bincount(index, w * k.flatten().numpy())[1 : n // 2 + 1] / modes
    mean_p = np.bincount(index, w * p.flatten().numpy())[1 : n // 2 + 1] / modes
    return mean_k, mean_p, modes.astype(np.int64)

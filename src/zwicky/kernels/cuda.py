"""The kernels for CUDA devices, by numba-cuda: one thread for each particle, in the order of the cells.

Neighbours in memory are neighbours in space, so that threads that run together read the same particles. A thread walks
the rows of cells that its sum reaches: a row along z is one run of particles, which is summed by itself in float32. The
deposit adds integers, whose sum is the same in any order, so that results repeat to the bit.

NUMBA_ENABLE_CUDASIM=1 runs all of it on the CPU, as Python, for tests without a GPU; tensors are then on the CPU.
"""

from __future__ import annotations

import math
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numba import config
from torch import Tensor

from zwicky.kernels import TWO32
from zwicky.kernels.pairs import equations

SIMULATED = bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]
if not SIMULATED and find_spec("numba_cuda") is None:
    raise ImportError("work on a GPU needs numba-cuda; install it with: pip install 'zwicky[cuda]'.")
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # type: ignore[attr-defined]  # small sets are no mistake
cuda: Any = import_module("numba.cuda")  # which is numba-cuda's, or numba's own simulator

THREADS = 128  # of a block
MARGIN = np.float32(1.00002)  # on squares of distances to cells, for their rounding
PER_TWO32 = np.float32(1 / TWO32)
f = np.float32

_fast = equations(cuda.jit(device=True, fastmath=True))
_offset, _wendland, _pressure_pair = _fast.offset, _fast.wendland, _fast.pressure_pair
_inverse, _force_over_r, _short_inverse, _short_inverse_square = (
    _fast.inverse, _fast.force_over_r, _fast.short_inverse, _fast.short_inverse_square
)  # fmt: skip
_pcs_weights = equations(cuda.jit(device=True)).pcs_weights


def launch(kernel: Any, count: int, *arguments: Any) -> None:
    """Start a thread for each of `count` particles, after the work that torch has queued."""
    if count == 0:
        return
    stream = 0 if SIMULATED else torch.cuda.current_stream().cuda_stream
    array = Tensor.numpy if SIMULATED else cuda.as_cuda_array
    blocks = (count + THREADS - 1) // THREADS
    kernel[blocks, THREADS, cuda.external_stream(stream) if stream else 0](
        *(array(a) if isinstance(a, Tensor) else a for a in arguments)
    )


def sort_cells(fixed: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """See `kernels`: the order of positions (P, 3) in n^3 cells, stable, and where each cell starts (n^3 + 1,)."""
    key = torch.zeros(len(fixed), dtype=torch.int32 if n**3 < 2**31 else torch.int64, device=fixed.device)
    for axis in range(3):
        cell = fixed[:, axis].long().bitwise_and_(0xFFFFFFFF).mul_(n).bitwise_right_shift_(32)
        key.mul_(n).add_(cell)
    start = torch.zeros(n**3 + 1, dtype=torch.int64, device=fixed.device)
    torch.cumsum(torch.bincount(key, minlength=n**3), 0, out=start[1:])
    return torch.sort(key, stable=True).indices, start


@cuda.jit(device=True)
def _cell(u, n):
    """Which of n cells along an axis holds the fixed-point coordinate u, and how far into it [cells]."""
    turns = (np.int64(u) & 0xFFFFFFFF) * n
    return turns >> 32, f(turns & 0xFFFFFFFF) * PER_TWO32


@cuda.jit(device=True)
def _wrap(i, n):
    """i modulo n for -n <= i < 2 n."""
    if i < 0:
        return i + n
    return i - n if i >= n else i


def deposit(position: Tensor, weight: Tensor, start: Tensor, cells: int, n: int) -> Tensor:
    """See `kernels`: sum of `weight` (P,) per point of an n^3 mesh, in fixed point.

    A unit is a power of two so small that not even all the particles on one mesh point would overflow; the largest
    weight is 2^61 / P units or more.
    """
    mesh = torch.zeros((n, n, n), dtype=torch.int64, device=weight.device)
    scale = _units(float(torch.linalg.vector_norm(weight, math.inf)) * len(weight)) if len(weight) else 1.0
    launch(_deposit, len(weight), position, weight, scale, mesh)
    return mesh * (1 / scale)


def _units(largest: float) -> float:
    """How many units of fixed point make one: a power of two that brings `largest` below 2^62, in range of float32."""
    return 2.0 ** min(62 - math.frexp(largest)[1], 120)


@cuda.jit
def _deposit(position, weight, scale, mesh):
    p = cuda.grid(1)
    if p < len(weight):
        n = mesh.shape[0]
        ix, dx = _cell(position[0, p], n)
        iy, dy = _cell(position[1, p], n)
        iz, dz = _cell(position[2, p], n)
        wx, wy, wz = _pcs_weights(dx), _pcs_weights(dy), _pcs_weights(dz)
        units = f(weight[p] * scale)
        for a in range(4):
            x = _wrap(ix + a - 1, n)
            for b in range(4):
                y = _wrap(iy + b - 1, n)
                w = units * wx[a] * wy[b]
                for c in range(4):
                    cuda.atomic.add(mesh, (x, y, _wrap(iz + c - 1, n)), np.int64(w * wz[c]))


def gather(position: Tensor, mesh: Tensor) -> Tensor:
    """See `kernels`: mesh (n, n, n) at positions (3, P): (P,) float32."""
    out = torch.empty(position.shape[1], dtype=torch.float32, device=mesh.device)
    launch(_gather, len(out), position, mesh, out)
    return out


@cuda.jit
def _gather(position, mesh, out):
    p = cuda.grid(1)
    if p < len(out):
        n = mesh.shape[0]
        ix, dx = _cell(position[0, p], n)
        iy, dy = _cell(position[1, p], n)
        iz, dz = _cell(position[2, p], n)
        wx, wy, wz = _pcs_weights(dx), _pcs_weights(dy), _pcs_weights(dz)
        total = f(0)
        for a in range(4):
            x = _wrap(ix + a - 1, n)
            for b in range(4):
                y = _wrap(iy + b - 1, n)
                w = wx[a] * wy[b]
                for c in range(4):
                    total += w * wz[c] * mesh[x, y, _wrap(iz + c - 1, n)]
        out[p] = total


@cuda.jit(device=True)
def _rows(radius, n):
    """How many rows of cells along an axis hold all within `radius` [cells] of a particle, and how many are before."""
    reach = min(np.int64(math.ceil(radius)), n // 2)
    return min(2 * reach + 1, n), reach


@cuda.jit(device=True)
def _gap(d, n):
    """Distance [cells] along an axis to the nearest image of a cell whose centre is d from the particle."""
    d = abs(d)
    return max(min(d, n - d) - f(0.5), f(0))


@cuda.jit(device=True, fastmath=True)
def _run(start, n, px, py, pz, radius, k):
    """First of the k-th run of particles, and one past its last, in the cells within `radius` [cells] of a particle.

    There are 2 rows^2 runs, some empty: a row of cells has a second part where it wraps around the box.
    """
    (ix, dx), (iy, dy), (iz, dz) = _cell(px, n), _cell(py, n), _cell(pz, n)
    rows, before = _rows(radius, n)
    a, b = (k >> 1) // rows - before, (k >> 1) % rows - before
    gx, gy = _gap(f(a) + f(0.5) - dx, f(n)), _gap(f(b) + f(0.5) - dy, f(n))
    left = radius * radius * MARGIN - gx * gx - gy * gy
    if left < f(0):
        return np.int64(0), np.int64(0)
    left = math.sqrt(left)
    low = iz + max(np.int64(math.floor(dz - left)), -before)
    high = min(iz + np.int64(math.floor(dz + left)) + 1, low + rows)
    if k & 1:
        wrap = n if low < 0 else -n
        low, high = low + wrap, high + wrap
    low, high = max(low, np.int64(0)), min(high, n)
    if low >= high:
        return np.int64(0), np.int64(0)
    base = (_wrap(ix + a, n) * n + _wrap(iy + b, n)) * n
    return start[base + low], start[base + high]


def gravity(position: Tensor, mass: Tensor, wanted: Tensor, start: Tensor, n: int, unit: float, h2: float) -> Tensor:
    """See `kernels`: short-range force on every sorted particle, and sum of m / r^2 at the `wanted` ones, (P, 4).

    In units of mass / r_c^2. Cells must be r_c or wider.

    Args:
        unit: one fixed-point unit over r_c. h2: squared softening radius over r_c^2.
    """
    out = torch.empty((len(mass), 4), dtype=torch.float32, device=mass.device)
    launch(_gravity, len(mass), position, mass, wanted, start, n, f(unit), f(n / TWO32 / unit), f(h2), out)
    return out


@cuda.jit(fastmath=True)
def _gravity(position, m, wanted, start, n, unit, radius, h2, out):
    i = cuda.grid(1)
    if i >= len(m):
        return
    x, y, z = position[0], position[1], position[2]
    xi, yi, zi, scalar_too = x[i], y[i], z[i], wanted[i]
    per_h2 = f(1) / h2
    per_h3 = per_h2 * math.sqrt(per_h2)
    fx, fy, fz, scalar = f(0), f(0), f(0), f(0)
    for k in range(2 * _rows(radius, n)[0] ** 2):
        first, last = _run(start, n, xi, yi, zi, radius, k)
        px, py, pz, part = f(0), f(0), f(0), f(0)
        for j in range(np.uint64(first), np.uint64(last)):
            dx, dy, dz = _offset(x[j], xi, unit), _offset(y[j], yi, unit), _offset(z[j], zi, unit)
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < f(1):
                per_r = _inverse(r2, h2)
                pull = m[j] * _force_over_r(r2, per_r, h2, per_h2, per_h3)
                px += pull * dx
                py += pull * dy
                pz += pull * dz
                if scalar_too:
                    part += m[j] * _short_inverse_square(r2, per_r, h2, per_h2)
        fx, fy, fz, scalar = fx + px, fy + py, fz + pz, scalar + part
    out[i, 0], out[i, 1], out[i, 2], out[i, 3] = fx, fy, fz, scalar


def potential(position: Tensor, mass: Tensor, start: Tensor, n: int, unit: float, h2: float) -> Tensor:
    """See `kernels`: short-range part of sum m / r at every sorted particle (P,), in units of mass / r_c.

    Arguments are those of `gravity`.
    """
    out = torch.empty(len(mass), dtype=torch.float32, device=mass.device)
    launch(_potential, len(mass), position, mass, start, n, f(unit), f(n / TWO32 / unit), f(h2), out)
    return out


@cuda.jit(fastmath=True)
def _potential(position, m, start, n, unit, radius, h2, out):
    i = cuda.grid(1)
    if i >= len(m):
        return
    x, y, z = position[0], position[1], position[2]
    xi, yi, zi = x[i], y[i], z[i]
    per_h2 = f(1) / h2
    total = f(0)
    for k in range(2 * _rows(radius, n)[0] ** 2):
        first, last = _run(start, n, xi, yi, zi, radius, k)
        part = f(0)
        for j in range(np.uint64(first), np.uint64(last)):
            dx, dy, dz = _offset(x[j], xi, unit), _offset(y[j], yi, unit), _offset(z[j], zi, unit)
            r2 = dx * dx + dy * dy + dz * dz
            part += m[j] * _short_inverse(r2, _inverse(r2, h2), h2, per_h2)
        total += part
    out[i] = total


def density(position: Tensor, mass: Tensor, h: Tensor, wanted: Tensor, start: Tensor, n: int, unit: float) -> Tensor:
    """See `kernels`: sum_j m_j W(r_ij, h_i) h_i^3 / norm (P,) at the `wanted` sorted particles, zero at the others.

    Args:
        mass: (P,); 0 leaves a particle out. h: (P,) support radii, at most five cells. unit: one fixed-point unit, in
            the unit of h.
    """
    out = torch.zeros(len(mass), dtype=torch.float32, device=mass.device)
    launch(_density, len(mass), position, mass, h, wanted, start, n, f(unit), f(n / TWO32 / unit), out)
    return out


@cuda.jit(fastmath=True)
def _density(position, m, h, wanted, start, n, unit, per_side, out):
    i = cuda.grid(1)
    if i >= len(m) or not wanted[i]:
        return
    x, y, z = position[0], position[1], position[2]
    xi, yi, zi = x[i], y[i], z[i]
    h2, per_h = h[i] * h[i], f(1) / h[i]
    radius = h[i] * per_side
    total = f(0)
    for k in range(2 * _rows(radius, n)[0] ** 2):
        first, last = _run(start, n, xi, yi, zi, radius, k)
        part = f(0)
        for j in range(np.uint64(first), np.uint64(last)):
            dx, dy, dz = _offset(x[j], xi, unit), _offset(y[j], yi, unit), _offset(z[j], zi, unit)
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < h2:
                part += m[j] * _wendland(math.sqrt(r2) * per_h)
        total += part
    out[i] = total


def pressure(
    position: Tensor, gas: Tensor, widest: Tensor, start: Tensor, n: int, unit: float, hubble: float
) -> Tensor:
    """See `kernels`: the sums of SPH over pairs of particles of mass one, in units of 10 norm, (P, 7).

    Columns: sum (c_i / rho_i + c_j / rho_j + Pi_ij) grad W-bar (3), rho div v / 2 (1), rho curl v / 2 (3).

    Args:
        gas: (P, 8) columns: velocity (3), P / rho^2, speed of sound, density, 1 / h, half the strength alpha of the
            viscosity; no support radius h is longer than a cell.
        widest: (n^3,) largest h of the 3^3 cells around a cell.
        unit: one fixed-point unit, in the unit of h. hubble: velocity of the Hubble flow over distance.
    """
    out = torch.empty((len(gas), 7), dtype=torch.float32, device=gas.device)
    launch(_pressure, len(gas), position, gas, widest, start, n, f(unit), f(n / TWO32 / unit), f(hubble), out)
    return out


@cuda.jit(fastmath=True)
def _pressure(position, gas, widest, start, n, unit, per_side, hubble, out):
    i = cuda.grid(1)
    if i >= len(gas):
        return
    x, y, z = position[0], position[1], position[2]
    xi, yi, zi = x[i], y[i], z[i]
    u, v, w, c_rho = gas[i, 0], gas[i, 1], gas[i, 2], gas[i, 3]
    sound, rho, per_h, half_alpha = gas[i, 4], gas[i, 5], gas[i, 6], gas[i, 7]
    most = widest[(_cell(xi, n)[0] * n + _cell(yi, n)[0]) * n + _cell(zi, n)[0]]
    radius, most2 = most * per_side, most * most
    sx, sy, sz, sdiv, scx, scy, scz = f(0), f(0), f(0), f(0), f(0), f(0), f(0)
    for k in range(2 * _rows(radius, n)[0] ** 2):
        first, last = _run(start, n, xi, yi, zi, radius, k)
        ax, ay, az, div, cx, cy, cz = f(0), f(0), f(0), f(0), f(0), f(0), f(0)
        for j in range(np.uint64(first), np.uint64(last)):
            dx, dy, dz = _offset(xi, x[j], unit), _offset(yi, y[j], unit), _offset(zi, z[j], unit)
            r2 = dx * dx + dy * dy + dz * dz
            if r2 < most2:
                r = math.sqrt(r2)
                dvx, dvy, dvz = u - gas[j, 0], v - gas[j, 1], w - gas[j, 2]
                vr = dvx * dx + dvy * dy + dvz * dz
                push, slope_i = _pressure_pair(
                    r, vr, c_rho + gas[j, 3], sound + gas[j, 4], rho + gas[j, 5], half_alpha + gas[j, 7], per_h,
                    gas[j, 6], hubble,
                )
                ax += push * dx
                ay += push * dy
                az += push * dz
                div += slope_i * vr
                cx += slope_i * (dvy * dz - dvz * dy)
                cy += slope_i * (dvz * dx - dvx * dz)
                cz += slope_i * (dvx * dy - dvy * dx)
        sx, sy, sz, sdiv = sx + ax, sy + ay, sz + az, sdiv + div
        scx, scy, scz = scx + cx, scy + cy, scz + cz
    out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5], out[i, 6] = sx, sy, sz, sdiv, scx, scy, scz

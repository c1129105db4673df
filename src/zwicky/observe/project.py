"""Projection of SPH particles on a pixel grid, exact in mass for every ratio of kernel to pixel.

    W(q)    = 21/(2 pi) (1-q)^4 (1+4q),   q in [0, 1]                            Wendland C2, unit support radius
            = 16/pi [(1-q)_+^3 - 4 (1/2-q)_+^3]                                  cubic spline (M4)
    F(q)    = 2 int_0^Z W(sqrt(q^2+z^2)) dz,   Z = sqrt(1-q^2)                   column-integrated kernel
            = 2 a (I_0 - 10 I_2 + 20 I_3 - 15 I_4 + 4 I_5),   a = 21/(2 pi)      Wendland C2
            = 32/pi [P(q, 1) - 4 P(q, 1/2)],   P = R^3 I_0 - 3 R^2 I_1 + 3 R I_2 - I_3     cubic spline
      I_n   = int_0^Z (q^2+z^2)^(n/2) dz = (Z R^n + n q^2 I_(n-2)) / (n+1),   Z = sqrt(R^2-q^2),   R = 1 where not said
      I_0   = Z,   I_(-1) = asinh(Z/q)
    G(a,b)  = int_0^a dx int_0^b dy F(sqrt(x^2+y^2)),   odd in each argument, clamped at 1, G(1,1) = 1/4
    w(pixel) = G(a1,b1) - G(a0,b1) - G(a1,b0) + G(a0,b0),   a = (x_edge - x) / H,   b = (y_edge - y) / H

G is tabulated once per kernel and process, and read by bilinear interpolation. The weights of one particle are then
never negative, and their sum telescopes to 4 G(1,1) = 1 whatever the error of the table: mass is conserved to rounding.
Mass that falls outside the map leaves it; nothing is renormalised. Kernels of many pixels go through the coarser grids
of `levels`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from zwicky.kernels.threads import share_out
from zwicky.observe.levels import cascade, choose_levels

NODES = 128  # of the table of G per axis
CHUNKS = 8  # maps summed in fixed order: the result does not depend on the number of threads
CHUNK_MEMORY = 2**25  # most numbers held in all the maps of the chunks


def column_kernel(radius: ArrayLike, kernel: str = "wendland") -> NDArray[np.float64]:
    """F(q), a kernel of unit support radius integrated along the line of sight, of unit integral.

    Args:
        radius: projected distance q in support radii, any shape; F is 0 from q = 1 on.
        kernel: of KERNELS.
    """
    return KERNELS[kernel](np.clip(np.asarray(radius, dtype=float), 1e-150, 1.0))


def _wendland(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """F of the Wendland C2 kernel."""
    I0, _, I2, I3, I4, I5 = _columns(q, 1.0, 5)
    return 21.0 / np.pi * (I0 - 10 * I2 + 20 * I3 - 15 * I4 + 4 * I5)


def _cubic(q: NDArray[np.float64]) -> NDArray[np.float64]:
    """F of the cubic spline."""

    def P(R: float) -> NDArray[np.float64]:
        I0, I1, I2, I3 = _columns(q, R, 3)
        return R**3 * I0 - 3 * R**2 * I1 + 3 * R * I2 - I3

    return 32.0 / np.pi * (P(1.0) - 4 * P(0.5))


def _columns(q: NDArray[np.float64], R: float, highest: int) -> list[NDArray[np.float64]]:
    """I_0 to I_highest inside the radius R, of the shape of q; 0 where q > R."""
    Z = np.sqrt(np.maximum(R**2 - q**2, 0.0))
    I = [np.arcsinh(Z / q), Z]  # I_(-1), I_0
    for n in range(1, highest + 1):
        I.append((Z * R**n + n * q**2 * I[n - 1]) / (n + 1))
    return I[1:]


KERNELS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"wendland": _wendland, "cubic": _cubic}


@functools.lru_cache(maxsize=len(KERNELS))
def cumulative_kernel(kernel: str = "wendland") -> NDArray[np.float64]:
    """G(a, b) at NODES x NODES points of [0, 1]^2, by Gauss-Legendre quadrature in each cell of the table."""
    points, weights = np.polynomial.legendre.leggauss(6)
    step = 1.0 / (NODES - 1)
    x = (np.arange(NODES - 1)[:, None] + 0.5 * (points + 1)).ravel() * step
    F = column_kernel(np.hypot(x[:, None], x), kernel).reshape(NODES - 1, 6, NODES - 1, 6)
    G = np.zeros((NODES, NODES))
    G[1:, 1:] = np.einsum("iajb,a,b->ij", F, weights, weights).cumsum(0).cumsum(1)
    return G * (0.25 / G[-1, -1])


def project(
    positions: ArrayLike, support_radius: ArrayLike, weights: ArrayLike, width: float, pixels: int, device: str = "cpu",
    kernel: str = "wendland",
) -> NDArray[np.float64]:
    """Map of weight per unit area, index [y, x] or [channel, y, x], seen along z and centred on 0.

    Args:
        positions: (P, 3) in any length unit; the third column is the line of sight and is not used.
        support_radius: (P,) in the same unit, where the kernel ends; 0 is a point mass.
        weights: (P,) or (P, C), any unit.
        width: side of the map, in the same length unit; it covers [-width/2, width/2]^2.
        pixels: number of pixels along a side.
        device: where to work, cpu or cuda.
        kernel: wendland (C2), or cubic, the spline M4 whose support radius is twice the smoothing length of some codes.

    Returns:
        (pixels, pixels) or (C, pixels, pixels), weight per square length unit. Bit-identical for any number of threads.

    Raises:
        ValueError: shapes disagree, numbers are not finite, a support radius is negative, the map has no size, or the
            device or the kernel is another.
    """
    positions, support_radius, weights = (np.asarray(v, dtype=np.float64) for v in (positions, support_radius, weights))
    _check(positions, support_radius, weights, width, pixels)
    columns = np.ascontiguousarray(weights[:, None] if weights.ndim == 1 else weights)
    if device not in ("cpu", "cuda"):
        raise ValueError(f"the device must be cpu or cuda, not {device!r}.")
    if kernel not in KERNELS:
        raise ValueError(f"the kernel must be one of {', '.join(KERNELS)}, not {kernel!r}.")
    on_device = _on_cuda if device == "cuda" else _on_cpu
    total = on_device(positions, support_radius, columns, width, int(pixels), kernel)
    return total[0] if weights.ndim == 1 else total


def _on_cuda(
    positions: NDArray[np.float64], support_radius: NDArray[np.float64], weights: NDArray[np.float64],
    width: float, pixels: int, kernel: str,
) -> NDArray[np.float64]:
    """Maps (C, pixels, pixels) by the GPU."""
    from zwicky.observe import project_cuda

    arrays = (np.ascontiguousarray(v) for v in (positions, support_radius, weights))
    x, H, w = (torch.tensor(v, device=project_cuda.DEVICE) for v in arrays)
    return project_cuda.project(x, H, w, width, pixels, kernel).cpu().numpy()


def _on_cpu(
    positions: NDArray[np.float64], support_radius: NDArray[np.float64], weights: NDArray[np.float64],
    width: float, pixels: int, kernel: str,
) -> NDArray[np.float64]:
    """Maps (C, pixels, pixels) by the CPU."""
    per_length, channels, G = pixels / width, weights.shape[1], cumulative_kernel(kernel)
    lengths = positions * per_length + 0.5 * pixels, support_radius * per_length

    def deposit(which: Any, scale: float, ghost: int, side: int) -> NDArray[np.float64]:
        mine = (v[which] for v in (*lengths, weights))
        return in_chunks(_deposit, (side, side, channels), *mine, scale, ghost, G)

    image = cascade(deposit, choose_levels(*lengths, pixels), pixels, weights)
    return np.ascontiguousarray(np.moveaxis(image, -1, 0)) * per_length**2


def in_chunks(loop: Callable[..., None], shape: tuple[int, ...], *arguments: Any) -> NDArray[np.float64]:
    """The sum over chunks of the maps of this shape that a loop adds to; the same for any number of threads.

    Args:
        loop: of (first chunk, end, *arguments, maps (chunk, *shape)), as `share_out` wants it.
    """
    chunks = max(1, min(CHUNKS, CHUNK_MEMORY // max(1, math.prod(shape))))
    maps = np.zeros((chunks, *shape))
    share_out(loop, chunks, *arguments, maps)
    return maps.sum(axis=0) if chunks > 1 else maps[0]


def _check(
    positions: NDArray[np.float64], support_radius: NDArray[np.float64], weights: NDArray[np.float64],
    width: float, pixels: int,
) -> None:
    """Raise ValueError unless the arguments of `project` agree and are finite."""
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise ValueError(f"positions must have the shape (P, 3), not {positions.shape}.")
    P = len(positions)
    if support_radius.shape != (P,):
        raise ValueError(f"support_radius must have the shape ({P},) of the positions, not {support_radius.shape}.")
    if weights.ndim not in (1, 2) or len(weights) != P:
        raise ValueError(f"weights must have the shape ({P},) or ({P}, C), not {weights.shape}.")
    if not (np.isfinite(positions).all() and np.isfinite(support_radius).all() and np.isfinite(weights).all()):
        raise ValueError("positions, support_radius and weights must be finite, but some are NaN or infinite.")
    if (support_radius < 0).any():
        raise ValueError("support_radius must not be negative.")
    if not (np.isfinite(width) and width > 0):
        raise ValueError(f"width must be a positive length, not {width}.")
    if pixels != int(pixels) or pixels < 1:
        raise ValueError(f"pixels must be a whole number of at least 1, not {pixels}.")


_inner = numba.njit(forceinline=True, error_model="numpy")


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _deposit(begin, end, positions, support_radius, weights, scale, ghost, G, maps):
    """Add particles to maps (chunk, y, x, channel), one run of particles to each chunk.

    Lengths are in units of which there are 1 / scale in a pixel of these maps; the origin is the corner of pixel
    (ghost, ghost).
    """
    chunks, P, pixels = len(maps), len(positions), maps.shape[1]
    scratch, node = np.empty((4, pixels + 1)), np.empty(pixels + 1, np.int64)
    for chunk in range(begin, end):
        image = maps[chunk]
        for p in range(P * chunk // chunks, P * (chunk + 1) // chunks):
            x, y, H = positions[p, 0] * scale + ghost, positions[p, 1] * scale + ghost, support_radius[p] * scale
            if not (x + H >= 0 and x - H < pixels and y + H >= 0 and y - H < pixels):
                continue
            i0, i1 = int(max(x - H, 0.0)), int(min(x + H, pixels - 1.0))
            j0, j1 = int(max(y - H, 0.0)), int(min(y + H, pixels - 1.0))
            if i0 == i1 and j0 == j1 and x - H >= i0 and x + H < i0 + 1 and y - H >= j0 and y + H < j0 + 1:
                _add(image[j0, i0], 1.0, weights[p])
            elif H > 0:
                _deposit_rows(x, y, H, weights[p], G, image, node, scratch, i0, i1, j0, j1)


@_inner
def _deposit_rows(x, y, H, weight, G, image, node, scratch, i0, i1, j0, j1):
    """Walk up the rows j0 to j1; the corners of a row's upper edge are those of the next row's lower edge."""
    fraction, sign, lower, upper = scratch
    edges, per_H = i1 - i0 + 2, 1.0 / H
    for i in range(edges):
        node[i], fraction[i], sign[i] = _locate((i0 + i - x) * per_H, len(G))
    _corners((j0 - y) * per_H, G, node, fraction, sign, lower, edges)
    for j in range(j0, j1 + 1):
        _corners((j + 1 - y) * per_H, G, node, fraction, sign, upper, edges)
        for i in range(edges - 1):
            share = (upper[i + 1] - lower[i + 1]) - (upper[i] - lower[i])
            _add(image[j, i0 + i], max(share, 0.0), weight)  # rounding alone can make it negative
        lower, upper = upper, lower


@_inner
def _locate(argument, nodes):
    """Lower node of the table cell that holds |argument| clamped at 1, where in the cell, and the sign."""
    t = min(abs(argument), 1.0) * (nodes - 1)
    node = min(int(t), nodes - 2)
    return node, t - node, 1.0 if argument >= 0 else -1.0


@_inner
def _corners(b, G, node, fraction, sign, out, edges):
    """out[i] = G(a_i, b) for every column edge a_i, already located."""
    n, f, s = _locate(b, len(G))
    row0, row1, last = G[n], G[n + 1], len(G) - 1
    end = s * (row0[last] + f * (row1[last] - row0[last]))
    for i in range(edges):
        k, t = node[i], fraction[i]
        if t >= 1.0:  # the kernel ends before this edge, as before the first and the last of nearly every particle
            out[i] = sign[i] * end
        else:
            low = row0[k] + f * (row1[k] - row0[k])
            high = row0[k + 1] + f * (row1[k + 1] - row0[k + 1])
            out[i] = s * sign[i] * (low + t * (high - low))


@_inner
def _add(pixel, share, weight):
    """Add the share of every channel's weight to one pixel."""
    for c in range(len(weight)):
        pixel[c] += share * weight[c]

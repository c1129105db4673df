"""Particles brought to a mesh, whose cells are then seen in their place: how the maps of Hsu et al. 2025 were made.

    M   = sum_i m_i w_i,   w_i(cell) = sum_(s in cell) W(|s - r_i| / H_i) / sum_(all s) W(|s - r_i| / H_i)
    rho = M / l^3,   T = sum_i m_i T_i w_i / M,   v = sum_i m_i v_i w_i / M                             (H25, eq. 1)

W(q) ~ (1-q)^4 (1+4q) is the kernel of `project`; the points s are a lattice in step with the cells of width l, POINTS
or more across H, and a kernel that lies in one cell is all of it in this cell. Masses, and y, which goes as M T, are
those of the particles. What is not linear is not: the luminosity goes as rho^2, and rho of a cell has lost all clumps
smaller than it, so that X-ray brightness is biased low: 0.3 to 0.5 of the particles' in sets with clumps of 20 to 80
kpc and cells of 100 kpc. This is to replicate the paper, not to make better maps.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from zwicky.observe.project import in_chunks
from zwicky.simulate.state import Species

POINTS = 3.0  # least number of points in a support radius


def on_mesh(species: Species, width: float, depth: float, pixels: int) -> Species:
    """One particle for each cell that has mass, at its centre, with support radius 0 and density M / l^3.

    Gas of temperature 0, which has no free electrons, lowers the mean of its cell. What is outside of the mesh is lost.

    Args:
        species: of a cube that is turned, in the units of `render.Cube`.
        width: of the mesh along x and y, proper [kpc]; l = width / pixels.
        depth: along z, proper [kpc], rounded up to a whole number of cells.
        pixels: cells along x and y.
    """
    cell = width / pixels
    cells = np.array([max(1, math.ceil(depth / cell - 1e-9)), pixels, pixels])  # along z, y, x
    names = ("temperature", "metallicity", "age", "velocities")
    means = {name: v for name in names if (v := getattr(species, name)) is not None}
    columns = np.column_stack([np.ones(len(species)), *means.values()]) * species.masses[:, None]
    places = species.positions[:, ::-1] / cell + 0.5 * cells
    radius: NDArray[np.float64] = species.support_radius  # type: ignore[assignment]
    shape = (*cells.tolist(), columns.shape[1])
    sums = in_chunks(_deposit, shape, np.ascontiguousarray(places), radius / cell, columns)
    filled = np.argwhere(sums[..., 0] > 0)
    found = sums[tuple(filled.T)]
    masses, ratios = found[:, 0], found[:, 1:] / found[:, :1]
    scalars = {name: ratios[:, i] for i, name in enumerate(means) if name != "velocities"}
    return Species(
        positions=((filled + 0.5 - 0.5 * cells) * cell)[:, ::-1],
        velocities=ratios[:, -3:].astype(np.float32) if "velocities" in means else None,
        masses=masses,
        support_radius=np.zeros(len(masses)),
        density=masses / (1e-3 * cell) ** 3,
        **scalars,
    )


_inner = numba.njit(forceinline=True, error_model="numpy")


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _deposit(begin, end, places, support_radius, weights, meshes):
    """Add particles to meshes (chunk, z, y, x, channel), one run of particles to each chunk; lengths in cells."""
    chunks, P = len(meshes), len(places)
    nz, ny, nx = meshes.shape[1:4]
    for chunk in range(begin, end):
        for p in range(P * chunk // chunks, P * (chunk + 1) // chunks):
            z, y, x = places[p]
            H = support_radius[p]
            if not (z + H >= 0 and z - H < nz and y + H >= 0 and y - H < ny and x + H >= 0 and x - H < nx):
                continue
            k, j, i = math.floor(z), math.floor(y), math.floor(x)
            if min(z - k, y - j, x - i) >= H and max(z - k, y - j, x - i) < 1 - H:
                _add(meshes[chunk], k, j, i, 1.0, weights[p])
            elif H > 0:
                n = max(1, math.ceil(POINTS / H))
                total = _walk(z * n, y * n, x * n, H * n, n, 0.0, weights[p], meshes[chunk])
                _walk(z * n, y * n, x * n, H * n, n, 1 / total, weights[p], meshes[chunk])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _walk(z, y, x, H, n, norm, weight, mesh):
    """Sum of the kernel over points, n in a cell along each axis; norm > 0 adds it to the cells. Lengths in points."""
    total = 0.0
    for k in range(math.floor(z - H), math.floor(z + H) + 1):
        for j in range(math.floor(y - H), math.floor(y + H) + 1):
            q2 = ((k + 0.5 - z) ** 2 + (j + 0.5 - y) ** 2) / H**2
            if q2 >= 1:
                continue
            for i in range(math.floor(x - H), math.floor(x + H) + 1):
                q = math.sqrt(q2 + ((i + 0.5 - x) / H) ** 2)
                if q < 1:
                    W = (1 - q) ** 4 * (1 + 4 * q)
                    total += W
                    if norm > 0:
                        _add(mesh, k // n, j // n, i // n, norm * W, weight)
    return total


@_inner
def _add(mesh, k, j, i, share, weight):
    """Add the share of every channel's weight to one cell, if it is one of the mesh."""
    if 0 <= k < mesh.shape[0] and 0 <= j < mesh.shape[1] and 0 <= i < mesh.shape[2]:
        for c in range(len(weight)):
            mesh[k, j, i, c] += share * weight[c]

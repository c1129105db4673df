"""From a snapshot and a halo to maps: cut out a cube, turn it, project it.

    r   = 1000 a (x - x_halo),   nearest periodic image          comoving [Mpc] -> proper [kpc]
    rho = rho_comoving / a^3
    r'  = R r;   kept where |z'| <= side / 2;   map = project(r', H, weight) over [-side/2, side/2]^2

A cube keeps every particle of the sphere around it, so that one cube serves any number of rotations. Particles whose
kernel the snapshot does not know get a support radius that holds K_NEIGHBOURS of their kind.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np
from astropy import units as u
from astropy.table import Row
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from zwicky.kernels.threads import share_out
from zwicky.observe.channels import channel, known_channels
from zwicky.observe.mesh import on_mesh
from zwicky.observe.project import project
from zwicky.observe.scene import Scene, Weight
from zwicky.simulate.state import Particles, Species

K_NEIGHBOURS = 64
MARGIN = 0.2  # kernels that reach in from further outside the sphere than this fraction of the side are left out
KINDS = ("dark_matter", "gas", "stars")
DEFAULT_CHANNELS = ("gas", "dark_matter", "compton_y", "xray")


@dataclass(frozen=True)
class Cube:
    """The surroundings of a halo, in proper units, ready to be seen from any side.

    Args:
        side_kpc: side of the largest cube that fits at any rotation, proper [kpc].
        depth_kpc: of the line of sight through it, proper [kpc]; None for as deep as a map is wide.
        scene: what the channels need to know.
        dark_matter, gas, stars: positions relative to the centre and support radii proper [kpc], density proper
            [Msun / Mpc^3], velocities [km/s], masses [Msun], temperature [K]; None where the snapshot has none.
    """

    side_kpc: float
    depth_kpc: float | None
    scene: Scene
    dark_matter: Species | None
    gas: Species | None
    stars: Species | None


def observe(
    particles: Particles,
    halo: Mapping[str, Any] | Row | ArrayLike,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    rotation: ArrayLike | None = None,
    pixels: int = 128,
    pixel_kpc: float = 100.0,
    depth_kpc: float | None = None,
    redshift: float | None = None,
    hydrogen_column: float = 0.0,
    mesh: bool = False,
    device: str = "cpu",
) -> dict[str, u.Quantity]:
    """Maps of one halo, {channel: (pixels, pixels) with its unit}, index [y, x], centred on the halo.

    Args:
        particles: the snapshot.
        halo: with keys x, y, z, comoving [Mpc] (a row of a table, or a mapping), or the three numbers themselves.
        channels: names from CHANNELS, or of FAMILIES, as `xray_0.5-2keV`, `sz_150GHz` or `convergence_z1.0`.
        rotation: (3, 3) matrix R, x' = R x; the observer is at large z'. None looks along z.
        pixels: along a side.
        pixel_kpc: side of a pixel, proper [kpc].
        depth_kpc: of the line of sight, proper [kpc]; None for as deep as the map is wide.
        redshift: at which the halo is seen, for bands and lensing; None for that of the snapshot.
        hydrogen_column: of the Milky Way, which absorbs X-rays of bands [cm^-2].
        mesh: bring the particles to a mesh of cubic cells, `pixels` along a side, and see its cells (`mesh`). X-rays
            come out too low, 0.3 to 0.5 in clumpy gas: this is to replicate Hsu et al. 2025.
        device: where to project, cpu or cuda.

    Raises:
        ValueError: a channel is unknown or lacks its input, or the cube does not fit into the box.
    """
    known_channels(channels)
    cube = cut_cube(particles, halo_centre(halo), pixels * pixel_kpc, depth_kpc, redshift, hydrogen_column)
    maps = render(cube, channels, rotation, pixels, pixel_kpc, mesh, device)
    return {name: u.Quantity(image, channel(name).unit) for name, image in maps.items()}


def render(
    cube: Cube,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    rotation: ArrayLike | None = None,
    pixels: int = 128,
    pixel_kpc: float = 100.0,
    mesh: bool = False,
    device: str = "cpu",
) -> dict[str, NDArray[np.float64]]:
    """Maps of a cube, {channel: (pixels, pixels) in its unit}; arguments as for `observe`.

    Raises:
        ValueError: as `observe`, or the map is wider than the cube.
    """
    wanted, R, width = known_channels(channels), _rotation(rotation), pixels * pixel_kpc
    if width > cube.side_kpc * (1 + 1e-9):
        raise ValueError(f"a map of {width:g} kpc is wider than the cube of {cube.side_kpc:g} kpc.")
    maps, norms = ({c.name: np.zeros((pixels, pixels)) for c in wanted} for _ in range(2))
    for kind in KINDS:
        mine, species = [c for c in wanted if kind in c.species], getattr(cube, kind)
        lonely = [c.name for c in mine if species is None and len(c.species) == 1]
        if lonely:
            what = kind.replace("_", " ")
            raise ValueError(f"the channel {lonely[0]} needs {what}, which this snapshot does not have.")
        if mine and species is not None:
            weights = [(maps, c.name, c.weight) for c in mine] + [(norms, c.name, c.over) for c in mine if c.over]
            seen, columns = _see([w for _, _, w in weights], species, cube, R, width, pixels if mesh else 0)
            images = project(seen.positions, seen.support_radius, columns, width, pixels, device)  # type: ignore[arg-type]
            for (images_of, name, _), image in zip(weights, images, strict=True):
                images_of[name] += image
    for c in wanted:
        if c.over:
            maps[c.name] = np.divide(maps[c.name], norms[c.name], out=norms[c.name], where=norms[c.name] > 0)
    return maps


def cut_cube(
    particles: Particles,
    centre: ArrayLike,
    side_kpc: float,
    depth_kpc: float | None = None,
    redshift: float | None = None,
    hydrogen_column: float = 0.0,
) -> Cube:
    """The particles that a cube of side_kpc around centre can hold at any rotation.

    Args:
        particles: the snapshot, periodic.
        centre: (3,) comoving [Mpc].
        side_kpc: side of the cube, proper [kpc].
        depth_kpc: its depth along the line of sight, if that differs, proper [kpc].
        redshift, hydrogen_column: as for `observe`.

    Raises:
        ValueError: the cube is larger than the box, or the centre is not three numbers.
    """
    a, centre = particles.scale_factor, np.asarray(centre, dtype=float)
    side, depth = (length / (1e3 * a) for length in (side_kpc, depth_kpc or side_kpc))
    if centre.shape != (3,) or not np.isfinite(centre).all():
        raise ValueError(f"the centre of a cube must be three finite numbers, not {centre}.")
    for length in (side, depth):
        if not 0 < length <= particles.box * (1 + 1e-9):
            ours, whole = length * 1e3 * a, particles.box * 1e3 * a
            raise ValueError(f"a cube of {ours:g} kpc does not fit into the box of {whole:g} kpc (proper).")
    scene = Scene(a, particles.cosmology, particles.redshift if redshift is None else redshift, hydrogen_column)
    there = (s if s is not None and len(s) else None for s in (getattr(particles, kind) for kind in KINDS))
    return Cube(
        side_kpc, depth_kpc, scene, *(s and _cut_species(s, centre, side, depth, particles.box, a) for s in there)
    )


def reach_of_cube(side: float, depth: float | None = None) -> float:
    """How far from its centre the particles of a cube are, with the kernels that reach into it; depth None for side."""
    return _half_diagonal(side, side if depth is None else depth) + MARGIN * side


def _half_diagonal(side: float, depth: float) -> float:
    return 0.5 * float(np.sqrt(2 * side**2 + depth**2))


def halo_centre(halo: Mapping[str, Any] | Row | ArrayLike) -> NDArray[np.float64]:
    """(3,) comoving [Mpc] of a halo given as a row of a table, a mapping with keys x, y, z, or three numbers."""
    if isinstance(halo, Mapping | Row):
        return np.array([u.Quantity(halo[axis], u.Mpc).value for axis in "xyz"])
    return np.asarray(halo, dtype=float)


def neighbour_radius(positions: NDArray[np.float64], largest: float, k: int = K_NEIGHBOURS) -> NDArray[np.float64]:
    """Distance to the k-th nearest neighbour of each point, (P,), at most `largest`; all in one length unit."""
    if len(positions) <= k:
        return np.full(len(positions), largest)
    distance, _ = cKDTree(positions).query(positions, k=[k + 1])  # the nearest is the point itself
    return np.minimum(distance[:, 0], largest)


def _see(
    weights: list[Weight], species: Species, cube: Cube, R: NDArray[np.float64], width: float, cells: int
) -> tuple[Species, NDArray[np.float64]]:
    """What there is of one species in the rotated frame, and its weights (P, C); on a mesh if it has any cells."""
    seen, depth = replace(species, positions=species.positions @ R.T), cube.depth_kpc or width
    if species.velocities is not None:
        seen = replace(seen, velocities=species.velocities @ R.T.astype(np.float32))
    if cells:
        seen = on_mesh(seen, width, depth, cells)
    else:
        seen = seen.take(np.flatnonzero(np.abs(seen.positions[:, 2]) <= 0.5 * depth))
    return seen, np.stack([weight(seen, cube.scene) for weight in weights], axis=1)


def _cut_species(
    species: Species, centre: NDArray[np.float64], side: float, depth: float, box: float, a: float
) -> Species:
    """One species of a cube of comoving side and depth [Mpc], in the units of Cube."""
    radius = _half_diagonal(side, depth)
    index, offset = _sphere(species.positions, centre, box, reach_of_cube(side, depth))
    near = species.take(index)
    H = near.support_radius if near.support_radius is not None else neighbour_radius(offset, 0.5 * side)
    reaches = np.linalg.norm(offset, axis=1) <= radius + H
    near = replace(near, positions=offset * (1e3 * a), support_radius=H * (1e3 * a))
    if near.density is not None:
        near = replace(near, density=near.density / a**3)
    return near.take(np.flatnonzero(reaches))


def _sphere(
    positions: NDArray[np.float64], centre: NDArray[np.float64], box: float, radius: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Index and offset from centre of every particle, or periodic image of one, within radius; all in one unit."""
    images = np.arange(-np.ceil(radius / box - 0.5), np.ceil(radius / box - 0.5) + 1) * box
    shifts = np.array(list(itertools.product(images, repeat=3)))
    found = [_sphere_of_image(positions, centre, box, radius, shift) for shift in shifts]
    return np.concatenate([index for index, _ in found]), np.concatenate([offset for _, offset in found])


def _sphere_of_image(
    positions: NDArray[np.float64], centre: NDArray[np.float64], box: float, radius: float, shift: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """As `_sphere`, for the nearest image of each particle moved by shift."""
    inside = np.empty(len(positions), np.bool_)
    share_out(_inside, len(positions), positions, centre, box, radius, shift, inside)
    index = np.flatnonzero(inside)
    offset = positions[index] - centre
    return index, offset - box * np.rint(offset / box) + shift


@numba.njit(nogil=True, cache=True)
def _inside(begin, end, positions, centre, box, radius, shift, inside):
    """Whether the nearest image of each particle, moved by shift, lies within radius, into inside (P,)."""
    for p in range(begin, end):
        r2 = 0.0
        for axis in range(3):
            d = positions[p, axis] - centre[axis]
            r2 += (d - box * np.rint(d / box) + shift[axis]) ** 2
        inside[p] = r2 <= radius**2


def _rotation(rotation: ArrayLike | None) -> NDArray[np.float64]:
    """The rotation as a matrix; ValueError unless it is orthogonal."""
    R = np.eye(3) if rotation is None else np.asarray(rotation, dtype=float)
    if R.shape != (3, 3) or not np.allclose(R @ R.T, np.eye(3), atol=1e-6):
        raise ValueError("rotation must be an orthogonal (3, 3) matrix.")
    return R

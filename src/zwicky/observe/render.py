"""From a snapshot and a halo to maps: cut out a cube, turn it, project it.

    r   = 1000 a (x - x_halo),   nearest periodic image          comoving [Mpc] -> proper [kpc]
    rho = rho_comoving / a^3
    r'  = R r;   kept where |z'| <= side / 2;   map = project(r', H, weight) over [-side/2, side/2]^2

A cube keeps every particle of the sphere around it, so that one cube serves any number of rotations. Particles whose
kernel the snapshot does not know get a support radius that holds K_NEIGHBOURS of their kind. Maps that are made of
other maps have these made wider, as far as the cube goes, and are cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numba
import numpy as np
from astropy import units as u
from astropy.table import Row, Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from zwicky.galaxies import paint_galaxies
from zwicky.kernels.threads import share_out
from zwicky.observe.channels import Channel, channel, kinds_of, known_channels, wide_enough
from zwicky.observe.mesh import on_mesh
from zwicky.observe.populations import PopulationTable, read_populations
from zwicky.observe.project import project
from zwicky.observe.scene import Scene
from zwicky.observe.sky import cut
from zwicky.observe.tables import EmissivityTable, read_table
from zwicky.simulate.state import Particles, Species

K_NEIGHBOURS = 64
MARGIN = 0.2  # kernels that reach in from further outside the sphere than this fraction of the side are left out
KINDS = ("dark_matter", "gas", "stars", "galaxies")
DEFAULT_CHANNELS = ("gas", "dark_matter", "compton_y", "xray")


@dataclass(frozen=True)
class Cube:
    """The surroundings of a halo, in proper units, ready to be seen from any side.

    Args:
        side_kpc: side of the largest cube that fits at any rotation, proper [kpc].
        depth_kpc: of the line of sight through it, proper [kpc]; None for as deep as a map is wide.
        scene: what the channels need to know.
        dark_matter, gas, stars, galaxies: positions relative to the centre and support radii proper [kpc], density
            proper [Msun / Mpc^3], velocities [km/s], masses [Msun], temperature [K], metallicity [Zsun], age [Gyr];
            None where the snapshot has none.
    """

    side_kpc: float
    depth_kpc: float | None
    scene: Scene
    dark_matter: Species | None
    gas: Species | None
    stars: Species | None
    galaxies: Species | None = None


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
    emissivity: EmissivityTable | str | Path | None = None,
    metallicity: float = 0.3,
    populations: PopulationTable | str | Path | None = None,
    halos: Table | None = None,
    seed: int = 0,
    mesh: bool = False,
    device: str = "cpu",
    kernel: str = "wendland",
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
        emissivity: a table with lines and metals for X-ray bands, or its file; None for free-free emission alone.
        metallicity: of gas whose own the snapshot does not tell, in the solar unit of the table.
        populations: a table of the light of stars by age and metals, or its file; None for that of old stars.
        halos: of the whole snapshot; on them galaxies are painted if a channel needs galaxies and the snapshot has
            none. None for the table that `halo` is a row of. For many halos, paint once: `with_galaxies`.
        seed: of these galaxies; the same for all halos of a snapshot, which are in each other's maps.
        mesh: bring the particles to a mesh of cubic cells, `pixels` along a side, and see its cells (`mesh`). X-rays
            come out too low, 0.3 to 0.5 in clumpy gas: this is to replicate Hsu et al. 2025.
        device: where to project, cpu or cuda.
        kernel: of the particles, wendland (C2) or cubic (the spline M4); galaxies have the first.

    Raises:
        ValueError: a channel is unknown or lacks its input, or the cube does not fit into the box.
        UserError: the file of a table cannot be used.
    """
    table = read_table(emissivity) if isinstance(emissivity, str | Path) else emissivity
    stars = read_populations(populations) if isinstance(populations, str | Path) else populations
    scene = Scene.of(particles, redshift, hydrogen_column, table, metallicity, stars)
    halos, width = halo.table if halos is None and isinstance(halo, Row) else halos, pixels * pixel_kpc
    particles = with_galaxies(particles, halos, channels, np.random.default_rng(seed))
    side = side_of_cube(channels, width, particles, scene)
    cube = cut_cube(particles, halo_centre(halo), side, depth_kpc or width, scene)
    maps = render(cube, channels, rotation, pixels, pixel_kpc, mesh, device, kernel)
    return {name: u.Quantity(image, channel(name).unit) for name, image in maps.items()}


def render(
    cube: Cube,
    channels: Sequence[str] = DEFAULT_CHANNELS,
    rotation: ArrayLike | None = None,
    pixels: int = 128,
    pixel_kpc: float = 100.0,
    mesh: bool = False,
    device: str = "cpu",
    kernel: str = "wendland",
) -> dict[str, NDArray[np.float64]]:
    """Maps of a cube, {channel: (pixels, pixels) in its unit}; arguments as for `observe`.

    Raises:
        ValueError: as `observe`, or the map is wider than the cube.
    """
    wanted, view = known_channels(channels), _View(_rotation(rotation), pixels, pixel_kpc, mesh, device, kernel)
    if view.width > cube.side_kpc * (1 + 1e-9):
        raise ValueError(f"a map of {view.width:g} kpc is wider than the cube of {cube.side_kpc:g} kpc.")
    maps = _projected_maps(cube, [c for c in wanted if c.derived is None], view)
    maps |= _derived_maps(cube, [c for c in wanted if c.derived], view)
    return {c.name: maps[c.name] for c in wanted}


def with_galaxies(
    particles: Particles, halos: Table | None, channels: Sequence[str], rng: np.random.Generator
) -> Particles:
    """The snapshot, with galaxies painted on its halos if a channel needs them and it has none.

    Args:
        halos: of the whole snapshot; None if they are not known, and then nothing is painted.
    """
    if halos is None or particles.galaxies is not None or "galaxies" not in kinds_of(channels):
        return particles
    return replace(particles, galaxies=paint_galaxies(particles, halos, rng))


def side_of_cube(channels: Sequence[str], width_kpc: float, particles: Particles, scene: Scene) -> float:
    """Side of the cube for maps of this width, with what derived channels want beyond, cut at the box; proper [kpc]."""
    widest = wide_enough(channels, width_kpc, scene)
    return max(width_kpc, min(widest, particles.box * 1e3 * particles.scale_factor))


def cut_cube(
    particles: Particles,
    centre: ArrayLike,
    side_kpc: float,
    depth_kpc: float | None = None,
    scene: Scene | None = None,
) -> Cube:
    """The particles that a cube of side_kpc around centre can hold at any rotation.

    Args:
        particles: the snapshot, periodic.
        centre: (3,) comoving [Mpc].
        side_kpc: side of the cube, proper [kpc].
        depth_kpc: its depth along the line of sight, if that differs, proper [kpc].
        scene: the circumstances; None for the redshift of the snapshot and nothing in front of it.

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
    there = (s if s is not None and len(s) else None for s in (getattr(particles, kind) for kind in KINDS))
    near = (s and _cut_species(s, centre, side, depth, particles.box, a) for s in there)
    return Cube(side_kpc, depth_kpc, scene or Scene.of(particles), *near)


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


@dataclass(frozen=True)
class _View:
    """How a cube is seen: x' = R x, on pixels of pixel_kpc, as a mesh or not, projected on a device by a kernel."""

    R: NDArray[np.float64]
    pixels: int
    pixel_kpc: float
    mesh: bool
    device: str
    kernel: str

    def __post_init__(self) -> None:
        if self.mesh and self.kernel != "wendland":
            raise ValueError(f"a mesh is made with the wendland kernel, not with {self.kernel!r}.")

    @property
    def width(self) -> float:
        """Side of the map, proper [kpc]."""
        return self.pixels * self.pixel_kpc


def _projected_maps(cube: Cube, wanted: list[Channel], view: _View) -> dict[str, NDArray[np.float64]]:
    """Maps of channels that are sums over particles, or ratios of two sums."""
    maps, norms = ({c.name: np.zeros((view.pixels, view.pixels)) for c in wanted} for _ in range(2))
    for kind, points in itertools.product(KINDS, (False, True)):
        mine, species = [c for c in wanted if kind in c.species and c.points == points], getattr(cube, kind)
        lonely = [c.name for c in mine if species is None and len(c.species) == 1]
        if lonely:
            what = kind.replace("_", " ")
            raise ValueError(f"the channel {lonely[0]} needs {what}, which this snapshot does not have.")
        if mine and species is not None:
            weights = [(maps, c.name, c.weight) for c in mine if c.weight]
            weights += [(norms, c.name, c.over) for c in mine if c.over]
            seen = _seen(species, cube, view, view.mesh and kind != "galaxies")
            H: NDArray[np.float64] = np.zeros(len(seen)) if points else seen.support_radius  # type: ignore[assignment]
            columns = np.stack([weight(seen, cube.scene) for _, _, weight in weights], axis=1)
            kernel = "wendland" if kind == "galaxies" else view.kernel
            images = project(seen.positions, H, columns, view.width, view.pixels, view.device, kernel)
            for (images_of, name, _), image in zip(weights, images, strict=True):
                images_of[name] += image
    for c in wanted:
        if c.over:
            maps[c.name] = np.divide(maps[c.name], norms[c.name], out=norms[c.name], where=norms[c.name] > 0)
    return maps


def _derived_maps(cube: Cube, wanted: list[Channel], view: _View) -> dict[str, NDArray[np.float64]]:
    """Maps of channels that are made of other maps; those that want the same margin share them."""
    deep, maps = replace(cube, depth_kpc=cube.depth_kpc or view.width), {}
    recipes = {c.name: c.derived for c in wanted if c.derived}
    margins = {name: _margin(d.margin(view.width, cube.scene), cube, view) for name, d in recipes.items()}
    for margin in sorted(set(margins.values())):
        mine = {name: d for name, d in recipes.items() if margins[name] == margin}
        needed, pixels = [name for d in mine.values() for name in d.of], view.pixels + 2 * margin
        wide = render(deep, needed, view.R, pixels, view.pixel_kpc, view.mesh, view.device, view.kernel)
        for name, recipe in mine.items():
            maps[name] = cut(recipe.make(wide, cube.scene, view.pixel_kpc), view.pixels)
    return maps


def _margin(wanted_kpc: float, cube: Cube, view: _View) -> int:
    """Pixels on every side that hold a margin, as far as the cube goes."""
    most = (cube.side_kpc / view.pixel_kpc - view.pixels) / 2
    return max(0, min(int(np.ceil(wanted_kpc / view.pixel_kpc - 1e-9)), int(np.floor(most + 1e-9))))


def _seen(species: Species, cube: Cube, view: _View, mesh: bool) -> Species:
    """What there is of one species along the lines of sight, in the rotated frame; the cells of a mesh if so asked."""
    depth = cube.depth_kpc or view.width
    seen = replace(species, positions=species.positions @ view.R.T)
    if species.velocities is not None:
        seen = replace(seen, velocities=species.velocities @ view.R.T.astype(np.float32))
    if mesh:
        return on_mesh(seen, view.width, depth, view.pixels)
    return seen.take(np.flatnonzero(np.abs(seen.positions[:, 2]) <= 0.5 * depth))


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

"""Halos by spherical overdensity.

R_Delta is the radius at which the mean density inside first falls below Delta times the reference density, going
outwards from the centre; M_Delta is the mass inside. 200m refers to the mean matter density, 200c and 500c to the
critical density, all at the redshift of the snapshot. Candidates are the peaks of the density on a mesh; a centre is
refined by a shrinking sphere (Power et al. 2003); a candidate inside R200m of a more massive halo is dropped, so that
no halo is listed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from astropy import units as u
from astropy.table import Table
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from zwicky.grid import density_contrast, wrapped
from zwicky.io import DAMAGE, UserError, atomic_path, require_file
from zwicky.simulate.state import Particles
from zwicky.version import __version__

OVERDENSITIES = {"200m": (200.0, "mean"), "200c": (200.0, "critical"), "500c": (500.0, "critical")}
MASSES, RADII = tuple(f"m{d}" for d in OVERDENSITIES), tuple(f"r{d}" for d in OVERDENSITIES)
COLUMNS = ("id", "x", "y", "z", *(f"{kind}{d}" for d in OVERDENSITIES for kind in "mr"), "fgas200m")
PEAK_CONTRAST = 30.0  # of the mesh density at most; well below that of any halo the finder keeps
PEAK_SHARE = 0.05  # of the particles of a halo; more of them are at the mesh point of its peak where cells are large
# Factors by which the masses of a catalogue may differ; to forget h makes 1.4 or more, `mass` is of unknown kind.
SAME_MASS = {"m200m": 1.3, "m200c": 1.3, "m500c": 1.3, "mass": 3.0}
FEWEST_INSIDE = 20  # particles before the overdensity is trusted


def require_limits(min_mass: float, min_particles: int) -> None:
    """Raise ValueError unless these can be the least mass [Msun] and number of particles of a halo."""
    if not (0 <= min_mass < np.inf and min_particles >= FEWEST_INSIDE):
        raise ValueError(
            f"the least mass of halos, min_mass, must not be negative and their least number of particles, "
            f"min_particles, be {FEWEST_INSIDE} or more, not {min_mass:g} and {min_particles}."
        )


def find_halos(
    particles: Particles,
    min_mass: float = 0.0,
    min_particles: int = 200,
    progress: Callable[[int, int], None] | None = None,
    catalogue: Table | None = None,
) -> Table:
    """Table of halos, most massive first.

    Columns: id; x, y, z [Mpc, comoving]; m200m, m200c, m500c [Msun]; r200m, r200c, r500c [Mpc, proper]; n200m, number
    of particles; fgas200m, gas over total mass inside R200m.

    Args:
        min_mass: least M200m [Msun]. min_particles: least number of particles inside R200m.
        progress: called as progress(candidates done, candidates in all).
        catalogue: halos found by others (`catalogues.read_catalogue`): their places and names are kept, and masses and
            radii measured around them.

    Raises:
        ValueError: a limit is negative or no number.
        UserError: there is nothing at the places of the catalogue, or its masses are quite different.
    """
    require_limits(min_mass, min_particles)
    positions, masses, is_gas = _all_matter(particles)
    tree = cKDTree(positions, boxsize=particles.box)
    cell = particles.box / _mesh(particles)
    known = catalogue is not None
    if catalogue is None:
        fewest = max(float(min_particles), min_mass / masses.mean())
        places = _density_peaks(positions, masses, particles, fewest)
    else:
        places = wrapped(halo_centres(catalogue), particles.box)
    found: list[dict[str, float]] = []
    for i, place in enumerate(places):
        if progress:
            progress(i + 1, len(places))
        if not known and _inside_any(place, found, particles, cell):
            continue
        centre = place if known else _refine(tree, positions, masses, place, 2 * cell)
        halo = _measure(tree, positions, masses, is_gas, centre, particles)
        if halo and halo["m200m"] >= min_mass and halo["n200m"] >= min_particles:
            found.append(halo | {"candidate": i})
    if catalogue is not None:
        _require_agreement(catalogue, found)
    found = sorted(found, key=lambda f: -f["m200m"]) if known else _drop_inside(found, particles)
    table = _as_table(found, particles)
    if catalogue is not None:
        table["id"] = np.asarray(catalogue["id"])[[int(f["candidate"]) for f in found]]
    return table


def _require_agreement(catalogue: Table, found: list[dict[str, float]]) -> None:
    """Refuse a catalogue that is not of this snapshot, or in other units than it seems."""
    if not found:
        raise UserError(f"none of the {len(catalogue)} halos of the catalogue is in the snapshot; check its units.")
    rows = [int(f["candidate"]) for f in found]
    for name, slack in SAME_MASS.items():
        if name not in catalogue.colnames:
            continue
        given = np.asarray(catalogue[name])[rows]
        measured = np.array([f["m200m" if name == "mass" else name] for f in found])
        good = (given > 0) & np.isfinite(measured)
        ratio = float(np.median(measured[good] / given[good])) if good.any() else 1.0
        if not 1 / slack < ratio < slack:
            raise UserError(
                f"the halos have {ratio:.3g} times the {name} of the catalogue (median); check its units, and whether "
                "it belongs to this snapshot."
            )


def _all_matter(particles: Particles) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    kinds = [s for s in (particles.dark_matter, particles.gas, particles.stars) if s is not None]
    is_gas = np.concatenate([np.full(len(s), s is particles.gas) for s in kinds])
    positions = wrapped(np.concatenate([s.positions for s in kinds]), particles.box)
    return positions, np.concatenate([s.masses for s in kinds]), is_gas


def _mesh(particles: Particles) -> int:
    """Mesh points along a side: twice the particles of one species, at most 512."""
    return int(np.clip(2 * round(len(particles.dark_matter) ** (1 / 3)), 16, 512))


def _density_peaks(
    positions: NDArray[np.float64], masses: NDArray[np.float64], particles: Particles, fewest: float
) -> NDArray[np.float64]:
    """Positions of the local maxima of the mesh density, densest first, (K, 3).

    Args:
        fewest: particles of a halo. Where the mesh is coarse, a point stands for many particles and few make no peak.
    """
    n = _mesh(particles)
    lowest = min(PEAK_CONTRAST, PEAK_SHARE * fewest * n**3 / len(positions))
    delta = density_contrast(positions, particles.box, n, masses)
    peak = (delta == maximum_filter(delta, size=3, mode="wrap")) & (delta > lowest)
    index = np.argwhere(peak)
    return (index[np.argsort(-delta[peak], kind="stable")] * (particles.box / n)).astype(np.float64)


def _offset(positions: NDArray[np.float64], centre: NDArray[np.float64], box: float) -> NDArray[np.float64]:
    """Minimum-image vectors from the centre."""
    d = positions - centre
    return np.asarray(d - box * np.round(d / box))


def _refine(
    tree: cKDTree, positions: NDArray[np.float64], masses: NDArray[np.float64], centre: NDArray, radius: float
) -> NDArray[np.float64]:
    """Centre of mass of a sphere that shrinks by a tenth until it holds fewer than FEWEST_INSIDE particles."""
    box = float(tree.boxsize[0])
    while True:
        inside = np.sort(tree.query_ball_point(centre, radius))
        if len(inside) < FEWEST_INSIDE:
            return centre
        shift = np.average(_offset(positions[inside], centre, box), axis=0, weights=masses[inside])
        centre = (centre + shift) % box
        radius *= 0.9


def _measure(
    tree: cKDTree,
    positions: NDArray[np.float64],
    masses: NDArray[np.float64],
    is_gas: NDArray[np.bool_],
    centre: NDArray[np.float64],
    particles: Particles,
) -> dict[str, float] | None:
    """Radii [Mpc, comoving] and masses of one halo, None if its centre is not dense enough."""
    c, a, box = particles.cosmology, particles.scale_factor, particles.box
    reference = {"mean": c.rho_mean, "critical": c.rho_crit(a) * a**3}
    radius = min(0.02 * box, 1.0)
    while True:  # the last of r and m is the sphere itself, for halos that nothing surrounds
        inside = np.sort(np.asarray(tree.query_ball_point(centre, radius), dtype=np.intp))
        r = np.linalg.norm(_offset(positions[inside], centre, box), axis=1)
        order = np.argsort(r, kind="stable")
        r, m = np.append(r[order], radius), np.append(np.cumsum(masses[inside][order]), masses[inside].sum())
        volume = 4 / 3 * np.pi * np.maximum(r, 1e-9) ** 3
        lowest = 200 * reference["mean"]
        if (len(r) >= FEWEST_INSIDE and (m / volume)[FEWEST_INSIDE - 1 :].min() < lowest) or radius > 0.45 * box:
            break
        radius *= 1.5
    halo = dict(zip("xyz", centre, strict=True))
    for name, (delta, kind) in OVERDENSITIES.items():
        last = _last_above(m / volume, delta * reference[kind])
        if last is None:
            if name == "200m":
                return None
            halo |= {f"m{name}": np.nan, f"r{name}": np.nan}
            continue
        halo |= {f"m{name}": m[last], f"r{name}": float(np.cbrt(m[last] / (4 / 3 * np.pi * delta * reference[kind])))}
        if name == "200m":
            gas = is_gas[inside][order][: last + 1]
            halo |= {"n200m": last + 1, "fgas200m": float(masses[inside][order][: last + 1][gas].sum() / m[last])}
    return halo


def _last_above(mean_density: NDArray[np.float64], threshold: float) -> int | None:
    """Index of the last particle before the mean density inside falls below the threshold."""
    below = np.flatnonzero(mean_density[FEWEST_INSIDE - 1 :] < threshold)
    if len(mean_density) < FEWEST_INSIDE or len(below) == 0 or below[0] == 0:
        return None
    return int(below[0]) + FEWEST_INSIDE - 2


def _inside_any(
    centre: NDArray[np.float64], found: list[dict[str, float]], particles: Particles, reach: float | None = None
) -> bool:
    """Whether a point lies within R200m (or `reach` [Mpc]) of the centre of a halo."""
    if not found:
        return False
    others = np.array([[f["x"], f["y"], f["z"]] for f in found])
    radius = np.array([f["r200m"] if reach is None else reach for f in found])
    return bool((np.linalg.norm(_offset(others, centre, particles.box), axis=1) < radius).any())


def _drop_inside(found: list[dict[str, float]], particles: Particles) -> list[dict[str, float]]:
    """Most massive first, without those whose centre lies inside R200m of a more massive one."""
    kept: list[dict[str, float]] = []
    for halo in sorted(found, key=lambda f: -f["m200m"]):
        if not _inside_any(np.array([halo["x"], halo["y"], halo["z"]]), kept, particles):
            kept.append(halo)
    return kept


def _as_table(found: list[dict[str, float]], particles: Particles) -> Table:
    a = particles.scale_factor
    table = Table({"id": np.arange(len(found))})
    for axis in "xyz":
        table[axis] = np.array([f[axis] for f in found], float)
        table[axis].unit = "Mpc"
    for name in OVERDENSITIES:
        table[f"m{name}"] = np.array([f[f"m{name}"] for f in found], float)
        table[f"m{name}"].unit = "Msun"
        table[f"r{name}"] = np.array([f[f"r{name}"] * a for f in found], float)
        table[f"r{name}"].unit = "Mpc"
    table["n200m"] = np.array([f["n200m"] for f in found], int)
    table["fgas200m"] = np.array([f["fgas200m"] for f in found], float)
    table.meta.update(version=__version__, redshift=particles.redshift, box=particles.box, **particles.origin)
    return table


def column_in(table: Table, name: str, unit: u.UnitBase) -> NDArray[np.float64]:
    """A column in this unit, which is also that of a column without one."""
    return np.asarray(u.Quantity(table[name], table[name].unit or unit).to_value(unit))


def halo_centres(halos: Table) -> NDArray[np.float64]:
    """Positions of the halos of a table (H, 3) [Mpc, comoving]."""
    return np.stack([np.asarray(halos[axis]) for axis in "xyz"], 1)


def write_halos(halos: Table, path: str | Path) -> None:
    """Write the table as HDF5: one data set a column, with its unit."""
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        f.attrs.update({k: v for k, v in halos.meta.items()})
        for name in halos.colnames:
            data = f.create_dataset(name, data=np.asarray(halos[name]))
            data.attrs["unit"] = str(halos[name].unit or "")


def read_halos(path: str | Path) -> Table:
    """Read what `write_halos` wrote.

    Raises:
        UserError: the file is missing or is not a halo catalogue.
    """
    path = require_file(path, "the halo catalogue")
    try:
        with h5py.File(path) as f:
            table = Table(meta=dict(f.attrs))
            for name in (*COLUMNS, *[c for c in f if c not in COLUMNS]):
                table[name] = f[name][()]
                if f[name].ndim != 1 or (name in COLUMNS and f[name].dtype.kind not in "iuf"):
                    raise ValueError(name)
                table[name].unit = f[name].attrs["unit"] or None
            return table
    except DAMAGE as error:
        raise UserError(f"{path} is not a halo catalogue of Zwicky.") from error

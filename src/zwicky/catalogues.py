"""Halo catalogues of other codes: where halos are, and how heavy they are said to be.

    SUBFIND and FoF (GADGET-4, AREPO, IllustrisTNG)   HDF5, Group/GroupPos
    SOAP (SWIFT)                                       HDF5, InputHalos/HaloCentre or VR/CentreOfPotential
    AHF                                                text, kpc/h and Msun/h
    Rockstar                                           text, Mpc/h and Msun/h
    consistent-trees (hlist_*.list, tree_*.dat)        text, Mpc/h and Msun/h; the halos of the snapshot's scale factor
    any table that astropy reads (CSV, ECSV, FITS)     columns x, y, z and, if known, id and mass; units as given there,
                                                       else comoving Mpc and Msun

Only places and names are taken over: `find_halos` measures masses and radii around them, so that they mean the same
whatever found the halos, and a catalogue in other units than assumed is noticed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import h5py
import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.io.registry import IORegistryError
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zwicky.grid import wrapped
from zwicky.halos import MASSES, column_in, find_halos, halo_centres, read_halos
from zwicky.io import DAMAGE, UserError, reason_of
from zwicky.simulate.state import Particles
from zwicky.snapshots import read_around, read_header, read_snapshot
from zwicky.snapshots.files import all_files, first_file, require_alone
from zwicky.snapshots.layout import Header, first_of, require_data, stored_factor

LIGHTER = {"m200m": 1.3, "m200c": 2.0, "mass": 3.0, "m500c": 4.0}  # by which M200m may exceed a mass, at most
ANY_MASS = ("mass", "m", "mvir", "mhalo")
GROUP_MASSES = {"Group_M_Mean200": "m200m", "Group_M_Crit200": "m200c", "Group_M_Crit500": "m500c"}
ROCKSTAR_MASSES = {"M200b": "m200m", "M200c": "m200c", "M500c": "m500c", "Mvir": "mass"}
SAME_MOMENT = 1e-3  # between the scale factors of a catalogue and of its snapshot
CENTRAL = "InputHalos/IsCentral"
SOAP_CENTRES = ("InputHalos/HaloCentre", "VR/CentreOfPotential")
SOAP_MASSES = {"SO/200_mean": "m200m", "SO/200_crit": "m200c", "SO/500_crit": "m500c"}


def read_catalogue(path: str | Path, particles: Particles) -> Table:
    """Halos of a catalogue: id; x, y, z [Mpc, comoving]; and what it has of m200m, m200c, m500c, mass [Msun].

    Args:
        path: a file, one of several of the same catalogue, or their folder.
        particles: the snapshot that it belongs to, whose h and box it is read with.

    Raises:
        UserError: the file is missing, damaged or not one of these catalogues.
    """
    first = first_file(Path(path), "the halo catalogue")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is said once, by the error
            if Path(path).is_dir() and _is_whole(first):
                require_alone(Path(path), first)
            table = _reader(first)(first, particles)
    except (*DAMAGE, u.UnitsError, fits.VerifyError) as error:
        raise UserError(f"{first} is not a halo catalogue that can be read ({reason_of(error)}).") from error
    places = np.stack([table[axis] for axis in "xyz"], axis=1)
    if len(table) == 0 or not np.isfinite(places).all():
        raise UserError(f"{first} has no halos, or places that are NaN or infinite.")
    if places.min() < -0.01 * particles.box or places.max() > 1.01 * particles.box:
        raise UserError(f"{first} has halos outside the box of {particles.box:g} Mpc; check its units.")
    return table


def halos_of_catalogue(
    snapshot: str | Path,
    path: str | Path,
    min_mass: float = 0.0,
    min_particles: int = 200,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """Masses and radii in a snapshot at the places of a catalogue, as a table of `find_halos`.

    Of a large snapshot only what lies around the halos is held in memory.

    Raises:
        UserError: a file cannot be used, or the two do not belong together.
    """
    header = read_header(snapshot)
    catalogue = read_catalogue(path, header)
    known = [name for name in LIGHTER if name in catalogue.colnames]
    if known:
        largest = np.asarray(catalogue[known[0]]) * LIGHTER[known[0]]  # what M200m may be
        catalogue = catalogue[~(largest < min_mass)]
        largest = largest[~(largest < min_mass)]
    if len(catalogue) == 0:
        raise UserError(f"{path} has no halo of {min_mass:.3g} Msun or more.")
    if known and np.isfinite(largest).all() and largest.max() > 0:
        radius = float(1.5 * np.cbrt(largest.max() / (800 / 3 * np.pi * header.cosmology.rho_mean)))
        near = read_around(snapshot, header, halo_centres(catalogue), radius)
        found = find_halos(near, min_mass, min_particles, progress, catalogue)
        if np.asarray(found["r200m"]).max(initial=0.0) < 0.8 * radius * header.scale_factor:
            return found  # else the catalogue's masses were too small, and so was the region
    return find_halos(read_snapshot(snapshot), min_mass, min_particles, progress, catalogue)


def _is_whole(path: Path) -> bool:
    """Whether an HDF5 file is not one of several."""
    with h5py.File(path) as f:
        return "Group" not in f or Header(f).files <= 1


def _reader(path: Path) -> Callable[[Path, Particles], Table]:
    """Which function reads this file."""
    if h5py.is_hdf5(path):
        with h5py.File(path) as f:
            if "Group" in f:
                return _read_subfind
            return _read_soap if any(name in f for name in SOAP_CENTRES) else _read_ours
    with open(path, errors="replace") as f:
        head = f.readline()
    if "hostHalo" in head:
        return _read_ahf
    if {"scale", "desc_scale", "pid"} <= set(_names(head)):
        return _read_trees
    return _read_rockstar if "DescID" in head or "descid" in head else _read_table


def _table(identity: NDArray, places: NDArray, masses: dict[str, NDArray]) -> Table:
    """The columns of every catalogue."""
    identity, places = np.asarray(identity), np.asarray(places, dtype=float)
    if identity.dtype.kind in "USO":
        raise ValueError("its ids are words, and halos have whole numbers; without a column id they are counted")
    if identity.ndim != 1 or identity.dtype.kind not in "iu" or places.shape != (len(identity), 3):
        raise ValueError("it needs a whole number as id and three places for every halo")
    table = Table({"id": identity})
    for axis, values in zip("xyz", places.T, strict=True):
        table[axis] = values * u.Mpc
    for name, values in masses.items():
        mass = np.asarray(values, dtype=float)
        if mass.shape != identity.shape or (mass < 0).any() or np.isinf(mass).any():
            raise ValueError(f"its {name} are not one mass for every halo")
        table[name] = mass * u.Msun
    return table


def _read_ours(path: Path, particles: Particles) -> Table:
    halos = read_halos(path)
    return halos["id", "x", "y", "z", *MASSES]


def _read_subfind(path: Path, particles: Particles) -> Table:
    """Groups with their centre at the most bound particle."""
    with h5py.File(path) as f:
        files = all_files(path, Header(f).files)
    places: list[NDArray] = []
    masses: dict[str, list[NDArray]] = {name: [] for name in GROUP_MASSES}
    for part in files:
        with h5py.File(part) as f:
            header, groups = Header(f), f["Group"]
            if abs(header.a / particles.scale_factor - 1) > SAME_MOMENT:
                raise ValueError(f"it is of a = {header.a:g} and the snapshot of a = {particles.scale_factor:g}")
            if "GroupPos" not in groups:
                continue  # a file without groups of its own
            require_data(groups["GroupPos"])
            places.append(groups["GroupPos"][()] * header.factor("positions", groups["GroupPos"]))
            for name, found in masses.items():
                if name in groups:
                    found.append(groups[name][()] * header.factor("masses", groups[name]))
    if not places:
        raise ValueError("it has no groups")
    centres = np.concatenate(places)
    known = {GROUP_MASSES[name]: np.concatenate(found) for name, found in masses.items() if found}
    return _table(np.arange(len(centres)), centres, known)


def _read_soap(path: Path, particles: Particles) -> Table:
    """SOAP writes the unit attributes of SWIFT; its scale factor is that of the snapshot."""
    with h5py.File(path) as f:
        centre = first_of(f, SOAP_CENTRES)
        if centre is None:
            raise KeyError("it has no centres")
        masses = {
            name: _swift_units(f[f"{group}/TotalMass"], "masses", particles)
            for group, name in SOAP_MASSES.items() if f"{group}/TotalMass" in f
        }  # fmt: skip
        identity = first_of(f, ("InputHalos/HaloCatalogueIndex", "VR/ID"))
        number = np.arange(len(centre)) if identity is None else identity[()]
        table = _table(number, _swift_units(centre, "positions", particles), masses)
        return table[f[CENTRAL][()] > 0] if CENTRAL in f else table


def _swift_units(data: h5py.Dataset, field: str, particles: Particles) -> NDArray:
    """A data set of SOAP in our units."""
    require_data(data)
    return data[()] * stored_factor(field, data, particles.scale_factor, particles.cosmology.h)


def _text(path: Path, whole: tuple[str, ...]) -> dict[str, NDArray]:
    """Columns of a text file whose first line names them, as `#ID(1) hostHalo(2) ...` or `#ID DescID ...`.

    Args:
        whole: columns of whole numbers, which have more digits than a float.
    """
    with open(path) as f:
        names = _names(f.readline())
    rows = np.loadtxt(path, ndmin=2, comments="#", dtype=str)
    if rows.size == 0:
        raise ValueError("it has no halos")
    if rows.shape[1] < len(names):
        raise ValueError(f"it has {rows.shape[1]} columns and names {len(names)}")
    return {name: _numbers(rows[:, i], name in whole) for i, name in enumerate(names)}


def _names(head: str) -> list[str]:
    """Names of columns in the first line of a text file, without the numbers behind them."""
    return [re.sub(r"\(\d+\)$", "", name) for name in head.lstrip("#").split()]


def _numbers(words: NDArray, whole: bool) -> NDArray:
    """Words as numbers; whole ones beyond 2^63 as uint64."""
    if not whole:
        return words.astype(float)
    values = [int(word) for word in words]
    return np.array(values, dtype=np.uint64 if max(values) >= 2**63 else np.int64)


def _read_ahf(path: Path, particles: Particles) -> Table:
    """Main halos (no host, written as 0 or -1), by the definition of mass that AHF was run with."""
    columns, h = _text(path, ("ID", "hostHalo")), particles.cosmology.h
    host = columns["hostHalo"]
    main = host == (-1 if (host == -1).any() else 0)
    places = np.stack([columns[name][main] for name in ("Xc", "Yc", "Zc")], axis=1) / (1e3 * h)
    mass = columns["Mhalo" if "Mhalo" in columns else "Mvir"][main] / h
    return _table(columns["ID"][main], places, {"mass": mass})


def _read_rockstar(path: Path, particles: Particles) -> Table:
    """Halos that are no subhalos: by PID, or else not within the virial radius [kpc/h] of a heavier halo."""
    columns, h = _text(path, ("ID", "PID")), particles.cosmology.h
    places = np.stack([columns[name] for name in "XYZ"], axis=1) / h
    if "PID" in columns:
        main = columns["PID"] < 0
    elif "Rvir" in columns:
        main = _outside_heavier(places, columns["Rvir"] / (1e3 * h), columns["Mvir"], particles.box)
    else:
        raise ValueError("it has neither PID nor Rvir, by which subhalos are told; Rockstar's find_parents adds PID")
    masses = {ours: columns[name][main] / h for name, ours in ROCKSTAR_MASSES.items() if name in columns}
    return _table(columns["ID"][main], places[main], masses)


def _outside_heavier(places: NDArray, radius: NDArray, mass: NDArray, box: float) -> NDArray[np.bool_]:
    """Whether each halo lies within the radius of no heavier one, in a periodic box; all lengths in one unit."""
    tree, main = cKDTree(wrapped(places, box), boxsize=box), np.ones(len(places), bool)
    for i, near in enumerate(tree.query_ball_point(tree.data, radius)):
        within = np.asarray(near, dtype=int)
        main[within[mass[within] < mass[i]]] = False
    return main


def _read_trees(path: Path, particles: Particles) -> Table:
    """Main halos (pid -1) of one moment; trees are read a line at a time, as they may be larger than the memory."""
    a, h = particles.scale_factor, particles.cosmology.h
    with open(path) as f:
        names = _names(f.readline())
        at = {name: names.index(name) for name in ("scale", "id", "pid", *"xyz")}
        rows, scales = [], set()
        for words in _rows_of_trees(f, len(names)):
            scales.add(words[at["scale"]])
            if abs(float(words[at["scale"]]) / a - 1) < SAME_MOMENT and words[at["pid"]] == "-1":
                rows.append(words)
    if not rows:
        last = max(scales, key=float, default="none")
        raise ValueError(f"it has no main halos of a = {a:g}; its last are of a = {last}")
    columns = np.array(rows)
    places = np.stack([columns[:, at[axis]].astype(float) for axis in "xyz"], axis=1) / h
    known = {name.lower(): i for i, name in reversed(list(enumerate(names)))}
    masses = {
        ours: columns[:, known[name.lower()]].astype(float) / h
        for name, ours in ROCKSTAR_MASSES.items() if name.lower() in known
    }  # fmt: skip
    return _table(_numbers(columns[:, at["id"]], True), places, masses)


def _rows_of_trees(lines: Iterable[str], count: int) -> Iterator[list[str]]:
    """Words of the lines that are halos: not comments, heads of trees, or the number of trees."""
    for line in lines:
        words = line.split()
        if line.startswith("#") or len(words) <= 1:
            continue
        if len(words) != count:
            raise ValueError(f"a line has {len(words)} columns, and the first names {count}")
        yield words


def _read_table(path: Path, particles: Particles) -> Table:
    """Any table; names of columns in any case."""
    try:
        table = Table.read(path)
    except IORegistryError:  # the ending of the name says nothing
        table = Table.read(path, format="ascii")
    table.rename_columns(table.colnames, [name.lower() for name in table.colnames])
    missing = [axis for axis in "xyz" if axis not in table.colnames]
    if missing:
        raise KeyError(f"it has no column {missing[0]}")
    if any(np.ma.is_masked(table[name]) for name in table.colnames if name in {"id", *"xyz", *MASSES, *ANY_MASS}):
        raise ValueError("it has empty cells")
    places = np.stack([column_in(table, axis, u.Mpc) for axis in "xyz"], axis=1)
    known = {name: name for name in MASSES} | dict.fromkeys(ANY_MASS, "mass")
    masses = {
        ours: column_in(table, name, u.Msun) for name, ours in known.items() if name in table.colnames
    }  # fmt: skip
    identity = table["id"] if "id" in table.colnames else np.arange(len(table))
    return _table(np.asarray(identity), places, masses)

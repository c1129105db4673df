"""Snapshots from disk to `Particles`: ours, and those of GADGET-2/3/4, AREPO (IllustrisTNG), GIZMO (SIMBA) and SWIFT.

PartType0 is gas, 1 dark matter, 2 and 3 the coarse dark matter of zoom simulations, 4 stars; black holes are left out,
and so is PartType3 of SWIFT, which is sink particles there.
Names, units and powers of a and h are in `layout`. What a file does not hold is made where it can be:

    T = (gamma - 1) u mu m_p / k,   mu = 4 / (1 + 3 X + 4 X n_e / n_H)       from internal energies
    H = 2.5 (3 m / (4 pi rho))^(1/3)                                        gas cells, which have no kernel
    Z = mass fraction of all metals / 0.0127                                the first column, where elements follow

A snapshot in several files is read as one. With a centre and a radius only the particles around it are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from zwicky.grid import wrapped
from zwicky.io import DAMAGE, UserError, reason_of
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots.files import all_files, first_file, require_alone
from zwicky.snapshots.layout import NAMES, Header, first_of, require_data
from zwicky.units import K_B, M_PROTON, X_HYDROGEN, Z_SOLAR

GAS, DARK_MATTER, STARS = (0,), (1, 2, 3), (4,)
OPTIONAL_KINDS = (2, 3)  # tracers, if they have no places or masses
HELD = {  # beside places and masses
    0: ("support_radius", "density", "temperature", "metallicity"), 1: ("support_radius",), 4: ("metallicity",),
}  # fmt: skip
BIRTH = ("GFM_StellarFormationTime", "StellarFormationTime", "BirthScaleFactors")  # scale factor at it, of stars
SLAB = 1 << 22  # rows read at a time
CELL_SUPPORT = 2.5  # support radius of a gas cell over the radius of the sphere of its volume
STAR_FORMING = ("cold", "cut", "keep")
MOST_MASS = 1.5  # of the mean density times the box: more cannot be


def read_snapshot(
    path: str | Path,
    centre: ArrayLike | None = None,
    radius: float | None = None,
    star_forming: str = "cold",
) -> Particles:
    """Particles of an HDF5 snapshot.

    Args:
        path: the file, one of its files, or their folder.
        centre, radius: read only what is within `radius` of `centre` (3,), or of one of several (K, 3), both comoving
            [Mpc], through the nearest periodic image.
        star_forming: what becomes of gas that forms stars or is thrown out as a wind, whose temperature is that of a
            subgrid model: it counts as gas without emission ("cold", temperature 0), is left out ("cut"), or is taken
            as it is ("keep"). `origin` says what was done, and to how many particles.

    Raises:
        UserError: a file is missing, damaged, or lacks what is needed; the message says what.
        ValueError: a radius that is not positive, a centre without a radius, or an unknown `star_forming`.
    """
    region = _region(centre, radius)
    if star_forming not in STAR_FORMING:
        raise ValueError(f"star_forming must be one of {', '.join(STAR_FORMING)}, not {star_forming!r}.")
    return _read(Path(path), lambda first: _Snapshot(first, region, star_forming).particles())


def read_header(path: str | Path) -> Particles:
    """A snapshot without its particles: box, redshift, cosmology, origin.

    Raises:
        UserError: as `read_snapshot`.
    """
    return _read(Path(path), lambda first: _Snapshot(first, None, "keep").without_particles())


def read_around(path: str | Path, header: Particles, centres: NDArray[np.float64], radius: float) -> Particles:
    """What is within `radius` of one of the centres (K, 3) [Mpc, comoving], or all of it where that is hardly less.

    Args:
        header: of `read_header`.
    """
    if len(centres) * 4 * radius**3 < header.box**3 / 3:
        return read_snapshot(path, centres, radius)
    return read_snapshot(path)


def _read(path: Path, what: Callable[[Path], Particles]) -> Particles:
    first = first_file(path, "the snapshot")
    try:
        if path.is_dir():
            with h5py.File(first) as f:
                if Header(f).is_whole:
                    require_alone(path, first)
        return what(first)
    except DAMAGE as error:
        raise UserError(f"{first} is not a complete HDF5 snapshot ({reason_of(error)}).") from error


def _region(centre: ArrayLike | None, radius: float | None) -> tuple[NDArray[np.float64], float] | None:
    if (centre is None) != (radius is None):
        raise ValueError("a centre needs a radius, and a radius a centre.")
    if centre is None or radius is None:
        return None
    places = np.atleast_2d(np.asarray(centre, dtype=float))
    if places.shape[1:] != (3,) or not np.isfinite(places).all() or not 0 < radius < np.inf:
        raise ValueError("a centre must be three finite numbers and the radius positive.")
    return places, float(radius)


@dataclass
class _Columns:
    """Columns of one kind of particle as they come from the files, a list of pieces each."""

    pieces: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    count: int = 0

    def species(self) -> Species:
        """All pieces in one; a column that some of them lack is left out."""
        whole: dict[str, Any] = {k: np.concatenate(v) for k, v in self.pieces.items()}
        whole = {k: v for k, v in whole.items() if len(v) == self.count}
        nothing = {"positions": np.zeros((0, 3)), "velocities": None, "masses": np.zeros(0)}
        return Species(**nothing | whole)


class _Snapshot:
    """The files of one snapshot, each open while it is read."""

    def __init__(self, first: Path, region: tuple[NDArray[np.float64], float] | None, star_forming: str) -> None:
        self.first, self.region, self.star_forming, self.touched = first, region, star_forming, 0
        with h5py.File(first) as f:
            self.header = Header(f)
            self.origin = {k: str(v) for k, v in f["Origin"].attrs.items()} if "Origin" in f else {}
        self.paths = [first] if self.header.is_whole else all_files(first, self.header.files)
        self.dark = DARK_MATTER[:2] if self.header.is_swift else DARK_MATTER
        self.box = self._box()
        self.centres = cKDTree(wrapped(region[0] if region else np.zeros((0, 3)), self.box), boxsize=self.box)

    def _files(self) -> Iterator[tuple[h5py.File, Header]]:
        """Every file and its header, which must agree with that of the first."""
        for path in self.paths:
            with h5py.File(path) as f:
                header = Header(f)
                if header.common() != self.header.common():
                    raise UserError(f"{path} and {self.first} are files of different snapshots.")
                yield f, header

    def _box(self) -> float:
        for f, header in self._files():
            for kind in (*GAS, *self.dark, *STARS):
                if f"PartType{kind}/Coordinates" in f:
                    box = header.box * header.factor("positions", f[f"PartType{kind}/Coordinates"])
                    if not (np.isfinite(box) and box > 0):
                        raise UserError(f"{self.first} has an impossible BoxSize = {box:g}.")
                    return box
        raise UserError(f"{self.first} has neither gas (PartType0) nor dark matter (PartType1).")

    def particles(self) -> Particles:
        """All of it in our units."""
        whole = self.without_particles()
        whole.dark_matter, whole.gas, stars = self._species(self.dark, GAS, STARS)
        whole.stars = stars if len(stars) else None
        self._check((whole.dark_matter, whole.gas, stars))
        if self.touched:
            whole.origin["star_forming"] = f"{self.star_forming}, {self.touched} particles"
        return whole

    def without_particles(self) -> Particles:
        """What the header says."""
        redshift = max(0.0, 1 / self.header.a - 1)
        nothing = (_Columns().species(), _Columns().species())
        return Particles(
            self.box, redshift, self.header.cosmology, *nothing, {"snapshot": self.first.name, **self.origin}
        )

    def _check(self, kinds: Sequence[Species]) -> None:
        if not any(map(len, kinds)):
            where = f" within {self.region[1]:g} Mpc of the centres asked for" if self.region else ""
            raise UserError(f"{self.first} has no particles{where}.")
        mass = 0.0
        for species in kinds:
            if len(species) and float(np.abs(species.positions).max()) > 2 * self.box:
                raise UserError(f"{self.first} has particles far outside its box of {self.box:g} Mpc; check its units.")
            if len(species) and not species.masses.any():
                raise UserError(f"{self.first} has particles whose masses are all zero.")
            mass += float(species.masses.sum())
        if mass > MOST_MASS * self.header.cosmology.rho_mean * self.box**3:
            raise UserError(
                f"{self.first} holds {mass:.3g} Msun, more than a box of {self.box:g} Mpc has; check its units."
            )

    def _species(self, *groups: tuple[int, ...]) -> list[Species]:
        """The particles of these groups of kinds, in one pass over all files."""
        gathered = [_Columns() for _ in groups]
        columns = {kind: mine for kinds, mine in zip(groups, gathered, strict=True) for kind in kinds}
        counted = dict.fromkeys(columns, 0)
        for f, header in self._files():
            for kind in columns:
                name = f"PartType{kind}"
                there = len(f[name]["Coordinates"]) if name in f and "Coordinates" in f[name] else 0
                expected = header.count(kind, default=there)
                if there != expected and not (kind in OPTIONAL_KINDS and not there):
                    found = f"{there} particles in {name}" if there else f"no {name}"
                    raise UserError(f"{f.filename} has {found}, although its header counts {expected}.")
                counted[kind] += there
                if there and not (kind in OPTIONAL_KINDS and "Masses" not in f[name] and not header.mass(kind)):
                    for rows in self._rows(f[name]):
                        self._read_rows(f[name], kind, rows, columns[kind])
        for kind in columns:
            total = self.header.total(kind)
            if len(self.paths) > 1 and total is not None and kind not in OPTIONAL_KINDS and counted[kind] != total:
                raise UserError(f"the files of {self.first} hold {counted[kind]} of {total} particles of kind {kind}.")
        return [mine.species() for mine in gathered]

    def _rows(self, group: h5py.Group) -> list[Any]:
        """Rows of a group to read, a slab at a time: slices, or indices where only a region is wanted."""
        count = len(group["Coordinates"])
        slabs = [slice(s, min(s + SLAB, count)) for s in range(0, count, SLAB)]
        if self.region is None:
            return slabs
        chosen = []
        for slab in slabs:
            x = wrapped(self._column(group["Coordinates"], "positions", slab), self.box)
            distance, _ = self.centres.query(x, distance_upper_bound=self.region[1], workers=-1)
            inside = np.flatnonzero(distance < np.inf)
            if len(inside):
                chosen.append(slab.start + inside)
        return chosen

    def _column(self, data: h5py.Dataset, field: str, rows: Any) -> NDArray[Any]:
        """Rows of a field in our units, checked."""
        vector = field in ("positions", "velocities")
        by_element = field == "metallicity" and data.ndim == 2 and data.shape[1] > 0
        values = _take(data, rows, (3,) if vector else data.shape[1:] if by_element else ())
        values = (values[:, 0] if by_element else values) * self.header.factor(field, data)
        if not np.isfinite(values).all():
            raise UserError(f"{data.name} in {data.file.filename} holds NaN or infinity.")
        if not vector and (values < 0).any():
            raise UserError(f"{data.name} in {data.file.filename} holds negative values.")
        return values.astype(np.float32) if field == "velocities" else values.astype(np.float64)

    def _read_rows(self, group: h5py.Group, kind: int, rows: Any, columns: _Columns) -> None:
        kept = ("positions", "velocities", "masses", *HELD.get(kind, ()), *(("energy",) if kind == 0 else ()))
        known = {name: first_of(group, NAMES[name]) for name in kept}
        data = {name: d for name, d in known.items() if d is not None}
        if len({len(d) for d in data.values()}) != 1:
            raise UserError(f"the data sets of {group.name} in {group.file.filename} differ in length.")
        found = {name: self._column(d, name, rows) for name, d in data.items()}
        count = len(found["positions"])
        if "masses" not in found:
            if not self.header.mass(kind) > 0:
                raise UserError(f"{group.name} in {group.file.filename} has no Masses, and MassTable none for it.")
            found["masses"] = np.full(count, self.header.mass(kind) * self.header.factor("masses"))
        if kind == 4:
            found = self._complete_stars(group, rows, found)
        elif kind == 0:
            found = self._complete_gas(group, rows, found)
        elif kind == 1 and "SubfindHsml" in group:
            found["support_radius"] = self._column(group["SubfindHsml"], "support_radius", rows)
        found.pop("energy", None)
        for name, values in found.items():
            columns.pieces.setdefault(name, []).append(values)
        columns.count += len(found["positions"])

    def _complete_stars(self, group: h5py.Group, rows: Any, found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Ages from scale factors of birth, where they are known; particles of a wind are left out."""
        name = next((name for name in BIRTH if name in group), None)
        if name is None:
            return found
        birth, c = _extra(group, name, rows), self.header.cosmology
        found["age"] = c.age(self.header.a) - c.age(np.clip(birth, 0.0, self.header.a))
        if name != BIRTH[0]:
            return found
        stars = birth > 0  # others are gas in a wind
        return {k: v[stars] for k, v in found.items()}

    def _complete_gas(self, group: h5py.Group, rows: Any, found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Temperatures from energies, support radii from volumes, and what `star_forming` asks."""
        if "temperature" not in found and "energy" in found:
            found["temperature"] = found["energy"] * _kelvin_per_energy(group, rows)
        if "support_radius" not in found and "density" in found:
            if not (found["density"] > 0).all():
                raise UserError(f"{group.name} in {group.file.filename} has cells of density zero.")
            found["support_radius"] = CELL_SUPPORT * np.cbrt(3 * found["masses"] / found["density"] / (4 * np.pi))
        if "metallicity" in found and (found["metallicity"] > 1 / Z_SOLAR).any():
            raise UserError(f"{group.name} in {group.file.filename} has more metals than gas.")
        subgrid = np.zeros(len(found["positions"]), bool)
        for name in ("StarFormationRate", "StarFormationRates", "DelayTime"):
            if name in group:
                subgrid |= _extra(group, name, rows) > 0
        if self.star_forming == "keep" or not subgrid.any():
            return found
        self.touched += int(subgrid.sum())
        if self.star_forming == "cut":
            return {k: v[~subgrid] for k, v in found.items()}
        if "temperature" in found:
            found["temperature"][subgrid] = 0.0
        return found


def _take(data: h5py.Dataset, rows: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Rows of a data set of this shape; indices by one contiguous read, which HDF5 does far faster than a list."""
    require_data(data)
    if data.shape[1:] != shape:
        raise UserError(f"{data.name} in {data.file.filename} has the impossible shape {data.shape}.")
    if isinstance(rows, slice):
        return np.asarray(data[rows])
    start = int(rows[0])
    return np.asarray(data[start : int(rows[-1]) + 1])[rows - start]


def _extra(group: h5py.Group, name: str, rows: Any, columns: int = 0) -> NDArray[np.float64]:
    """Rows of a field without unit, as long as the others and finite; the first of its columns, if it has some."""
    data = group[name]
    if len(data) != len(group["Coordinates"]):
        raise UserError(f"the data sets of {group.name} in {group.file.filename} differ in length.")
    values = _take(data, rows, data.shape[1:] if columns and data.ndim == 2 and data.shape[1] >= columns else ())
    values = values[:, :columns].astype(float) if columns else values.astype(float)
    if not np.isfinite(values).all():
        raise UserError(f"{data.name} in {data.file.filename} holds NaN or infinity.")
    return values


def _kelvin_per_energy(group: h5py.Group, rows: Any) -> NDArray[np.float64] | float:
    """T / u [K / (km/s)^2] of monatomic gas; fully ionised where the file has no electron abundance."""
    hydrogen = _hydrogen_fraction(group, rows)
    if not (np.all(hydrogen > 0) and np.all(hydrogen <= 1)):
        raise UserError(f"{group.name} in {group.file.filename} has an impossible mass fraction of hydrogen.")
    if "ElectronAbundance" not in group:
        return 2 / 3 * 1e10 * M_PROTON / K_B * 4 / (3 + 5 * hydrogen)
    electrons = _extra(group, "ElectronAbundance", rows)
    if (electrons < 0).any():
        raise UserError(f"{group.name}/ElectronAbundance in {group.file.filename} holds negative values.")
    return 2 / 3 * 1e10 * M_PROTON / K_B * 4 / (1 + 3 * hydrogen + 4 * hydrogen * electrons)


def _hydrogen_fraction(group: h5py.Group, rows: Any) -> NDArray[np.float64] | float:
    """Mass fraction of hydrogen, primordial where the file does not say it."""
    for name in ("GFM_Metals", "ElementMassFractions"):
        if name in group:
            return _extra(group, name, rows, columns=1)[:, 0]
    if "Metallicity" in group and group["Metallicity"].ndim == 2 and group["Metallicity"].shape[1] > 1:
        return 1 - _extra(group, "Metallicity", rows, columns=2).sum(axis=1)  # all metals, helium
    return X_HYDROGEN

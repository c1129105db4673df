"""Snapshots from disk to `Particles`: ours, and those of GADGET-2/3/4, AREPO (IllustrisTNG), GIZMO (SIMBA) and SWIFT.

PartType0 is gas, 1 dark matter, 2 and 3 the coarse dark matter of zoom simulations, 4 stars; black holes are left out.
Names, units and powers of a and h are in `layout`. What a file does not hold is made where it can be:

    T = (gamma - 1) u mu m_p / k,   mu = 4 / (1 + 3 X + 4 X n_e / n_H)       from internal energies
    H = 2.5 (3 m / (4 pi rho))^(1/3)                                        gas cells, which have no kernel

A snapshot in several files is read as one. With a centre and a radius only the particles around it are held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from zwicky.io import UserError
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots.files import all_files, first_file
from zwicky.snapshots.layout import NAMES, Header, first_of
from zwicky.units import K_B, M_PROTON, X_HYDROGEN, mean_molecular_weight

GAS, DARK_MATTER, STARS = (0,), (1, 2, 3), (4,)
HELD = {0: ("support_radius", "density", "temperature"), 1: ("support_radius",)}  # beside places and masses
SLAB = 1 << 22  # rows read at a time
CELL_SUPPORT = 2.5  # support radius of a gas cell over the radius of the sphere of its volume
STAR_FORMING = ("cold", "cut", "keep")


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
    return _read(Path(path), lambda first, stack: _Snapshot(first, stack, region, star_forming).particles())


def read_header(path: str | Path) -> Particles:
    """A snapshot without its particles: box, redshift, cosmology, origin.

    Raises:
        UserError: as `read_snapshot`.
    """
    return _read(Path(path), lambda first, stack: _Snapshot(first, stack, None, "keep").without_particles())


def _read(path: Path, what: Callable[[Path, ExitStack], Particles]) -> Particles:
    first = first_file(path, "the snapshot")
    try:
        with ExitStack() as stack:
            return what(first, stack)
    except (OSError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{first} is not a complete HDF5 snapshot ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    return (str(error).strip("'\"").splitlines() or [type(error).__name__])[0].rstrip(".")


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
    """The open files of one snapshot."""

    def __init__(
        self, first: Path, stack: ExitStack, region: tuple[NDArray[np.float64], float] | None, star_forming: str
    ) -> None:
        self.path, self.region, self.star_forming = first, region, star_forming
        self.header = Header(stack.enter_context(h5py.File(first)))
        self.files = [stack.enter_context(h5py.File(path)) for path in all_files(first, self.header.files)]
        self.headers = [Header(f) for f in self.files]
        self.box = self._box()
        self.touched = 0

    def _box(self) -> float:
        names = [f"PartType{kind}/Coordinates" for kind in (*GAS, *DARK_MATTER)]
        places = next((f[name] for f in self.files for name in names if name in f), None)
        if places is None:
            raise UserError(f"{self.path} has neither gas (PartType0) nor dark matter (PartType1).")
        box = self.header.number("BoxSize") * self.header.factor("positions", places)
        if not (np.isfinite(box) and box > 0):
            raise UserError(f"{self.path} has an impossible BoxSize = {box:g}.")
        return box

    def particles(self) -> Particles:
        """All of it in our units."""
        whole = self.without_particles()
        whole.dark_matter, whole.gas, stars = (self._columns(k).species() for k in (DARK_MATTER, GAS, STARS))
        whole.stars = stars if len(stars) else None
        self._check((whole.dark_matter, whole.gas, stars))
        if self.touched:
            whole.origin["star_forming"] = f"{self.star_forming}, {self.touched} particles"
        return whole

    def without_particles(self) -> Particles:
        """What the header says."""
        origin = {"snapshot": self.path.name}
        if "Origin" in self.files[0]:
            origin |= {k: str(v) for k, v in self.files[0]["Origin"].attrs.items()}
        redshift, cosmology = max(0.0, 1 / self.header.a - 1), self.header.cosmology
        return Particles(self.box, redshift, cosmology, _Columns().species(), _Columns().species(), origin)

    def _check(self, kinds: Sequence[Species]) -> None:
        if not any(map(len, kinds)):
            where = f" within {self.region[1]:g} Mpc of the centres asked for" if self.region else ""
            raise UserError(f"{self.path} has no particles{where}.")
        mass = 0.0
        for species in kinds:
            if len(species) and float(np.abs(species.positions).max()) > 2 * self.box:
                raise UserError(f"{self.path} has particles far outside its box of {self.box:g} Mpc; check its units.")
            mass += float(species.masses.sum())
        if mass > 1.5 * self.header.cosmology.rho_mean * self.box**3:
            raise UserError(
                f"{self.path} holds {mass:.3g} Msun, more than a box of {self.box:g} Mpc has; check its units."
            )

    def _columns(self, kinds: tuple[int, ...]) -> _Columns:
        """The particles of these kinds."""
        columns = _Columns()
        for f, header in zip(self.files, self.headers, strict=True):
            for kind in kinds:
                group = f.get(f"PartType{kind}")
                expected = header.counts[kind] if kind < len(header.counts) else 0
                if group is None or "Coordinates" not in group:
                    if expected and kind in (0, 1, 4):
                        what = f"has no PartType{kind}" if group is None else f"has no PartType{kind}/Coordinates"
                        raise UserError(f"{f.filename} {what}, although its header counts {expected} of them.")
                    continue
                for rows in self._rows(group):
                    self._read_rows(group, kind, rows, columns)
        return columns

    def _rows(self, group: h5py.Group) -> list[Any]:
        """Rows of a group to read, a slab at a time: slices, or indices where only a region is wanted."""
        count = len(group["Coordinates"])
        slabs = [slice(s, min(s + SLAB, count)) for s in range(0, count, SLAB)]
        if self.region is None:
            return slabs
        centres, radius = self.region
        tree, chosen = cKDTree(centres % self.box, boxsize=self.box), []
        for slab in slabs:
            x = self._column(group["Coordinates"], "positions", slab) % self.box
            inside = np.flatnonzero(tree.query(x, distance_upper_bound=radius, workers=-1)[0] < np.inf)
            if len(inside):
                chosen.append(slab.start + inside)
        return chosen

    def _column(self, data: h5py.Dataset, field: str, rows: Any) -> NDArray[Any]:
        """Rows of a field in our units, checked."""
        values = _take(data, rows)
        if values.shape[1:] != ((3,) if field in ("positions", "velocities") else ()):
            raise UserError(f"{data.name} in {data.file.filename} has the impossible shape {data.shape}.")
        values = values * self.header.factor(field, data)
        if not np.isfinite(values).all():
            raise UserError(f"{data.name} in {data.file.filename} holds NaN or infinity.")
        if field not in ("positions", "velocities") and (values < 0).any():
            raise UserError(f"{data.name} in {data.file.filename} holds negative values.")
        return values.astype(np.float32) if field == "velocities" else values.astype(np.float64)

    def _read_rows(self, group: h5py.Group, kind: int, rows: Any, columns: _Columns) -> None:
        lengths = {len(d) for n in NAMES.values() if (d := first_of(group, n)) is not None}
        if len(lengths) != 1:
            raise UserError(f"the data sets of {group.name} in {group.file.filename} differ in length.")
        found = {}
        for field_, names in NAMES.items():
            data = first_of(group, names)
            if data is not None:
                found[field_] = self._column(data, field_, rows)
        count = len(found["positions"])
        if "masses" not in found:
            mass = self.header.mass_table[kind] if kind < len(self.header.mass_table) else 0.0
            if not mass > 0:
                raise UserError(f"{group.name} in {group.file.filename} has no Masses.")
            found["masses"] = np.full(count, mass * self.header.factor("masses"))
        if kind == 4 and "GFM_StellarFormationTime" in group:
            stars = _take(group["GFM_StellarFormationTime"], rows) > 0  # others are gas in a wind
            found, count = {k: v[stars] for k, v in found.items()}, int(stars.sum())
        if kind == 0:
            found = self._complete_gas(group, rows, found)
            count = len(found["positions"])
        elif "SubfindHsml" in group and kind == 1:
            found["support_radius"] = self._column(group["SubfindHsml"], "support_radius", rows)
        for name, values in found.items():
            if name in ("positions", "velocities", "masses") or name in HELD.get(kind, ()):
                columns.pieces.setdefault(name, []).append(values)
        columns.count += count

    def _complete_gas(self, group: h5py.Group, rows: Any, found: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Temperatures from energies, support radii from volumes, and what `star_forming` asks."""
        if "temperature" not in found and "energy" in found:
            found["temperature"] = found["energy"] * _kelvin_per_energy(group, rows)
        if "support_radius" not in found and "density" in found:
            volume = found["masses"] / np.maximum(found["density"], 1e-300)
            found["support_radius"] = CELL_SUPPORT * np.cbrt(3 * volume / (4 * np.pi))
        subgrid = np.zeros(len(found["positions"]), bool)
        for names in (("StarFormationRate", "StarFormationRates"), ("DelayTime",)):
            data = first_of(group, names)
            if data is not None:
                subgrid |= _take(data, rows) > 0
        if self.star_forming == "keep" or not subgrid.any():
            return found
        self.touched += int(subgrid.sum())
        if self.star_forming == "cut":
            return {k: v[~subgrid] for k, v in found.items()}
        if "temperature" in found:
            found["temperature"][subgrid] = 0.0
        return found


def _take(data: h5py.Dataset, rows: Any) -> NDArray[Any]:
    """Rows of a data set; indices by one contiguous read, which HDF5 does far faster than a list."""
    if isinstance(rows, slice):
        return np.asarray(data[rows])
    start = int(rows[0])
    return np.asarray(data[start : int(rows[-1]) + 1])[rows - start]


def _kelvin_per_energy(group: h5py.Group, rows: Any) -> NDArray[np.float64] | float:
    """T / u [K / (km/s)^2] of monatomic gas; fully ionised where the file has no electron abundance."""
    hydrogen = _hydrogen_fraction(group, rows)
    if "ElectronAbundance" in group:
        mu = 4 / (1 + 3 * hydrogen + 4 * hydrogen * np.asarray(_take(group["ElectronAbundance"], rows), dtype=float))
    else:
        mu = mean_molecular_weight(hydrogen)  # type: ignore[arg-type]
    return 2 / 3 * 1e10 * M_PROTON * mu / K_B


def _hydrogen_fraction(group: h5py.Group, rows: Any) -> NDArray[np.float64] | float:
    """Mass fraction of hydrogen, primordial where the file does not say it."""
    for name in ("GFM_Metals", "ElementMassFractions"):
        if name in group:
            return _take(group[name], rows)[:, 0].astype(float)
    if "Metallicity" in group and group["Metallicity"].ndim == 2:
        return 1 - _take(group["Metallicity"], rows)[:, :2].astype(float).sum(axis=1)  # all metals, helium
    return X_HYDROGEN

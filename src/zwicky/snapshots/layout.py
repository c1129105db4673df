"""Names and units in the HDF5 snapshots of GADGET, AREPO (IllustrisTNG), GIZMO (SIMBA, THE THREE HUNDRED) and SWIFT.

    physical value in CGS = stored value * to_cgs * a^a_scaling * h^h_scaling

GADGET-4, AREPO and SWIFT write these three numbers beside each data set, in two spellings. GADGET-2/3, GIZMO and older
files of AREPO leave them out; there, the units are those that the file names for length, mass and velocity (kpc, 1e10
Msun and km/s if it names none), with the powers of a and h that these codes share (Springel 2005, section 6). GIZMO
writes `UnitLength_In_CGS` and `UnitMass_In_CGS` with 1 / h in them (its io.c and allvars.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from zwicky.cosmology import Cosmology
from zwicky.simulate.output import in_our_units
from zwicky.units import KPC, MSUN

NAMES = {  # of each field, the first that is there counts
    "positions": ("Coordinates",),
    "velocities": ("Velocities",),
    "masses": ("Masses",),
    "support_radius": ("SmoothingLength", "SmoothingLengths"),
    "density": ("Density", "Densities"),
    "temperature": ("Temperature", "Temperatures"),
    "energy": ("InternalEnergy", "InternalEnergies"),
    "metallicity": ("GFM_Metallicity", "Metallicity", "MetalMassFractions"),  # mass fraction of all metals
}
KINDS = {  # our data set of the same kind, and powers of the units of length, mass, velocity, of a and of h
    "positions": ("Coordinates", 1, 0, 0, 1, -1),
    "velocities": ("Velocities", 0, 0, 1, 0.5, 0),
    "masses": ("Masses", 0, 1, 0, 0, -1),
    "support_radius": ("SmoothingLength", 1, 0, 0, 1, -1),
    "density": ("Density", -3, 1, 0, -3, 2),
    "temperature": ("Temperature", 0, 0, 0, 0, 0),
    "energy": ("InternalEnergy", 0, 0, 2, 0, 0),
    "metallicity": ("Metallicity", 0, 0, 0, 0, 0),
}
ATTRIBUTES = (
    ("to_cgs", "a_scaling", "h_scaling"),
    ("Conversion factor to CGS (not including cosmological corrections)", "a-scale exponent", "h-scale exponent"),
)
PHYSICAL = "Value stored as physical"  # of SWIFT: a power of a has been applied already
LATEST = 1.001  # scale factor; z = 0 is written as 1 or a little more
UNIT_SLACK = 2e-3  # between the values that codes have for the mass of the Sun
UNITS = (  # of length, mass and velocity: name in the header, that of GIZMO, its power of h, and what holds without
    ("UnitLength_in_cm", "UnitLength_In_CGS", -1, KPC),
    ("UnitMass_in_g", "UnitMass_In_CGS", -1, 1e10 * MSUN),
    ("UnitVelocity_in_cm_per_s", "UnitVelocity_In_CGS", 0, 1e5),
)
KERNELS = {  # support radius over the smoothing length that SWIFT writes (Dehnen & Aly 2012, table 1)
    "cubic spline": 1.825742, "quartic spline": 2.018932, "quintic spline": 2.195775,
    "wendland c2": 1.936492, "wendland c4": 2.207940, "wendland c6": 2.449490,
}  # fmt: skip


class Header:
    """What a file says of the whole snapshot, whichever code wrote it.

    Args:
        f: an open file of the snapshot.

    Raises:
        KeyError: something needed is missing. ValueError: it is impossible.
    """

    def __init__(self, f: h5py.File) -> None:
        if "Header" not in f:
            raise KeyError("it has no Header")
        self._groups = [dict(f[g].attrs) for g in ("Header", "Parameters", "Units", "Cosmology") if g in f]
        self.is_swift = "Cosmology" in f and "Scale-factor" in f["Cosmology"].attrs
        names = ("Scale-factor", "h") if self.is_swift else ("Time", "HubbleParam")
        self.a, self.h = (self.number(name) for name in names)
        if not (0 < self.a < LATEST and 0 < self.h < 10):
            raise ValueError(f"its header has an impossible {names[0]} = {self.a:g} or {names[1]} = {self.h:g}")
        self.files = int(self.number("NumFilesPerSnapshot", "NumFiles", default=1))
        self.kernel = _kernel_factor(f) if self.is_swift else 1.0
        self.units = [self._unit(*names) for names in UNITS]

    def _unit(self, name: str, of_gizmo: str, h_power: int, default: float) -> float:
        """A unit in CGS, without h."""
        with_h = self.number(of_gizmo, default=default * self.h**h_power)
        return _nominal(self.number(name, default=with_h / self.h**h_power), default)

    def common(self) -> tuple[float, ...]:
        """What all files of a snapshot agree on."""
        return self.a, self.h, self.files, self.box

    @property
    def box(self) -> float:
        """Side of the box, as stored.

        Raises:
            ValueError: its sides differ.
        """
        sides = next((np.atleast_1d(g["BoxSize"]) for g in self._groups if "BoxSize" in g), None)
        if sides is None:
            raise KeyError("it has no BoxSize")
        if not np.allclose(sides, sides[0]):
            raise ValueError(f"its box has sides {sides}, and only cubes can be read")
        return float(sides[0])

    def count(self, kind: int, default: int) -> int:
        """Particles of a kind in this file."""
        counts = self._list("NumPart_ThisFile", int)
        return counts[kind] if kind < len(counts) else default if not counts else 0

    def total(self, kind: int) -> int | None:
        """Particles of a kind in all files, None where it is not said."""
        low, high = self._list("NumPart_Total", int), self._list("NumPart_Total_HighWord", int)
        if kind >= len(low):
            return None
        return low[kind] + ((high[kind] << 32) if kind < len(high) else 0)

    @property
    def is_whole(self) -> bool:
        """Whether this file holds everything, even where it speaks of several, as a cut-out may."""
        counts = self._list("NumPart_ThisFile", int)
        return self.files <= 1 or (len(counts) > 0 and counts == self._list("NumPart_Total", int))

    def mass(self, kind: int) -> float:
        """Mass of every particle of a kind, as stored in the header; 0 where they differ."""
        masses = self._list("MassTable", float)
        return masses[kind] if kind < len(masses) else 0.0

    def number(self, *names: str, default: float | None = None) -> float:
        """The first attribute of these names in any of the groups."""
        for name in names:
            for group in self._groups:
                if name in group:
                    return float(np.atleast_1d(group[name])[0])
        if default is None:
            raise KeyError(f"it has no {names[0]}")
        return default

    def _list(self, name: str, kind: type) -> list[Any]:
        """A list with a number for every kind of particle; empty where there is none."""
        values = next((g[name] for g in self._groups if name in g), ())
        return [kind(v) for v in np.atleast_1d(values)]

    @property
    def cosmology(self) -> Cosmology:
        """Its cosmology; sigma8 and n_s, which nothing after the simulator uses, are ours where it has none."""
        if "omega_m" in self._groups[-1]:
            return Cosmology(**{k: float(v) for k, v in self._groups[-1].items()})
        omega_m = self.number("Omega0", "Omega_m", "Omega_Matter")
        omega_l = self.number("OmegaLambda", "Omega_lambda", "Omega_Lambda")
        omega_b = self.number("OmegaBaryon", "Omega_b", "Omega_Baryon", default=0.15 * omega_m)
        return Cosmology(omega_m, omega_l, omega_b if omega_b > 0 else 0.15 * omega_m, self.h)

    def factor(self, field: str, data: h5py.Dataset | None = None) -> float:
        """From stored values of a field to our units; its data set may say which they are."""
        factor = stored_factor(field, data, self.a, self.h, self.units)
        return factor * self.kernel if field == "support_radius" else factor


def stored_factor(
    field: str, data: h5py.Dataset | None, a: float, h: float, units: Sequence[float] = (KPC, 1e10 * MSUN, 1e5)
) -> float:
    """From stored values of a field to our units, by the attributes of its data set or else by powers of `units`."""
    name, length, mass, velocity, a_power, h_power = KINDS[field]
    to_cgs = float(units[0] ** length * units[1] ** mass * units[2] ** velocity)
    scaling = (to_cgs, float(a_power), float(h_power))
    for names in ATTRIBUTES:
        if data is not None and all(n in data.attrs for n in names):
            in_cgs, of_a, of_h = (float(np.atleast_1d(data.attrs[n])[0]) for n in names)
            if not in_cgs > 0:
                raise ValueError(f"{data.name} has an impossible {names[0]} = {in_cgs:g}")
            physical = PHYSICAL in data.attrs and bool(np.atleast_1d(data.attrs[PHYSICAL])[0])
            scaling = (_nominal(in_cgs, to_cgs), 0.0 if physical else of_a, of_h)
    return in_our_units(name, *scaling, a, h)


def _nominal(unit: float, meant: float) -> float:
    """The unit, or the one that is meant where codes disagree about the mass of the Sun or the length of a parsec."""
    return meant if abs(unit / meant - 1) < UNIT_SLACK else unit


def _kernel_factor(f: h5py.File) -> float:
    """Support radius over the smoothing length of SWIFT."""
    name = f["HydroScheme"].attrs.get("Kernel function", b"") if "HydroScheme" in f else b""
    text = (name.decode() if isinstance(name, bytes) else str(name)).lower()
    return next((factor for kernel, factor in KERNELS.items() if kernel in text), KERNELS["cubic spline"])


def require_data(data: h5py.Dataset) -> None:
    """Refuse a data set whose values are not there: HDF5 would make them zeros.

    Raises:
        ValueError: it is virtual and a file that it points to is missing, or nothing was ever written to it.
    """
    if data.is_virtual:
        here = Path(data.file.filename).parent
        for source in data.virtual_sources():
            if source.file_name != "." and not (here / source.file_name).exists():
                raise ValueError(f"{data.name} points to {source.file_name}, which does not exist")
    elif data.size and not data.id.get_storage_size():
        raise ValueError(f"{data.name} was never written")
    if data.dtype.kind not in "iuf":
        raise ValueError(f"{data.name} does not hold numbers")


def first_of(group: h5py.Group, names: Sequence[str]) -> h5py.Dataset | None:
    """The first data set of these names."""
    return next((group[name] for name in names if name in group), None)

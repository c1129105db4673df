"""A snapshot on disk, in the layout and the units of GADGET-4, which yt and pynbody open by its name alone.

    value in CGS = stored value * to_cgs * a^a_scaling * h^h_scaling

yt looks at no unit in such a file: it takes kpc/h, 1e10 Msun/h and sqrt(a) km/s for granted, so these are stored.
pynbody, and `read_snapshot`, go by the attributes. The layout: Springel et al. 2021, arXiv:2010.03567.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from zwicky.io import atomic_path, require_room
from zwicky.simulate.state import Particles, Species
from zwicky.units import KPC, MPC, MSUN, Z_SOLAR
from zwicky.version import __version__

SLAB = 1 << 22  # rows converted at a time, to hold no second copy of a column

_OURS = {  # data set: one of our units in CGS, and the power of a that makes it comoving
    "Coordinates": (MPC, 1),
    "Velocities": (1e5, 0),
    "Masses": (MSUN, 0),
    "SmoothingLength": (MPC, 1),
    "Density": (MSUN / MPC**3, -3),
    "Temperature": (1.0, 0),
    "InternalEnergy": (1e10, 0),
    "Metallicity": (Z_SOLAR, 0),
}

_STORED = {  # data set: (unit for people, to CGS, power of a, power of h)
    "Coordinates": ("kpc/h", KPC, 1.0, -1.0),
    "Velocities": ("sqrt(a) km/s", 1e5, 0.5, 0.0),
    "Masses": ("1e10 Msun/h", 1e10 * MSUN, 0.0, -1.0),
    "SmoothingLength": ("kpc/h", KPC, 1.0, -1.0),
    "Density": ("1e10 Msun/h / (kpc/h)^3", 1e10 * MSUN / KPC**3, -3.0, 2.0),
    "Temperature": ("K", 1.0, 0.0, 0.0),
    "Metallicity": ("mass fraction", 1.0, 0.0, 0.0),
}


def in_our_units(name: str, to_cgs: float, a_scaling: float, h_scaling: float, a: float, h: float) -> float:
    """What a stored 1 of the data set `name` is in our units, those of `Species`.

    Args:
        to_cgs, a_scaling, h_scaling: the attributes of the data set. a, h: scale factor and Hubble parameter.
    """
    cgs, comoving = _OURS[name]
    return to_cgs * a**a_scaling * h**h_scaling / cgs / a**comoving


def write_snapshot(particles: Particles, path: str | Path, config: str | None = None) -> None:
    """Write `particles` as HDF5 in the layout of GADGET-4, with a unit on every data set.

    PartType0 is gas, PartType1 dark matter, PartType4 stars. Coordinates, SmoothingLength (the kernel's support radius)
    and Density are comoving; Velocities are the peculiar ones over sqrt(a).

    Args:
        config: the configuration as JSON, kept in the file.
    """
    c, a = particles.cosmology, particles.scale_factor
    kinds = {"PartType0": particles.gas, "PartType1": particles.dark_matter, "PartType4": particles.stars}
    present = {group: species for group, species in kinds.items() if species is not None}
    require_room(path, sum(8 * len(s) + sum(v.nbytes for v in _columns(s).values()) for s in present.values()))
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        counts = np.zeros(6, int)
        for group, species in present.items():
            counts[int(group[-1])] = len(species)
        f.create_group("Header").attrs.update(
            NumPart_ThisFile=counts, NumPart_Total=counts, NumPart_Total_HighWord=np.zeros(6, int),
            MassTable=np.zeros(6), Time=a, Redshift=particles.redshift, NumFilesPerSnapshot=1,
            BoxSize=particles.box / _stored_unit("Coordinates", a, c.h),
            Omega0=c.omega_m, OmegaLambda=c.omega_l, OmegaBaryon=c.omega_b, HubbleParam=c.h,
        )
        f.create_group("Cosmology").attrs.update(c.as_dict())
        f.create_group("Origin").attrs.update({**particles.origin, "written_by": f"zwicky {__version__}"})
        f.create_group("Units").attrs.update(
            UnitLength_in_cm=KPC, UnitMass_in_g=1e10 * MSUN, UnitVelocity_in_cm_per_s=1e5
        )
        if config is not None:
            f.create_group("Config").attrs["json"] = config
        first = 0
        for group, species in present.items():
            _write_species(f.create_group(group), species, first, a, c.h)
            first += len(species)


def _stored_unit(name: str, a: float, h: float) -> float:
    return in_our_units(name, *_STORED[name][1:], a, h)


def _columns(species: Species) -> dict[str, NDArray[np.floating]]:
    """Data sets of a species, those that it has."""
    columns = {
        "Coordinates": species.positions, "Velocities": species.velocities, "Masses": species.masses,
        "SmoothingLength": species.support_radius, "Density": species.density, "Temperature": species.temperature,
        "Metallicity": species.metallicity,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _write_species(group: h5py.Group, species: Species, first: int, a: float, h: float) -> None:
    for name, values in _columns(species).items():
        data = _write_column(group, name, values, _stored_unit(name, a, h))
        data.attrs.update(zip(("unit", "to_cgs", "a_scaling", "h_scaling"), _STORED[name], strict=True))
    group["ParticleIDs"] = np.arange(first, first + len(species), dtype=np.uint64)


def _write_column(group: h5py.Group, name: str, values: NDArray[np.floating], unit: float) -> h5py.Dataset:
    data = group.create_dataset(name, values.shape, values.dtype)
    for start in range(0, len(values), SLAB):
        data[start : start + SLAB] = values[start : start + SLAB] / unit
    return data

"""Light of stars by their age and metals, from a table of the user.

    L = m l_b(t, Z),   log10 l_b linear in log10 t and in log10 Z and held at the ends of the table [Lsun / Msun]
    l_b = 10^(-0.4 (M_b - M_b,sun)) / s,   M_b of one Msun that formed, s what stars and remnants still hold of it

m is the mass that a particle has now, as the gas that its stars gave back is counted as gas. Bands are those of SDSS at
rest, without dust. A magnitude of the Sun is AB, of Willmer 2018 (arXiv 1804.07788), table 3.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from zwicky.io import DAMAGE, UserError, atomic_path, reason_of, require_file
from zwicky.observe.tables import attribute_of, between, column_of, library

FORMAT = "zwicky-populations-1"
AXES = {"log_age": "log10 yr", "metallicity": "mass fraction"}
LIGHT = "Lsun / Msun"
TOLD = ("initial_mass_function", "software", "version", "date")
SUN = {"u": 6.39, "g": 5.11, "r": 4.65, "i": 4.53, "z": 4.50}  # absolute, AB


@dataclass(frozen=True, eq=False)
class PopulationTable:
    """Light per mass of stars of one age and metallicity.

    Args:
        log_age: (A,) log10 of the age [yr], rising.
        metallicity: (M,) mass fraction of metals, positive and rising; one value is allowed.
        light: of each band, (A, M) per mass that is still there [Lsun / Msun].
        initial_mass_function: as "Chabrier 2003".
        software, version, date: where the table came from.

    Raises:
        ValueError: a shape is wrong, an axis does not rise, or a number cannot be.
    """

    log_age: NDArray[np.float64]
    metallicity: NDArray[np.float64]
    light: Mapping[str, NDArray[np.float64]]
    initial_mass_function: str
    software: str
    version: str
    date: str

    def __post_init__(self) -> None:
        for name in AXES:
            axis = np.asarray(getattr(self, name), dtype=float)
            object.__setattr__(self, name, axis)
            if axis.ndim != 1 or len(axis) < 1 or not np.isfinite(axis).all() or not (np.diff(axis) > 0).all():
                raise ValueError(f"{name} must be one or more finite numbers that rise.")
        if not (self.log_age[0] >= 4 and self.log_age[-1] <= 11):
            raise ValueError("log_age must be log10 of years, from 4 to 11.")
        if not (self.metallicity[0] > 0 and self.metallicity[-1] < 1):
            raise ValueError("metallicity must be a mass fraction, above 0 and below 1.")
        unknown = ", ".join(sorted(set(self.light) - set(SUN)))
        if unknown or not self.light:
            raise ValueError(f"light must be of bands of {', '.join(SUN)}, not of {unknown or 'none'}.")
        object.__setattr__(self, "light", {band: np.asarray(v, dtype=float) for band, v in self.light.items()})
        for band, values in self.light.items():
            if values.shape != (len(self.log_age), len(self.metallicity)):
                raise ValueError(f"light_{band} must have the shape {(len(self.log_age), len(self.metallicity))}.")
            if not (np.isfinite(values).all() and (values > 0).all()):
                raise ValueError(f"light_{band} must be finite and positive.")

    def luminosity(self, band: str, mass: ArrayLike, age: ArrayLike, metallicity: ArrayLike) -> NDArray[np.float64]:
        """Luminosity of each particle in a band [Lsun].

        Args:
            mass: that it has now [Msun]. age: [Gyr]. metallicity: mass fraction of metals. Shapes alike, or numbers.

        Raises:
            ValueError: the table does not have the band.
        """
        if band not in self.light:
            raise ValueError(f"the table of stellar populations has no band {band}; it has {', '.join(self.light)}.")
        log_t = np.log10(np.maximum(np.asarray(age, dtype=float), 1e-9)) + 9
        log_Z = np.log10(np.maximum(np.asarray(metallicity, dtype=float), 1e-30))
        axes = self.log_age, np.log10(self.metallicity)
        return np.asarray(mass, dtype=float) * 10 ** between(np.log10(self.light[band]), axes, log_t, log_Z)


def write_populations(table: PopulationTable, path: str | Path) -> None:
    """Write the table as HDF5, whole or not at all; the layout is in docs/formats.md."""
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        for name, unit in AXES.items():
            f.create_dataset(name, data=getattr(table, name)).attrs["unit"] = unit
        for band, values in table.light.items():
            f.create_dataset(f"light_{band}", data=values).attrs["unit"] = LIGHT
        f.attrs.update({name: getattr(table, name) for name in TOLD} | {"format": FORMAT})


def read_populations(path: str | Path) -> PopulationTable:
    """The table of a file that `write_populations` or the user wrote.

    Raises:
        UserError: the file is missing, damaged, or no such table; the message says why.
    """
    path = require_file(path, "the table of stellar populations")
    try:
        with h5py.File(path) as f:
            if attribute_of(f, "format") != FORMAT:
                raise ValueError(f"its format must be {FORMAT}")
            held: dict[str, Any] = {name: column_of(f, name, unit) for name, unit in AXES.items()}
            held |= {name: attribute_of(f, name) for name in TOLD}
            bands = [name.removeprefix("light_") for name in f if name.startswith("light_")]
            return PopulationTable(**held, light={band: column_of(f, f"light_{band}", LIGHT) for band in bands})
    except DAMAGE as error:
        raise UserError(f"{path} is not a table of stellar populations ({reason_of(error)}).") from error


def populations_from_magnitudes(
    log_age: ArrayLike, metallicity: ArrayLike, magnitudes: Mapping[str, ArrayLike], surviving: ArrayLike, **told: str
) -> PopulationTable:
    """The table of models that give magnitudes of one Msun of stars that formed, as those of FSPS and BC03 do.

    Args:
        log_age, metallicity: as in PopulationTable.
        magnitudes: of each band, (A, M) absolute, AB.
        surviving: (A, M) part of the mass that stars and remnants still hold.
        told: initial_mass_function, software, version, date.
    """
    light = {
        band: 10 ** (-0.4 * (np.asarray(M, dtype=float) - SUN[band])) / np.asarray(surviving, dtype=float)
        for band, M in magnitudes.items()
    }
    origin = (told[name] for name in TOLD)
    return PopulationTable(np.asarray(log_age), np.asarray(metallicity), light, *origin)


def populations_from_fsps(**options: Any) -> PopulationTable:
    """The table of `fsps.StellarPopulation` (FSPS: Conroy, Gunn & White 2009; Conroy & Gunn 2010), Chabrier 2003.

    Args:
        options: for the generator, as `imf_type` (1, Chabrier, by default).

    Raises:
        UserError: python-fsps or its files are not here.
    """
    with library("fsps", "pip install fsps, and SPS_HOME"):
        fsps = importlib.import_module("fsps")
        options = {"zcontinuous": 0, "imf_type": 1, "sfh": 0} | options
        stars = fsps.StellarPopulation(**options)
        found, held = [], []
        for z in range(1, len(stars.zlegend) + 1):
            found.append(stars.get_mags(zmet=z, bands=[f"sdss_{band}" for band in SUN]))
            held.append(stars.stellar_mass)
        magnitudes = dict(zip(SUN, np.moveaxis(np.asarray(found), (0, 1, 2), (2, 1, 0)), strict=True))
    name = {0: "Salpeter 1955", 1: "Chabrier 2003", 2: "Kroupa 2001"}.get(options["imf_type"], "of the options")
    return populations_from_magnitudes(
        stars.log_age, stars.zlegend, magnitudes, np.asarray(held).T, initial_mass_function=name, software="fsps",
        version=str(fsps.__version__), date=date.today().isoformat(),
    )  # fmt: skip

"""Emissivities from a table of the user, which knows lines and metals.

    Lambda = sum_b f_b p_b Lambda_b(T, Z),   p_b = <exp(-N_H sigma(E / (1 + z)))> over the part of bin b in the band
    L      = N_e n_H Lambda,                 f_b = its share of the bin; a bin emits the same at all its energies
    N      = the same of Lambda_b / E_b,     E_b = the middle of the part: photons

The band is that of the observer, from E1 (1 + z) to E2 (1 + z) in the table. Lambda is linear in log T and in Z; Z is
held at the ends of the table, T at the hottest end, and gas colder than the table does not shine. N_e and n_H are those
of `emissivity`. `table_from_soxs` and `table_from_pyatomdb` make a table of AtomDB (Foster et al. 2012).
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from zwicky.io import DAMAGE, UserError, atomic_path, reason_of, require_file
from zwicky.observe.emissivity import electron_number, nucleon_density, photoelectric_cross_section
from zwicky.snapshots.layout import require_data
from zwicky.units import KEV, KEV_IN_K, X_HYDROGEN

FORMAT = "zwicky-emissivity-1"
UNITS = {"log_temperature": "log10 K", "metallicity": "Zsun", "energy": "keV", "emissivity": "erg cm3 / s"}
TOLD = ("abundances", "software", "version", "date")
NODES = (np.arange(8) + 0.5) / 8  # where absorption is taken in a bin, in its width

LOG_TEMPERATURE = np.linspace(5.0, 8.9, 79)  # of tables of AtomDB, which reaches from 1e4 to 1e9 K
METALLICITY = (0.0, 5.0)  # emissivity at a given temperature is linear in it
ENERGY = np.geomspace(0.05, 30.0, 2001)  # [keV]
HEAVIEST = 30  # atomic number in AtomDB; metals begin at 3


@dataclass(frozen=True, eq=False)
class EmissivityTable:
    """Power that gas emits per n_e n_H, in bins of energy.

    Args:
        log_temperature: (T,) log10 of the temperature [K], rising.
        metallicity: (M,) in units of the solar one of `abundances`, rising; one value is allowed.
        energy: (E + 1,) edges of the bins, at the source [keV], rising.
        emissivity: (T, M, E) in each bin [erg cm^3 s^-1].
        abundances: what is solar, as "Anders & Grevesse 1989".
        solar_metals: mass fraction of metals in `abundances`.
        software, version, date: where the table came from.

    Raises:
        ValueError: a shape is wrong, an axis does not rise, or a number cannot be.
    """

    log_temperature: NDArray[np.float64]
    metallicity: NDArray[np.float64]
    energy: NDArray[np.float64]
    emissivity: NDArray[np.float64]
    abundances: str
    solar_metals: float
    software: str
    version: str
    date: str

    def __post_init__(self) -> None:
        for name in UNITS:
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=float))
        for name, fewest in (("log_temperature", 1), ("metallicity", 1), ("energy", 2)):
            axis = getattr(self, name)
            if axis.ndim != 1 or len(axis) < fewest or not np.isfinite(axis).all() or not (np.diff(axis) > 0).all():
                raise ValueError(f"{name} must be {fewest} or more finite numbers that rise.")
        if not (self.log_temperature[0] >= 2 and self.log_temperature[-1] <= 12):
            raise ValueError("log_temperature must be log10 of K, from 2 to 12.")
        if self.metallicity[0] < 0 or self.energy[0] <= 0 or not 0 < self.solar_metals < 0.1:
            raise ValueError("metallicity must not be negative, energy positive and solar_metals between 0 and 0.1.")
        shape = len(self.log_temperature), len(self.metallicity), len(self.energy) - 1
        if self.emissivity.shape != shape:
            raise ValueError(f"emissivity must have the shape {shape}, not {self.emissivity.shape}.")
        if not (np.isfinite(self.emissivity).all() and (self.emissivity >= 0).all()):
            raise ValueError("emissivity must be finite and not negative.")

    def luminosity(
        self,
        mass: ArrayLike,
        density: ArrayLike,
        temperature: ArrayLike,
        metallicity: ArrayLike,
        band_kev: tuple[float, float],
        redshift: float = 0.0,
        hydrogen_column: float = 0.0,
        photons: bool = False,
    ) -> NDArray[np.float64]:
        """Luminosity of each particle in a band, less what is absorbed on the way [erg s^-1], or photons [s^-1].

        Args:
            mass, density, temperature, band_kev, redshift, hydrogen_column, photons: as for
                `emissivity.band_luminosity`.
            metallicity: in units of `solar_metals`, of the shape of the others or a number.

        Raises:
            ValueError: the band is empty, or not within the energies of the table.
        """
        of_band = self.emissivity @ self._weights(band_kev, redshift, hydrogen_column, photons)
        n_H = X_HYDROGEN * nucleon_density(density)  # [cm^-3]
        return electron_number(mass) * n_H * self._between(of_band, temperature, metallicity)

    def _weights(self, band_kev: tuple[float, float], z: float, column: float, photons: bool) -> NDArray[np.float64]:
        """f_b p_b of every bin, (E,), over E_b [erg] for photons."""
        least, most = (edge * (1 + z) for edge in band_kev)
        slack = 1e-9 * self.energy[-1]
        if not self.energy[0] - slack <= least < most <= self.energy[-1] + slack:
            raise ValueError(
                f"the band of {band_kev[0]:g} to {band_kev[1]:g} keV at redshift {z:g} is emitted at {least:g} to "
                f"{most:g} keV, and the table of emissivities reaches from {self.energy[0]:g} to {self.energy[-1]:g}."
            )
        begin, end = np.clip(self.energy[:-1], least, most), np.clip(self.energy[1:], least, most)
        inside = begin[:, None] + (end - begin)[:, None] * NODES
        passed = np.exp(-column * photoelectric_cross_section(inside / (1 + z))).mean(axis=1)
        weights = (end - begin) / np.diff(self.energy) * passed
        return weights / (0.5 * KEV * (begin + end)) if photons else weights

    def _between(
        self, values: NDArray[np.float64], temperature: ArrayLike, metallicity: ArrayLike
    ) -> NDArray[np.float64]:
        """Values (T, M) between the points of the table, of the shape of the arguments."""
        log_T = np.log10(np.maximum(np.asarray(temperature, dtype=float), 1.0))
        found = between(values, (self.log_temperature, self.metallicity), log_T, metallicity)
        return np.where(log_T < self.log_temperature[0], 0.0, found)


def between(
    values: NDArray[np.float64], axes: tuple[NDArray[np.float64], ...], *x: ArrayLike
) -> NDArray[np.float64]:
    """Values of a table at places x, linear between its points and held at its ends, of the shape of the places.

    Args:
        values: (A, B, ...). axes: (A,), (B,), ... rising. x: along each axis, of shapes that fit, or numbers.
    """
    along = (np.interp(np.asarray(v, dtype=float), axis, np.arange(len(axis))) for v, axis in zip(x, axes, strict=True))
    places = np.broadcast_arrays(*along)
    found = map_coordinates(values, [place.ravel() for place in places], order=1, mode="nearest")
    return found.reshape(places[0].shape)


def write_table(table: EmissivityTable, path: str | Path) -> None:
    """Write the table as HDF5, whole or not at all; the layout is in docs/formats.md."""
    with atomic_path(path) as part, h5py.File(part, "w") as f:
        for name, unit in UNITS.items():
            f.create_dataset(name, data=getattr(table, name)).attrs["unit"] = unit
        f.attrs.update({name: getattr(table, name) for name in (*TOLD, "solar_metals")} | {"format": FORMAT})


def read_table(path: str | Path) -> EmissivityTable:
    """The table of a file that `write_table` or the user wrote.

    Raises:
        UserError: the file is missing, damaged, or no such table; the message says why.
    """
    path = require_file(path, "the table of emissivities")
    try:
        with h5py.File(path) as f:
            if attribute_of(f, "format") != FORMAT:
                raise ValueError(f"its format must be {FORMAT}")
            held: dict[str, Any] = {name: column_of(f, name, unit) for name, unit in UNITS.items()}
            held |= {name: attribute_of(f, name) for name in TOLD}
            return EmissivityTable(**held, solar_metals=float(attribute_of(f, "solar_metals")))
    except DAMAGE as error:
        raise UserError(f"{path} is not a table of emissivities ({reason_of(error)}).") from error


def attribute_of(thing: h5py.File | h5py.Dataset, name: str) -> str:
    """An attribute of a file or data set, as text.

    Raises:
        KeyError: it has none of this name.
    """
    if name not in thing.attrs:
        raise KeyError(f"{thing.name.strip('/') or 'it'} has no attribute {name}")
    value = thing.attrs[name]
    return value.decode() if isinstance(value, bytes) else str(value)


def column_of(f: h5py.File, name: str, unit: str) -> NDArray[np.float64]:
    """A data set, whose attribute `unit` must be this.

    Raises:
        KeyError, ValueError: it is missing, was never written, or is in another unit.
    """
    if not isinstance(f.get(name), h5py.Dataset):
        raise KeyError(f"it has no data set {name}")
    require_data(f[name])
    if attribute_of(f[name], "unit") != unit:
        raise ValueError(f"{name} must be in {unit}, not {attribute_of(f[name], 'unit')}")
    return np.asarray(f[name], dtype=float)


def table_from_soxs(
    log_temperature: ArrayLike = LOG_TEMPERATURE,
    metallicity: ArrayLike = METALLICITY,
    energy: ArrayLike = ENERGY,
    abundances: str = "angr",
    **options: Any,
) -> EmissivityTable:
    """The table of `soxs.ApecGenerator`: Lambda_b = 1e-14 flux dE E_b for a norm of 1.

    The flux is in photons s^-1 cm^-2 keV^-1, the norm is 1e-14 / (4 pi D_A^2 (1 + z)^2) int n_e n_H dV, at z = 0.

    Args:
        log_temperature, metallicity: as in EmissivityTable.
        energy: edges of the bins, at equal steps of log E [keV].
        abundances: a table of soxs.
        options: for the generator, as `apec_root`, the folder of its files, and `apec_vers`; without these soxs takes
            the files that it keeps, or downloads them.

    Raises:
        UserError: soxs or its files are not here. ValueError: it does not know these temperatures or energies.
    """
    edges = np.asarray(energy, dtype=float)
    with library("soxs", "pip install soxs"):
        soxs = importlib.import_module("soxs")
        options = {"binscale": "log", "broadening": False, "abund_table": abundances} | options
        apec = soxs.ApecGenerator(edges[0], edges[-1], len(edges) - 1, **options)
        mass = np.asarray(apec.atable) * importlib.import_module("soxs.constants").atomic_weights
    if not np.allclose(apec.ebins, edges, rtol=1e-6):
        raise ValueError("soxs has bins at equal steps of log E, or of E with binscale='linear'; these are others.")

    def photons(T: float, Z: float) -> NDArray[np.float64]:
        flux = apec.get_spectrum(T / KEV_IN_K, Z, 0.0, 1.0).flux
        return np.asarray(flux.to_value("photon / (cm2 s keV)")) * np.diff(edges) * 1e-14

    version = f"{soxs.__version__}, APEC {apec.model_vers}"
    return _filled(photons, log_temperature, metallicity, edges, apec.Tvals, mass, abundances, "soxs", version)


def table_from_pyatomdb(
    log_temperature: ArrayLike = LOG_TEMPERATURE,
    metallicity: ArrayLike = METALLICITY,
    energy: ArrayLike = ENERGY,
    abundances: str = "AG89",
    **options: Any,
) -> EmissivityTable:
    """The table of `pyatomdb.spectrum.CIESession`, which gives photons cm^3 s^-1 in each bin.

    Args:
        log_temperature, metallicity, energy: as in EmissivityTable.
        abundances: a set of abundances of AtomDB.
        options: for the session, as `linefile` and `cocofile`.

    Raises:
        UserError: pyatomdb or its files are not here. ValueError: it does not know these temperatures.
    """
    if not (Path(os.environ.get("ATOMDB") or os.devnull) / "userdata").exists():  # importing it would ask for input
        raise UserError("pyatomdb needs ATOMDB to name the folder that pyatomdb.util.initialize() has filled.")
    edges = np.asarray(energy, dtype=float)
    with library("pyatomdb", "pip install pyatomdb"):
        pyatomdb = importlib.import_module("pyatomdb")
        session = pyatomdb.spectrum.CIESession(abundset=abundances, **options)
        number = pyatomdb.atomdb.get_abundance(abundset=abundances)  # of each element, hydrogen 1
        mass = np.array([0.0, *(number[Z] * pyatomdb.atomic.Z_to_mass(Z) for Z in range(1, HEAVIEST + 1))])
        session.set_response(edges, raw=True)

    def photons(T: float, Z: float) -> NDArray[np.float64]:
        session.set_abund(list(range(3, HEAVIEST + 1)), Z)
        return np.asarray(session.return_spectrum(T, teunit="K"))

    known, version = session.spectra.kTlist, pyatomdb.__version__
    return _filled(photons, log_temperature, metallicity, edges, known, mass, abundances, "pyatomdb", version)


@contextlib.contextmanager
def library(name: str, how: str) -> Iterator[None]:
    """What fails inside is the user's to mend: the library is not installed, or its files are not here."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{name} cannot be imported ({reason_of(error)}); install it: {how}.") from error
    except DAMAGE as error:
        raise UserError(f"{name} cannot use its files ({reason_of(error)}).") from error


def _filled(
    photons: Callable[[float, float], NDArray[np.float64]],
    log_temperature: ArrayLike,
    metallicity: ArrayLike,
    energy: NDArray[np.float64],
    known_kev: ArrayLike,
    mass: NDArray[np.float64],
    abundances: str,
    software: str,
    version: str,
) -> EmissivityTable:
    """The table of a library.

    Args:
        photons: of (T [K], Z), (E,) photons per n_e n_H in each bin [cm^3 s^-1].
        known_kev: temperatures that the library has tabulated.
        mass: of each element in the Sun, (31,), from atomic number 0.
    """
    log_T, Z = (np.atleast_1d(np.asarray(axis, dtype=float)) for axis in (log_temperature, metallicity))
    T, known = 10.0**log_T, np.asarray(known_kev) * KEV_IN_K
    if not (known.min() < T.min() and T.max() <= known.max()):
        raise ValueError(f"{software} has temperatures above {known.min():.3g} and up to {known.max():.3g} K.")
    power = np.array([[photons(t, z) for z in Z] for t in T]) * (0.5 * KEV * (energy[1:] + energy[:-1]))
    solar = float(mass[3:].sum() / mass.sum())
    today = date.today().isoformat()
    return EmissivityTable(log_T, Z, energy, power, abundances, solar, software, version, today)

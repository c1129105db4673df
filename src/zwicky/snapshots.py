"""Snapshots from disk to `Particles`.

Every data set is converted by its own attributes `to_cgs`, `a_scaling` and `h_scaling`, as GADGET-4, AREPO and Zwicky
write them: physical value in CGS = stored value * to_cgs * a^a_scaling * h^h_scaling.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.io import UserError, require_file
from zwicky.simulate.output import in_our_units
from zwicky.simulate.state import Particles, Species


def read_snapshot(path: str | Path) -> Particles:
    """Particles of an HDF5 snapshot: PartType0 is gas, PartType1 dark matter.

    Masses must be stored per particle and the gas temperature as such. A file without sigma8 and n_s in a group
    Cosmology gets the defaults of `Cosmology` for these two, which nothing after the simulator uses.

    Args:
        path: a single HDF5 file whose data sets carry `to_cgs`, `a_scaling` and `h_scaling`.

    Raises:
        UserError: the file is missing, damaged, or lacks what is needed; the message says what.
    """
    path = require_file(path, "the snapshot")
    try:
        with h5py.File(path) as f:
            return _read(f, path)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a complete HDF5 snapshot ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    return str(error).strip("'\"").splitlines()[0]


def _read(f: h5py.File, path: Path) -> Particles:
    header = f["Header"].attrs
    a, h = float(header["Time"]), float(header["HubbleParam"])
    if not (0 < a < 2 and h > 0):
        raise UserError(f"{path} has an impossible Time = {a:g} or HubbleParam = {h:g} in its header.")
    if int(header.get("NumFilesPerSnapshot", 1)) != 1:
        raise UserError(f"{path} is one of several files of a snapshot; only single-file snapshots can be read.")
    cosmology = _cosmology(f, header, h)
    gas, dark = (_species(f, group, a, h, path) for group in ("PartType0", "PartType1"))
    length = _factor(f["PartType1/Coordinates"], "Coordinates", a, h)
    box = float(np.atleast_1d(header["BoxSize"])[0]) * length
    if not (np.isfinite(box) and box > 0) or len(dark) == 0 or len(gas) == 0:
        raise UserError(f"{path} has an impossible BoxSize = {box:g} or no particles.")
    if max(float(np.abs(s.positions).max()) for s in (dark, gas)) > 2 * box:
        raise UserError(f"{path} has particles far outside its box of {box:g} Mpc; check its units.")
    origin = {k: str(v) for k, v in f["Origin"].attrs.items()} if "Origin" in f else {}
    return Particles(box, 1 / a - 1, cosmology, dark, gas, {"snapshot": path.name, **origin})


def _cosmology(f: h5py.File, header: h5py.AttributeManager, h: float) -> Cosmology:
    if "Cosmology" in f:
        return Cosmology(**{k: float(v) for k, v in f["Cosmology"].attrs.items()})
    omega_b = float(header.get("OmegaBaryon", 0.045 / 0.3 * header["Omega0"]))
    return Cosmology(float(header["Omega0"]), float(header["OmegaLambda"]), omega_b, h)


def _species(f: h5py.File, group: str, a: float, h: float, path: Path) -> Species:
    if group not in f:
        raise UserError(f"{path} has no {group}; a snapshot needs gas (PartType0) and dark matter (PartType1).")
    g = f[group]
    fields = {
        "positions": "Coordinates", "velocities": "Velocities", "masses": "Masses",
        "support_radius": "SmoothingLength", "density": "Density", "temperature": "Temperature",
    }
    needed = {"positions", "velocities", "masses"}
    columns = {k: _column(g[name], name, a, h, path) for k, name in fields.items() if k in needed or name in g}
    lengths = {len(v) for v in columns.values()}
    if len(lengths) != 1:
        raise UserError(f"the data sets of {group} in {path} differ in length.")
    return Species(**columns)


def _column(data: h5py.Dataset, name: str, a: float, h: float, path: Path) -> NDArray:
    values = data[()] * _factor(data, name, a, h)
    if values.shape[1:] != ((3,) if name in ("Coordinates", "Velocities") else ()):
        raise UserError(f"{data.name} in {path} has the impossible shape {values.shape}.")
    if not np.isfinite(values).all():
        raise UserError(f"{data.name} in {path} holds NaN or infinity.")
    if name in ("Masses", "Density", "SmoothingLength") and (values < 0).any():
        raise UserError(f"{data.name} in {path} holds negative values.")
    return values


def _factor(data: h5py.Dataset, name: str, a: float, h: float) -> float:
    """From stored values to our comoving units."""
    to_cgs, a_scaling, h_scaling = (float(data.attrs[k]) for k in ("to_cgs", "a_scaling", "h_scaling"))
    return in_our_units(name, to_cgs, a_scaling, h_scaling, a, h)

"""Rows of a set of maps as FITS images, one file each, as if a telescope had sent them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from astropy.io import fits

from zwicky.dataset.plan import WIDEST
from zwicky.dataset.store import MapSet
from zwicky.headers import offset_header, plain, sky_header
from zwicky.images import Image, write_image
from zwicky.io import UserError, require_writable
from zwicky.observe.scene import Scene
from zwicky.version import __version__


def export_rows(
    maps: MapSet, rows: Sequence[int], folder: str | Path, ra: float = 0.0, dec: float = 0.0
) -> list[Path]:
    """Write the maps and the images of some rows into `folder`, as `<row>-<channel or instrument>.fits`.

    Args:
        ra, dec: of the centre of the maps [deg, ICRS]; not used for clusters at redshift 0, whose pixels have no angle,
            or so near that the map would not be flat.

    Raises:
        UserError: a row does not exist, the position is not on the sky, or the folder cannot be written to.
    """
    wrong = [row for row in rows if not 0 <= row < len(maps)]
    if wrong:
        raise UserError(f"{maps.path} has the rows 0 to {len(maps) - 1}, not {wrong[0]}.")
    if not (0 <= ra < 360 and -90 <= dec <= 90):
        raise UserError(f"there is no position of right ascension {ra:g} and declination {dec:g} deg.")
    folder, written = require_writable(folder), []
    for row in rows:
        header = _header(maps, row, ra, dec)
        for name, image, cards in _images_of(maps, row):
            path = folder / f"{row:06d}-{name}.fits"
            full = header.copy()
            full.update(cards)
            write_image(image, full, path)
            written.append(path)
    return written


def _images_of(maps: MapSet, row: int) -> list[tuple[str, Image, dict[str, object]]]:
    """Name, image and further cards of each map and each image of an instrument."""
    one = np.array([row])
    found: list[tuple[str, Image, dict[str, object]]] = []
    for name, unit in maps.units.items():
        data = maps.read(name, one)[0].astype(float)
        found.append((name, Image(data, np.ones(data.shape, bool), unit, None, name), {"CHANNEL": name}))
    for name in maps.instruments:
        seen = maps.exposure(name, one)
        about = maps.about(name)
        image = Image(
            seen.image[0].astype(float), seen.mask[0], str(about["unit"]), None, name, seen.noise[0],
            float(about["fwhm_arcsec"]),
        )  # fmt: skip
        history = plain(str(about["instrument"]))
        found.append((name, image, {"CHANNEL": str(about["channel"]), "INSTRUME": name, "HISTORY": history}))
    return found


def _header(maps: MapSet, row: int, ra: float, dec: float) -> fits.Header:
    """Coordinates, cluster and origin of a row."""
    halo = {name: float(column[row]) for name, column in maps.halo.items()}
    pixel_kpc = halo.get("pixel_kpc", maps.pixel_kpc)
    pixel_arcsec = pixel_kpc * Scene(1.0, maps.cosmology, maps.redshift).arcsec_per_kpc if maps.redshift > 0 else np.inf
    if maps.pixels * pixel_arcsec / 3600 < WIDEST:
        header = sky_header(maps.pixels, pixel_arcsec, pixel_kpc, ra, dec)
    else:
        header = offset_header(maps.pixels, pixel_kpc)
    header["CREATOR"] = (f"zwicky {__version__}", "software that made this file")
    header["PIXKPC"] = (pixel_kpc, "[kpc] side of a pixel, proper")
    header["REDSHIFT"] = (maps.redshift, "at which the cluster is seen")
    header["H0"], header["OMEGA_M"] = maps.cosmology.hubble0, maps.cosmology.omega_m
    for name in ("m200m", "m200c", "m500c"):
        header[name.upper()] = (_known(halo[name]), "[Msun] of the simulated cluster")
    for name in ("r200m", "r200c", "r500c"):
        header[name.upper()] = (_known(halo[name]), "[kpc] proper")
    header["HALOID"], header["MAPROW"] = int(maps.cluster[row]), row
    with h5py.File(maps.path) as f:
        R = f["rotation"][row]
        origins = json.loads(f.attrs.get("simulations", "[]"))
        simulation = int(f["simulation"][row]) if "simulation" in f else 0
    origin = origins[simulation] if simulation < len(origins) else {}
    for i, j in np.ndindex(3, 3):
        header[f"ROT{i + 1}_{j + 1}"] = (float(R[i, j]), "line of sight z' of x' = R x" if (i, j) == (0, 0) else "")
    header["COMMENT"] = "Simulated cluster; its position on the sky is invented."
    for key, value in origin.items():
        header["HISTORY"] = plain(f"{key}: {value}")
    return header


def _known(number: float) -> float | None:
    return number if np.isfinite(number) else None

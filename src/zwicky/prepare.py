"""Images of an archive, brought to the layout that clean, mock and real images share (`images`).

    I = (N - b) / E,   E = A t V Omega / (4 pi (1 + z)^3),   b = Omega (sky t V + particles t)   or a map of counts

N are counts, t V the vignetted exposure of each pixel, A the area of an instrument of `observe/instruments.toml`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from numpy.typing import NDArray

from zwicky.headers import plain
from zwicky.images import Image, pixel_angle, read_image, read_mask, same_grid, write_image
from zwicky.io import UserError
from zwicky.observe.channels import channel
from zwicky.observe.instrument import Counter, image_of_counts, instruments
from zwicky.version import __version__


def prepare_counts(
    counts: str | Path,
    exposure: str | Path,
    instrument: str,
    redshift: float,
    out: str | Path,
    *,
    unvignetted: str | Path | None = None,
    background: str | Path | None = None,
    mask: str | Path | None = None,
) -> Image:
    """Write the photons that a cluster emits, from counts and an exposure map on one grid of the sky.

    Args:
        counts: image of photons. exposure: of seconds, with vignetting.
        instrument: a counter of `observe/instruments.toml`, or a file with one.
        redshift: of the cluster.
        unvignetted: image of seconds without vignetting, for the particles; None for the largest vignetted exposure.
        background: image of expected counts; None for the rates of the instrument.
        mask: image, 0 where pixels are not to be used.

    Raises:
        UserError: a file cannot be used, the grids differ, or counts or exposures are negative.
    """
    telescope = _counter(instrument)
    if not (np.isfinite(redshift) and 0 <= redshift < 20):
        raise UserError(f"the redshift must be from 0 to 20, not {redshift:g}.")
    known = None if mask is None else read_mask(mask)
    N = _image(counts, "the image of counts", known)
    t = _image(exposure, "the exposure map", known)
    whole = None if unvignetted is None else _image(unvignetted, "the unvignetted exposure map", known)
    given = None if background is None else _image(background, "the background", known)
    same_grid([image for image in (N, t, whole, given) if image is not None])
    pixel_arcsec = _pixel(N)
    if not (t.data > 0).any():
        raise UserError(f"the exposure map {exposure} has no exposure anywhere.")
    b = given.data if given else telescope.background(t.data, whole.data if whole else t.data.max(), pixel_arcsec)
    E = telescope.counts_per_brightness(t.data, pixel_arcsec, redshift)
    seen = image_of_counts(N.data, E, b, N.mask & (t.data > 0))
    unit = channel(telescope.channel).unit
    image = Image(seen.image, seen.mask, unit, N.wcs, N.name, seen.noise, telescope.fwhm_arcsec)
    write_image(image, _header(N, telescope, redshift), out)
    return image


def _counter(name: str) -> Counter:
    found = [t for t in instruments((name,)).values() if isinstance(t, Counter)]
    if len(found) != 1:
        raise UserError(f"{name} is not one instrument that counts photons.")
    return found[0]


def _image(path: str | Path, what: str, known: NDArray[np.bool_] | None) -> Image:
    image = read_image(path, what, known)
    if (image.data < 0).any():
        raise UserError(f"{what} {path} has negative pixels.")
    return image


def _pixel(image: Image) -> float:
    """Side of a pixel [arcsec]."""
    if image.wcs is None:
        raise UserError(f"{image.name} has no sky coordinates (WCS), which say how large its pixels are.")
    return 3600 * pixel_angle(image.wcs)


def _header(counts: Image, telescope: Counter, redshift: float) -> fits.Header:
    header = counts.wcs.to_header() if counts.wcs else fits.Header()
    header["CREATOR"] = (f"zwicky {__version__}", "software that made this file")
    header["CHANNEL"], header["INSTRUME"] = telescope.channel, plain(telescope.name)
    header["REDSHIFT"] = (redshift, "of the cluster, assumed for its distance")
    header["AREA"] = (telescope.area_cm2, "[cm2] mean of the band")
    header["HISTORY"] = plain(f"counts from {counts.name}, in {u.Unit('count')}")
    return header

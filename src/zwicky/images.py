"""Observed images: from FITS to the pixel grid and the units of a model.

An image is brought to a model's grid by exact area weighting: the value of a model pixel is the mean of the known image
over the part of the pixel that the image covers, so that surface brightness is conserved. Pixels covered by less than
half are unknown. With A the 1-D overlaps of the two grids, M the mask and I the image,

    I' = A_y (I M) A_x^T / (A_y M A_x^T).

A square map keeps the centre of the image; sky coordinates are carried along.

Clean, mock and real images share one layout: the first image of the file, the extensions NOISE (rms of what is
independent from pixel to pixel, in the unit of the image) and MASK (0 where pixels are not known) where there are any,
and the width of the beam as BMAJ, BMIN [deg] in the header.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.io import UserError, atomic_path, require_file
from zwicky.observe.channels import is_channel
from zwicky.observe.scene import universe

LEAST_COVER = 0.5


@dataclass(frozen=True)
class Image:
    """One observed image.

    Args:
        data: (Y, X). mask: (Y, X), True where known.
        unit: as in BUNIT, None where the header has none.
        wcs: celestial coordinates, None where the header has none.
        name: of the file.
        noise: (Y, X) rms, in the same unit, None where the file tells none.
        fwhm_arcsec: of the beam, 0 where the file tells none.
        channel: that the file says it shows, None where it says nothing.
    """

    data: NDArray[np.float64]
    mask: NDArray[np.bool_]
    unit: str | None
    wcs: WCS | None
    name: str
    noise: NDArray[np.float64] | None = None
    fwhm_arcsec: float = 0.0
    channel: str | None = None


def read_image(path: str | Path, what: str, mask: NDArray[np.bool_] | None = None) -> Image:
    """The first two-dimensional image of a FITS file.

    Args:
        what: what it is, for messages ("the SZ image").
        mask: (Y, X), True where pixels may be used, if the extension MASK of the file agrees.

    Raises:
        UserError: the file is missing or damaged, holds no image, or has NaNs that no mask covers.
    """
    path = require_file(path, what)
    data, header, extensions = _images(path, what)
    if "MASK" in extensions:
        own = np.isfinite(extensions["MASK"]) & (extensions["MASK"] != 0)
        mask = own if mask is None or mask.shape != own.shape else mask & own
    if mask is None and not np.isfinite(data).all():
        raise UserError(f"{what} {path} has NaN pixels; give a mask image with --mask (0 where pixels are ignored).")
    known = np.ones(data.shape, bool) if mask is None else mask
    if known.shape != data.shape:
        raise UserError(f"the mask is {_size(known)} pixels and {what} {path} is {_size(data)}; they must match.")
    if not np.isfinite(data[known]).all():
        raise UserError(f"{what} {path} has NaN pixels that the mask does not cover.")
    if not known.any():
        raise UserError(f"the mask leaves no pixel of {what} {path}.")
    unit = str(header["BUNIT"]).strip() if "BUNIT" in header else None
    noise = extensions.get("NOISE")
    if noise is not None and (noise.shape != data.shape or not (noise[known] > 0).all()):
        raise UserError(f"the extension NOISE of {path} must be as large as the image and positive.")
    shown = str(header["CHANNEL"]).strip() if "CHANNEL" in header else None
    sky, beam = _celestial(header), _beam(header, path)
    return Image(np.where(known, data, 0.0), known, unit, sky, path.name, noise, beam, shown)


def write_image(image: Image, header: fits.Header, path: str | Path) -> None:
    """Write an image as FITS, whole or not at all; the header gives coordinates and whatever else is known.

    Raises:
        UserError: the folder cannot be written to, or FITS does not know the unit.
    """
    header = header.copy()
    try:
        unit = u.Unit(image.unit or "").to_string("fits")
    except ValueError as error:
        raise UserError(f"{image.name} has the unit {image.unit!r}, which FITS does not know.") from error
    header["BUNIT"] = unit or ("Compton y" if header.get("CHANNEL") == "compton_y" else "")
    if image.fwhm_arcsec:
        header["BMAJ"] = header["BMIN"] = (image.fwhm_arcsec / 3600, "[deg] full width of the beam at half maximum")
        header["BPA"] = 0.0
    hdus = fits.HDUList([fits.PrimaryHDU(image.data.astype(np.float32), header)])
    if image.noise is not None:
        hdus.append(fits.ImageHDU(image.noise.astype(np.float32), header, name="NOISE"))
    if not image.mask.all():
        hdus.append(fits.ImageHDU(image.mask.astype(np.uint8), _without(header, "BUNIT"), name="MASK"))
    with atomic_path(path) as part:
        hdus.writeto(part, overwrite=True)


def _without(header: fits.Header, key: str) -> fits.Header:
    header = header.copy()
    del header[key]
    return header


def _beam(header: fits.Header, path: Path) -> float:
    """Full width at half maximum [arcsec] by BMAJ and BMIN, 0 where they are missing."""
    try:
        major = float(header.get("BMAJ", 0.0))
        minor = float(header.get("BMIN", major))
    except (TypeError, ValueError) as error:
        raise UserError(f"the beam of {path} (BMAJ, BMIN) is not a number.") from error
    if not (0 <= minor < np.inf and 0 <= major < np.inf):
        raise UserError(f"the beam of {path} (BMAJ, BMIN) cannot be {major:g} by {minor:g} deg.")
    return float(3600 * np.sqrt(major * minor))


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """A mask image: True where its value is not zero (and not NaN)."""
    data, _, _ = _images(require_file(path, "the mask"), "the mask")
    return np.isfinite(data) & (data != 0)


def _images(path: Path, what: str) -> tuple[NDArray[np.float64], fits.Header, dict[str, NDArray[np.float64]]]:
    """The first image of a file, its header, and the images of the extensions NOISE and MASK."""
    first, named = None, {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(path) as hdus:
                for hdu in hdus:
                    if first is not None and hdu.name not in ("NOISE", "MASK"):
                        continue
                    if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2 and hdu.data is not None:
                        data = np.squeeze(hdu.data)
                        if data.ndim != 2:
                            continue
                        if first is None:
                            first = data.astype(np.float64), hdu.header.copy()
                        else:
                            named[hdu.name] = data.astype(np.float64)
    except (OSError, ValueError, TypeError, KeyError, fits.VerifyError) as error:
        raise UserError(f"{what} {path} is not a readable FITS file, or is cut off.") from error
    if first is None:
        raise UserError(f"{what} {path} holds no two-dimensional image.")
    return *first, named


def _celestial(header: fits.Header) -> WCS | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            wcs = WCS(header).celestial
        except ValueError:
            return None
    return wcs if wcs.has_celestial else None


def _size(data: NDArray) -> str:
    return " x ".join(str(n) for n in data.shape[::-1])


def same_grid(images: list[Image]) -> None:
    """Check that the images share one pixel grid.

    Raises:
        UserError: they differ in shape, or in sky coordinates by more than half a pixel.
    """
    first = images[0]
    for other in images[1:]:
        if other.data.shape != first.data.shape:
            raise UserError(
                f"{first.name} is {_size(first.data)} pixels and {other.name} is {_size(other.data)}; bring the images "
                "to one pixel grid first."
            )
        if first.wcs is not None and other.wcs is not None:
            ny, nx = first.data.shape
            x, y = np.array([0.0, nx - 1.0, nx - 1.0]), np.array([0.0, ny - 1.0, 0.0])
            moved = np.array(other.wcs.world_to_pixel(first.wcs.pixel_to_world(x, y)))
            if not (np.abs(moved - [x, y]) < 0.5).all():
                raise UserError(f"{first.name} and {other.name} show different parts of the sky; align them first.")


def pixel_size(image: Image, redshift: float, cosmology: Cosmology) -> float:
    """Side of a pixel [kpc, proper] from the sky coordinates and the angular diameter distance.

    Raises:
        UserError: there are no sky coordinates, the pixels are not square, or the redshift is zero.
    """
    if image.wcs is None:
        raise UserError(f"{image.name} has no sky coordinates (WCS); give the pixel size with --pixel-kpc.")
    if redshift <= 0:
        raise UserError("at redshift 0 an angle has no length; give the pixel size with --pixel-kpc.")
    scales = proj_plane_pixel_scales(image.wcs)
    if abs(scales[0] / scales[1] - 1) > 0.01:
        raise UserError(f"the pixels of {image.name} are not square; resample it first.")
    distance = universe(cosmology).angular_diameter_distance(redshift)
    return float(np.deg2rad(pixel_angle(image.wcs)) * distance.to_value(u.kpc))


def pixel_angle(wcs: WCS) -> float:
    """Side of a square of the area of a pixel [deg]."""
    return float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs))))


def to_unit(image: Image, channel: str, wanted: str, redshift: float) -> tuple[NDArray[np.float64], str | None]:
    """The image in the unit of a channel, and a warning if its unit had to be assumed.

    X-ray surface brightness per solid angle, as a telescope measures it, is taken back to what the gas emits per area:
    S = 4 pi (1 + z)^4 S_observed. A unit in capitals or words for y ("Compton y") counts as dimensionless.

    Raises:
        UserError: the unit cannot be converted.
    """
    if image.channel is not None and image.channel != channel and is_channel(image.channel):
        raise UserError(f"{image.name} shows {image.channel}, not {channel}.")
    if image.unit is None:
        return image.data, f"{image.name} has no BUNIT; {wanted or 'dimensionless Compton y'} was assumed"
    text = "" if image.unit.lower().replace("-", " ") in ("compton y", "comptony", "y", "1", "none") else image.unit
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", u.UnitsWarning)
            given = u.Unit(text)
    except ValueError as error:
        raise UserError(f"{image.name} has the unit {image.unit!r}, not {_expected(wanted)}.") from error
    target = u.Unit(wanted)
    if given.is_equivalent(target):
        return image.data * given.to(target), None
    if not 0 <= redshift < 30:
        raise UserError(f"the redshift {redshift:g} is impossible.")
    if channel == "xray" and given.is_equivalent(target / u.sr):
        return image.data * given.to(target / u.sr) * 4 * np.pi * (1 + redshift) ** 4, None
    raise UserError(f"{image.name} is in {image.unit!r}, which cannot be brought to {_expected(wanted)}.")


def _expected(unit: str) -> str:
    return unit or "dimensionless (Compton y)"


def overlap(n_in: int, size_in: float, n_out: int, size_out: float) -> NDArray[np.float64]:
    """Length of each input pixel inside each output pixel, over the output pixel, (n_out, n_in); both grids centred."""
    edges_in = (np.arange(n_in + 1) - n_in / 2) * size_in
    edges_out = (np.arange(n_out + 1) - n_out / 2) * size_out
    low = np.maximum(edges_in[None, :-1], edges_out[:-1, None])
    high = np.minimum(edges_in[None, 1:], edges_out[1:, None])
    return np.maximum(high - low, 0.0) / size_out


def regrid(
    data: NDArray[np.float64], mask: NDArray[np.bool_], pixel_kpc: float, pixels_out: int, pixel_kpc_out: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Area-weighted mean of the known image on a centred square grid (see the module's docstring), and its mask."""
    if data.shape == (pixels_out, pixels_out) and abs(pixel_kpc / pixel_kpc_out - 1) < 1e-6:
        return data, mask
    ay = overlap(data.shape[0], pixel_kpc, pixels_out, pixel_kpc_out)
    ax = overlap(data.shape[1], pixel_kpc, pixels_out, pixel_kpc_out)
    cover = ay @ mask.astype(float) @ ax.T
    known = cover >= LEAST_COVER
    total = ay @ np.where(mask, data, 0.0) @ ax.T
    return np.divide(total, cover, out=np.zeros_like(total), where=known), known


def regrid_noise(
    noise: NDArray[np.float64], mask: NDArray[np.bool_], pixel_kpc: float, pixels_out: int, pixel_kpc_out: float
) -> NDArray[np.float64]:
    """rms of what `regrid` makes of an image whose pixels have independent noise; 0 where nothing is known.

    sigma_out^2 = sum_i w_i^2 sigma_i^2 / (sum_i w_i)^2,  w_i the share of the output pixel that input pixel i covers.
    """
    if noise.shape == (pixels_out, pixels_out) and abs(pixel_kpc / pixel_kpc_out - 1) < 1e-6:
        return np.where(mask, noise, 0.0)
    ay = overlap(noise.shape[0], pixel_kpc, pixels_out, pixel_kpc_out)
    ax = overlap(noise.shape[1], pixel_kpc, pixels_out, pixel_kpc_out)
    cover = ay @ mask.astype(float) @ ax.T
    variance = ay**2 @ np.where(mask, noise, 0.0) ** 2 @ (ax**2).T
    known = cover >= LEAST_COVER
    return np.sqrt(np.divide(variance, cover**2, out=np.zeros_like(variance), where=known))


def regrid_wcs(
    wcs: WCS, shape: tuple[int, ...], pixel_kpc: float, pixels_out: int, pixel_kpc_out: float
) -> WCS:
    """Sky coordinates of the grid that `regrid` makes."""
    factor = pixel_kpc_out / pixel_kpc
    out = wcs.deepcopy()
    centre_in = (np.array(shape[::-1]) + 1) / 2
    out.wcs.crpix = (np.asarray(wcs.wcs.crpix) - centre_in) / factor + (pixels_out + 1) / 2
    if wcs.wcs.has_cd():
        out.wcs.cd = wcs.wcs.cd * factor
    else:
        out.wcs.cdelt = np.asarray(wcs.wcs.cdelt) * factor
    return out

"""FITS headers of maps: where the pixels are, on the sky or in kpc.

    sky      RA---TAN, DEC--TAN; north up, east left; the centre of the map is between the middle pixels
    offset   XOFFSET, YOFFSET [kpc, proper] from the centre; the only coordinates where a length has no angle, else
             the alternate ones (A)
"""

from __future__ import annotations

from astropy.io import fits


def offset_header(pixels: int, pixel_kpc: float, alternate: str = "") -> fits.Header:
    """Coordinates in kpc."""
    header = fits.Header({f"WCSAXES{alternate}": 2})
    for axis, name in ((1, "XOFFSET"), (2, "YOFFSET")):
        header[f"CTYPE{axis}{alternate}"], header[f"CUNIT{axis}{alternate}"] = name, "kpc"
        header[f"CRPIX{axis}{alternate}"] = (pixels + 1) / 2
        header[f"CRVAL{axis}{alternate}"], header[f"CDELT{axis}{alternate}"] = 0.0, pixel_kpc
    return header


def sky_header(pixels: int, pixel_arcsec: float, pixel_kpc: float, ra: float, dec: float) -> fits.Header:
    """Coordinates on the sky around a centre [deg], with those in kpc as the alternate ones."""
    header = fits.Header({"WCSAXES": 2, "RADESYS": "ICRS"})
    for axis, name, centre, sign in ((1, "RA---TAN", ra, -1), (2, "DEC--TAN", dec, 1)):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"] = name, "deg"
        header[f"CRPIX{axis}"], header[f"CRVAL{axis}"] = (pixels + 1) / 2, centre
        header[f"CDELT{axis}"] = sign * pixel_arcsec / 3600
    header.update(offset_header(pixels, pixel_kpc, "A"))
    return header


def plain(text: str) -> str:
    """The text in the characters that a header may hold."""
    return text.encode("ascii", "backslashreplace").decode().replace("\n", " ")

"""What is read off a posterior: masses inside a radius, profiles, gas fractions, and the FITS file that holds it all.

    M(< R) = sum_pix Sigma w A,      w = fraction of the pixel inside the circle,  A = pixel area
    Sigma(R) = mean over the annulus, with fractional pixels

`posterior.fits`: a primary header with provenance; images SAMPLES (sample, channel, y, x), MEAN and STD (channel, y, x)
with CHANNEL1..n, BUNIT and the sky coordinates of the input; tables MASSES and PROFILES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from zwicky.headers import offset_header, plain
from zwicky.io import atomic_path
from zwicky.version import __version__

Array = NDArray[np.float64]
SUBPIXELS: int = 8  # per side, where a circle cuts a pixel
SURFACE_DENSITY = "Msun / kpc2"


def aperture_mask(pixels: int, pixel_kpc: float, radius_kpc: float) -> Array:
    """Fraction of each pixel inside a centred circle, (P, P); pixels cut by the edge are split into 8 x 8."""
    x = (np.arange(pixels) - (pixels - 1) / 2) * pixel_kpc
    r = np.hypot(x[:, None], x[None, :])
    half_diagonal = pixel_kpc / np.sqrt(2.0)
    mask = (r < radius_kpc).astype(float)
    cut = np.nonzero(np.abs(r - radius_kpc) <= half_diagonal)
    sub = ((np.arange(SUBPIXELS) + 0.5) / SUBPIXELS - 0.5) * pixel_kpc
    y_sub, x_sub = x[cut[0]][:, None, None] + sub[:, None], x[cut[1]][:, None, None] + sub[None, :]
    mask[cut] = (np.hypot(y_sub, x_sub) < radius_kpc).mean(axis=(1, 2))
    return mask


def default_profile_edges(pixels: int, pixel_kpc: float, bins: int = 10) -> Array:
    """Edges of annuli from the centre to the border of the map, even in log R beyond the first, (bins + 1,) [kpc]."""
    first, last = 1.5 * pixel_kpc, 0.5 * pixels * pixel_kpc
    return np.concatenate([[0.0], np.geomspace(first, last, bins)])


def radial_profile(maps: Array, edges_kpc: ArrayLike, pixel_kpc: float) -> Array:
    """Azimuthal mean in annuli with fractional pixels, (..., R) [unit of maps].

    Args:
        maps: (..., P, P). edges_kpc: (R + 1,) [kpc].
    """
    pixels = maps.shape[-1]
    circles = np.stack([aperture_mask(pixels, pixel_kpc, float(edge)) for edge in np.asarray(edges_kpc)])
    rings = np.diff(circles, axis=0).reshape(len(circles) - 1, -1)
    area = rings.sum(1)
    return ratio(maps.reshape(*maps.shape[:-2], -1) @ rings.T, area)


def aperture_mass(maps: NDArray, pixel_kpc: float, radius_kpc: float | None = None) -> Array:
    """Mass [Msun] of surface density maps (..., P, P) [Msun / kpc^2] inside a centred circle, or of the whole map.

    Raises:
        ValueError: the radius is not positive.
    """
    if radius_kpc is not None and not radius_kpc > 0:
        raise ValueError(f"the radius of an aperture must be positive, not {radius_kpc} kpc.")
    mask = 1.0 if radius_kpc is None else aperture_mask(maps.shape[-1], pixel_kpc, radius_kpc)
    return (maps * mask).sum((-2, -1), dtype=np.float64) * pixel_kpc**2


@dataclass(frozen=True)
class Outlier:
    """How unlike everything in training a cluster is (`zwicky.outliers`).

    Args:
        score: share of clusters like those of training that are at least as unlike it.
        limit: a score below is a warning, which so large a share of like clusters get too.
        parts: how far off it is in each respect, in standard deviations of like clusters.
    """

    score: float
    limit: float
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def warned(self) -> bool:
        """Whether the score is below the limit."""
        return self.score < self.limit


@dataclass(frozen=True)
class Posterior:
    """Samples of the maps of one cluster.

    Args:
        samples: channel -> (n, Y, X) [units].
        units: channel -> unit.
        redshift: of the cluster. pixel_kpc: side of a pixel, proper [kpc].
        wcs: celestial coordinates of the pixels, if the input had them.
        provenance: FITS keyword -> value, for the primary header.
        warnings: what the user should know before trusting it.
        outlier: how unlike its training the cluster is; None where the model or the images do not say.
    """

    samples: dict[str, NDArray[np.float32]]
    units: dict[str, str]
    redshift: float
    pixel_kpc: float
    wcs: WCS | None = None
    provenance: dict[str, str | int | float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    outlier: Outlier | None = None

    @property
    def mean(self) -> dict[str, Array]:
        """Mean map of each channel, (Y, X)."""
        return {c: x.mean(0, dtype=np.float64) for c, x in self.samples.items()}

    @property
    def std(self) -> dict[str, Array]:
        """Standard deviation of each channel over the samples, (Y, X); zero for a single sample."""
        return {c: x.astype(np.float64).std(0, ddof=1 if len(x) > 1 else 0) for c, x in self.samples.items()}

    @property
    def pixels(self) -> int:
        """Pixels along a side."""
        return next(iter(self.samples.values())).shape[-1]

    def mass(self, channel: str, radius_kpc: float | None = None) -> Array:
        """Mass inside a centred circle (the whole map for None) of each sample, (n,) [Msun].

        `total` is gas plus dark matter.

        Raises:
            ValueError: the channel is not a surface density of the posterior, or the radius is not positive.
        """
        return aperture_mass(self.surface_density(channel), self.pixel_kpc, radius_kpc)

    def gas_fraction(self, radius_kpc: float | None = None) -> Array:
        """Gas over gas and dark matter inside a circle, of each sample, (n,)."""
        return self.mass("gas", radius_kpc) / self.mass("total", radius_kpc)

    def profile(self, channel: str, edges_kpc: ArrayLike) -> Array:
        """Mean surface density in annuli of each sample, (n, R) [Msun / kpc^2]."""
        return radial_profile(self.surface_density(channel), edges_kpc, self.pixel_kpc)

    def surface_density(self, channel: str) -> Array:
        """Samples of a channel, or of `total`, (n, Y, X) [Msun / kpc^2]."""
        parts = ("gas", "dark_matter") if channel == "total" and "total" not in self.samples else (channel,)
        if not all(self.units.get(c) == SURFACE_DENSITY for c in parts):
            raise ValueError(f"{channel!r} is not a surface density of this posterior; it has {list(self.samples)}.")
        return np.sum([self.samples[c].astype(np.float64) for c in parts], axis=0)

    @property
    def mass_channels(self) -> list[str]:
        """Channels that have a mass."""
        names = [c for c in self.samples if self.units[c] == SURFACE_DENSITY]
        return [*names, "total"] if {"gas", "dark_matter"} <= set(names) and "total" not in names else names

    def masses(self, radii_kpc: Mapping[str, float] | None = None) -> Table:
        """Table of masses: channel, aperture, radius_kpc, mean, std, p16, p50, p84 [Msun].

        Args:
            radii_kpc: aperture name -> radius [kpc]. The whole map is added as `map`, with half its side for a radius.
        """
        apertures: dict[str, float | None] = {**(radii_kpc or {}), "map": None}
        half_side = 0.5 * self.pixels * self.pixel_kpc
        rows = [
            (channel, name, half_side if radius is None else radius, *_summary(self.mass(channel, radius)))
            for channel in self.mass_channels
            for name, radius in apertures.items()
        ]
        table = Table(rows=rows, names=("channel", "aperture", "radius_kpc", "mean", "std", "p16", "p50", "p84"))
        table["radius_kpc"].unit = "kpc"
        return _with_unit(table, "Msun")

    def profiles(self, edges_kpc: ArrayLike | None = None) -> Table:
        """Table of profiles: channel, r_in_kpc, r_out_kpc, mean, std, p16, p50, p84 [Msun / kpc^2]."""
        edges = default_profile_edges(self.pixels, self.pixel_kpc) if edges_kpc is None else np.asarray(edges_kpc)
        rows = [
            (channel, edges[i], edges[i + 1], *_summary(values))
            for channel in self.mass_channels
            for i, values in enumerate(self.profile(channel, edges).T)
        ]
        table = Table(rows=rows, names=("channel", "r_in_kpc", "r_out_kpc", "mean", "std", "p16", "p50", "p84"))
        table["r_in_kpc"].unit = table["r_out_kpc"].unit = "kpc"
        return _with_unit(table, SURFACE_DENSITY)

    def to_fits(self, path: str | Path, radii_kpc: Mapping[str, float] | None = None) -> None:
        """Write `posterior.fits`, whole or not at all (the layout is in the module's docstring).

        Raises:
            UserError: the folder cannot be written to.
        """
        stack = np.stack([x.astype(np.float32) for x in self.samples.values()], axis=1)
        images = {"SAMPLES": stack, "MEAN": _stack(self.mean), "STD": _stack(self.std)}
        hdus = fits.HDUList([fits.PrimaryHDU(header=self._primary_header())])
        hdus += [fits.ImageHDU(data, self._image_header(data.ndim), name=name) for name, data in images.items()]
        for name, table in (("MASSES", self.masses(radii_kpc)), ("PROFILES", self.profiles())):
            hdu = fits.table_to_hdu(table)
            hdu.name = name
            hdu.header["COMMENT"] = "Projected: all the matter along the line of sight inside the circle or annulus."
            hdus.append(hdu)
        with atomic_path(path) as part:
            hdus.writeto(part, overwrite=True)

    def _primary_header(self) -> fits.Header:
        header = fits.Header()
        header["CREATOR"] = (f"zwicky {__version__}", "software that made this file")
        header["REDSHIFT"] = (self.redshift, "redshift of the cluster")
        header["PIXKPC"] = (self.pixel_kpc, "[kpc] side of a pixel, proper")
        header["NSAMPLES"] = (len(next(iter(self.samples.values()))), "number of posterior samples")
        for key, value in self.provenance.items():
            header[key] = plain(value) if isinstance(value, str) else value
        if self.outlier is not None:
            header["OUTLIER"] = (self.outlier.score, "share of like clusters that are as odd")
            header["OUTLIMIT"] = (self.outlier.limit, "OUTLIER below: unlike the training")
        for text in self.warnings:
            header["COMMENT"] = f"WARNING: {plain(text)}"
        return header

    def _image_header(self, axes: int) -> fits.Header:
        """Celestial axes (or offsets in kpc), then the channel, then the sample."""
        header = self.wcs.to_header() if self.wcs is not None else offset_header(self.pixels, self.pixel_kpc)
        header["WCSAXES"] = axes
        for axis, name in ((3, "CHANNEL"), (4, "SAMPLE"))[: axes - 2]:
            header[f"CTYPE{axis}"] = (name, "running number from 1")
            header[f"CRPIX{axis}"] = header[f"CRVAL{axis}"] = header[f"CDELT{axis}"] = 1.0
        units = [u.Unit(self.units[c]).to_string("fits") for c in self.samples]
        if len(set(units)) == 1:
            header["BUNIT"] = units[0]
        for i, (channel, unit) in enumerate(zip(self.samples, units, strict=True), 1):
            header[f"CHANNEL{i}"], header[f"UNIT{i}"] = channel, (unit, f"of {channel}")
        return header


def _stack(maps: dict[str, Array]) -> NDArray[np.float32]:
    return np.stack(list(maps.values())).astype(np.float32)


def _summary(values: Array) -> tuple[float, ...]:
    """Mean, standard deviation and the 16th, 50th and 84th percentiles over samples."""
    std = values.std(ddof=1) if len(values) > 1 else 0.0
    return (float(values.mean()), float(std), *(float(p) for p in np.percentile(values, [16, 50, 84])))


def _with_unit(table: Table, unit: str) -> Table:
    for name in ("mean", "std", "p16", "p50", "p84"):
        table[name].unit = unit
    return table


def ratio(a: Array, b: Array) -> Array:
    """a / b, NaN where b is not positive."""
    return np.divide(a, b, out=np.full(np.broadcast_shapes(a.shape, b.shape), np.nan), where=b > 0)

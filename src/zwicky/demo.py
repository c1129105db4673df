"""The first minute: the shipped model on the shipped observation of a held-out cluster, against its truth.

Both come from `recipes/clusters.toml`; the cluster is of the test split.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from matplotlib.figure import Figure
from numpy.typing import NDArray

from zwicky.dataset.store import MapSet
from zwicky.evaluate import figures
from zwicky.headers import sky_header
from zwicky.io import atomic_path, require_writable
from zwicky.model import SHIPPED
from zwicky.products import SURFACE_DENSITY, Posterior, aperture_mass
from zwicky.reconstruct import load_model, reconstruct_files

OBSERVATION = SHIPPED / "observation"
MODEL = "laptop"
LABELS = {"compton_y": "Compton $y$", "xray": "X-ray", "gas": "Gas", "dark_matter": "Dark matter"}
UNITS = {"xray": r"erg s$^{-1}$ cm$^{-2}$"}


def run_demo(
    folder: str | Path, n: int, seed: int, device: str, progress: Callable[[int, int], None] | None = None
) -> tuple[Posterior, dict[str, float], dict[tuple[str, str], float]]:
    """Write `folder`/posterior.fits and `folder`/reconstruction.png.

    Returns:
        The posterior, the apertures {name: radius [kpc]}, and the true masses {(channel, aperture): mass [Msun]}.
    """
    folder = require_writable(folder)
    model = load_model(MODEL, device)
    header = fits.getheader(OBSERVATION / "truth.fits")
    radii = {"R500c": float(header["R500C"]), "R200m": float(header["R200M"])}
    files = {"compton_y": OBSERVATION / "sz.fits", "xray": OBSERVATION / "xray.fits"}
    posterior = reconstruct_files(
        model, files, float(header["REDSHIFT"]), pixel_kpc=float(header["PIXKPC"]), n=n, seed=seed, progress=progress
    )
    truth = {name: fits.getdata(OBSERVATION / "truth.fits", name.upper()) for name in posterior.samples}
    posterior.to_fits(folder / "posterior.fits", radii)
    inputs = {name: fits.getdata(path) for name, path in files.items()}
    figures.save(posterior_figure(posterior, inputs, truth), folder / "reconstruction.png")
    return posterior, radii, _true_masses(posterior, truth, radii)


def posterior_figure(posterior: Posterior, inputs: dict[str, NDArray], truth: dict[str, NDArray] | None) -> Figure:
    """The figure of a reconstruction: inputs, truth, mean, standard deviation and one sample."""
    first = {name: samples[0] for name, samples in posterior.samples.items()}
    return figures.reconstruction(
        inputs, truth, posterior.mean, posterior.std, first, posterior.pixel_kpc, LABELS, UNITS
    )


def _true_masses(
    posterior: Posterior, truth: dict[str, NDArray], radii: dict[str, float]
) -> dict[tuple[str, str], float]:
    maps = {**truth, "total": truth["gas"] + truth["dark_matter"]}
    return {
        (channel, name): float(aperture_mass(maps[channel].astype(float), posterior.pixel_kpc, radius))
        for channel in posterior.mass_channels
        for name, radius in {**radii, "map": None}.items()
    }


def write_observation(maps: MapSet, row: int, folder: str | Path) -> None:
    """Write one row of a set of maps as an observation: sz.fits, xray.fits and truth.fits.

    The image planes have a sky position of their own choosing, (RA, Dec) = (150, 2) deg, at a pixel of 1 arcmin, so
    that tools which want coordinates have some; the truth carries the radii [kpc] and M200m [Msun] of the cluster.
    """
    folder = require_writable(folder)
    header = _sky_header(maps, row)
    for name, channel in (("sz", "compton_y"), ("xray", "xray")):
        h = header.copy()
        h["BUNIT"] = u.Unit(maps.units[channel]).to_string("fits") or "Compton y"
        _write(fits.PrimaryHDU(maps.read(channel, np.array([row]))[0], h), folder / f"{name}.fits")
    hdus = [fits.PrimaryHDU(header=header)]
    for channel in ("gas", "dark_matter"):
        h = header.copy()
        h["BUNIT"] = u.Unit(SURFACE_DENSITY).to_string("fits")
        hdus.append(fits.ImageHDU(maps.read(channel, np.array([row]))[0], h, name=channel.upper()))
    _write(fits.HDUList(hdus), folder / "truth.fits")


def _sky_header(maps: MapSet, row: int) -> fits.Header:
    header = sky_header(maps.pixels, 60.0, maps.pixel_kpc, 150.0, 2.0)
    header["COMMENT"] = "Simulated cluster: position and angular size are invented; the length of a pixel is PIXKPC."
    header["PIXKPC"] = (maps.pixel_kpc, "[kpc] side of a pixel, proper")
    header["REDSHIFT"] = (maps.redshift, "at which the cluster is seen")
    for key in ("r500c", "r200m"):
        header[key.upper()] = (float(maps.halo[key][row]), "[kpc]")
    header["M200M"] = (float(maps.halo["m200m"][row]), "[Msun]")
    header["HISTORY"] = f"simulated cluster {int(maps.cluster[row])}, row {row} of maps.h5 of recipes/clusters.toml"
    return header


def _write(hdus: fits.HDUList | fits.PrimaryHDU, path: Path) -> None:
    with atomic_path(path) as part:
        hdus.writeto(part, overwrite=True)

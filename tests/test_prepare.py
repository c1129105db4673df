"""Counts of an archive as images: the brightness that made them, bad files named, and real data of eFEDS."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from zwicky.headers import sky_header
from zwicky.images import read_image
from zwicky.io import UserError
from zwicky.observe.instrument import read_instruments
from zwicky.prepare import prepare_counts

N, PIXEL, Z, S = 64, 4.0, 0.3, 3e5
SHARED = Path(__file__).parents[2] / "shared" / "data" / "efeds_two_clusters"
EFEDS = read_instruments(Path(__file__).parents[1] / "src/zwicky/observe/instruments.toml")["eROSITA-eFEDS"]


@pytest.fixture
def archive(tmp_path):
    """Counts of a flat brightness S, their exposures, and what made them."""
    rng, header = np.random.default_rng(0), sky_header(N, PIXEL, 1.0, 140.0, 3.0)
    t = np.linspace(2e4, 6e4, N) * np.ones((N, 1))
    whole = np.full((N, N), 6e4)
    E = EFEDS.counts_per_brightness(t, PIXEL, Z)
    b = EFEDS.background(t, whole, PIXEL)
    counts = rng.poisson(E * S + b)
    files = {"counts": counts, "exposure": t, "unvignetted": whole, "background": b}
    for name, data in files.items():
        fits.PrimaryHDU(data.astype(np.float32), header).writeto(tmp_path / f"{name}.fits")
    return {name: tmp_path / f"{name}.fits" for name in files}


def prepare(archive, out, *optional, instrument="eROSITA-eFEDS", redshift=Z, **more):
    given = {name: archive[name] for name in optional} | more
    return prepare_counts(archive["counts"], archive["exposure"], instrument, redshift, out, **given)


@pytest.mark.parametrize("optional", [("unvignetted",), ("background",), ("unvignetted", "background"), ()], ids=str)
def test_the_brightness_that_made_the_counts_is_found(archive, tmp_path, optional):
    prepare(archive, tmp_path / "out.fits", *optional)
    image = read_image(tmp_path / "out.fits", "the image")
    assert image.mask.all()
    error = image.noise.mean() / N
    assert image.data.mean() == pytest.approx(S, abs=4 * error)
    assert ((image.data - S) / image.noise).std() == pytest.approx(1, abs=0.1)
    assert u.Unit(image.unit) == u.Unit("1 / (s cm2)")
    assert image.fwhm_arcsec == pytest.approx(EFEDS.fwhm_arcsec)
    assert image.wcs.pixel_to_world((N - 1) / 2, (N - 1) / 2).separation(SkyCoord(140, 3, unit="deg")).arcsec < 1e-3


def test_pixels_without_exposure_are_not_known(archive, tmp_path):
    with fits.open(archive["exposure"], mode="update") as hdus:
        hdus[0].data[:5] = 0
    with fits.open(archive["counts"], mode="update") as hdus:
        hdus[0].data[:5] = 0
    image = prepare(archive, tmp_path / "out.fits", "background")
    assert not image.mask[:5].any()
    assert image.mask[5:].all()
    assert (image.data[:5] == 0).all()
    assert np.isfinite(image.noise).all()


def damage(archive, kind):
    """Spoil one of the files, and say what of it the message must name."""
    if kind == "negative counts":
        fits.PrimaryHDU(np.full((N, N), -1.0), fits.getheader(archive["counts"])).writeto(
            archive["counts"], overwrite=True
        )
        return "negative"
    if kind == "another grid":
        fits.PrimaryHDU(np.ones((N, N)), sky_header(N, PIXEL, 1.0, 141.0, 3.0)).writeto(
            archive["exposure"], overwrite=True
        )
        return "different parts of the sky"
    if kind == "another size":
        fits.PrimaryHDU(np.ones((8, 8))).writeto(archive["exposure"], overwrite=True)
        return "one pixel grid"
    if kind == "no coordinates":
        fits.PrimaryHDU(np.ones((N, N))).writeto(archive["counts"], overwrite=True)
        return "no sky coordinates"
    if kind == "no exposure":
        fits.PrimaryHDU(np.zeros((N, N)), fits.getheader(archive["counts"])).writeto(
            archive["exposure"], overwrite=True
        )
        return "no exposure"
    archive["counts"].write_bytes(b"SIMPLE")
    return "not a readable FITS file"


@pytest.mark.parametrize(
    "kind", ["negative counts", "another grid", "another size", "no coordinates", "no exposure", "cut off"]
)
def test_files_that_cannot_be_used(archive, tmp_path, kind):
    message = damage(archive, kind)
    with pytest.raises(UserError, match=message):
        prepare(archive, tmp_path / "out.fits")
    assert not (tmp_path / "out.fits").exists()


def test_what_is_no_counter_is_refused(archive, tmp_path):
    for name, message in (("Planck-y", "not one instrument that counts"), ("Hubble", "unknown instrument")):
        with pytest.raises(UserError, match=message):
            prepare(archive, tmp_path / "out.fits", instrument=name)
    with pytest.raises(UserError, match="redshift must be from 0 to 20"):
        prepare(archive, tmp_path / "out.fits", redshift=-1.0)


@pytest.mark.skipif(not SHARED.exists(), reason="needs the eFEDS images")
def test_real_counts_show_the_cluster_and_no_background(tmp_path):
    """0.6 to 2.2 keV, nearly the band of the instrument: the cluster stands out, far from both little is left."""
    bands = ("0600_1100", "1100_1600", "1600_2200")
    header = fits.getheader(SHARED / f"img_{bands[0]}.fits.gz")
    counts = sum(fits.getdata(SHARED / f"img_{b}.fits.gz").astype(float) for b in bands)
    fits.PrimaryHDU(counts, header).writeto(tmp_path / "counts.fits")
    image = prepare_counts(
        tmp_path / "counts.fits", SHARED / "expmap_norm_1100_1600.fits.gz", "eROSITA-eFEDS", 0.33,
        tmp_path / "out.fits", unvignetted=SHARED / "expmap_norm_novig_1100_1600.fits.gz", mask=SHARED / "mask.fits.gz",
    )  # fmt: skip
    sky = image.wcs.pixel_to_world(*np.indices(counts.shape)[::-1])
    places = (SkyCoord(140.3384, 3.2906, unit="deg"), SkyCoord(140.0918, 3.0185, unit="deg"))
    arcmin = [sky.separation(place).arcmin for place in places]
    inside = image.mask & (arcmin[0] < 1)
    outside = image.mask & (arcmin[0] > 6) & (arcmin[1] > 6)
    cluster, rest = image.data[inside].mean(), image.data[outside].mean()
    assert abs(rest) < 0.3 * image.data[image.mask & (arcmin[0] < 3)].mean()
    assert cluster / (image.noise[inside].mean() / np.sqrt(inside.sum())) > 3

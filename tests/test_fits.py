"""Every FITS file of Zwicky, as a viewer such as DS9 wants it: standard headers, an image first, one kind of WCS."""

import json
import re
import warnings

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.visualization import ZScaleInterval
from astropy.wcs import WCS

from zwicky.cosmology import Cosmology
from zwicky.dataset.store import MapWriter, open_maps
from zwicky.demo import OBSERVATION, write_observation
from zwicky.export import export_rows
from zwicky.headers import sky_header
from zwicky.observe.instrument import Exposure, instruments
from zwicky.prepare import prepare_counts
from zwicky.products import Posterior

N, RA, DEC = 16, 194.95, 27.98
TELESCOPES = ("ACT-DR6-y", "eROSITA-eFEDS")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two rows of a set at redshift 0.1, with images of telescopes of which a corner is unknown."""
    path, rng = tmp_path_factory.mktemp("maps") / "maps.h5", np.random.default_rng(0)
    units = {"gas": "Msun / kpc2", "dark_matter": "Msun / kpc2", "compton_y": "", "xray": "erg / (s cm2)"}
    mask = np.ones((N, N), bool)
    mask[:2, :2] = False
    with h5py.File(path, "w") as file:
        writer = MapWriter(file, 2, N, units, instruments(TELESCOPES))
        for _ in range(2):
            image = np.where(mask, rng.normal(size=(N, N)), 0)
            seen = {name: Exposure(image, np.ones((N, N)), mask, np.ones((N, N), int)) for name in TELESCOPES}
            seen["ACT-DR6-y"] = seen["ACT-DR6-y"]._replace(counts=None)
            writer.append({name: rng.random((N, N)) for name in units}, np.eye(3), seen)
        halo = {f"{kind}{name}": np.full(2, 1e14 if kind == "m" else 900.0)
                for kind in "mr" for name in ("200m", "200c", "500c")}  # fmt: skip
        attributes = {
            "pixel_kpc": 100.0, "redshift": 0.1, "cosmology": json.dumps(Cosmology().as_dict()), "config": "{}",
            "simulations": json.dumps([{"simulation": "2 x 8^3 particles in 62.5 Mpc/h, seed 1"}]),
        }  # fmt: skip
        columns = {"cluster": np.arange(2), "simulation": np.zeros(2, int), "split": np.zeros(2, int)}
        writer.finish(columns, halo, attributes)
    return open_maps(path)


def posterior(wcs):
    rng = np.random.default_rng(0)
    samples = {c: rng.lognormal(15, 0.5, (4, N, N)).astype(np.float32) for c in ("gas", "dark_matter")}
    provenance = {"MODEL": "laptop", "MODELID": "abc", "SEED": 4, "INPUT1": "y.fits"}
    return Posterior(samples, dict.fromkeys(samples, "Msun / kpc2"), 0.2, 50.0, wcs, provenance, warnings=("far away",))


def sky(matrix):
    """A sky turned by 30 degrees, by a matrix of this name, as archives write it."""
    header, turn = sky_header(N, 60.0, 50.0, RA, DEC), np.array([[-0.5, 0.2], [0.2, 0.5]]) / 60
    for i, j in np.ndindex(2, 2):
        header[f"{matrix}{i + 1}_{j + 1}"] = turn[i, j]
    for axis in (1, 2):
        del header[f"CDELT{axis}"]
        if matrix == "PC":
            header[f"CDELT{axis}"] = 1.0
    return WCS(header)


@pytest.fixture(scope="module")
def outputs(maps, tmp_path_factory):
    """Every file that Zwicky writes, and those that it ships, by what they are."""
    folder = tmp_path_factory.mktemp("fits")
    files = {f"export {p.stem[7:]}": p for p in export_rows(maps, [1], folder, RA, DEC)}
    rng, header = np.random.default_rng(1), sky_header(N, 4.0, 1.0, RA, DEC)
    for name, data in (("counts", rng.poisson(3.0, (N, N))), ("exposure", np.full((N, N), 2e3))):
        fits.PrimaryHDU(data.astype(np.float32), header).writeto(folder / f"{name}.fits")
    files["prepare"] = folder / "prepared.fits"
    prepare_counts(folder / "counts.fits", folder / "exposure.fits", "eROSITA-eFEDS", 0.3, files["prepare"])
    for name, wcs in (("CD", sky("CD")), ("PC", sky("PC")), ("no", None)):
        files[f"posterior, {name} matrix"] = folder / f"{name}.fits"
        posterior(wcs).to_fits(folder / f"{name}.fits", {"R500c": 300.0})
    write_observation(maps, 0, folder / "observation")
    for name in ("sz", "xray", "truth"):
        files[f"observation {name}"] = folder / "observation" / f"{name}.fits"
        files[f"shipped {name}"] = OBSERVATION / f"{name}.fits"
    return files


NAMES = [
    *(f"export {name}" for name in ("gas", "dark_matter", "compton_y", "xray", *TELESCOPES)), "prepare",
    *(f"posterior, {name} matrix" for name in ("CD", "PC", "no")),
    *(f"{kind} {name}" for kind in ("observation", "shipped") for name in ("sz", "xray", "truth")),
]  # fmt: skip
every_file = pytest.mark.parametrize("name", NAMES)


def images(hdus):
    return [hdu for hdu in hdus if hdu.is_image and hdu.data is not None]


def test_these_are_all(outputs):
    assert sorted(outputs) == sorted(NAMES)


@every_file
def test_the_file_obeys_the_standard(outputs, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(outputs[name]) as hdus:
            hdus.verify("exception")
            extensions = [hdu.name for hdu in hdus[1:]]
            assert len(set(extensions)) == len(extensions)
            for hdu in hdus:
                for card in hdu.header.cards:
                    assert not card.image.startswith("HIERARCH")
                    assert re.fullmatch(r"[A-Z0-9_-]{0,8}", card.keyword), card.keyword
    assert outputs[name].stat().st_size % 2880 == 0


@every_file
def test_the_first_image_is_where_viewers_look_and_can_be_scaled(outputs, name):
    """In the primary HDU or the first extension; its lowest two axes are the map."""
    with fits.open(outputs[name]) as hdus:
        first = images(hdus)[0]
        assert hdus.index_of(first.name) <= 1 if first.name != "PRIMARY" else hdus[0] is first
        assert first.header["BITPIX"] in (-32, -64)
        assert min(first.header["NAXIS1"], first.header["NAXIS2"]) >= N
        low, high = ZScaleInterval().get_limits(np.reshape(first.data, (-1, *first.shape[-2:]))[0])
        assert np.isfinite([low, high]).all()
        assert low < high
        u.Unit(first.header["BUNIT"].replace("Compton y", ""), format="fits")


@every_file
def test_coordinates_are_whole_and_of_one_kind(outputs, name):
    """CTYPE, CRVAL, CRPIX and CUNIT of both axes; CDELT with or without PC, or CD, never both; a frame for the sky."""
    with fits.open(outputs[name]) as hdus:
        for hdu in images(hdus):
            header = hdu.header
            keys = set(header)
            matrices = {kind for kind in ("PC", "CD") if any(re.fullmatch(rf"{kind}\d_\d", key) for key in keys)}
            assert not ({"CD"} & matrices and ({"PC"} & matrices or "CDELT1" in keys))
            assert {"CDELT1", "CDELT2"} <= keys or "CD" in matrices
            assert not [key for key in keys if re.fullmatch(r"CROTA\d", key)]
            for axis in (1, 2):
                assert {f"{key}{axis}" for key in ("CTYPE", "CRVAL", "CRPIX", "CUNIT")} <= keys
            order = [key for key in header if re.match(r"(WCSAXES|CTYPE|CRPIX|CDELT|CRVAL|CUNIT|PC\d)\w*$", key)]
            assert order[0] == "WCSAXES" or "WCSAXES" not in keys
            assert header.get("WCSAXES", 2) == header["NAXIS"]
            if header["CTYPE1"] == "RA---TAN":
                assert (header["CTYPE2"], header["CUNIT1"], header["CUNIT2"]) == ("DEC--TAN", "deg", "deg")
                assert header["RADESYS"] in ("ICRS", "FK5")
            else:
                assert (header["CTYPE1"], header["CUNIT1"]) == ("XOFFSET", "kpc")


@every_file
def test_all_images_show_the_same_sky(outputs, name):
    """Centre and corner go to the sky and back, without a word of astropy about the header."""
    with warnings.catch_warnings(), fits.open(outputs[name]) as hdus:
        warnings.simplefilter("error")
        corners = []
        for hdu in images(hdus):
            wcs = WCS(hdu.header)
            if not wcs.has_celestial:
                assert "no matrix" in name
                continue
            there = wcs.celestial.pixel_to_world([0, (N - 1) / 2], [0, (N - 1) / 2])
            np.testing.assert_allclose(wcs.celestial.world_to_pixel(there), [[0, (N - 1) / 2]] * 2, atol=1e-6)
            corners.append(there[0])
            if "shipped" not in name and "observation" not in name:
                assert there[1].separation(SkyCoord(RA, DEC, unit="deg")).arcsec < 1
        assert all(corner.separation(corners[0]).arcsec < 1e-6 for corner in corners)


def test_a_map_lies_where_reproject_puts_it(outputs):
    """The image onto itself, through the sky."""
    reproject = pytest.importorskip("reproject")
    with fits.open(outputs["export gas"]) as hdus:
        again, footprint = reproject.reproject_interp(hdus[0], hdus[0].header)
        assert footprint[1:-1, 1:-1].all()
        np.testing.assert_allclose(again[1:-1, 1:-1], hdus[0].data[1:-1, 1:-1], rtol=1e-4)

"""Maps as FITS: the right place, scale, orientation and unit, by astropy; noise, mask and beam come along."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from typer.testing import CliRunner

from zwicky.cli import app
from zwicky.cosmology import Cosmology
from zwicky.dataset.build import build_maps
from zwicky.dataset.plan import ObserveConfig
from zwicky.dataset.store import open_maps
from zwicky.export import export_rows
from zwicky.halos import write_halos
from zwicky.images import pixel_size, read_image, to_unit
from zwicky.io import UserError
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species

RA, DEC, PIXEL, N = 194.95, 27.98, 100.0, 32
CENTRE = np.array([10.0, 10.0, 10.0])
LUMP = np.array([1.0, 0.5, 0.0])  # Mpc from the centre: to the right of the map, and up


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A cluster at the centre of the map, and a lighter lump up and to the right of it, along the z axis."""
    folder, rng = tmp_path_factory.mktemp("maps"), np.random.default_rng(0)
    places = np.concatenate([CENTRE + rng.normal(0, 0.02, (800, 3)), CENTRE + LUMP + rng.normal(0, 0.02, (200, 3))])
    masses = np.full(1000, 1e11)
    dark = Species(places, np.zeros((1000, 3), np.float32), masses, np.full(1000, 0.05))
    gas = Species(
        places, np.zeros((1000, 3), np.float32), 0.1 * masses, np.full(1000, 0.05),
        density=np.full(1000, 1e14), temperature=np.full(1000, 5e7),
    )  # fmt: skip
    write_snapshot(Particles(20.0, 0.0, Cosmology(), dark, gas), folder / "snapshot.hdf5")
    halos = Table({"id": [0], **{axis: [10.0] for axis in "xyz"}, "fgas200m": [0.1]})
    for name in ("200m", "200c", "500c"):
        halos[f"m{name}"], halos[f"r{name}"] = [1e14], [1.0]
    write_halos(halos, folder / "halos.hdf5")
    config = ObserveConfig(
        channels=("gas", "compton_y", "xray"), pixels=N, pixel_kpc=PIXEL, min_mass=1e13, directions="cardinal",
        fractions=(1.0, 0.0, 0.0), redshift=0.0231, instruments=("ACT-DR6-y", "eROSITA-eFEDS"),
    )  # fmt: skip
    return open_maps(build_maps([(folder / "snapshot.hdf5", folder / "halos.hdf5")], folder / "maps.h5", config))


@pytest.fixture(scope="module")
def files(maps, tmp_path_factory):
    return {p.stem: p for p in export_rows(maps, [0], tmp_path_factory.mktemp("fits"), RA, DEC)}


def test_one_file_for_each_channel_and_instrument(files):
    names = ["gas", "compton_y", "xray", "ACT-DR6-y", "eROSITA-eFEDS"]
    assert set(files) == {f"000000-{name}" for name in names}


def test_the_centre_of_the_map_is_the_position_asked_for(files):
    wcs = WCS(fits.getheader(files["000000-gas"]))
    centre = wcs.pixel_to_world((N - 1) / 2, (N - 1) / 2)
    assert centre.separation(SkyCoord(RA, DEC, unit="deg")).arcsec < 1e-6


def test_pixels_have_the_angle_of_their_length(files):
    wcs = WCS(fits.getheader(files["000000-gas"]))
    c = Cosmology()
    distance = FlatLambdaCDM(c.hubble0, c.omega_m).angular_diameter_distance(0.0231)
    angle = (PIXEL * u.kpc / distance).to_value("", u.dimensionless_angles()) * u.rad
    a, b = (wcs.pixel_to_world(x, 15.5) for x in (15.0, 16.0))
    assert a.separation(b).to_value("arcsec") == pytest.approx(angle.to_value("arcsec"), rel=1e-4)
    image = read_image(files["000000-gas"], "the image")
    assert pixel_size(image, 0.0231, c) == pytest.approx(PIXEL, rel=1e-6)


def test_the_lump_is_north_and_west_of_the_cluster(files):
    """Right on the map is west, where the right ascension is smaller; up is north."""
    with fits.open(files["000000-gas"]) as hdus:
        data, wcs = hdus[0].data, WCS(hdus[0].header)
        there = np.unravel_index(np.argmax(np.where(np.hypot(*(np.indices(data.shape) - 15.5)) > 5, data, 0)), (N, N))
        kpc = WCS(hdus[0].header, key="A").pixel_to_world_values(there[1], there[0])
    lump, centre = wcs.pixel_to_world(there[1], there[0]), SkyCoord(RA, DEC, unit="deg")
    assert lump.ra < centre.ra
    assert lump.dec > centre.dec
    np.testing.assert_allclose(kpc, LUMP[:2] * 1000, atol=PIXEL)


def test_units_are_those_of_the_maps_and_are_read_back(maps, files):
    for name, unit in maps.units.items():
        image = read_image(files[f"000000-{name}"], "the image")
        data, warning = to_unit(image, name, unit, 0.0231)
        assert warning is None
        np.testing.assert_allclose(data, maps.read(name, np.array([0]))[0], rtol=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            u.Unit(fits.getheader(files[f"000000-{name}"])["BUNIT"].replace("Compton y", ""), format="fits")


def test_images_of_instruments_carry_noise_mask_and_beam(maps, files):
    for name, fwhm in (("ACT-DR6-y", 96.0), ("eROSITA-eFEDS", None)):
        seen, image = maps.exposure(name, np.array([0])), read_image(files[f"000000-{name}"], "the image")
        np.testing.assert_allclose(image.data, seen.image[0], rtol=1e-6)
        np.testing.assert_allclose(image.noise, seen.noise[0], rtol=1e-6)
        np.testing.assert_array_equal(image.mask, seen.mask[0])
        assert fwhm is None or image.fwhm_arcsec == pytest.approx(fwhm)
        assert fits.getheader(files[f"000000-{name}"])["INSTRUME"] == name


def test_the_header_tells_what_the_cluster_is(files):
    header = fits.getheader(files["000000-gas"])
    assert (header["M200M"], header["R500C"], header["REDSHIFT"]) == (1e14, 1000.0, 0.0231)
    assert [header[f"ROT{i}_{i}"] for i in (1, 2, 3)] == [1, 1, 1]
    with fits.open(files["000000-gas"]) as hdus:
        hdus.verify("exception")


def test_without_a_redshift_there_are_offsets_alone(maps, tmp_path):
    for redshift in (0.0, 1e-6):  # at 1e-6 a pixel would be larger than the sky
        path = export_rows(replace(maps, redshift=redshift), [1], tmp_path)[0]
        wcs = WCS(fits.getheader(path))
        assert not wcs.has_celestial
        np.testing.assert_allclose(wcs.pixel_to_world_values(15.5, 16.5), [0, PIXEL], atol=1e-9)


def test_rows_and_places_that_do_not_exist(maps, tmp_path):
    for rows, ra, dec, message in (([3], 0, 0, "rows 0 to 2, not 3"), ([0], 400, 0, "400"), ([0], 0, 91, "91")):
        with pytest.raises(UserError, match=message):
            export_rows(maps, rows, tmp_path / "new", ra, dec)
    assert not (tmp_path / "new").exists()


def test_the_commands(maps, tmp_path):
    run = CliRunner().invoke(app, ["export", str(maps.path), "--rows", "0,2", "--out", str(tmp_path / "f")])
    assert run.exit_code == 0, run.output
    assert len(list((tmp_path / "f").iterdir())) == 10
    run = CliRunner().invoke(app, ["card", str(maps.path), "--out", str(tmp_path / "card.md")])
    assert run.exit_code == 0, run.output
    printed = CliRunner().invoke(app, ["card", str(maps.path)])
    assert (tmp_path / "card.md").read_text().split() == printed.output.split()

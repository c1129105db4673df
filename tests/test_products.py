"""Masses and profiles against exact values, and the layout of posterior.fits down to its header keys."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from zwicky.io import UserError
from zwicky.products import Posterior, aperture_mask, aperture_mass, default_profile_edges, radial_profile
from zwicky.version import __version__

PIXELS, KPC, N = 24, 50.0, 7
SURFACE = "Msun / kpc2"
SUMMARY = ("mean", "std", "p16", "p50", "p84")


def sky():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix, wcs.wcs.cdelt = [3.0, 9.0], [-0.01, 0.01]
    wcs.wcs.pc = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    wcs.wcs.set()
    return wcs


def posterior(n=N, wcs=None, channels=("gas", "dark_matter"), **more):
    rng = np.random.default_rng(0)
    samples = {c: rng.lognormal(15, 0.5, (n, PIXELS, PIXELS)).astype(np.float32) for c in channels}
    provenance = {"MODEL": "tiny", "MODELID": "abc123", "SEED": 4, "INPUT1": "y.fits", "INPUT2": "sx.fits"}
    return Posterior(samples, {c: SURFACE for c in channels}, 0.2, KPC, wcs, provenance, **more)


@pytest.fixture
def written(tmp_path):
    p = posterior(wcs=sky(), warnings=("the model was never here",))
    p.to_fits(tmp_path / "p.fits", {"R500c": 300.0})
    with fits.open(tmp_path / "p.fits") as hdus:
        yield p, hdus


@pytest.mark.parametrize("pixels", [24, 25])
@pytest.mark.parametrize("radius", [60.0, 237.0, 550.0])
def test_uniform_map_holds_the_area_of_the_circle(pixels, radius):
    mass = aperture_mass(np.full((pixels, pixels), 3.0), KPC, radius)
    assert mass == pytest.approx(3.0 * np.pi * radius**2, rel=0.02 * 60 / radius)


def test_without_a_radius_the_whole_map_counts():
    image = np.random.default_rng(0).random((2, PIXELS, PIXELS))
    np.testing.assert_allclose(aperture_mass(image, KPC), image.sum((1, 2)) * KPC**2)
    np.testing.assert_allclose(aperture_mass(image, KPC, 1e9), image.sum((1, 2)) * KPC**2)


def test_mass_grows_with_the_radius():
    radii = np.linspace(10, 900, 60)
    image = np.random.default_rng(0).random((PIXELS, PIXELS))
    assert (np.diff([aperture_mass(image, KPC, r) for r in radii]) >= 0).all()


def test_aperture_has_the_symmetries_of_the_square():
    mask = aperture_mask(PIXELS, KPC, 333.0)
    np.testing.assert_array_equal(mask, mask.T)
    np.testing.assert_array_equal(mask, mask[::-1])
    assert ((mask >= 0) & (mask <= 1)).all()


def test_profile_of_a_uniform_map_is_uniform():
    profile = radial_profile(np.full((3, PIXELS, PIXELS), 7.0), default_profile_edges(PIXELS, KPC), KPC)
    np.testing.assert_allclose(profile, 7.0, rtol=1e-12)


def test_profile_of_a_ramp_in_radius_is_its_radius():
    x = (np.arange(101) - 50) * 10.0
    edges = np.array([100.0, 200.0, 300.0, 400.0])
    profile = radial_profile(np.hypot(x[:, None], x), edges, 10.0)
    mean = 2 / 3 * np.diff(edges**3) / np.diff(edges**2)
    np.testing.assert_allclose(profile, mean, rtol=2e-3)


def test_profile_outside_the_map_is_nan():
    assert np.isnan(radial_profile(np.ones((PIXELS, PIXELS)), [2000.0, 3000.0], KPC)).all()


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan])
def test_a_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="radius of an aperture must be positive"):
        posterior().mass("gas", radius)


def test_total_is_gas_plus_dark_matter():
    p = posterior()
    np.testing.assert_allclose(p.mass("total", 300.0), p.mass("gas", 300.0) + p.mass("dark_matter", 300.0))
    np.testing.assert_allclose(p.gas_fraction(300.0), p.mass("gas", 300.0) / p.mass("total", 300.0))
    edges = [0.0, 200.0, 500.0]
    np.testing.assert_allclose(
        p.profile("total", edges), p.profile("gas", edges) + p.profile("dark_matter", edges), rtol=1e-12
    )
    assert p.mass_channels == ["gas", "dark_matter", "total"]


def test_a_total_of_its_own_is_not_made_up():
    p = posterior(channels=("gas", "total"))
    np.testing.assert_array_equal(p.surface_density("total"), p.samples["total"])
    assert p.mass_channels == ["gas", "total"]


def test_what_is_no_surface_density_has_no_mass():
    p = posterior()
    odd = Posterior({**p.samples, "xray": p.samples["gas"]}, {**p.units, "xray": "erg / (s cm2)"}, 0.1, KPC)
    assert "xray" not in odd.mass_channels
    for name in ("xray", "stars"):
        with pytest.raises(ValueError, match="is not a surface density"):
            odd.mass(name)


def test_a_single_sample_has_no_spread(tmp_path):
    p = posterior(n=1)
    assert all((s == 0).all() for s in p.std.values())
    p.to_fits(tmp_path / "p.fits")
    assert (Table.read(tmp_path / "p.fits", "MASSES")["std"] == 0).all()


def test_extensions_and_primary_header(written):
    p, hdus = written
    assert [h.name for h in hdus] == ["PRIMARY", "SAMPLES", "MEAN", "STD", "MASSES", "PROFILES"]
    header = hdus[0].header
    expected = {"CREATOR": f"zwicky {__version__}", "REDSHIFT": 0.2, "PIXKPC": KPC, "NSAMPLES": N} | p.provenance
    assert {k: header[k] for k in expected} == expected
    assert "WARNING: the model was never here" in str(header["COMMENT"])


def test_images_are_the_samples_and_their_statistics(written):
    p, hdus = written
    samples = hdus["SAMPLES"].data
    assert samples.shape == (N, 2, PIXELS, PIXELS)
    for i, channel in enumerate(("gas", "dark_matter")):
        np.testing.assert_array_equal(samples[:, i], p.samples[channel])
    np.testing.assert_allclose(hdus["MEAN"].data, samples.mean(0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(hdus["STD"].data, samples.astype(float).std(0, ddof=1), rtol=1e-6)


@pytest.mark.parametrize(("name", "axes"), [("SAMPLES", 4), ("MEAN", 3), ("STD", 3)])
def test_image_headers(written, name, axes):
    header = written[1][name].header
    assert (header["CHANNEL1"], header["CHANNEL2"], "CHANNEL3" in header) == ("gas", "dark_matter", False)
    assert u.Unit(header["BUNIT"], format="fits") == u.Unit("Msun / kpc2")
    assert u.Unit(header["UNIT2"], format="fits") == u.Unit("Msun / kpc2")
    assert header["WCSAXES"] == header["NAXIS"] == axes
    assert [header[f"CTYPE{i}"] for i in range(3, axes + 1)] == ["CHANNEL", "SAMPLE"][: axes - 2]
    wcs = WCS(header)
    pixels = np.array([[0, 0], [5, 17], [23, 23], [11.5, 3.25]])
    separation = sky().pixel_to_world(*pixels.T).separation(wcs.celestial.pixel_to_world(*pixels.T))
    assert separation.arcsec.max() < 1e-6
    first = wcs.wcs_pix2world(np.zeros((1, axes)), 0)[0]
    assert first[2:].tolist() == [1.0] * (axes - 2)  # channel and sample count from 1


def test_without_sky_coordinates_pixels_are_offsets_in_kpc(tmp_path):
    posterior().to_fits(tmp_path / "p.fits")
    wcs = WCS(fits.getheader(tmp_path / "p.fits", "MEAN"))
    corner, centre = wcs.wcs_pix2world([[0, 0, 0], [11.5, 11.5, 0]], 0)[:, :2]
    assert corner.tolist() == [-11.5 * KPC] * 2
    assert centre.tolist() == [0.0, 0.0]
    assert not wcs.has_celestial


def test_masses_are_those_of_the_samples(written):
    _, hdus = written
    table = Table.read(hdus["MASSES"])
    assert table.colnames == ["channel", "aperture", "radius_kpc", *SUMMARY]
    assert [str(table[c].unit) for c in ("radius_kpc", *SUMMARY)] == ["kpc"] + ["solMass"] * 5
    assert {(r["channel"], r["aperture"]) for r in table} == {
        (c, a) for c in ("gas", "dark_matter", "total") for a in ("R500c", "map")
    }
    samples = hdus["SAMPLES"].data.astype(float)
    maps = {"gas": samples[:, 0], "dark_matter": samples[:, 1], "total": samples.sum(1)}
    for row in table:
        mask = aperture_mask(PIXELS, KPC, 300.0) if row["aperture"] == "R500c" else 1.0
        assert row["radius_kpc"] == (300.0 if row["aperture"] == "R500c" else 0.5 * PIXELS * KPC)
        mass = (maps[row["channel"]] * mask).sum((1, 2)) * KPC**2
        expected = [mass.mean(), mass.std(ddof=1), *np.percentile(mass, [16, 50, 84])]
        np.testing.assert_allclose([row[k] for k in SUMMARY], expected, rtol=1e-9)


def test_profiles_are_those_of_the_samples(written):
    _, hdus = written
    table = Table.read(hdus["PROFILES"])
    assert table.colnames == ["channel", "r_in_kpc", "r_out_kpc", *SUMMARY]
    gas = table[table["channel"] == "gas"]
    edges = np.append(gas["r_in_kpc"], gas["r_out_kpc"][-1])
    np.testing.assert_array_equal(edges[1:], gas["r_out_kpc"])
    profile = radial_profile(hdus["SAMPLES"].data[:, 0].astype(float), edges, KPC)
    np.testing.assert_allclose(gas["mean"], profile.mean(0), rtol=1e-9)
    np.testing.assert_allclose(gas["std"], profile.std(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(gas["p16"], np.percentile(profile, 16, axis=0), rtol=1e-9)


def test_the_file_obeys_the_standard(written, tmp_path):
    _, hdus = written
    hdus.verify("exception")


def test_nothing_is_left_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="cannot write"):
        posterior().to_fits(tmp_path / "file" / "p.fits")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_names_beyond_ascii(tmp_path):
    p = posterior()
    p.provenance["INPUT1"] = "amas_de_Persée.fits"
    p.to_fits(tmp_path / "p.fits")

"""Instruments: beams of the width said, noise of the depth said, counts that are Poisson's, and what files may hold."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import erf

from zwicky.cosmology import Cosmology
from zwicky.io import UserError
from zwicky.observe import instrument as module
from zwicky.observe.channels import channel
from zwicky.observe.instrument import FWHM, Bolometer, Counter, Imager, instruments, read_instruments
from zwicky.observe.scene import Scene
from zwicky.observe.sky import ARCSEC, Sky

TABLE = Path(module.__file__).with_name("instruments.toml")
NAMED = read_instruments(TABLE)
SCENE = Scene(1.0, Cosmology(), 0.1)
N = 64


def sky(pixels=N, pixel=30.0, seed=0):
    return Sky.around((seed,), SCENE.cosmology, pixels, pixel)


def expose(it, clean, pixel, rng, pixels=N, seed=0):
    """The image of a clean map, before the sky of this seed."""
    return it.expose(clean, pixels, sky(pixels, pixel, seed), SCENE, rng)


def bolometer(**settings):
    """A telescope without noise that matters, unless said otherwise."""
    return Bolometer("test", "", **{"fwhm_arcsec": 90.0, "depth": 1e-12, "frequency_ghz": 150.0} | settings)


def counter(**settings):
    """A telescope that counts."""
    numbers = {"band_kev": (0.5, 2.0), "hew_arcsec": 30.0, "area_cm2": 1000.0, "exposure_s": 1e4} | settings
    return Counter("test", "", **{"sky": 0.0, "particles": 0.0} | numbers)


@pytest.mark.parametrize("name", NAMED)
def test_every_named_instrument_makes_an_image_of_a_known_channel(name):
    it = NAMED[name]
    assert it.source
    assert channel(it.channel).unit is not None
    margin = int(np.ceil(it.margin_arcsec / 30.0))
    margin = min(margin, 48)
    out = expose(it, np.zeros((32 + 2 * margin,) * 2), 30.0, np.random.default_rng(0), 32)
    for image in (out.image, out.noise):
        assert image.shape == (32, 32)
        assert np.isfinite(image).all()
    assert (out.noise > 0).all()
    assert out.mask.any()
    assert (out.image[~out.mask] == 0).all()
    again = expose(it, np.zeros((32 + 2 * margin,) * 2), 30.0, np.random.default_rng(0), 32)
    np.testing.assert_array_equal(out.image, again.image)


def test_depths_in_compton_y():
    """Facts: 4.4 uK arcmin at 150 GHz is 1.69e-6 arcmin in y, 10 uK arcmin is 3.85e-6, 6.3 at 150 GHz 2.43e-6."""
    for depth, y in ((4.4, 1.69e-6), (10.0, 3.85e-6), (6.3, 2.43e-6)):
        assert bolometer(depth=depth).y_depth == pytest.approx(y, rel=3e-3)
    assert NAMED["SPT-3G-150"].y_depth == pytest.approx(1.69e-6, rel=3e-3)


def gaussian(sigma, pixels, pixel):
    """A Gaussian of unit sum at the centre of a map, averaged over pixels."""
    edges = (np.arange(pixels + 1) - 0.5 * pixels) * pixel / (np.sqrt(2) * sigma)
    profile = 0.5 * np.diff(erf(edges))
    return np.outer(profile, profile)


def test_a_point_source_has_the_shape_of_the_beam():
    """The Gaussian of the width said, at the centres of pixels."""
    pixel, sigma = 20.0, 90.0 / FWHM
    clean = np.zeros((N + 1, N + 1))
    clean[N // 2, N // 2] = 1.0
    found = expose(bolometer(fwhm_arcsec=90.0), clean, pixel, np.random.default_rng(0), N + 1).image
    x = (np.arange(N + 1) - N // 2) * pixel
    beam = np.exp(-0.5 * (x**2 + x[:, None] ** 2) / sigma**2) / (2 * np.pi * sigma**2) * pixel**2
    np.testing.assert_allclose(found, beam, atol=1e-6 * beam.max())
    assert found.sum() == pytest.approx(1, abs=1e-9)


def test_the_beam_and_the_pixel_are_each_applied_once():
    """Averages of a Gaussian over pixels, through a Gaussian beam, are those of the wider Gaussian over pixels."""
    pixel, size, sigma = 20.0, 24.0, 90.0 / FWHM
    found = expose(bolometer(fwhm_arcsec=90.0), gaussian(size, N, pixel), pixel, np.random.default_rng(0))
    expected = gaussian(np.hypot(size, sigma), N, pixel)
    np.testing.assert_allclose(found.image, expected, atol=1e-4 * expected.max())


def test_half_of_the_light_lies_inside_the_half_energy_width():
    """Against the enclosed light of (1 + r^2 / r_0^2)^(-3/2): 1 - (1 + r^2 / r_0^2)^(-1/2)."""
    pixel, hew = 4.0, 120.0
    telescope = counter(hew_arcsec=hew)
    clean = np.zeros((601, 601))
    clean[300, 300] = 1.0
    blurred = telescope.blurred(clean, pixel)
    x = (np.arange(601) - 300) * pixel
    r = np.hypot(x, x[:, None])
    assert blurred[r < hew / 2].sum() == pytest.approx(0.5, abs=0.02)
    r_0 = hew / np.sqrt(12)
    profile = (1 + r**2 / r_0**2) ** -1.5 / (2 * np.pi * r_0**2) * pixel**2
    near = r < 3 * hew
    np.testing.assert_allclose(blurred[near], profile[near], rtol=0.1)
    assert profile[r < telescope.fwhm_arcsec / 2].min() == pytest.approx(profile.max() / 2, rel=0.15)


@pytest.mark.parametrize("ratio", [0.03, 0.3, 1.0, 3.0])
def test_photons_are_kept_however_small_the_point_spread(ratio):
    """No light is lost, none is negative, and what is far smaller than a pixel stays in it."""
    clean = np.zeros((64, 64))
    clean[20, 30] = 1.0
    blurred = counter(hew_arcsec=ratio * 10.0).blurred(clean, 10.0)
    assert blurred.sum() == pytest.approx(1, abs=1e-12)
    assert blurred.min() >= 0
    assert np.unravel_index(blurred.argmax(), blurred.shape) == (20, 30)
    assert ratio > 0.1 or blurred.max() > 0.97


def test_noise_of_the_depth_and_of_long_waves():
    rng, pixel = np.random.default_rng(1), 60.0
    white = bolometer(depth=7.0)
    images = [expose(white, np.zeros((N, N)), pixel, rng) for _ in range(60)]
    assert np.std([e.image for e in images]) == pytest.approx(7.0, rel=0.02)
    assert images[0].noise[0, 0] == pytest.approx(7.0, rel=1e-3)
    knee = bolometer(depth=7.0, knee=4000.0, largest_arcmin=30.0)
    red = np.std([expose(knee, np.zeros((N, N)), pixel, rng).image for _ in range(20)])
    assert red > 1.2 * 7.0
    assert expose(knee, np.zeros((N, N)), pixel, rng).noise[0, 0] == pytest.approx(7.0, rel=1e-3)


def test_noise_that_went_through_the_beam():
    it, rng = bolometer(depth=10.0, fwhm_arcsec=300.0, smoothed=True), np.random.default_rng(2)
    images = [expose(it, np.zeros((N, N)), 60.0, rng) for _ in range(40)]
    sigma = 5.0 / FWHM  # arcmin
    expected = 10.0 / (np.sqrt(4 * np.pi) * sigma)
    assert np.std([e.image for e in images]) == pytest.approx(expected, rel=0.03)
    assert images[0].noise[0, 0] == pytest.approx(expected, rel=0.01)


def test_filtering_takes_away_what_is_larger_than_the_field():
    it = bolometer(largest_arcmin=5.0)
    l_0 = np.pi / (5 * 60 * ARCSEC)
    beam = bolometer().transfer(np.array([l_0]))[0]
    assert it.transfer(np.array([l_0]))[0] == pytest.approx(beam * (1 - np.exp(-1)))
    flat = expose(it, np.ones((N, N)), 30.0, np.random.default_rng(0)).image
    assert np.abs(flat).max() < 1e-6


def test_cmb_is_behind_the_cluster_and_the_same_at_every_frequency():
    patch, clean, rng = sky(N, 60.0), np.zeros((N, N)), np.random.default_rng(3)
    telescopes = [bolometer(cmb=True, frequency_ghz=ghz) for ghz in (95.0, 150.0)]
    images = [it.expose(clean, N, patch, SCENE, rng).image for it in telescopes]
    assert 20 < images[0].std() < 200  # uK, in a degree
    np.testing.assert_allclose(*images, atol=1e-6)


def test_counts_are_those_of_poisson():
    """Mean = variance = E S + b, with E from its definition and without a trace of the cluster in the background."""
    it, rng, pixel = counter(sky=2e-3, particles=1e-3), np.random.default_rng(4), 30.0
    S = 1e4  # photons / s / cm^2 towards all sides
    counts = np.array([expose(it, np.full((N, N), S), pixel, rng).counts for _ in range(50)])
    E = 1000.0 * 1e4 * (pixel * ARCSEC) ** 2 / (4 * np.pi * 1.1**3)
    expected = E * S + 1e4 * 0.25 * 3e-3
    assert counts.mean() == pytest.approx(expected, rel=4 / np.sqrt(counts.sum()))
    assert counts.var() == pytest.approx(expected, rel=4 * np.sqrt(2 / counts.size))


@pytest.mark.parametrize("S", [0.0, 500.0, 2e4])
def test_the_brightness_of_counts_has_no_bias(S):
    """Mean, scatter and weighted mean, from half a photon in a pixel to many."""
    it, rng = counter(sky=1e-4, particles=1e-4, vignetting_arcmin=10.0), np.random.default_rng(5)
    images = [expose(it, np.full((N, N), S), 30.0, rng) for _ in range(50)]
    image, noise = (np.array([getattr(e, name) for e in images]) for name in ("image", "noise"))
    error = np.sqrt((noise**2).mean() / image.size)
    assert image.mean() == pytest.approx(S, abs=4 * error)
    assert (image - S).std() == pytest.approx(np.sqrt((noise**2).mean()), rel=0.05)
    weight = noise**-2.0
    assert (weight * image).sum() / weight.sum() == pytest.approx(S, abs=0.1 * noise.mean())


def test_vignetting_halves_the_photons_but_not_the_particles():
    """At ten arcmin; the mean of many images without a cluster is zero everywhere."""
    it = counter(sky=1.0, particles=1.0, vignetting_arcmin=10.0)
    out = [expose(it, np.zeros((41, 41)), 60.0, np.random.default_rng(i), 41) for i in range(200)]
    mean = np.mean([e.counts for e in out], axis=0)
    assert mean[20, 20] == pytest.approx(2e4, rel=5 / np.sqrt(200 * 2e4))
    assert mean[20, 30] == pytest.approx(1.5e4, rel=5 / np.sqrt(200 * 1.5e4))
    pulls = np.mean([e.image for e in out], axis=0) / np.mean([e.noise for e in out], axis=0) * np.sqrt(200)
    assert abs(pulls.mean()) < 5 / 41


def test_pixels_that_are_cut_out_hold_nothing():
    it = counter(particles=1.0, holes_per_deg2=200.0, hole_arcsec=60.0, field_arcmin=20.0)
    out = expose(it, np.zeros((N, N)), 30.0, np.random.default_rng(6))
    assert 0 < out.mask.mean() < 1
    assert (out.counts[~out.mask] == 0).all()
    assert out.counts[out.mask].min() > 0


def test_a_source_at_the_limit_of_an_imager_has_five_sigma():
    """Fitted with the beam: error = rms * side * sqrt(4 pi) sigma."""
    it = Imager("test", "", "r", 1.4, 23.0, 4.65)
    pixel = 1.0
    kpc = 1 / SCENE.arcsec_per_kpc
    error = it.rms(pixel, SCENE) * (pixel * kpc) * np.sqrt(4 * np.pi) * (1.4 / FWHM * kpc)
    assert -2.5 * np.log10(5 * error) + 4.65 + SCENE.distance_modulus == pytest.approx(23.0)


def test_the_margin_is_wide_enough_for_the_beam():
    """A map that goes on beyond the margin gives the same image."""
    rng, pixel = np.random.default_rng(7), 20.0
    it = bolometer(fwhm_arcsec=100.0)
    margin = int(np.ceil(it.margin_arcsec / pixel))
    wide = rng.random((N + 4 * margin,) * 2)
    near = expose(it, module.cut(wide, N + 2 * margin), pixel, np.random.default_rng(0)).image
    far = expose(it, wide, pixel, np.random.default_rng(0)).image
    np.testing.assert_allclose(near, far, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[A]\nfwhm_arcsec = 1", "kind of A"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = -1\ndepth = 1", "fwhm_arcsec of A cannot be -1"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1", "depth"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = nan", "depth of A"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = true\ndepth = 1", "fwhm_arcsec of A cannot be True"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1\nfrequency_ghz = 9000", "9000 GHz"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1\ncmb = 'no'", "cmb of A"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1\nknee = 9.0", "largest_arcmin"),
        ("[A]\nkind = 'imager'\nsource = ''\nfilter = 'q'\nfwhm_arcsec = 1\nlimit_mag = 9\nsun_mag = 4", "light_q"),
        ("[gas]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1", "as a channel is"),
        ("['A/B']\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1", "cannot be called 'A/B'"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1\ncmb = true", "maps of y"),
        ("[A]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 1\ndepth = 1\ncolour = 1", "unknown settings: colour"),
        ("[A\n", "not a file of instruments"),
        ("A = 1", "not a file of instruments"),
    ],
)
def test_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_instruments(path)


def test_own_instruments_come_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[Dish]\nkind = 'bolometer'\nsource = 'me'\nfwhm_arcsec = 30\ndepth = 2.0\nfrequency_ghz = 90\n")
    found = instruments((str(path), "Planck-y"))
    assert list(found) == ["Dish", "Planck-y"]
    assert found["Dish"].channel == "sz_90GHz"


def test_an_unknown_instrument_is_named_with_the_known():
    with pytest.raises(UserError, match=r"unknown instrument 'Hubble'.*Planck-y"):
        instruments(("Hubble",))


def test_a_cluster_at_redshift_zero_cannot_be_seen_under_an_angle():
    with pytest.raises(ValueError, match="redshift 0"):
        _ = Scene(1.0, Cosmology(), 0.0).arcsec_per_kpc

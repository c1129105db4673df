"""Fields on the sky: the power that was asked for, published levels, as many sources as there should be."""

from itertools import pairwise

import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.observe.sky import (
    ARCSEC,
    Sky,
    cmb_power,
    cut,
    filtered,
    gaussian_field,
    inside_field,
    jansky_per_microkelvin,
    multipoles,
    rms_of,
)  # fmt: skip

N, PIXEL = 128, 60.0  # pixels, arcsec


def red(l):
    """A power that falls and levels off."""
    return 3.0 * (1 + (2000 / l) ** 3)


def measured(image, pixel_arcsec):
    """P(l) of each mode that rfft2 keeps, by the definition <|n_l|^2> = P."""
    area = (len(image) * pixel_arcsec * ARCSEC) ** 2
    return np.abs(np.fft.rfft2(image) / image.size) ** 2 * area


def test_power_of_a_field_is_that_asked_for_within_three_percent():
    rng, l = np.random.default_rng(0), multipoles(N, PIXEL)
    P = np.mean([measured(gaussian_field(red, N, PIXEL, rng), PIXEL) for _ in range(150)], axis=0)
    edges = np.geomspace(l[0, 1] * 2, l.max(), 8)
    for low, high in pairwise(edges):
        inside = (l >= low) & (l < high)
        assert P[inside].mean() == pytest.approx(red(l[inside]).mean(), rel=0.03)


def test_rms_of_a_field():
    rng = np.random.default_rng(1)
    for pixels in (64, 65):
        found = np.sqrt(np.mean([gaussian_field(red, pixels, PIXEL, rng).var() for _ in range(200)]))
        assert found == pytest.approx(rms_of(red, pixels, PIXEL), rel=0.02)


def test_white_noise_of_a_depth():
    """sigma of a pixel = depth / side of the pixel."""
    depth = 7.0  # per arcmin
    assert rms_of(lambda l: np.full_like(l, (depth * 60 * ARCSEC) ** 2), N, 30.0) == pytest.approx(14.0, rel=1e-3)


def test_a_filter_multiplies_the_mode_that_it_meets():
    x = np.arange(N)
    wave = np.cos(2 * np.pi * 5 * x / N) * np.ones((N, 1))
    l = 2 * np.pi * 5 / (N * PIXEL * ARCSEC)
    out = filtered(wave, lambda l: np.exp(-l / 3000), PIXEL)
    np.testing.assert_allclose(out, wave * np.exp(-l / 3000), atol=1e-12)


def test_cmb_has_its_first_peak():
    """D_l of 5750 uK^2 at l = 220 in the universe of Planck, within what other parameters change."""
    planck = Cosmology(omega_m=0.315, omega_l=0.685, omega_b=0.0493, h=0.674, n_s=0.965)
    l = np.arange(150.0, 300.0)
    D = l * (l + 1) * cmb_power(planck)(l) / (2 * np.pi)
    assert l[D.argmax()] == pytest.approx(220, abs=4)
    assert D.max() == pytest.approx(5750, rel=0.02)


def test_conversion_to_flux_at_the_frequency_where_the_cmb_is_brightest():
    """dB/dT at 150 GHz is 398 MJy / sr / K, and greatest near 218 GHz."""
    assert jansky_per_microkelvin(150) == pytest.approx(398.4, rel=1e-3)
    nu = np.arange(150, 300)
    assert nu[np.argmax([jansky_per_microkelvin(n) for n in nu])] == pytest.approx(218, abs=1)


def sky(seed=0, pixels=N, pixel=PIXEL):
    return Sky((seed,), Cosmology(), pixels, pixel)


def test_power_of_unresolved_sources():
    """Flat C_l of both populations, D_3000 = 8.2 uK^2 at 150 GHz below 6.4 mJy; mean zero, and skewed to hot pixels."""
    maps = [sky(seed).sources(150.0, 6.4) for seed in range(80)]
    P = np.mean([measured(m, PIXEL) for m in maps], axis=0)[multipoles(N, PIXEL) > 500]
    assert P.mean() == pytest.approx(8.2 * 2 * np.pi / (3000 * 3001), rel=0.03)
    values = np.concatenate([m.ravel() for m in maps])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(values.size)
    assert ((values - values.mean()) ** 3).mean() / values.std() ** 3 > 1


def test_sources_have_their_colours():
    """Dusty galaxies shine at 220 GHz, radio galaxies at 95: D_3000 within a third of measured ones."""
    found = {}
    for ghz in (95.0, 220.0):
        P = np.mean([measured(sky(s).sources(ghz, 6.4), PIXEL)[multipoles(N, PIXEL) > 500].mean() for s in range(30)])
        found[ghz] = P * 3000 * 3001 / (2 * np.pi)
    assert found[95.0] == pytest.approx(7.0, rel=0.33)
    assert found[220.0] == pytest.approx(61.0, rel=0.33)


def test_a_deeper_survey_takes_more_sources_away():
    one = sky(3)
    bright, faint = one.sources(150.0, 20.0), one.sources(150.0, 2.0)
    assert bright.std() > 1.2 * faint.std()
    changed = np.abs(bright - faint - np.median(bright - faint)) > 1e-9
    assert 0 < changed.mean() < 0.2


def test_the_sky_is_the_same_whoever_looks():
    np.testing.assert_array_equal(sky(1).cmb, sky(1).cmb)
    assert not np.allclose(sky(1).cmb, sky(2).cmb)
    np.testing.assert_array_equal(sky(1).sources(95.0, 6.0), sky(1).sources(95.0, 6.0))
    for seed in range(5):
        few, many = (sky(seed).holes(n, 60.0, 64) for n in (50.0, 500.0))
        assert (many | ~few).all()  # what a shallow telescope cuts out, a deep one does too


def test_holes_cover_what_their_number_and_size_say():
    per_deg2, radius = 100.0, 120.0
    covered = np.mean([sky(seed).holes(per_deg2, radius, 96).mean() for seed in range(60)])
    expected = -np.expm1(-per_deg2 * np.pi * (radius / 3600) ** 2)
    assert covered == pytest.approx(expected, rel=0.06)
    assert not sky().holes(0.0, radius, N).any()


def test_a_patch_and_a_map_have_one_centre():
    for pixels in (31, 32):
        patch = Sky.around((0,), Cosmology(), pixels, PIXEL)
        assert patch.pixels >= 3 * pixels
        assert (patch.pixels - pixels) % 2 == 0


def test_the_field_is_a_circle_about_the_centre():
    inside = inside_field(40.0, N, PIXEL)
    assert inside.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    np.testing.assert_array_equal(inside, inside[::-1, ::-1])
    assert inside_field(0.0, N, PIXEL).all()


def test_cut_keeps_the_centre():
    image = np.zeros((10, 10))
    image[4:6, 4:6] = 1
    assert cut(image, 4)[1:3, 1:3].sum() == 4

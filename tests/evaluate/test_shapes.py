"""Similarity, peaks, centres and ellipticities: identical, independent and analytic maps."""

import numpy as np
import pytest

from zwicky.evaluate import shapes
from zwicky.products import aperture_mask

PIXEL = 50.0  # [kpc]


def blob(y, x, sigma=(200.0, 200.0), angle=0.0, pixels=64, pixel_kpc=PIXEL):
    """A Gaussian of these widths [kpc], the first along `angle` [deg] from x towards y, at a place [kpc]."""
    axis = shapes._axis(pixels, pixel_kpc)
    dy, dx = axis[:, None] - y, axis - x
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return np.exp(-0.5 * (((c * dx + s * dy) / sigma[0]) ** 2 + ((c * dy - s * dx) / sigma[1]) ** 2))


def white(rng, n=1, pixels=64):
    return 1.0 + 0.2 * rng.standard_normal((n, pixels, pixels))


def test_similarity_limits(rng):
    a, b = white(rng), white(rng)
    np.testing.assert_array_equal(shapes.ssim(a, a, 1.0), 1.0)
    np.testing.assert_array_equal(shapes.psnr(a, a, 1.0), np.inf)
    a, b = a - 1, b - 1  # without a common mean nothing is similar
    assert abs(shapes.ssim(a, b, 0.1)[0]) < 0.05
    assert shapes.psnr(a, b, 1.0)[0] == pytest.approx(10 * np.log10(1 / 0.08), abs=0.2)
    assert shapes.psnr(a, a + 0.1, 2.0)[0] == pytest.approx(10 * np.log10(4 / 0.01))
    assert shapes.ssim(0 * a + 1.0, 0 * a + 3.0, 1.0)[0] == pytest.approx((6 + 1e-4) / (10 + 1e-4))


def test_similarity_by_another_code(mixed_maps):
    """scikit-image 0.26 gives these for the same maps (validation/measures.py)."""
    t, m, n = mixed_maps
    assert shapes.ssim(m, t, 1.0) == pytest.approx(0.6876611854278156, rel=1e-9)
    assert shapes.psnr(m, t, 1.0) == pytest.approx(13.891630409335676, rel=1e-9)
    assert shapes.ssim(n, t, 1.0) == pytest.approx(0.04720074276928687, rel=1e-9)


def test_logarithmic_maps_are_cut():
    maps = np.array([[[0.0, -3.0, 1e-3], [1.0, 10.0, 100.0], [50.0, 1e-9, 1e3]]])
    log = shapes.log_maps(maps, maps[0] / 10)
    np.testing.assert_allclose(log[0], [[0, 0, 0], [2, 3, 4], [4 + np.log10(0.5), 0, 5]], atol=1e-12)
    assert np.isnan(shapes.log_maps(maps, np.zeros((3, 3)))).all()


@pytest.mark.parametrize("angle", [0.0, 30.0, 100.0])
def test_moments_of_an_ellipse(angle):
    full = np.ones((64, 64))
    centroid, chi = shapes.moments(blob(100.0, -250.0, (240.0, 120.0), angle)[None], full, PIXEL)
    np.testing.assert_allclose(centroid, [[100.0, -250.0]], atol=0.5)
    assert shapes.ellipticity(chi)[0] == pytest.approx(0.5, abs=2e-3)
    assert np.degrees(np.angle(chi[0])) / 2 % 180 == pytest.approx(angle, abs=0.1)


def test_ellipticity_limits(rng):
    mask = aperture_mask(64, PIXEL, 1000.0)
    _, chi = shapes.moments(np.stack([blob(0.0, 0.0), np.ones((64, 64))]), mask, PIXEL)
    np.testing.assert_allclose(shapes.ellipticity(chi), 0.0, atol=1e-6)
    centroid, chi = shapes.moments(np.zeros((1, 64, 64)), mask, PIXEL)
    assert np.isnan(centroid).all()
    assert np.isnan(shapes.ellipticity(chi)).all()
    assert shapes.ellipticity(np.array([1.0 + 0j, -1.0])) == pytest.approx(1.0)
    a, b = np.exp(2j * np.pi * rng.random((2, 20000)))
    assert shapes.angle_between(a, b).mean() == pytest.approx(45.0, abs=0.6)
    assert shapes.angle_between(a, b).max() <= 90.0
    np.testing.assert_allclose(shapes.angle_between(a, a), 0.0, atol=1e-12)
    np.testing.assert_allclose(shapes.angle_between(a, a * np.exp(2j * np.radians(70.0))), 70.0)


def test_highest_pixel():
    mask = aperture_mask(64, PIXEL, 800.0)
    maps = np.stack([blob(110.0, -320.0), blob(110.0, -320.0) + 5 * blob(1200.0, 1200.0)])
    np.testing.assert_allclose(shapes.highest(maps, mask, PIXEL), [[110.0, -320.0]] * 2, atol=1.0)
    corner = shapes.highest(blob(1575.0, -1575.0)[None], np.ones((64, 64)), PIXEL)
    np.testing.assert_allclose(corner, [[1575.0, -1575.0]], atol=1.01 * PIXEL)
    np.testing.assert_array_equal(shapes.highest(np.ones((1, 64, 64)), mask, PIXEL) % PIXEL, PIXEL / 2)
    assert np.isnan(shapes.highest(maps, 0 * mask, PIXEL)).all()


def cluster(*places):
    """A round cluster with small clumps at these places [kpc]."""
    return sum((0.8 * blob(*place, (60.0, 60.0)) for place in places), blob(0.0, 0.0, (500.0, 500.0)) + 0.02)


def test_azimuthal_mean_limits(rng):
    np.testing.assert_allclose(shapes.azimuthal_mean(np.full((9, 9), 3.0)), 3.0)
    round_ = blob(0.0, 0.0, (500.0, 500.0))
    np.testing.assert_allclose(shapes.azimuthal_mean(round_), round_, atol=0.04)  # a ring is a pixel wide
    noise = white(rng)[0]
    assert shapes.azimuthal_mean(noise).mean() == pytest.approx(noise.mean())
    assert np.corrcoef((noise - 1).ravel(), shapes.azimuthal_mean(noise).ravel())[0, 1] < 0.2


def test_peaks_are_where_they_were_put():
    mask = aperture_mask(64, PIXEL, 1400.0)
    places = np.array([[-775.0, 675.0], [875.0, 425.0]])
    found = shapes.find_peaks(shapes.smooth(cluster(*places), PIXEL), mask, PIXEL, contrast=1.1)
    np.testing.assert_allclose(found, places, atol=1.01 * PIXEL)  # the slope moves them inwards
    assert not len(shapes.find_peaks(shapes.smooth(cluster(), PIXEL), mask, PIXEL))
    assert not len(shapes.find_peaks(np.ones((64, 64)), mask, PIXEL))
    assert not len(shapes.find_peaks(shapes.smooth(cluster(*places), PIXEL), mask, PIXEL, contrast=50.0))
    assert not len(shapes.find_peaks(shapes.smooth(cluster(*places), PIXEL), 0 * mask, PIXEL, contrast=1.1))


def test_smoothing_keeps_mass_and_is_at_least_a_pixel():
    map_ = blob(0.0, 0.0, (100.0, 100.0))
    assert shapes.smooth(map_, PIXEL).sum() == pytest.approx(map_.sum(), rel=1e-6)
    _, chi = shapes.moments(shapes.smooth(map_, PIXEL)[None], np.ones((64, 64)), PIXEL)
    assert abs(chi[0]) < 1e-6
    assert shapes.smooth(map_, PIXEL).max() == pytest.approx(0.5 * np.exp(-0.03125), rel=1e-3)  # 35 kpc off
    assert shapes.smoothing_kpc(20.0) == 100.0
    assert shapes.smoothing_kpc(300.0) == 300.0


def test_matches_limits(rng):
    a, b = (rng.uniform(-1000, 1000, (4000, 2)) for _ in range(2))
    assert shapes.matched(a, a, 1e-9) == 4000
    expected = 4000 * (1 - np.exp(-4000 * np.pi * 20.0**2 / 2000.0**2))  # by chance: 1 - exp(-n pi reach^2)
    assert shapes.matched(a, b, 20.0) == pytest.approx(expected, rel=0.05)
    assert shapes.matched(a, b[:0], 20.0) == shapes.matched(a[:0], b, 20.0) == 0
    true, found = np.array([[0.0, 0.0], [0.0, 10.0]]), np.array([[0.0, 5.0], [900.0, 0.0]])
    assert shapes.matched(true, found, 6.0) == 2  # one may be the like of two
    assert shapes.matched(found, true, 6.0) == 1
    assert shapes.matched(found, true, 4.0) == 0


def test_peak_counts_limits():
    mask = aperture_mask(64, PIXEL, 1400.0)
    one, two, none = (shapes.smooth(cluster(*places), PIXEL)
                      for places in ([(-775.0, 675.0)], [(-775.0, 675.0), (875.0, 425.0)], []))  # fmt: skip
    np.testing.assert_array_equal(shapes.peak_counts(two, two, mask, PIXEL), [2, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(shapes.peak_counts(two, one, mask, PIXEL), [2, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(shapes.peak_counts(two, none, mask, PIXEL), [2, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(shapes.peak_counts(none, one, mask, PIXEL), [0, 1, 0, 0, 0, 0])
    turned = shapes.peak_counts(one, np.rot90(one), mask, PIXEL)  # turned back, it is there in one case of three
    np.testing.assert_allclose(turned, [1, 1, 0, 0, 1 / 3, 1 / 3])


def test_a_peak_a_little_too_faint_is_found():
    """A threshold that both maps must pass would call it missing."""
    mask, wide = aperture_mask(64, PIXEL, 1400.0), blob(0.0, 0.0, (1500.0, 1500.0))
    clump = blob(-775.0, 675.0, (60.0, 60.0))
    bright, faint = (shapes.smooth(wide + height * clump, PIXEL) for height in (1.8, 1.3))
    assert [len(shapes.find_peaks(map_, mask, PIXEL, 1.5)) for map_ in (bright, faint)] == [1, 0]
    np.testing.assert_array_equal(shapes.peak_counts(bright, faint, mask, PIXEL)[:4], [1, 0, 1, 0])
    np.testing.assert_array_equal(shapes.peak_counts(faint, bright, mask, PIXEL)[:4], [0, 1, 0, 1])

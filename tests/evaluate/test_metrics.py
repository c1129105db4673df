"""Every measure in its three limits: identical, independent, analytic."""

import numpy as np
import pytest

from zwicky import products
from zwicky.evaluate import metrics

PIXEL_MPC, H = 0.1, 0.7


def white(rng, n, pixels=32):
    return rng.standard_normal((n, pixels, pixels))


def powers(a, b, edges=None):
    edges = metrics.default_k_edges(a.shape[-1], PIXEL_MPC, h=H) if edges is None else edges
    return [metrics.power_spectra(x, y, PIXEL_MPC, edges, h=H) for x, y in ((a, a), (a, b), (b, b))]


@pytest.mark.parametrize("pixels", [32, 33, 64])
@pytest.mark.parametrize("pixel_mpc", [0.02, 0.1, 3.0])
def test_bins_hold_every_mode_up_to_nyquist(pixels, pixel_mpc):
    edges = metrics.default_k_edges(pixels, pixel_mpc, h=H)
    k, weights = metrics.radial_bins(pixels, pixel_mpc, edges, h=H)
    assert np.all((k > edges[:-1]) & (k < edges[1:]))
    np.testing.assert_allclose(weights.sum(0), 1.0)
    assert edges[0] < metrics.fundamental(pixels, pixel_mpc, h=H) < edges[0] * 1.001
    assert edges[-1] / 1.001 < metrics.nyquist(pixel_mpc, h=H) < edges[-1]
    if edges[0] < metrics.K_SPLIT < edges[-1]:
        assert np.isclose(edges, metrics.K_SPLIT).any()


def test_a_bin_without_modes_is_nan(rng):
    k, _ = metrics.radial_bins(8, PIXEL_MPC, [1e-3, 2e-3, 20.0], h=H)
    assert np.isnan(k[0])
    assert np.isfinite(k[1])


def test_plane_wave_has_all_its_power_at_its_wavenumber():
    pixels, n = 32, 4
    x = np.arange(pixels) / pixels
    wave = np.cos(2 * np.pi * n * x) * np.ones((pixels, 1))
    k_wave = n * metrics.fundamental(pixels, PIXEL_MPC, h=H)
    edges = np.array([0.5, 0.99, 1.01, 3.0]) * k_wave
    P = metrics.power_spectra(wave, wave, PIXEL_MPC, edges, h=H)
    modes = 4  # of |k| = 4 fundamentals: (+-4, 0), (0, +-4); the wave lives in two of them
    expected = 2 * (pixels**2 / 2) ** 2 / modes * (PIXEL_MPC / pixels) ** 2
    np.testing.assert_allclose(P, [0.0, expected, 0.0], atol=1e-12 * expected)


def test_white_noise_has_flat_power_of_its_pixel_area(rng):
    P, _, _ = powers(white(rng, 200), white(rng, 200))
    np.testing.assert_allclose(P.mean(0), PIXEL_MPC**2, rtol=0.1)


def test_cross_power_is_real_and_symmetric(rng):
    a, b = white(rng, 3), white(rng, 3)
    edges = metrics.default_k_edges(32, PIXEL_MPC, h=H)
    forward, back = (metrics.power_spectra(x, y, PIXEL_MPC, edges, h=H) for x, y in ((a, b), (b, a)))
    np.testing.assert_allclose(forward, back)


def test_weighted_b_of_samples_is_one_where_the_power_is_uncertain(rng):
    """P of truth and samples scatter by 0.4 in ln about what the image tells; the mean of sqrt(P_xx / P_tt) is 1.06."""
    told = np.exp(rng.normal(0, 1.0, (4000, 1)))
    tt = told * np.exp(rng.normal(0, 0.4, (4000, 1)))
    xx = told * np.exp(rng.normal(0, 0.4, (4000, 50))).mean(1, keepdims=True)
    assert metrics.transfer(xx, tt)[0] == pytest.approx(np.exp(3 / 8 * 0.4**2), abs=0.01)
    assert metrics.sample_transfer(xx, tt, 0.9 * told)[0] == pytest.approx(1.0, abs=0.01)
    assert metrics.sample_transfer(1.21 * xx, tt, 0.9 * told)[0] == pytest.approx(1.1, abs=0.01)


@pytest.mark.parametrize("pooled", [False, True])
def test_identical_maps_have_unit_transfer_and_correlation(rng, pooled):
    a = white(rng, 4)
    P_aa, P_ab, P_bb = powers(a, a)
    np.testing.assert_allclose(metrics.transfer(P_aa, P_bb, pooled=pooled), 1.0)
    np.testing.assert_allclose(metrics.correlation(P_ab, P_aa, P_bb, pooled=pooled), 1.0)


def test_a_map_has_a_transfer_and_correlation_of_one_with_itself():
    """To the last bit: the powers are the same numbers, and sqrt(P P) is P for correctly rounded square roots."""
    a = white(np.random.default_rng(0), 3, 64)
    P = powers(a, a)[0]
    np.testing.assert_array_equal(metrics.transfer(P, P), 1.0)
    np.testing.assert_array_equal(metrics.correlation(P, P, P), 1.0)


def test_power_by_another_code(mixed_maps):
    """powerbox 1.0.0 gives these for the same maps (validation/measures.py)."""
    t, m, _ = mixed_maps
    edges = np.array([2.0, 8.0, 16.0, 40.0])
    expected = {
        "tt": [0.000337172935, 0.000605708586, 0.00084594476], "mm": [0.00017501599, 0.000305281403, 0.000433610931],
        "mt": [0.000197316695, 0.000302442345, 0.000431943797],
    }  # fmt: skip
    found = {"tt": (t, t), "mm": (m, m), "mt": (m, t)}
    P = {name: metrics.power_spectra(a, b, PIXEL_MPC, edges, h=H) for name, (a, b) in found.items()}
    for name, values in expected.items():
        np.testing.assert_allclose(P[name], values, rtol=1e-6)
    tt, mm, mt = (np.array(expected[name]) for name in ("tt", "mm", "mt"))
    np.testing.assert_allclose(metrics.transfer(P["mm"][None], P["tt"][None]), np.sqrt(mm / tt), rtol=1e-6)
    r = metrics.correlation(P["mt"][None], P["mm"][None], P["tt"][None])
    np.testing.assert_allclose(r, mt / np.sqrt(mm * tt), rtol=1e-6)
    k = metrics.radial_bins(24, PIXEL_MPC, edges, h=H)[0]
    np.testing.assert_allclose(k, [5.503040039257, 12.567951661181, 29.787518288035], rtol=1e-9)


def test_profile_by_another_code(mixed_maps):
    """photutils 3.0.0 gives these for the same map, its pixels cut into 8 x 8 (validation/measures.py)."""
    found = products.radial_profile(mixed_maps[0], [0.0, 200.0, 550.0, 1100.0], 100.0)
    np.testing.assert_allclose(found, [1.4373314295756519, 1.5035655155027845, 1.507815031340871], rtol=1e-9)


def test_correlation_of_independent_maps_averages_to_nothing_over_bins(rng):
    P_aa, P_ab, P_bb = powers(white(rng, 40, 64), white(rng, 40, 64))
    assert abs(metrics.correlation(P_ab, P_aa, P_bb).mean()) < 0.05


@pytest.mark.parametrize("pooled", [False, True])
def test_independent_maps_have_no_correlation(rng, pooled):
    P_aa, P_ab, P_bb = powers(white(rng, 200), white(rng, 200))
    assert np.abs(metrics.correlation(P_ab, P_aa, P_bb, pooled=pooled)).max() < 0.15


@pytest.mark.parametrize("scale", [0.5, -2.0])
def test_rescaled_maps_have_its_modulus_as_transfer_and_its_sign_as_correlation(rng, scale):
    a = white(rng, 4)
    P_aa, P_ab, P_bb = powers(scale * a, a)
    np.testing.assert_allclose(metrics.transfer(P_aa, P_bb), abs(scale))
    np.testing.assert_allclose(metrics.correlation(P_ab, P_aa, P_bb), np.sign(scale))


def test_added_noise_gives_the_analytic_correlation(rng):
    t, n = white(rng, 300), white(rng, 300)
    P_mm, P_mt, P_tt = powers(t + n, t)
    np.testing.assert_allclose(metrics.correlation(P_mt, P_mm, P_tt, pooled=True), np.sqrt(0.5), atol=0.05)
    np.testing.assert_allclose(metrics.transfer(P_mm, P_tt, pooled=True), np.sqrt(2.0), atol=0.12)


def test_no_power_gives_nan_without_a_warning(rng):
    P_aa, P_ab, P_bb = powers(np.zeros((2, 32, 32)), white(rng, 2))
    assert np.isnan(metrics.correlation(P_ab, P_aa, P_bb)).all()
    np.testing.assert_array_equal(metrics.transfer(P_aa, P_bb), 0.0)


def test_scale_averages_count_each_bin_once():
    k, curve = np.array([0.5, 1.9, 2.0, 8.0, 30.0]), np.array([1.0, 3.0, 10.0, np.nan, 20.0])
    assert metrics.scale_averages(k, curve) == (2.0, 15.0)
    assert np.isnan(metrics.scale_averages(np.array([3.0]), np.array([1.0]))[0])


def posterior_powers(field):
    edges = metrics.default_k_edges(32, PIXEL_MPC, h=H)
    return metrics.posterior_powers(field.truth, field.samples, PIXEL_MPC, edges, h=H)


def test_posterior_powers_are_those_of_the_maps(posterior):
    edges = metrics.default_k_edges(32, PIXEL_MPC, h=H)
    t, x = posterior.truth[:3], posterior.samples[:3]
    P = metrics.posterior_powers(t, x, PIXEL_MPC, edges, h=H)
    m = x.mean(1)
    for got, a, b in ((P.tt, t, t), (P.mm, m, m), (P.mt, m, t)):
        np.testing.assert_allclose(got, metrics.power_spectra(a, b, PIXEL_MPC, edges, h=H))
    np.testing.assert_allclose(P.xx, metrics.power_spectra(x, x, PIXEL_MPC, edges, h=H).mean(1))
    np.testing.assert_allclose(P.xt, metrics.power_spectra(x, t[:, None], PIXEL_MPC, edges, h=H).mean(1), rtol=1e-6)


def test_calibrated_posterior_obeys_the_identities(posterior):
    P, S = posterior_powers(posterior), posterior.samples.shape[1]
    edges = metrics.default_k_edges(32, PIXEL_MPC, h=H)
    W = metrics.posterior_powers(posterior.truth, posterior.wiener[:, None], PIXEL_MPC, edges, h=H)
    r = metrics.correlation(W.mt, W.mm, W.tt, pooled=True)
    assert r.min() < 0.9  # the test is not trivial
    np.testing.assert_allclose(metrics.transfer(P.xx, P.tt, pooled=True), 1.0, atol=0.04)
    np.testing.assert_allclose(
        metrics.correlation(P.xt, P.xx, P.tt, pooled=True), metrics.expected_sample_correlation(r), atol=0.03
    )
    np.testing.assert_allclose(metrics.identity_residual(P, S), 0.0, atol=0.03)
    r_S = metrics.correlation(P.mt, P.mm, P.tt, pooled=True)
    b_S = metrics.transfer(P.mm, P.tt, pooled=True)
    np.testing.assert_allclose(r_S, metrics.expected_mean_correlation(r, S), atol=0.01)
    np.testing.assert_allclose(b_S, metrics.expected_mean_transfer(r, S), atol=0.03)


def test_debiased_power_is_that_of_the_exact_mean(posterior):
    edges = metrics.default_k_edges(32, PIXEL_MPC, h=H)
    P = metrics.posterior_powers(posterior.truth, posterior.samples[:, :5], PIXEL_MPC, edges, h=H)
    exact = metrics.power_spectra(posterior.wiener, posterior.wiener, PIXEL_MPC, edges, h=H).mean(0)
    np.testing.assert_allclose(metrics.debiased_mean_power(P, 5).mean(0), exact, rtol=0.03)
    assert (P.mm.mean(0)[-1] / exact[-1]) > 1.03


def test_an_over_confident_mean_has_a_positive_residual(posterior):
    """The data themselves as the prediction: more power than truth, so b > r."""
    x = posterior.truth[:, None] + np.random.default_rng(0).standard_normal(posterior.samples[:, :1].shape)
    P = posterior_powers(posterior._replace(samples=x))
    assert metrics.identity_residual(P)[-1] > 0.1


def test_one_sample_expectation():
    assert metrics.expected_mean_transfer(0.5, 1) == 1.0
    assert metrics.expected_mean_correlation(0.5, 1) == 0.25
    np.testing.assert_allclose(metrics.expected_mean_transfer(0.5, 10**9), 0.5)


def test_mass_error_is_zero_for_identical_and_exact_for_scaled_maps(rng):
    t = 1.0 + rng.random((5, 16, 16))
    np.testing.assert_allclose(metrics.mass_error(t, t), 0.0)
    np.testing.assert_allclose(metrics.mass_error(1.03 * t, t), 0.03)
    mask = products.aperture_mask(16, 100.0, 500.0)
    inside = np.where(mask > 0, 1.1, 5.0)
    np.testing.assert_allclose(metrics.mass_error(inside * t, t, mask), 0.1)


def test_spread_of_known_percentiles():
    assert metrics.spread(np.arange(101.0)) == (50.0, 34.0, 34.0)
    assert metrics.spread(np.array([1.0, np.nan])) == (1.0, 0.0, 0.0)
    assert np.isnan(metrics.spread(np.array([np.nan]))).all()


@pytest.mark.parametrize("pixels", [32, 33])
@pytest.mark.parametrize("radius", [170.0, 700.0, 1500.0])
def test_aperture_has_the_area_of_the_circle(pixels, radius):
    mask = products.aperture_mask(pixels, 100.0, radius)
    assert mask.sum() * 100.0**2 == pytest.approx(np.pi * radius**2, rel=0.01)
    assert mask.min() >= 0
    assert mask.max() <= 1
    np.testing.assert_array_equal(mask, mask.T)
    np.testing.assert_array_equal(mask, mask[::-1])


def test_aperture_limits():
    assert products.aperture_mask(8, 100.0, 0.0).sum() == 0.0
    assert products.aperture_mask(8, 100.0, 1e4).min() == 1.0


def test_profile_of_a_constant_and_of_a_power_law():
    edges = products.default_profile_edges(64, 50.0)
    np.testing.assert_allclose(products.radial_profile(np.full((2, 64, 64), 3.0), edges, 50.0), 3.0)
    x = (np.arange(64) - 31.5) * 50.0
    R2 = x[:, None] ** 2 + x**2
    exact = 0.5 * (edges[1:] ** 2 + edges[:-1] ** 2)  # mean of R^2 over an annulus
    np.testing.assert_allclose(products.radial_profile(R2, edges, 50.0)[2:], exact[2:], rtol=0.03)


def test_profile_conserves_mass():
    rng = np.random.default_rng(0)
    image, edges = rng.random((32, 32)), np.array([0.0, 200.0, 700.0, 1400.0])
    area = np.diff([products.aperture_mask(32, 100.0, e).sum() for e in edges])
    inside = (image * products.aperture_mask(32, 100.0, edges[-1])).sum()
    assert (products.radial_profile(image, edges, 100.0) * area).sum() == pytest.approx(inside)


def test_profile_differences_limits(rng):
    t = 1.0 + rng.random((50, 6))
    for d in metrics.profile_differences(t, t):
        np.testing.assert_allclose(d, 0.0)
    mean, spread = metrics.profile_differences(1.1 * t, t)
    np.testing.assert_allclose([mean, spread], 0.1)
    mean, spread = metrics.profile_differences(np.broadcast_to(t.mean(0), t.shape), t)
    np.testing.assert_allclose(mean, 0.0, atol=1e-12)
    np.testing.assert_allclose(spread, -1.0)


def test_standardised_error_limits(rng):
    t = rng.standard_normal((10, 20))
    assert not metrics.standardised_error(t, t, np.ones_like(t)).any()
    assert np.isnan(metrics.standardised_error(t + 1, t, np.zeros_like(t))).all()
    z = metrics.standardised_error(t + 2 * rng.standard_normal(t.shape), t, np.full(t.shape, 2.0))
    assert z.std() == pytest.approx(1.0, abs=0.15)


def test_crps_limits(rng):
    t = rng.standard_normal((4000,))
    identical = np.repeat(t[:, None], 5, axis=1)
    np.testing.assert_allclose(metrics.crps(identical, t), 0.0, atol=1e-12)
    np.testing.assert_allclose(metrics.crps(identical + 0.7, t), 0.7)
    np.testing.assert_allclose(metrics.crps(identical[:, :1] + 0.7, t), 0.7)
    for S in (2, 3, 20):  # fair: truth and samples from one normal score 1/sqrt(pi) for any S
        assert metrics.crps(rng.standard_normal((4000, S)), t).mean() == pytest.approx(1 / np.sqrt(np.pi), abs=0.04)


def test_crps_is_the_double_sum(rng):
    x, t = rng.random((3, 7, 2)), rng.random((3, 2))
    pairs = np.abs(x[:, :, None] - x[:, None]).sum((1, 2)) / (2 * 7 * 6)
    np.testing.assert_allclose(metrics.crps(x, t), np.abs(x - t[:, None]).mean(1) - pairs)


def test_mass_slopes_limits(rng):
    M = np.exp(rng.normal(34.0, 0.5, 4000))
    np.testing.assert_allclose(metrics.mass_slopes(M, 1.2 * M), 1.0)
    np.testing.assert_allclose(metrics.mass_slopes(M, rng.permutation(M)), 0.0, atol=0.06)
    shrink = 0.8  # posterior mean of a Gaussian in log mass: slope 0.8 at fixed truth, 1 at fixed prediction
    M_hat = np.exp(34.0 + shrink * (np.log(M) - 34.0 + rng.normal(0.0, 0.25, M.size)))
    np.testing.assert_allclose(metrics.mass_slopes(M, M_hat), [0.8, 1.0], atol=0.03)
    assert np.isnan(metrics.mass_slopes(M[:1], M[:1])).all()


def test_bootstrap_keeps_projections_together(rng):
    ids = np.repeat(np.arange(40), 3)
    values = np.repeat(rng.standard_normal(40), 3)
    error = metrics.bootstrap_over_clusters(values, ids, np.mean, 2000, rng).std()
    assert error == pytest.approx(values.std() / np.sqrt(40), rel=0.1)
    counts = metrics.bootstrap_over_clusters(ids, ids, lambda v: np.bincount(v, minlength=40), 20, rng)
    assert not (counts % 3).any()


def test_bootstrap_of_identical_values_has_no_error(rng):
    replicates = metrics.bootstrap_over_clusters(np.ones((6, 2)), list("aabbcc"), lambda v: v.mean(0), 10, rng)
    np.testing.assert_array_equal(replicates, np.ones((10, 2)))


def input_powers(t, images):
    """P_it (N, I, K), P_ij (N, I, I, K) and P_tt (N, K)."""
    edges = np.array([2.0, 10.0, 20.0, 45.0])

    def P(a, b):
        return metrics.power_spectra(a, b, PIXEL_MPC, edges, h=H)

    P_it = np.stack([P(i, t) for i in images], axis=1)
    return P_it, np.stack([[P(i, j) for j in images] for i in images]).transpose(2, 0, 1, 3), P(t, t)


def test_linear_correlation_limits(rng):
    t, n, other = white(rng, 300), white(rng, 300), white(rng, 300)
    one = metrics.linear_correlation(*input_powers(t, [1e-5 * t]))
    np.testing.assert_allclose(one, 1.0)
    assert metrics.linear_correlation(*input_powers(t, [other])).max() < 0.1
    noisy = metrics.linear_correlation(*input_powers(t, [3e8 * (t + n)]))
    np.testing.assert_allclose(noisy, np.sqrt(0.5), atol=0.05)
    P_it, P_ij, P_tt = input_powers(t, [t + n])
    np.testing.assert_allclose(
        metrics.linear_correlation(P_it, P_ij, P_tt), metrics.correlation(P_it[:, 0], P_ij[:, 0, 0], P_tt)
    )


def test_linear_correlation_of_two_images(rng):
    """Two images of equal noise are as good as one of half the variance; the noise itself takes all of it away."""
    t, n, other = white(rng, 300), white(rng, 300), white(rng, 300)
    two = metrics.linear_correlation(*input_powers(t, [t + n, t + other]))
    np.testing.assert_allclose(two, np.sqrt(1 / 1.5), atol=0.05)
    np.testing.assert_allclose(metrics.linear_correlation(*input_powers(t, [t + n, n])), 1.0, atol=1e-6)
    twice = metrics.linear_correlation(*input_powers(t, [t + n, 2 * (t + n)]))  # a singular matrix
    np.testing.assert_allclose(twice, metrics.linear_correlation(*input_powers(t, [t + n])), atol=1e-6)
    dark = metrics.linear_correlation(*input_powers(t, [t + n, 0 * n]))
    np.testing.assert_allclose(dark, metrics.linear_correlation(*input_powers(t, [t + n])), atol=1e-6)


def test_terciles_and_means_in_bins():
    x = np.array([5.0, 1.0, np.nan, 3.0, 2.0, 4.0, 6.0])
    edges, index = metrics.terciles(x)
    np.testing.assert_allclose(edges[[0, -1]], [1.0, 6.0])
    np.testing.assert_array_equal(index, [2, 0, -1, 1, 0, 1, 2])
    np.testing.assert_allclose(metrics.binned_means(2 * x, index, 3), [3.0, 7.0, 11.0])
    assert np.isnan(metrics.binned_means(x, index, 4)[3])
    edges, index = metrics.terciles(np.array([np.nan, np.inf]))
    assert np.isnan(edges).all()
    assert (index == -1).all()


def test_signal_to_noise_limits(rng):
    sigma = 0.5 + rng.random((100, 100))
    noise = sigma * rng.standard_normal((100, 100))
    assert metrics.signal_to_noise(noise, sigma) < 3 * (2 * 1e4) ** 0.25  # variance of the sum of squares: 2 a pixel
    assert metrics.signal_to_noise(0 * noise, sigma) == 0.0
    signal = 2.0 * np.ones((100, 100))
    expected = np.sqrt(((signal / sigma) ** 2).sum())
    assert metrics.signal_to_noise(signal + noise, sigma) == pytest.approx(expected, rel=0.02)
    sigma[0], signal[1] = 0.0, np.nan
    expected = np.sqrt(((2.0 / sigma[2:]) ** 2).sum())
    assert metrics.signal_to_noise(signal + noise, sigma) == pytest.approx(expected, rel=0.02)

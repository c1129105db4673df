"""Calibration measures on exact posteriors, and on posteriors that are wrong in a known way."""

import numpy as np
import pytest

from zwicky.evaluate import calibration, metrics


@pytest.mark.parametrize("S", [2, 5, 50])
def test_coverage_target_is_exact(rng, S):
    t, x = rng.standard_normal(40000), rng.standard_normal((40000, S))
    assert calibration.coverage(x, t) == pytest.approx(calibration.coverage_target(S), abs=0.008)


def test_coverage_target_values():
    assert calibration.coverage_target(50) == pytest.approx(0.673, abs=5e-4)
    assert calibration.coverage_target(10**6) == pytest.approx(0.6827, abs=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        calibration.coverage_target(1)


def test_coverage_limits(rng):
    x = rng.standard_normal((500, 50))
    assert calibration.coverage(x, x.mean(1)) == 1.0
    assert calibration.coverage(x, x.mean(1) + 10.0) == 0.0
    assert calibration.coverage(x[:, :1], x[:, 0]) == 0.0  # no width


def test_exact_posterior_is_calibrated(posterior, rng):
    truth, samples, _ = posterior
    S = samples.shape[1]
    assert calibration.coverage(samples, truth) == pytest.approx(calibration.coverage_target(S), abs=0.01)
    u = calibration.pit(samples, truth, rng)
    assert calibration.max_deviation(calibration.coverage_at_levels(u)) < 0.02
    counts = calibration.rank_histogram(u)
    np.testing.assert_allclose(counts / counts.mean(), 1.0, atol=0.05)
    assert calibration.rank_chi2(calibration.rank_histogram(u[:, ::8, ::8]))[1] > 1e-3
    z = metrics.standardised_error(samples.mean(1), truth, metrics.posterior_std(samples))
    assert z.std() == pytest.approx(1.0, abs=0.06)


def test_a_posterior_too_wide_is_flagged(wide_posterior, rng):
    """20% too wide: coverage of 1 sigma is P(|T| < 1.2 / sqrt(1 + 1.44/S)), the histogram a dome."""
    truth, samples, _ = wide_posterior
    S = samples.shape[1]
    assert calibration.coverage(samples, truth) == pytest.approx(0.762, abs=0.015)
    assert calibration.coverage(samples, truth) > calibration.coverage_target(S) + 0.06
    u = calibration.pit(samples, truth, rng)
    assert calibration.max_deviation(calibration.coverage_at_levels(u)) > 0.06
    counts = calibration.rank_histogram(u)
    assert counts[9:11].mean() > 1.5 * counts[[0, -1]].mean()
    assert calibration.rank_chi2(calibration.rank_histogram(u[:, ::8, ::8]))[1] < 1e-3


@pytest.mark.parametrize("S", [1, 4, 50])
def test_coverage_at_levels_needs_no_correction_for_few_samples(rng, S):
    u = calibration.pit(rng.standard_normal((20000, S)), rng.standard_normal(20000), rng)
    assert calibration.max_deviation(calibration.coverage_at_levels(u)) < 0.02


def test_ranks_limits(rng):
    x = rng.random((2000, 9))
    assert calibration.pit(x, np.full(2000, -1.0), rng).max() < 0.1
    assert calibration.pit(x, np.full(2000, 2.0), rng).min() >= 0.9
    ties = calibration.pit(np.zeros((2000, 9)), np.zeros(2000), rng)
    assert calibration.rank_chi2(calibration.rank_histogram(ties))[1] > 1e-3
    assert calibration.rank_histogram(ties).sum() == 2000


def test_rank_chi2_of_flat_and_of_peaked_counts():
    assert calibration.rank_chi2(np.full(10, 7)) == (0.0, 1.0)
    chi2, p = calibration.rank_chi2(np.array([20, 0]))
    assert chi2 == pytest.approx(20.0)
    assert p < 1e-4


def gaussian_vectors(rng, n=1500, s=50, D=4, widen=1.0):
    mean = rng.standard_normal((n, D))
    return mean + rng.standard_normal((n, D)), mean[:, None] + widen * rng.standard_normal((n, s, D))


def test_tarp_of_an_exact_posterior_is_the_diagonal(rng):
    truth, samples = gaussian_vectors(rng)
    assert calibration.max_deviation(calibration.tarp(samples, truth, rng)) < calibration.deviation_limit(1500) * 1.3


@pytest.mark.parametrize("widen", [0.5, 1.5])
def test_tarp_flags_a_wrong_width(rng, widen):
    truth, samples = gaussian_vectors(rng, widen=widen)
    assert calibration.max_deviation(calibration.tarp(samples, truth, rng)) > 2 * calibration.deviation_limit(1500)


def test_tarp_on_the_field_posterior(posterior, rng):
    truth, samples, _ = posterior
    vectors = truth[:, ::8, ::8].reshape(64, -1), samples[:, :, ::8, ::8].reshape(64, 50, -1)
    curve = calibration.tarp(vectors[1], vectors[0], rng)
    assert calibration.max_deviation(curve) < calibration.deviation_limit(64) * 1.2


def test_tarp_of_identical_samples_is_calibrated_by_ties(rng):
    truth = rng.standard_normal((3000, 2))
    curve = calibration.tarp(np.repeat(truth[:, None], 5, axis=1), truth, rng)
    assert calibration.max_deviation(curve) < 0.04


@pytest.mark.parametrize(
    ("width", "expected"),
    [(1.0, [0.29, 0.36, 0.43, 0.50, 0.56, 0.65, 0.77]), (0.4, [0.28, 0.29, 0.33, 0.39, 0.42, 0.44, 0.47])],
)
def test_tarp_by_another_code(rng, quadratic, width, expected):
    """tarp 0.1.1 gives these with the same reference points, for levels j / S that are j / (S + 1) here."""
    truth, samples = quadratic(4, (100, 2)), 0.5 + width * (quadratic(3, (100, 8, 2)) - 0.5)
    levels = np.arange(1, 8) / 9 + 1e-12
    found = calibration.tarp(samples, truth, rng, levels, reference=quadratic(5, (100, 2)))
    np.testing.assert_allclose(found, expected, atol=1e-12)

"""Moments of the first samples of a posterior."""

import numpy as np
import pytest

from zwicky.evaluate.convergence import prefix_means, prefix_sizes, prefix_variances


@pytest.mark.parametrize(
    ("n", "sizes"), [(1, [1]), (2, [1, 2]), (7, [1, 2, 5, 7]), (50, [1, 2, 5, 10, 20, 50]), (12, [1, 2, 5, 10, 12])]
)
def test_sizes_end_with_all_samples(n, sizes):
    assert prefix_sizes(n) == sizes


def test_moments_are_those_of_the_first_samples(rng):
    x = 1e8 + rng.standard_normal((20, 3, 4))
    sizes = [1, 2, 5, 20]
    np.testing.assert_allclose(prefix_means(x, sizes), [x[:n].mean(0) for n in sizes])
    variances = prefix_variances(x, sizes)
    assert np.isnan(variances[0]).all()
    np.testing.assert_allclose(variances[1:], [x[:n].var(0, ddof=1) for n in sizes[1:]], rtol=1e-6)


def test_identical_samples_have_no_variance(rng):
    x = np.repeat(1e8 * rng.random((1, 5)), 10, axis=0)
    np.testing.assert_allclose(prefix_variances(x, [2, 5, 10]), 0.0, atol=1e-12)


def test_error_of_the_mean_is_variance_times_one_plus_one_over_n(rng):
    x, t = rng.standard_normal((50, 40000)), rng.standard_normal(40000)
    sizes = prefix_sizes(50)
    squared = ((prefix_means(x, sizes) - t) ** 2).mean(1)
    np.testing.assert_allclose(squared, 1 + 1 / np.array(sizes), rtol=0.03)
    np.testing.assert_allclose(prefix_variances(x, sizes)[1:].mean(1), 1.0, rtol=0.03)

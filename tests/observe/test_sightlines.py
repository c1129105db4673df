"""Uniform rotations, sightlines flat in log mass, splits that never share a cluster."""

import numpy as np
import pytest

from zwicky.observe.sightlines import (
    cardinal_rotations,
    flat_in_log_mass,
    random_rotations,
    split_by_cluster,
    spread_rotations,
)


def test_rotations_are_proper_and_uniform():
    R = random_rotations(20000, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-12)
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)
    np.testing.assert_allclose(R.mean(0), 0, atol=5 / np.sqrt(3 * len(R)))
    np.testing.assert_allclose((R**2).mean(0), 1 / 3, atol=0.012)
    angle = np.arccos(np.clip((np.trace(R, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert angle.mean() == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.02)  # density (1 - cos angle) / pi


def test_rotations_follow_the_seed_and_start_with_the_identity_if_asked():
    one, two = (random_rotations(4, np.random.default_rng(5), first_identity=True) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[0], np.eye(3))
    assert random_rotations(0, np.random.default_rng(5), first_identity=True).shape == (0, 3, 3)


def test_cardinal_rotations_look_along_each_axis():
    R = cardinal_rotations()
    np.testing.assert_allclose(np.linalg.det(R), 1)
    np.testing.assert_array_equal(R @ np.array([1.0, 2.0, 3.0]), [[1, 2, 3], [2, 3, 1], [3, 1, 2]])


def test_spread_rotations_look_from_evenly_spread_sides():
    R = spread_rotations(29)
    np.testing.assert_allclose(np.linalg.det(R), 1)
    seen = R[:, 2]  # what each rotation brings to the line of sight
    z = (np.arange(29) + 0.5) / 29
    np.testing.assert_allclose(seen[:, 2], z, atol=1e-12)
    apart = np.abs(seen @ seen.T)  # a direction and its opposite count as one
    np.fill_diagonal(apart, 0)
    nearest = np.rad2deg(np.arccos(apart.max(1)))
    assert nearest.min() > 0.5 * np.rad2deg(np.sqrt(2 * np.pi / 29))  # random ones: 0.1
    assert nearest.max() < 1.5 * np.rad2deg(np.sqrt(2 * np.pi / 29))


def test_sightlines_fill_every_bin_alike():
    rng = np.random.default_rng(0)
    low = np.repeat([14.0, 14.1, 14.2, 14.3], (500, 90, 30, 2))
    masses = 10 ** (low + rng.uniform(0, 0.1, len(low)))
    counts = flat_in_log_mass(masses, per_bin=100, cap=20, rng=1)
    bins = np.floor(np.log10(masses) / 0.1 + 1e-9).astype(int) - 140
    np.testing.assert_array_equal(np.bincount(bins, counts), [100, 100, 100, 40])  # the last bin meets the cap
    for b, (low, high) in enumerate([(0, 1), (1, 2), (3, 4), (20, 20)]):
        assert (counts[bins == b].min(), counts[bins == b].max()) == (low, high)
    np.testing.assert_array_equal(counts, flat_in_log_mass(masses, per_bin=100, cap=20, rng=1))
    assert (counts != flat_in_log_mass(masses, per_bin=100, cap=20, rng=2)).any()
    assert len(flat_in_log_mass([], 10, 10)) == 0


def test_splits_hold_their_shares_at_every_mass():
    masses = 10 ** np.random.default_rng(0).uniform(14, 15.3, 200)
    split = split_by_cluster(masses, rng=3)
    assert [(split == name).sum() for name in ("train", "validation", "test")] == [160, 20, 20]
    by_mass = split[np.argsort(masses)].reshape(-1, 10)
    assert all((block == "test").sum() == 1 and (block == "validation").sum() == 1 for block in by_mass)


def test_splits_follow_the_seed_and_the_cluster_not_its_place():
    masses = 10 ** np.random.default_rng(0).uniform(14, 15.3, 57)
    order = np.random.default_rng(1).permutation(57)
    split = split_by_cluster(masses, rng=3)
    np.testing.assert_array_equal(split, split_by_cluster(masses, rng=3))
    np.testing.assert_array_equal(split[order], split_by_cluster(masses[order], rng=3))
    assert set(split_by_cluster(masses, (0.5, 0.5, 0.0))) == {"train", "validation"}
    assert len(split_by_cluster([])) == 0


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        split_by_cluster([1e14], (0.8, 0.1, 0.2))
    with pytest.raises(ValueError, match="positive"):
        split_by_cluster([0.0])
    with pytest.raises(ValueError, match="cap"):
        flat_in_log_mass([1e14], 10, -1)

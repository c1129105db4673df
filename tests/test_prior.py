"""Priors of the mass: exact where the answer is known, and posteriors that follow."""

from dataclasses import replace

import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.prior import abundance, learnt, weights
from zwicky.reconstruct import load_model
from zwicky.train import train

Z0 = (Cosmology(), 0.0)


@pytest.fixture(scope="module")
def known():
    """Masses of halos three quarters of those in the map, denser towards low masses."""
    rng = np.random.default_rng(0)
    ln_m = np.log(1e14) + 2 * rng.random(20000) ** 2
    return learnt(ln_m + np.log(4 / 3), ln_m)


def test_the_relation_of_masses_is_learnt(known):
    assert known["slope"] == pytest.approx(1, abs=1e-6)
    assert known["offset"] == pytest.approx(np.log(0.75), abs=1e-4)
    assert sum(d * w for d, w in zip(known["density"], np.diff(known["edges"]), strict=True)) == pytest.approx(1)


def test_the_training_prior_weighs_nothing(known):
    assert (weights("training", np.linspace(32, 34, 5), known, *Z0) == 1).all()


def test_flat_weights_make_the_training_set_flat(known):
    rng = np.random.default_rng(1)
    ln_m = np.log(1e14) + 2 * rng.random(200000) ** 2
    w = weights("flat", ln_m + np.log(4 / 3), known, *Z0)
    counts, _ = np.histogram(ln_m - np.log(1e14), np.linspace(0.25, 1.75, 7), weights=w)
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.08)


def test_clusters_are_as_many_as_in_hyper():
    """6,233 clusters above M200m = 1e14 Msun in (500 Mpc/h)^3 (Hsu et al. 2025), and far fewer at z = 1."""
    ln_m = np.linspace(np.log(1e14), np.log(5e15), 300)
    counts = [np.trapezoid(abundance(Cosmology(), np.exp(ln_m), z), ln_m) * (500 / 0.7) ** 3 for z in (0.0, 1.0)]
    assert counts[0] == pytest.approx(6233, rel=0.1)
    assert counts[1] < 0.2 * counts[0]


def test_an_unknown_prior_is_refused(known):
    with pytest.raises(ValueError, match="prior must be one of"):
        weights("magic", np.zeros(1), known, *Z0)


def test_the_posterior_follows_its_prior(map_file, tmp_path, tiny_config, observation, model):
    mine = load_model(train(map_file, tmp_path / "model", replace(tiny_config, mass=True, steps=2)))
    options = {"redshift": 0.1, "pixel_kpc": 200.0, "n": 60, "steps": 2}
    masses = {p: mine.sample(observation, prior=p, **options).mass("gas") for p in ("training", "mass_function")}
    assert np.median(masses["mass_function"]) < np.median(masses["training"])
    with pytest.raises(ValueError, match="masses apart"):
        model.sample(observation, prior="flat", **options)

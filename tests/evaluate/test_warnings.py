"""Shares and ROC of the warnings of outliers: known answers."""

import numpy as np
import pytest
from scipy.stats import norm

from zwicky.dataset.store import open_maps
from zwicky.evaluate.outliers import Cases, area, judge, roc, shares
from zwicky.reconstruct import add_reference, load_model
from zwicky.train import train


def test_roc_of_two_gaussians():
    """Two unit normals d apart: caught = Phi(Phi^-1(alarms) + d), area Phi(d / sqrt 2); scores fall with distance."""
    rng, d = np.random.default_rng(1), 1.5
    like, other = norm.sf(rng.normal(size=4000)), norm.sf(rng.normal(d, size=3000))
    alarms, caught = roc(like, other)
    assert (alarms[0], caught[0], alarms[-1], caught[-1]) == (0, 0, 1, 1)
    assert (np.diff(alarms) >= 0).all()
    at = np.array([0.05, 0.1, 0.3])
    np.testing.assert_allclose(np.interp(at, alarms, caught), norm.cdf(norm.ppf(at) + d), atol=0.03)
    assert area(like, other) == pytest.approx(norm.cdf(d / np.sqrt(2)), abs=0.015)
    assert area(like, other) == pytest.approx(np.sum(np.diff(alarms) * (caught[1:] + caught[:-1]) / 2), abs=1e-9)


def test_area_at_its_limits():
    like = np.array([0.2, 0.5, 0.9])
    assert area(like, like) == 0.5
    assert area(like, like - 1) == 1
    assert area(like, like + 1) == 0
    assert area(like, np.full(4, 0.5)) == 0.5


def test_shares_and_their_errors():
    """Independent clusters: errors are binomial. All sightlines of a cluster alike: they count as one."""
    rng = np.random.default_rng(2)
    score, pull = rng.random(1000), 6 * rng.random(1000)
    found = shares(Cases(score, pull, np.arange(1000)), 0.2, rng)
    assert found["caught"] == pytest.approx((np.mean(score < 0.2), np.sqrt(0.16 / 1000)), rel=0.15)
    assert found["failed"] == pytest.approx((np.mean(pull > 3), np.sqrt(0.25 / 1000)), rel=0.15)
    assert found["caught_failed"] == pytest.approx((np.mean(score[pull > 3] < 0.2), np.sqrt(0.16 / 500)), rel=0.15)
    many = Cases(*(np.repeat(v, 10) for v in (score, pull, np.arange(1000))))
    assert shares(many, 0.2, rng)["caught"][1] == pytest.approx(found["caught"][1], rel=0.15)


def test_without_failures_there_is_no_share_of_them():
    found = shares(Cases(np.array([0.05, 0.5]), np.zeros(2), np.arange(2)), 0.1, np.random.default_rng(3))
    assert found["caught"][0] == 0.5
    assert found["failed"] == (0, 0)
    assert np.isnan(found["caught_failed"]).all()


def test_sightlines_are_judged(map_file, more_maps, tiny_config, tmp_path):
    """Error of mass in standard deviations: a truth of 100 times the mass is off, and the score does not see it."""
    folder = train(map_file, tmp_path / "tiny", tiny_config)
    add_reference(folder, more_maps, samples=2)
    model, maps = load_model(folder), open_maps(map_file)
    rows = maps.rows("test")[:3]
    inputs, truth = ({c: maps.read(c, rows) for c in names} for names in (model.config.inputs, model.config.targets))
    about = maps.halo["r200m"][rows], maps.cluster[rows], maps.redshift
    cases = judge(model, inputs, truth, *about, n=4)
    off = judge(model, inputs, {c: 100 * t for c, t in truth.items()}, *about, n=4)
    np.testing.assert_array_equal(cases.score, off.score)
    assert (cases.score > 0).all()
    assert (cases.score <= 1).all()
    assert (off.pull > cases.pull).all()
    assert cases.pull.shape == (3,)
    np.testing.assert_array_equal(cases.cluster, maps.cluster[rows])

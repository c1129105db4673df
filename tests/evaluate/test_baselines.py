"""Baselines: exact where the answer is known, calibrated where they claim to be."""

import json

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.dataset.store import MapWriter, open_maps
from zwicky.evaluate.baselines import BASELINES, fit_baseline
from zwicky.io import UserError

P, UNITS = 16, {"gas": "Msun / kpc2", "dark_matter": "Msun / kpc2", "compton_y": "", "xray": "erg / (s cm2)"}
TARGETS, INPUTS = ("gas", "dark_matter"), ("compton_y", "xray")


def write(path, channels, split):
    """A set of these channels {name: (N, P, P)}."""
    n = len(split)
    with h5py.File(path, "w") as file:
        writer = MapWriter(file, n, P, {name: UNITS[name] for name in channels})
        for i in range(n):
            writer.append({name: maps[i] for name, maps in channels.items()}, np.eye(3))
        halo = {"m200m": np.full(n, 3e14), "r200m": np.full(n, 1500.0), "r500c": np.full(n, 700.0)}
        writer.finish({"cluster": np.arange(n), "split": np.asarray(split)}, halo, {
            "pixel_kpc": 200.0, "depth_kpc": 3200.0, "redshift": 0.0, "version": "0", "config": "{}",
            "cosmology": json.dumps(Cosmology().as_dict()),
        })  # fmt: skip
    return open_maps(path)


def coloured(rng, n, slope):
    """Gaussian fields of unit variance, (n, P, P)."""
    k = np.hypot(np.fft.fftfreq(P, 1 / P)[:, None], np.fft.rfftfreq(P, 1 / P))
    k[0, 0] = 1
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((n, P, P))) * k ** (slope / 2), s=(P, P))
    return field / field.std()


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    """y = gas + noise, X-rays = gas^2: the one noisy, the root of the other exact; dark matter is half gas."""
    rng = np.random.default_rng(0)
    gas = 10 + coloured(rng, 900, -3)
    dark = 5 * gas + coloured(rng, 900, -1)
    y = gas + 0.5 * rng.standard_normal(gas.shape)
    split = np.repeat([0, 2], [700, 200])
    channels = {"gas": gas, "dark_matter": dark, "compton_y": y, "xray": gas**2}
    return write(tmp_path_factory.mktemp("linear") / "maps.h5", channels, split)


def images(maps, row, names):
    return {name: maps.read(name, np.array([row]))[0] for name in names}


def test_the_filter_is_exact_where_an_input_is(linear):
    filter_ = fit_baseline("wiener", linear, TARGETS, INPUTS)
    row = int(linear.rows("test")[0])
    x = filter_.sample(images(linear, row, INPUTS), 4, np.random.default_rng(0))
    np.testing.assert_allclose(x["gas"], np.broadcast_to(linear.read("gas", np.array([row])), (4, P, P)), atol=0.01)


def test_the_filter_is_wieners(linear):
    """Of one noisy input: W = P / (P + N), and a posterior as wide as its errors."""
    filter_ = fit_baseline("wiener", linear, ("gas",), ("compton_y",))
    rows = linear.rows("test")
    truth = linear.read("gas", rows)
    rng = np.random.default_rng(1)
    x = np.stack([filter_.sample(images(linear, int(r), ("compton_y",)), 20, rng)["gas"] for r in rows])
    power = np.abs(np.fft.rfft2(linear.read("gas", linear.rows("train")) - 10)).astype(float) ** 2
    expected = power.mean(0) / (power.mean(0) + 0.25 * P**2)
    assert np.median(np.abs(filter_.weight[0, 0] / expected - 1)) < 0.1
    error = truth - x.mean(1)
    assert error.std() == pytest.approx(x.std(1, ddof=1).mean() * np.sqrt(1 + 1 / 20), rel=0.03)
    assert error.std() < 0.7 * 0.5


def test_targets_keep_their_covariance(linear):
    """Samples of gas and dark matter, both hidden behind noise, move together as the truths do."""
    filter_ = fit_baseline("wiener", linear, TARGETS, ("compton_y",))
    x = filter_.sample(images(linear, 800, ("compton_y",)), 400, np.random.default_rng(0))
    d = {name: (maps - maps.mean(0)).reshape(400, -1) for name, maps in x.items()}
    slope = (d["gas"] * d["dark_matter"]).sum() / (d["gas"] ** 2).sum()
    assert slope == pytest.approx(5, rel=0.05)


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """Round clusters whose amplitude goes with the 0.6 power of the total of y, with scatter of 0.1 in ln."""
    rng = np.random.default_rng(2)
    n = 600
    x = np.arange(P) - (P - 1) / 2
    shape = 1 / (1 + (np.hypot(x[:, None], x) / 3) ** 2)
    ln_y = rng.uniform(-1, 1, n)
    gas = 1e6 * np.exp(0.6 * ln_y + 0.1 * rng.standard_normal(n))[:, None, None] * shape
    y = 1e-5 * np.exp(ln_y)[:, None, None] * shape
    channels = {"gas": gas, "dark_matter": 6 * gas, "compton_y": y, "xray": y**2}
    return write(tmp_path_factory.mktemp("scaled") / "maps.h5", channels, np.repeat([0, 2], [400, 200])), shape


def test_the_scaling_relation_knows_the_law_and_its_scatter(scaled):
    maps, shape = scaled
    relation = fit_baseline("scaling_sz", maps, TARGETS, INPUTS)
    rows, rng = maps.rows("test"), np.random.default_rng(0)
    x = np.stack([relation.sample(images(maps, int(r), ("compton_y",)), 50, rng)["gas"] for r in rows])
    truth = maps.read("gas", rows)
    M, M_x = np.log(truth.sum((1, 2))), np.log(x.sum((2, 3)))
    assert M_x.std(1).mean() == pytest.approx(0.1, rel=0.1)
    assert np.std(M - M_x.mean(1)) == pytest.approx(0.1, rel=0.1)
    assert np.mean(np.abs(M - M_x.mean(1)) < M_x.std(1)) == pytest.approx(0.68, abs=0.1)
    r = np.arange(P) - (P - 1) / 2
    ring = np.hypot(r[:, None], r).astype(int).ravel()  # one pixel wide, as it paints them
    painted, true = (np.bincount(ring, image.ravel()) / np.bincount(ring) for image in (x[0, 0], shape))
    np.testing.assert_allclose(painted / painted[0], true / true[0], rtol=1e-3)


@pytest.mark.parametrize("name", BASELINES)
def test_a_set_without_its_channels_is_refused(name, scaled, tmp_path):
    maps = write(tmp_path / "maps.h5", {"gas": np.ones((3, P, P))}, [0, 0, 2])
    with pytest.raises(UserError, match="lacks"):
        fit_baseline(name, maps, TARGETS, INPUTS)


@pytest.mark.parametrize("name", BASELINES)
def test_a_set_without_training_rows_is_refused(name, tmp_path):
    maps = write(tmp_path / "maps.h5", {c: np.ones((3, P, P)) for c in UNITS}, [2, 2, 2])
    with pytest.raises(UserError, match="no training rows"):
        fit_baseline(name, maps, TARGETS, INPUTS)

"""Statistics of rows: what a perfect, an independent and an exactly known prediction must give."""

import numpy as np
import pytest

from zwicky.evaluate import statistics
from zwicky.evaluate.battery import evaluate_channel
from zwicky.evaluate.convergence import prefix_sizes
from zwicky.evaluate.statistics import Bootstrap

PIXEL_KPC = 100.0
N, S = 400, 50


def evaluate(truth, samples, **options):
    n = len(truth)
    options = {"m200m": np.geomspace(2.5e14, 9e14, n), "n_bootstrap": 20, **options}
    return evaluate_channel(
        truth, samples, pixel_kpc=PIXEL_KPC, h=0.7, r200m_kpc=np.full(n, 1400.0), r500c_kpc=np.full(n, 700.0),
        cluster_ids=np.arange(n), rng=np.random.default_rng(0), **options,
    )["bins"]["all"]  # fmt: skip


@pytest.fixture(scope="module")
def boot():
    return Bootstrap(np.arange(N) // 2, 50, np.random.default_rng(0))


@pytest.fixture(scope="module")
def mass_rows():
    """Masses of a calibrated posterior with 10% of scatter, log M normal with a width of 0.5, in three apertures."""
    rng = np.random.default_rng(5)
    prior, scatter = 0.5, 0.1
    ln_M = rng.normal(33.5, prior, (N, 1))
    data = ln_M + scatter * rng.standard_normal((N, 1))
    weight = prior**2 / (prior**2 + scatter**2)
    mean, width = 33.5 + weight * (data - 33.5), np.sqrt(weight) * scatter
    x = np.exp(mean + width * rng.standard_normal((N, S)))
    rows = {"mass": np.exp(ln_M), "mass_pred": x.mean(1, keepdims=True), "mass_std": x.std(1, ddof=1, keepdims=True)}
    rank = ((x < rows["mass"]).sum(1, keepdims=True) + rng.random((N, 1))) / (S + 1)
    rows |= {"mass_pit": rank, "mass_crps": 0.05 * rows["mass"]}
    return {name: np.repeat(values, 3, axis=1) for name, values in rows.items()}


def test_masses_of_a_calibrated_posterior(mass_rows, boot):
    found = statistics.mass_metrics(mass_rows, 1, boot, S)
    assert found["coverage"] == pytest.approx(found["coverage_target"], abs=4 * found["coverage_error"])
    assert found["levels_max_deviation"] < found["levels_limit_95"] * np.sqrt(0.5)  # two independent maps a cluster
    assert found["levels_error"].shape == found["levels"].shape == (19,)
    assert found["ranks"].sum() == N
    assert found["crps_over_mass"] == pytest.approx(0.05)
    assert found["crps_over_mass_error"] == pytest.approx(0.0, abs=1e-12)


def test_regressions_of_a_calibrated_posterior(mass_rows, boot):
    """At fixed prediction the truth is that, less half the variance of its logarithm; at fixed truth it reverts."""
    found = statistics.mass_metrics(mass_rows, 0, boot, S)["regression"]
    backward, forward = found["true_given_pred"], found["pred_given_true"]
    assert backward["n_maps"].sum() == forward["n_maps"].sum() == N
    assert np.all(np.abs(backward["log_ratio"] + 0.5 * 0.098**2) < 4 * backward["log_ratio_error"])
    assert np.all(np.diff(backward["mass"]) > 0)
    expected = -(1 - 0.25 / 0.26) * (np.log(forward["mass"]) - 33.5) + 0.5 * 0.098**2
    assert np.all(np.abs(forward["log_ratio"] - expected) < 4 * forward["log_ratio_error"])
    assert forward["log_ratio"][0] > 3 * forward["log_ratio_error"][0]


def test_regressions_limits(mass_rows, boot):
    M = mass_rows["mass"][:, 0]
    same = statistics.regression(M, M, boot)
    np.testing.assert_allclose(same["log_ratio"], 0.0, atol=1e-12)
    np.testing.assert_allclose(statistics.regression(M, 1.1 * M, boot)["log_ratio"], np.log(1.1))
    apart = statistics.regression(M, np.random.default_rng(0).permutation(M), boot)
    np.testing.assert_allclose(np.log(apart["mass"]) + apart["log_ratio"], np.log(M).mean(), atol=0.25)
    assert np.isnan(statistics.regression(M, 0 * M, boot)["log_ratio"]).all()


def test_errors_follow_the_property_that_makes_them(mass_rows, boot):
    rng = np.random.default_rng(6)
    signal_to_noise = rng.uniform(1, 10, N)
    M = mass_rows["mass"]
    rows = {**mass_rows, "mass_pred": M * (1 + 0.3 / signal_to_noise * rng.standard_normal(N))[:, None]}
    rows["mass_std"] = M * 0.3 / signal_to_noise[:, None]
    missing = np.where(np.arange(N) < 40, np.nan, signal_to_noise)
    properties = {"signal_to_noise": missing, "m200m": M[:, 0], "constant": np.ones(N), "unknown": np.full(N, np.nan)}
    found = statistics.by_property(rows, properties, boot, S)
    table = found["signal_to_noise"]
    np.testing.assert_allclose(table["n_maps"], 120, atol=1)
    np.testing.assert_allclose(table["edges"], [1.0, 4.0, 7.0, 10.0], atol=0.6)
    numbers = table["mass"]["r200m"]
    expected = 0.3 / np.array([2.2, 5.4, 8.4])
    np.testing.assert_allclose(numbers["error_half_width"], expected, rtol=0.25)
    assert np.all(np.abs(numbers["error_median"]) < 4 * expected / np.sqrt(120))
    assert np.all(numbers["error_median_error"] > 0.3 * expected / np.sqrt(120))
    assert np.all(np.abs(numbers["coverage"] - 0.683) < 4 * numbers["coverage_error"])
    width = found["m200m"]["mass"]["map"]["error_half_width"]
    np.testing.assert_allclose(width, width.mean(), rtol=0.3)
    assert sum(found["constant"]["n_maps"]) == N
    assert np.isnan(found["unknown"]["mass"]["map"]["error_median"]).all()


@pytest.fixture(scope="module")
def maps(posterior):
    """A positive calibrated posterior, and what it was seen through."""
    t, x, wiener = (30.0 + maps[:24] for maps in posterior)
    return t, x[:, :20], wiener


def test_inputs_are_the_linear_baseline(maps):
    """The Wiener image alone has the r of an infinite mean; noise has none; of both together r is the first one's."""
    t, x, wiener = maps
    noise = np.random.default_rng(7).standard_normal(t.shape)
    inputs = {"compton_y": 1e-6 * wiener, "xray": np.where(noise > 3, np.nan, noise)}
    power = evaluate(t, x, inputs=inputs)["power"]
    r = np.array(power["r_input_compton_y"]["curve"])
    assert np.all(r > np.array(power["r_mean"]["curve"]) - 0.002)
    assert power["r_input_compton_y"]["small"] > power["r_mean"]["small"] + 0.005
    assert r.min() < 0.9
    assert abs(power["r_input_xray"]["small"]) < 0.15
    np.testing.assert_allclose(power["r_inputs_linear"]["curve"], r, atol=0.03)
    assert power["r_input_compton_y"]["small_error"] > 0
    assert "r_inputs_linear" not in evaluate(t[:2], x[:2])["power"]


def test_profiles_of_a_calibrated_posterior(maps):
    t, x, _ = maps
    profile = evaluate(t, x)["profile"]
    ranks = np.array(profile["ranks"])
    assert ranks.shape == (10, 10)
    np.testing.assert_array_equal(ranks.sum(1), len(t))
    assert profile["coverage_all"] == pytest.approx(profile["coverage_target"], abs=4 * profile["coverage_all_error"])
    assert profile["levels_max_deviation"] < 0.15
    assert min(profile["rank_p_value"]) > 1e-4
    crps, error = np.array(profile["crps_over_profile"]), np.array(profile["crps_over_profile_error"])
    spread = np.array([x.mean((2, 3)).std(1).mean() / 30.0])  # of the mean of the map: less than of any annulus
    assert np.all(crps + 3 * error > 0.5 * spread)


def test_shapes_of_a_perfect_and_of_an_independent_prediction():
    rng = np.random.default_rng(8)
    smooth = np.exp(-((np.hypot(np.fft.fftfreq(32)[:, None], np.fft.rfftfreq(32)) / 0.1) ** 2))
    t, other = np.exp(8 * np.fft.irfft2(np.fft.rfft2(rng.standard_normal((2, 30, 32, 32))) * smooth, s=(32, 32)))
    perfect = evaluate(t, np.repeat(t[:, None], 3, axis=1))["shape"]
    for kind in ("mean", "sample"):
        found = perfect[kind]
        assert found["ssim"] == found["ssim_log"] == pytest.approx(1.0)
        assert found["peak_offset_kpc"] == 0.0
        for name in ("centroid_offset_kpc", "ellipticity_difference", "angle_deg"):
            assert found[name] == pytest.approx(0.0, abs=1e-4)
        assert found["completeness"] == found["purity"] == 1.0
        assert found["true_peaks_per_map"] == found["peaks_per_map"] > 1
        assert found["completeness_by_chance"] < 0.5
    apart = evaluate(t, np.repeat(other[:, None], 3, axis=1))["shape"]["sample"]
    assert abs(apart["ssim"]) < 0.5
    assert apart["angle_deg"] == pytest.approx(45.0, abs=20.0)
    assert apart["peak_offset_kpc"] > 300.0
    chance = 4 * apart["completeness_error"]
    assert apart["completeness"] == pytest.approx(apart["completeness_by_chance"], abs=chance)


def test_moments_of_the_posterior_settle(maps):
    t, x, _ = maps
    found = evaluate(t, x)["convergence"]
    n = np.array(prefix_sizes(20))
    np.testing.assert_array_equal(found["samples"], n)
    assert found["variance_over_final"][0] is None
    np.testing.assert_allclose(found["variance_over_final"][1:], 1.0, atol=0.05)
    assert found["variance_over_final"][-1] == 1.0
    scatter = np.array(found["variance_over_final_scatter"][1:])
    assert np.all(np.diff(scatter) < 0)
    np.testing.assert_allclose(found["skill_target"], 1 + 1 / n)
    off = np.array(found["skill"]) - found["skill_target"]
    assert np.all(np.abs(off) < 4 * np.array(found["skill_error"]))
    b = np.array(found["b_mean_small"])
    assert np.all(np.diff(b) < 0)  # noise of the mean goes
    assert b[0] == pytest.approx(1.0, abs=0.05)
    assert np.array(found["mass_error"]).shape == (2, len(n))


def test_properties_are_in_the_tables(maps):
    t, x, _ = maps
    fgas = np.linspace(0.1, 0.2, len(t))
    tables = evaluate(t, x, halo={"fgas200m": fgas})["by_property"]
    assert set(tables) == {"fgas200m", "m200m", "disturbance"}
    np.testing.assert_allclose(tables["fgas200m"]["edges"][::3], [0.1, 0.2])
    assert tables["fgas200m"]["n_maps"] == [8, 8, 8]
    assert set(tables["fgas200m"]["mass"]) == {"map", "r500c", "r200m"}
    assert 0 < tables["disturbance"]["median"][0] < tables["disturbance"]["median"][2]

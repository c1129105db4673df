"""The report: complete, valid JSON, honest about empty bins and broken models."""

import json

import numpy as np
import pytest

from zwicky.evaluate import report
from zwicky.evaluate.battery import evaluate_channel
from zwicky.evaluate.rows import MapGrid, map_rows

PIXEL_KPC = 200.0


def evaluate(truth, samples, m200m, **options):
    n = len(truth)
    options = {"cluster_ids": np.arange(n) // 2, "n_bootstrap": 20, **options}
    return evaluate_channel(
        truth, samples, pixel_kpc=PIXEL_KPC, h=0.7, r200m_kpc=np.full(n, 1500.0), r500c_kpc=np.full(n, 700.0),
        m200m=m200m, rng=np.random.default_rng(0), **options,
    )  # fmt: skip


def arrays_of(truth, samples):
    radii = np.full(len(truth), 700.0), np.full(len(truth), 1500.0)
    rows = map_rows(truth, samples, MapGrid(truth.shape[-1], PIXEL_KPC, 0.7), *radii, np.random.default_rng(0))
    return {"gas": report.figure_arrays(rows)}


@pytest.fixture(scope="module")
def result(clusters):
    return evaluate(*clusters)


def test_every_bin_is_filled_and_the_posterior_passes(result):
    assert result["warnings"] == []
    assert [result["bins"][name]["n_maps"] for name in ("all", "low", "high")] == [12, 8, 4]
    everything = result["bins"]["all"]
    assert everything["pixel"]["coverage"] == pytest.approx(everything["pixel"]["coverage_target"], abs=0.06)
    assert abs(everything["mass"]["map"]["error_median"]) < 0.02
    assert everything["power"]["b_sample"]["large"] == pytest.approx(1.0, abs=0.05)
    assert everything["power"]["r_mean"]["large"] > everything["power"]["r_sample"]["large"] > 0.9
    assert everything["power"]["r_mean"]["large_error"] > 0


def test_result_is_json_without_nan(result):
    json.dumps(result, allow_nan=False)


def test_repeated_with_the_same_seed_it_is_the_same(clusters, result):
    assert evaluate(*clusters) == result


def test_perfect_prediction(clusters):
    truth, _, m200m = clusters
    x = np.repeat(truth[:, None], 4, axis=1)
    found = evaluate(truth, x, m200m)
    assert any("no width" in sentence for sentence in found["warnings"])
    content = found["bins"]["all"]
    for name in ("b_mean", "r_mean", "b_sample", "r_sample"):
        np.testing.assert_allclose(content["power"][name]["curve"], 1.0)
    assert content["mass"]["r500c"]["error_median"] == pytest.approx(0.0, abs=1e-12)
    assert content["mass"]["map"]["slope_true_given_pred"] == pytest.approx(1.0)
    assert content["pixel"]["crps_over_mean"] == pytest.approx(0.0, abs=1e-12)


def test_one_cluster_has_no_error_bar(clusters):
    truth, samples, m200m = (values[:1] for values in clusters)
    content = evaluate(truth, samples, m200m)["bins"]["all"]
    assert content["mass"]["map"]["error_median_error"] is None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda x: np.full_like(x, np.nan), "NaN or infinity for 12 of 12"),
        (lambda x: np.concatenate([np.full_like(x[:1], np.inf), x[1:]]), "NaN or infinity for 1 of 12"),
        (lambda x: x.mean(axis=(2, 3), keepdims=True) + 0 * x, "constant maps for 12 of 12"),
        (lambda x: 0 * x, "constant maps for 12 of 12"),
        (lambda x: x[:1] + 0 * x, "the same maps for every cluster"),
        (lambda x: x[:, :1], "single sample"),
    ],
)
def test_a_broken_model_is_said_in_the_first_line(clusters, tmp_path, spoil, sentence):
    truth, samples, m200m = clusters
    spoilt = spoil(samples)
    found = evaluate(truth, spoilt, m200m)
    assert any(sentence in line for line in found["warnings"])
    report.write_report(tmp_path, {"gas": found}, arrays_of(truth, spoilt), {})
    first = (tmp_path / "table1.md").read_text().splitlines()[0]
    assert "WARNING" in first
    assert sentence in first
    assert any(sentence in line for line in json.loads((tmp_path / "metrics.json").read_text())["warnings"])


def test_report_is_complete(clusters, result, tmp_path):
    truth, samples, _ = clusters
    arrays = arrays_of(truth, samples)
    folder = report.write_report(tmp_path / "report", {"gas": result, "dark_matter": result}, arrays, {"seed": 0})
    files = {path.name for path in folder.iterdir()}
    assert files == {"metrics.json", "table1.md", "power.png", "profiles.png", "masses.png", "calibration.png"}
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in files if name.endswith(".png"))
    content = json.loads((folder / "metrics.json").read_text())
    assert content["meta"] == {"seed": 0}
    table = (folder / "table1.md").read_text()
    assert "WARNING" not in table
    assert "H25, another data set" in table
    assert all(f"{value:.3f}" in table for value in report.H25_TABLE1.values())


def test_an_empty_bin_shows_a_dash(clusters, tmp_path):
    truth, samples, m200m = (values[:8] for values in clusters)
    table = report.table1({"gas": evaluate(truth, samples, m200m)}, [])
    high = [line for line in table.splitlines() if line.startswith("| gas | high ")]
    assert len(high) == 6
    assert all("| 0 |" in line and "| - | - |" in line for line in high)


def test_shapes_that_do_not_match_are_refused(clusters):
    truth, samples, m200m = clusters
    with pytest.raises(ValueError, match="truth"):
        evaluate(truth, samples[:, :, :-1], m200m)
    with pytest.raises(ValueError, match="one entry per map"):
        evaluate(truth, samples, m200m[:-1])


def test_an_aperture_of_unknown_radius_is_left_out(clusters):
    truth, samples, m200m = clusters
    n = len(truth)
    found = evaluate_channel(
        truth, samples, pixel_kpc=PIXEL_KPC, h=0.7, r200m_kpc=np.full(n, np.nan), r500c_kpc=np.full(n, 700.0),
        m200m=m200m, cluster_ids=np.arange(n), rng=np.random.default_rng(0), n_bootstrap=5,
    )  # fmt: skip
    assert found["bins"]["all"]["mass"]["r200m"]["error_median"] is None
    assert found["bins"]["all"]["mass"]["r500c"]["error_median"] is not None

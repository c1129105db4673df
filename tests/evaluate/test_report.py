"""The report: complete, valid JSON, honest about empty bins and broken models."""

import json

import jsonschema
import numpy as np
import pytest

from zwicky.evaluate import gallery, report, tables
from zwicky.evaluate.battery import evaluate_channel
from zwicky.evaluate.rows import MapGrid, map_rows

PIXEL_KPC = 200.0
SCHEMA = json.loads(report.SCHEMA.read_text())


def read(path):
    return json.loads(path.read_text())


def example(truth, samples, i=-1):
    """A sightline for the figures of maps, of two channels that are alike."""
    one = {"truth": truth[i], "mean": samples[i].mean(0), "std": samples[i].std(0), "sample": samples[i, 0]}
    both = {kind: {"gas": image, "dark_matter": image} for kind, image in one.items()}
    halo = {"m200m": 5e14, "r200m": 1500.0, "r500c": 700.0}
    return {**both, "inputs": {"xray": truth[i] ** 2}, "pixel_kpc": PIXEL_KPC, "halo": halo,
            "units": {"xray": "erg / (s cm2)"}}  # fmt: skip


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
def test_a_broken_model_is_said_in_the_first_line(clusters, tmp_path, monkeypatch, spoil, sentence):
    truth, samples, m200m = clusters
    if "12 of 12" not in sentence:  # all figures are drawn of what is broken altogether
        monkeypatch.setattr(gallery, "PLATES", {"power": gallery.PLATES["power"]})
    spoilt = spoil(samples)
    found = evaluate(truth, spoilt, m200m)
    assert any(sentence in line for line in found["warnings"])
    report.write_report(tmp_path, {"gas": found}, arrays_of(truth, spoilt), {}, [example(truth, spoilt)])
    files = ("table1.md", "report.html", "metrics.json")
    first = {name: (tmp_path / name).read_text().splitlines()[0] for name in files}
    assert all(sentence in line for line in first.values())
    assert "WARNING" in first["table1.md"]
    assert "WARNING" in first["report.html"]
    assert first["metrics.json"].startswith('{"warnings": [')
    jsonschema.validate(read(tmp_path / "metrics.json"), SCHEMA)


@pytest.fixture(scope="module")
def folder(clusters, result, tmp_path_factory):
    """A report of two channels with everything in it."""
    truth, samples, m200m = clusters
    arrays = arrays_of(truth, samples)
    target = tmp_path_factory.mktemp("report") / "report"
    meta = {"model": "<tiny>", "request": {"seed": 3}}
    with pytest.MonkeyPatch.context() as m:
        m.setattr(report, "FORMATS", (".png", ".pdf"))
        m.setattr(gallery, "PLATES", {name: gallery.PLATES[name] for name in ("sets", "images", "maps", "power")})
        channels = {"gas": result, "dark_matter": result}
        return report.write_report(target, channels, arrays, meta, [example(truth, samples)], {"test": m200m})


def test_report_is_complete(folder):
    drawn = {"sets", "images", "maps_gas", "maps_dark_matter", "power"}
    figures = {f"{name}{suffix}" for name in drawn for suffix in (".png", ".pdf")}
    assert {path.name for path in folder.iterdir()} == {"metrics.json", "table1.md", "report.html", *figures}
    assert all((folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG" for name in drawn)
    assert all((folder / f"{name}.pdf").read_bytes()[:5] == b"%PDF-" for name in drawn)
    assert read(folder / "metrics.json")["meta"] == {"model": "<tiny>", "request": {"seed": 3}}
    table = (folder / "table1.md").read_text()
    assert "WARNING" not in table
    assert "H25, another data set" in table
    assert all(f"{value:.3f}" in table for value in report.H25_TABLE1.values())


def test_the_page_has_tables_figures_and_settings(folder):
    page = (folder / "report.html").read_text()
    assert "WARNING" not in page
    assert page.splitlines()[0].endswith("<title>Evaluation of &lt;tiny&gt;</title>")
    assert page.count("<img src=") == page.count("data:image/png;base64,") == page.count("<figcaption>") == 5
    assert all(f"Figure {i}." in page for i in range(1, 6))
    assert all(f"<td>{value:.3f}</td>" in page for value in report.H25_TABLE1.values())
    assert all(label.replace(">", "&gt;").replace("<", "&lt;") in page for label in tables.HEADLINES)
    assert "<td>seed</td><td>3</td>" in page
    assert "<td>n_samples, dark matter</td><td>20</td>" in page


def test_metrics_follow_the_schema(folder):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(read(folder / "metrics.json"), SCHEMA)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d.pop("format"), lambda d: d.update(format=2), lambda d: d.update(more=1),
        lambda d: d["channels"].clear(), lambda d: d["channels"]["gas"]["bins"].pop("low"),
        lambda d: d["channels"]["gas"]["bins"]["all"].pop("power"),
        lambda d: d["channels"]["gas"]["bins"]["all"]["power"]["b_mean"].pop("large_error"),
        lambda d: d["channels"]["gas"]["bins"]["all"]["power"].update(b_new=1.0),
        lambda d: d["channels"]["gas"]["bins"]["all"]["pixel"].update(coverage=1.2),
        lambda d: d["channels"]["gas"]["bins"]["all"]["mass"]["map"].update(error_median="0.1"),
        lambda d: d["channels"]["gas"].update(warnings="none"),
    ],
)  # fmt: skip
def test_the_schema_refuses_what_a_reader_would_trip_over(folder, break_it):
    content = read(folder / "metrics.json")
    break_it(content)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMA)


def test_a_new_measure_beside_the_others_is_allowed(folder):
    content = read(folder / "metrics.json")
    content["channels"]["gas"]["bins"]["all"]["pixel"].update(rms=0.1, rms_error=None)
    content["channels"]["gas"]["bins"]["all"]["new"] = {"curve": [0.1, None]}
    jsonschema.validate(content, SCHEMA)


def test_the_first_line_of_metrics_is_all_warnings(folder):
    lines = (folder / "metrics.json").read_text().splitlines()
    assert lines[0] == '{"warnings": [],'
    assert lines[1] == '  "format": 1,'


# Several models -----------------------------------------------------------------------------------------------------


def comparison():
    def numbers(value):
        return {key: {"value": value, "error": 0.01, "maps": 9} for key in ("mass_crps", "b_sample_weighted_large")}

    statistics = {
        "mass_crps": {"label": "CRPS of the mass / mass", "ideal": "low"},
        "b_sample_weighted_large": {"label": "b of samples, k < 2", "ideal": 1.0},
    }
    gone = {key: {"value": None, "error": None, "maps": 0} for key in statistics}
    return {
        "reference": "ours", "statistics": statistics,
        "models": {"ours": numbers(0.3), "wiener": numbers(0.4), "x": gone},
        "differences": {"wiener": numbers(0.1), "x": gone},
    }  # fmt: skip


def test_a_comparison_is_complete(tmp_path):
    both = {"gas": comparison(), "dark_matter": comparison()}
    folder = report.write_comparison(tmp_path / "r", both)
    assert {p.name for p in folder.iterdir()} == {f"comparison.{end}" for end in ("json", "md", "png", "html")}
    assert read(folder / "comparison.json") == {"format": 1, "channels": both}
    text, page = (folder / "comparison.md").read_text(), (folder / "comparison.html").read_text()
    assert "difference from ours" in text
    assert text.count("| CRPS of the mass / mass | low | **0.300 ± 0.010** | 0.400 ± 0.010 (+0.100 ± 0.010) | - |") == 2
    assert page.count("<td><strong>0.300 ± 0.010</strong></td><td>0.400 ± 0.010 (+0.100 ± 0.010)</td><td>-</td>") == 2
    assert page.count("<img ") == 1


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

"""An evaluation: which sightlines, resumed where it stopped, and its report."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.cosmology import FlatLambdaCDM

from zwicky.dataset.store import open_maps
from zwicky.evaluate import gallery, run
from zwicky.evaluate.run import EvaluateConfig, choose_rows, evaluate
from zwicky.io import UserError
from zwicky.reconstruct import load_model
from zwicky.train import train

ALL_PLATES = dict(gallery.PLATES)
CONFIG = EvaluateConfig(sightlines=3, samples=4, steps=4)
NEEDED = {"metrics.json", "table1.md", "report.html", "power.png", "maps_gas.png", "sets.png", "calibration.png"}


@pytest.fixture(scope="module", autouse=True)
def few_figures():
    """Reports have a few figures only: all of them are drawn in test_report."""
    with pytest.MonkeyPatch.context() as m:
        m.setattr(gallery, "PLATES", {name: gallery.PLATES[name] for name in ("sets", "maps", "power", "calibration")})
        yield


@pytest.fixture(scope="module")
def report(model_folder, map_file, tmp_path_factory):
    return evaluate([model_folder], map_file, tmp_path_factory.mktemp("report") / "report", CONFIG)


def stop_after(count):
    def tell(done, total):
        if done == count:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize(("count", "each"), [(1, {1}), (2, {1}), (3, {1, 2}), (4, {2}), (5, {2, 3}), (99, {3})])
def test_rows_spread_evenly_over_the_clusters(maps, count, each):
    rows = choose_rows(maps, "test", count)
    assert len(rows) == min(count, 6)
    assert set(maps.split[rows]) == {2}
    assert set(np.unique(maps.cluster[rows], return_counts=True)[1]) == each
    assert len(set(rows)) == len(rows)


def test_fewer_rows_than_clusters_are_of_all_masses(maps):
    """Of clusters 0, 3, 6 and 7, in order of mass: not the first ones of the file."""
    assert maps.cluster[maps.few("train", 2)].tolist() == [0, 6]
    assert maps.cluster[maps.few("train", 3)].tolist() == [0, 6, 7]


def test_a_split_without_rows_is_refused(maps):
    empty = replace(maps, split=np.zeros_like(maps.split))
    with pytest.raises(UserError, match="has no test rows"):
        choose_rows(empty, "test", 1)


def test_the_report_is_whole_and_the_rows_are_gone(report, model, maps):
    assert {p.name for p in report.iterdir()} >= NEEDED
    assert all(p.is_file() and p.stat().st_size > 0 for p in report.iterdir())
    content = json.loads((report / "metrics.json").read_text())
    request = content["meta"]["request"]
    assert (request["model_id"], request["samples"], request["seed"]) == (model.id, 4, 0)
    assert set(content["channels"]) == {"gas", "dark_matter"}


def test_a_finished_report_is_left_alone(report, model_folder, map_file, monkeypatch):
    monkeypatch.setattr(run, "_sample_row", lambda *a: pytest.fail("sampled again"))
    before = {p.name: p.stat().st_mtime_ns for p in report.iterdir()}
    evaluate([model_folder], map_file, report, CONFIG)
    assert {p.name: p.stat().st_mtime_ns for p in report.iterdir()} == before


def test_stopped_and_resumed_gives_the_same_report(report, model_folder, map_file, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        evaluate([model_folder], map_file, tmp_path / "r", CONFIG, progress=stop_after(2))
    sampled, real = [], run._sample_row
    monkeypatch.setattr(run, "_sample_row", lambda *a: sampled.append(a[2]) or real(*a))
    evaluate([model_folder], map_file, tmp_path / "r", CONFIG)
    assert len(sampled) == 1
    assert (tmp_path / "r" / "metrics.json").read_text() == (report / "metrics.json").read_text()
    assert {p.name for p in (tmp_path / "r").iterdir()} == {p.name for p in report.iterdir()}


@pytest.mark.filterwarnings("ignore")
def test_several_processes_give_the_same_report(report, model_folder, map_file, tmp_path):
    """But for the last bits of sums, which depend on the number of threads."""
    pytest.importorskip("distributed")
    done = []
    evaluate([model_folder], map_file, tmp_path / "r", CONFIG, progress=lambda *step: done.append(step), workers=2)
    assert done == [(1, 3), (2, 3), (3, 3)]
    shared, alone = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "r", report))
    assert shared["meta"] == alone["meta"]
    for name, channel in alone["channels"].items():
        pixel = channel["bins"]["all"]["pixel"]
        assert shared["channels"][name]["bins"]["all"]["pixel"]["crps_over_mean"] == pytest.approx(
            pixel["crps_over_mean"], rel=1e-2
        )


def test_a_process_that_is_lost_is_named(model_folder, map_file, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "each", lambda function, jobs, lost, *rest: (lost(job) for job in jobs))
    with pytest.raises(UserError, match="was lost"):
        evaluate([model_folder], map_file, tmp_path / "r", CONFIG, workers=2)


@pytest.mark.parametrize("change", [{"samples": 5}, {"seed": 1}, {"sightlines": 2}, {"steps": 5}, {"sampler": "sde"}])
def test_samples_of_another_request_are_not_mixed_in(model_folder, map_file, tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        evaluate([model_folder], map_file, tmp_path, CONFIG, progress=stop_after(1))
    with pytest.raises(UserError, match="rows of another evaluation"):
        evaluate([model_folder], map_file, tmp_path, replace(CONFIG, **change))


def test_a_report_of_another_request_is_refused(report, model_folder, map_file):
    with pytest.raises(UserError, match="another evaluation"):
        evaluate([model_folder], map_file, report, replace(CONFIG, samples=5))


def test_a_report_cut_off_is_finished(report, model_folder, map_file, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr("zwicky.evaluate.figures.save", _die)
        with pytest.raises(KeyboardInterrupt):
            evaluate([model_folder], map_file, tmp_path / "r", CONFIG)
    evaluate([model_folder], map_file, tmp_path / "r", CONFIG)
    assert {p.name for p in (tmp_path / "r").iterdir()} == {p.name for p in report.iterdir()}


def _die(*arguments):
    raise KeyboardInterrupt


def test_maps_of_another_pixel_size_are_refused(model_folder, map_file, tmp_path):
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f.attrs["pixel_kpc"] = 100.0
    with pytest.raises(UserError, match="pixel"):
        evaluate([model_folder], other, tmp_path / "r", CONFIG)


def test_several_have_a_report_each_and_a_comparison(model_folder, map_file, tmp_path):
    names = [model_folder, "wiener", "scaling_sz", "scaling_xray@2"]
    evaluate(names, map_file, tmp_path / "r", replace(CONFIG, sightlines=4, samples=3))
    folders = {p.name for p in (tmp_path / "r").iterdir() if p.is_dir()}
    assert folders == {model_folder.name, "wiener", "scaling_sz", "scaling_xray"}
    assert all({p.name for p in (tmp_path / "r" / name).iterdir()} >= NEEDED for name in folders)
    assert "wiener" in (tmp_path / "r" / "comparison.md").read_text()
    found = json.loads((tmp_path / "r" / "comparison.json").read_text())["channels"]["gas"]
    assert found["reference"] == model_folder.name
    assert {name: numbers["mass_crps"]["maps"] for name, numbers in found["models"].items()} == {
        model_folder.name: 4, "wiener": 4, "scaling_sz": 4, "scaling_xray": 2,
    }  # fmt: skip
    assert found["differences"]["scaling_xray"]["mass_crps"]["maps"] == 2


def test_samples_that_diverge_are_counted_and_left_out(model_folder, map_file, tmp_path):
    """Those of one model do not end the evaluation of the others."""
    config = replace(CONFIG, sampler="euler_maruyama", steps=4)
    folder = evaluate([model_folder, "wiener"], map_file, tmp_path / "r", config)
    found = json.loads((folder / model_folder.name / "metrics.json").read_text())["channels"]["gas"]
    assert found["bins"]["all"]["n_maps"] == 0
    assert any("NaN or infinity for 3 of 3 maps" in text for text in found["warnings"])
    compared = json.loads((folder / "comparison.json").read_text())["channels"]["gas"]["models"]
    assert [compared[name]["mass_crps"]["maps"] for name in (model_folder.name, "wiener")] == [0, 3]


def test_the_report_knows_inputs_and_examples(report):
    content = json.loads((report / "metrics.json").read_text())["channels"]["gas"]["bins"]["all"]
    assert content["power"]["r_input_compton_y"]["small"] > 0.5
    assert "data:image/png;base64" in (report / "report.html").read_text()


def test_a_comparison_resumes(model_folder, map_file, tmp_path):
    names, config = [model_folder, "wiener"], replace(CONFIG, sightlines=2, samples=3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(names, map_file, tmp_path / "a", config, progress=stop_after(3))
    for folder in ("a", "b"):
        evaluate(names, map_file, tmp_path / folder, config)
    assert (tmp_path / "a/comparison.json").read_text() == (tmp_path / "b/comparison.json").read_text()


def test_no_sightlines_for_a_model_are_refused(model_folder, map_file, tmp_path):
    with pytest.raises(UserError, match="at least one sightline"):
        evaluate([model_folder, "wiener@0"], map_file, tmp_path / "r", CONFIG)


def test_two_models_of_one_name_are_refused(model_folder, map_file, tmp_path):
    with pytest.raises(UserError, match="different names"):
        evaluate([model_folder, model_folder], map_file, tmp_path / "r", CONFIG)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [{"split": "all"}, {"sampler": "magic"}, {"sightlines": 0}, {"samples": 1}, {"steps": 1}, {"steps": -1},
     {"prior": "jeffreys"}],
    ids=str,
)
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"must|need"):
        EvaluateConfig(**setting)


def test_channels_that_are_not_given_are_not_seen(model_folder, model, map_file, maps, tmp_path):
    """Of one channel, and of none, the samples are those of the model given as much."""
    row = int(choose_rows(maps, "test", 1)[0])
    for given in (("compton_y",), ("none",)):
        config = replace(CONFIG, sightlines=1, given=given)
        found = evaluate([model_folder], map_file, tmp_path / given[0], config)
        images = {name: maps.read(name, np.array([row]))[0] for name in given if name != "none"}
        gas = model.sample(images, maps.redshift, maps.pixel_kpc, CONFIG.samples, row, steps=CONFIG.steps).samples
        error = gas["gas"].mean(0).sum() / maps.read("gas", np.array([row]))[0].sum() - 1
        mass = json.loads((found / "metrics.json").read_text())["channels"]["gas"]["bins"]["all"]["mass"]
        assert mass["map"]["error_median"] == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize(
    ("models", "given", "message"),
    [(["model"], ("stars",), "takes compton_y, xray, not stars"), (["wiener"], ("none",), "at least one channel"),
     (["scaling_xray"], ("compton_y",), "needs xray")],
)  # fmt: skip
def test_channels_that_a_model_does_not_take_are_refused(models, given, message, model_folder, map_file, tmp_path):
    names = [model_folder if name == "model" else name for name in models]
    with pytest.raises(UserError, match=message):
        evaluate(names, map_file, tmp_path / "r", replace(CONFIG, given=given))


@pytest.fixture
def observed(map_file, tmp_path):
    """The set with images of two telescopes that show Compton y: with noise of 1e-6, a hole and a beam."""
    other = shutil.copy(map_file, tmp_path / "observed.h5")
    rng = np.random.default_rng(0)
    with h5py.File(other, "a") as f:
        y = f["maps/compton_y"][()]
        for name in ("near", "far"):
            group = f.create_group(f"observed/{name}")
            group["image"] = (y + 1e-6 * rng.standard_normal(y.shape)).astype(np.float32)
            group["noise"] = np.full(y.shape, 1e-6, np.float32)
            group["mask"] = np.ones(y.shape, bool)
            group["mask"][:, :2] = False
            group.attrs.update(channel="compton_y", unit="", fwhm_arcsec=60.0, instrument="{}")
    return other


def test_images_of_an_instrument_come_with_noise_mask_and_beam(observed, maps):
    clean = open_maps(observed)
    seen = clean.through(("near",)).seen(3, ("compton_y", "xray"))
    with h5py.File(observed) as f:
        np.testing.assert_array_equal(seen.images["compton_y"], f["observed/near/image"][3])
    np.testing.assert_array_equal(seen.images["xray"], maps.read("xray", np.array([3]))[0])
    assert set(seen.noise) == set(seen.masks) == set(seen.fwhm_kpc) == {"compton_y"}
    assert (seen.noise["compton_y"] == np.float32(1e-6)).all()
    assert not seen.masks["compton_y"][:2].any()
    assert seen.masks["compton_y"][2:].all()
    angle = 60 * u.arcsec / FlatLambdaCDM(70, 0.3).arcsec_per_kpc_proper(maps.redshift)
    assert seen.fwhm_kpc["compton_y"] == pytest.approx(angle.to_value(u.kpc), rel=1e-3)
    assert clean.fingerprint == maps.fingerprint != clean.through(("near",)).fingerprint


def test_models_and_baselines_see_the_images_of_instruments(model_folder, observed, tmp_path):
    evaluate([model_folder, "wiener"], observed, tmp_path / "r", replace(CONFIG, sightlines=2, instruments=("near",)))
    evaluate([model_folder, "wiener"], observed, tmp_path / "clean", replace(CONFIG, sightlines=2))
    for name in (model_folder.name, "wiener"):
        reports = [json.loads((tmp_path / r / name / "metrics.json").read_text()) for r in ("r", "clean")]
        r = [report["channels"]["gas"]["bins"]["all"]["power"]["r_input_compton_y"]["small"] for report in reports]
        assert r[0] < r[1]  # noise


def test_a_model_is_given_noise_mask_and_beam_of_an_instrument(observed, tiny_config, tmp_path):
    """The masses of a report are those of samples with them, and not those of samples without."""
    folder = train(observed, tmp_path / "noisy", replace(tiny_config, degrade=0.5))
    config = replace(CONFIG, sightlines=1, instruments=("near",))
    report = evaluate([folder], observed, tmp_path / "r", config)
    mass = json.loads((report / "metrics.json").read_text())["channels"]["gas"]["bins"]["all"]["mass"]["map"]
    shown, model = open_maps(observed).through(("near",)), load_model(folder)
    row = int(choose_rows(shown, "test", 1)[0])
    seen, about = shown.seen(row, ("compton_y", "xray")), (shown.redshift, shown.pixel_kpc, CONFIG.samples, row)
    truth = shown.read("gas", np.array([row]))[0].sum()

    def error(**told):
        gas = model.sample(seen.images, *about, steps=CONFIG.steps, **told).samples["gas"]
        return gas.mean(0).sum() / truth - 1

    every = {"masks": seen.masks, "noise": seen.noise, "fwhm_kpc": seen.fwhm_kpc}
    assert mass["error_median"] == pytest.approx(error(**every), rel=1e-4)
    for name in every:
        assert error(**{k: v for k, v in every.items() if k != name}) != pytest.approx(mass["error_median"], rel=1e-4)


def test_instruments_that_show_what_nobody_is_given_are_refused(observed, model_folder, tmp_path):
    with pytest.raises(UserError, match="near shows compton_y, which is not among what is given: xray"):
        evaluate([model_folder], observed, tmp_path / "r", replace(CONFIG, given=("xray",), instruments=("near",)))


def test_a_report_of_the_prior_has_all_its_figures(model_folder, map_file, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "PLATES", ALL_PLATES)
    folder = evaluate([model_folder], map_file, tmp_path / "r", replace(CONFIG, sightlines=2, given=("none",)))
    assert (folder / "report.html").exists()


def test_baselines_know_no_prior(model_folder, map_file, tmp_path):
    with pytest.raises(UserError, match="wiener knows no prior"):
        evaluate(["wiener"], map_file, tmp_path / "r", replace(CONFIG, prior="flat"))


@pytest.mark.parametrize(
    ("names", "message"), [(("near", "far"), "both show compton_y"), (("Hubble",), "no images of 'Hubble'")]
)
def test_instruments_that_cannot_be_shown_are_refused(names, message, model_folder, observed, tmp_path):
    with pytest.raises(UserError, match=message):
        evaluate([model_folder], observed, tmp_path / "r", replace(CONFIG, instruments=names))


def test_models_of_the_total_are_judged_by_the_sum_of_the_others(model_folder, map_file, tiny_config, tmp_path):
    """A set with a total: a network that predicts it stands beside one that predicts gas and dark matter."""
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f["maps/total"] = f["maps/gas"][()] + f["maps/dark_matter"][()]
        f["maps/total"].attrs["unit"] = f["maps/gas"].attrs["unit"]
    config = replace(tiny_config, targets=("total",), inputs=("compton_y",), kind="regression", steps=2)
    unet = train(other, tmp_path / "unet", config)
    evaluate([model_folder, unet, "wiener"], other, tmp_path / "r", replace(CONFIG, sightlines=2, samples=3))
    channels = json.loads((tmp_path / "r" / "comparison.json").read_text())["channels"]
    assert set(channels["total"]["models"]) == {model_folder.name, "unet", "wiener"}
    assert set(channels["gas"]["models"]) == {model_folder.name, "wiener"}

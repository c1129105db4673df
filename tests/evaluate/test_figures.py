"""Figures: drawn without a display, labelled, and empty where there is nothing to draw."""

import numpy as np
import pytest

from zwicky.evaluate import figures
from zwicky.evaluate.battery import evaluate_channel

CHANNELS = ("gas", "dark_matter")


@pytest.fixture(scope="module")
def maps(clusters):
    truth, samples, _ = clusters
    x = {name: samples[5] for name in CHANNELS}
    return {
        "truth": {name: truth[5] for name in CHANNELS},
        "mean": {name: s.mean(0) for name, s in x.items()},
        "std": {name: s.std(0) for name, s in x.items()},
        "sample": {name: s[0] for name, s in x.items()},
    }


@pytest.fixture(scope="module")
def metrics(clusters):
    truth, samples, m200m = clusters
    n = len(truth)
    result = evaluate_channel(
        truth, samples, pixel_kpc=200.0, h=0.7, r200m_kpc=np.full(n, 1500.0), r500c_kpc=np.full(n, 700.0),
        m200m=m200m, cluster_ids=np.arange(n), rng=np.random.default_rng(0), n_bootstrap=10,
    )  # fmt: skip
    return {name: result for name in CHANNELS}


def panels(figure):
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def bars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


@pytest.mark.parametrize(("with_truth", "columns"), [(True, 5), (False, 4)])
def test_reconstruction(maps, tmp_path, with_truth, columns):
    inputs = {"compton_y": maps["truth"]["gas"] * 1e-12, "xray": np.random.default_rng(0).normal(size=(32, 32))}
    truth = maps["truth"] if with_truth else None
    figure = figures.reconstruction(
        inputs, truth, maps["mean"], maps["std"], maps["sample"], 100.0, {"compton_y": "SZ"}, {"xray": "counts"}
    )
    drawn = panels(figure)
    assert len(drawn) == 2 * columns == len(bars(figure))
    assert [ax.get_xlabel() for ax in drawn[-columns:]] == ["x [Mpc]"] * columns
    assert drawn[0].get_ylabel() == drawn[columns].get_ylabel() == "y [Mpc]"
    assert ("Truth" in [ax.get_title() for ax in drawn]) == with_truth
    assert drawn[0].get_title() == "Input"
    limits = [ax.images[0].get_clim() for ax in drawn[1:columns] if ax.get_title() != "Std. dev."]
    assert all(limit == limits[0] for limit in limits)
    figures.save(figure, tmp_path / "reconstruction.png")
    assert (tmp_path / "reconstruction.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("n_inputs", [0, 1, 3])
def test_reconstruction_of_any_number_of_inputs(maps, n_inputs):
    inputs = {f"band_{i}": maps["truth"]["gas"] for i in range(n_inputs)}
    figures.reconstruction(inputs, None, maps["mean"], maps["std"], maps["sample"], 100.0).canvas.draw()


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_reconstruction_of_empty_maps_still_draws(maps, broken):
    blank = {name: np.full((32, 32), broken) for name in CHANNELS}
    figures.reconstruction({}, maps["truth"], blank, blank, blank, 100.0).canvas.draw()


def draw(name, metrics):
    if name == "mass":
        M = np.geomspace(1e14, 1e15, 8)
        return figures.mass_figure({c: {"mass": M, "mass_pred": 1.1 * M, "mass_std": 0.1 * M} for c in metrics})
    if name == "scatter":
        M = np.geomspace(1e14, 1e15, 8)
        return figures.scatter_figure({c: {"map": {"mass": M, "mass_pred": 1.1 * M}} for c in metrics})
    return getattr(figures, f"{name}_figure")(metrics)


OF_METRICS = ("power", "profiles", "calibration", "pixels", "convergence", "regression", "trends")


@pytest.mark.parametrize("name", [*OF_METRICS, "mass", "scatter"])
def test_figures_have_labelled_axes(metrics, name):
    figure = draw(name, metrics)
    figure.canvas.draw()
    grid = [ax.get_subplotspec() for ax in figure.axes]
    assert all(ax.get_xlabel() for ax, spec in zip(figure.axes, grid, strict=True) if spec.is_last_row())
    assert all(ax.get_ylabel() for ax, spec in zip(figure.axes, grid, strict=True) if spec.is_first_col())


@pytest.mark.parametrize("name", [*OF_METRICS, "shapes"])
def test_an_empty_bin_is_drawn_empty(metrics, name):
    bins = {mass_bin: {"n_maps": 0, "n_clusters": 0} for mass_bin in ("all", "low", "high")}
    empty = {c: {**m, "bins": bins} for c, m in metrics.items()}
    figure = draw(name, empty)
    figure.canvas.draw()
    assert all(figures.EMPTY in [text.get_text() for text in ax.texts] for ax in figure.axes)
    assert not any(ax.containers or ax.collections for ax in figure.axes)


@pytest.mark.parametrize("draw_it", [figures.mass_figure, figures.scatter_figure])
def test_no_masses_are_drawn_empty(draw_it):
    figure = draw_it({"gas": {}})
    figure.canvas.draw()
    assert all(ax.texts[0].get_text() == figures.EMPTY and not ax.lines for ax in figure.axes)


def test_the_inputs_are_drawn_where_they_are_known(metrics):
    result = metrics["gas"]
    power = {**result["bins"]["all"]["power"], "r_input_xray": result["bins"]["all"]["power"]["r_mean"]}
    bins = {"all": {**result["bins"]["all"], "power": power}}
    before, after = (figures.power_figure({"gas": {**result, "bins": b}}) for b in (result["bins"], bins))
    labels = [[line.get_label() for line in figure.axes[1].lines] for figure in (before, after)]
    assert "X-ray" not in labels[0]
    assert labels[1].count("X-ray") == 1


def test_a_model_without_a_posterior_leaves_gaps_in_a_comparison():
    numbers = {"value": 0.1, "error": None, "maps": 3}
    statistics = {key: {"label": key, "ideal": "low"} for key in ("known", "unknown")}
    found = {"known": numbers, "unknown": {"value": None, "error": None, "maps": 0}}
    models = {"ours": found, "other": found}
    table = {"reference": "ours", "statistics": statistics, "models": models, "differences": {"other": found}}
    known, unknown, blank = figures.comparison_figure({"gas": table}).axes
    assert len(known.containers) == 1
    assert not unknown.containers
    assert unknown.texts[0].get_text() == figures.EMPTY
    assert not blank.axison


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_examples_of_empty_maps_still_draw(maps, broken):
    blank = {name: np.full((32, 32), broken) for name in CHANNELS}
    halo = {"m200m": 1e14, "r200m": 1000.0, "r500c": 500.0}
    found = {"inputs": {"xray": blank["gas"]}, "truth": maps["truth"], "mean": blank, "std": blank, "sample": blank,
             "pixel_kpc": 200.0, "halo": halo}  # fmt: skip
    figures.maps_figure([found], "gas").canvas.draw()
    figures.images_figure([found]).canvas.draw()

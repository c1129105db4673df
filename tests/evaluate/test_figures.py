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
    return getattr(figures, f"{name}_figure")(metrics)


@pytest.mark.parametrize("name", ["power", "profiles", "mass", "calibration"])
def test_figures_have_labelled_axes(metrics, name):
    figure = draw(name, metrics)
    figure.canvas.draw()
    grid = [ax.get_subplotspec() for ax in figure.axes]
    assert all(ax.get_xlabel() for ax, spec in zip(figure.axes, grid, strict=True) if spec.is_last_row())
    assert all(ax.get_ylabel() for ax, spec in zip(figure.axes, grid, strict=True) if spec.is_first_col())


@pytest.mark.parametrize("name", ["power", "profiles", "calibration"])
def test_an_empty_bin_is_drawn_empty(metrics, name):
    empty = {c: {**m, "bins": {"all": {"n_maps": 0, "n_clusters": 0}}} for c, m in metrics.items()}
    figure = draw(name, empty)
    figure.canvas.draw()
    assert all(figures.EMPTY in [text.get_text() for text in ax.texts] for ax in figure.axes)
    assert not any(ax.containers or ax.collections for ax in figure.axes)


def test_no_masses_are_drawn_empty():
    figure = figures.mass_figure({"gas": {}})
    figure.canvas.draw()
    assert all(ax.texts[0].get_text() == figures.EMPTY and not ax.lines for ax in figure.axes)

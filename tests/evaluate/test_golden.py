"""Golden figures: each figure, free of text, looks as it did; a curve that is missing is noticed.

`pytest tests/evaluate/test_golden.py --golden` draws the pictures in `golden/` anew: look at them before you keep them.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.image import imread, imsave
from matplotlib.ticker import NullFormatter

from zwicky.evaluate import figures
from zwicky.evaluate.calibration import LEVELS
from zwicky.evaluate.figures.style import COLUMN, PAGE

GOLDEN = Path(__file__).with_name("golden")
DPI = 60
BLOCK = 4  # pixels a side that are averaged: a line may move by a part of a pixel, as it does between versions
TOLERANCE = 0.05  # of a colour of a block, of 1: a curve that is missing changes 0.07 or more, another font nothing
CHANNELS = ("gas", "dark_matter")
APERTURES = ("map", "r500c", "r200m")


# Made-up metrics: smooth curves, not those of any model ---------------------------------------------------------------

K = np.geomspace(0.7, 40, 9)
R_EDGES = np.concatenate([[0], np.geomspace(150, 6400, 8)])
Z_EDGES = np.linspace(-5, 5, 51)


def curve(values, error=0.02):
    return {"curve": values, "curve_error": np.full(len(values), error)}


def power(shift):
    r = 1 / (1 + (K / 40) ** 2)
    return {
        "b_mean": curve(0.95 * r - shift), "r_mean": curve(r), "b_sample": curve(1 - shift - 0.1 * (1 - r)),
        "r_sample": curve(r**2 - shift), "r_input_compton_y": curve(0.85 * r), "r_input_xray": curve(0.7 * r),
        "r_inputs_linear": curve(0.92 * r),
    }  # fmt: skip


def mass(i, shift):
    M = np.geomspace(2e13, 6e14, 5) / (1 + i)
    falling, flat = np.linspace(0.1, -0.1, 5) - shift, np.linspace(0.02, -0.02, 5) + shift
    regression = {
        key: {"mass": M, "log_ratio": y, "log_ratio_error": np.full(5, 0.02)}
        for key, y in (("pred_given_true", falling), ("true_given_pred", flat))
    }
    return {"levels": LEVELS ** (1 + 3 * shift), "ranks": 10 + np.arange(10) % 4 + 20 * shift, "regression": regression}


def thirds(shift):
    x = np.array([-0.03, 0.0, 0.04]) + shift
    numbers = {
        a: {"error_median": x + 0.02 * i, "error_median_error": [0.01] * 3, "error_half_width": [0.05] * 3,
            "coverage": 0.6 + x + 0.05 * i, "coverage_error": [0.04] * 3} for i, a in enumerate(APERTURES)
    }  # fmt: skip
    return {"median": np.array([1e14, 2e14, 4e14]), "coverage_target": 0.67, "mass": numbers}


def profile(shift):
    R = 0.5 * (R_EDGES[1:] + R_EDGES[:-1])
    true = 1e8 / (1 + (R / 300) ** 2)
    return {
        "true_percentiles": [0.7 * true, true, 1.4 * true], "mean_percentiles": [0.75 * true, 0.95 * true, 1.2 * true],
        **{key: np.sin(np.log(R) + i) * 0.1 + shift for i, key in enumerate(figures.profiles.CURVES)},
        **{f"{key}_error": np.full(len(R), 0.02) for key in figures.profiles.CURVES},
        "coverage": 0.6 + 0.1 * np.cos(np.log(R)) + shift, "coverage_error": np.full(len(R), 0.05),
        "coverage_target": 0.67,
    }  # fmt: skip


def shape(shift):
    numbers = {key: 20.0 + 100 * shift for key in figures.shapes.PANELS} | {"completeness": 0.8, "purity": 0.7 + shift}
    spread = {f"{key}{end}": 5.0 for key in list(figures.shapes.PANELS)[:4] for end in ("_plus", "_minus")}
    chance = {f"{key}_by_chance": 0.1 for key in ("completeness", "purity")}
    errors = {f"{key}_error": 0.05 for key in ("completeness", "purity")}
    once = {**numbers, **spread, **chance, **errors}
    return {"mean": once, "sample": {key: value * 1.2 for key, value in once.items()}}


def convergence(shift):
    n = np.array([1, 2, 5, 10, 20, 50])
    first = np.where(n > 1, 1 - 0.3 / n, np.nan)
    return {
        "samples": n, "variance_over_final": first, "variance_over_final_scatter": 0.5 / np.sqrt(n),
        "variance_over_final_error": 0.1 / n, "skill": 1 + 1 / n + shift, "skill_error": 0.1 / n,
        "skill_target": 1 + 1 / n, "b_mean_large": 0.9 + 0.1 / n, "b_mean_large_error": 0.02 / n,
        "b_mean_small": 0.7 + 0.2 / n, "b_mean_small_error": 0.02 / n,
    }  # fmt: skip


def one_bin(shift):
    z = 0.5 * (Z_EDGES[1:] + Z_EDGES[:-1])
    pixel = {"levels": LEVELS ** (1 + shift), "ranks": 100 + 10 * np.cos(np.arange(20.0) + 9 * shift),
             "z_counts": 1e4 * np.exp(-0.5 * ((z - 5 * shift) / (0.8 + shift)) ** 2)}  # fmt: skip
    return {
        "power": power(shift), "mass": {a: mass(i, shift) for i, a in enumerate(APERTURES)},
        "by_property": {"m200m": thirds(shift), "disturbance": thirds(-shift)}, "profile": profile(shift),
        "pixel": pixel, "shape": shape(shift), "convergence": convergence(shift),
        "tarp": {"levels": LEVELS ** (1 - shift), "limit_95": 0.15},
    }  # fmt: skip


def metrics():
    scales = {"k": K, "k_split": 2.0, "profile_edges_kpc": R_EDGES, "z_edges": Z_EDGES}
    shifts = {"gas": 0.02, "dark_matter": 0.1}
    return {
        channel: {"scales": scales, "bins": {"all": one_bin(s), "low": one_bin(s + 0.1), "high": one_bin(s + 0.2)}}
        for channel, s in shifts.items()
    }


def arrays():
    M = np.geomspace(1e14, 1e15, 12)
    wave = 1 + 0.1 * np.sin(np.arange(12.0))
    inside = {a: M / (i + 1) for i, a in enumerate(APERTURES)}
    each = {a: {"mass": m, "mass_pred": m * wave, "mass_std": 0.08 * m} for a, m in inside.items()}
    return dict.fromkeys(CHANNELS, each)


def blob(width, height=1.0):
    x = np.arange(24) - 11.5
    return height / (1 + np.hypot(x[:, None], 1.3 * x) ** 2 / width**2) ** 1.5


def example(i):
    maps = {"gas": blob(2 + i, 1e7), "dark_matter": blob(1 + i, 1e8)}
    return {
        "inputs": {"compton_y": blob(4 + i, 1e-5), "xray": blob(1.5, 1e-4)}, "truth": maps,
        "mean": {c: 0.9 * m for c, m in maps.items()}, "std": {c: 0.05 * m + 1e4 for c, m in maps.items()},
        "sample": {c: 1.1 * m for c, m in maps.items()}, "pixel_kpc": 200.0,
        "halo": {"m200m": 1e14 * (i + 1), "r200m": 900.0 * (i + 1), "r500c": 500.0},
    }  # fmt: skip


def comparison(shift):
    keys = ("mass_median", "mass_half_width", "pixel_crps", "coverage_pixels")
    found = {key: {"value": shift + 0.01 * i, "error": 0.01, "maps": 9} for i, key in enumerate(keys)}
    other = {key: {**entry, "value": -entry["value"]} for key, entry in found.items()}
    statistics = {key: {"label": key, "ideal": "low"} for key in keys}
    models = {"ours": found, "wiener": found, "scaling": other}
    return {"reference": "ours", "statistics": statistics, "models": models,
            "differences": {"wiener": found, "scaling": other}}  # fmt: skip


def reconstruction():
    e = example(1)
    return figures.reconstruction(e["inputs"], e["truth"], e["mean"], e["std"], e["sample"], e["pixel_kpc"])


FIGURES = {
    "calibration": lambda: figures.calibration_figure(metrics()),
    "comparison": lambda: figures.comparison_figure({"gas": comparison(0.01), "dark_matter": comparison(-0.02)}),
    "convergence": lambda: figures.convergence_figure(metrics()),
    "images": lambda: figures.images_figure([example(0), example(1)]),
    "maps": lambda: figures.maps_figure([example(0), example(1)], "gas"),
    "masses": lambda: figures.mass_figure({c: a["map"] for c, a in arrays().items()}),
    "pixels": lambda: figures.pixels_figure(metrics()),
    "power": lambda: figures.power_figure(metrics()),
    "profiles": lambda: figures.profiles_figure(metrics()),
    "reconstruction": reconstruction,
    "regression": lambda: figures.regression_figure(metrics()),
    "scatter": lambda: figures.scatter_figure(arrays()),
    "sets": lambda: figures.sets_figure({"train": np.geomspace(1e14, 9e14, 200), "test": np.geomspace(2e14, 5e14, 40)}),
    "shapes": lambda: figures.shapes_figure(metrics()),
    "slices": lambda: figures.slices_figure({"gas": blob(5), "dark_matter": blob(2)}, 50.0),
    "trends": lambda: figures.trends_figure(metrics()),
    "trends_coverage": lambda: figures.trends_figure(metrics(), "coverage"),
}


# Pictures without text ------------------------------------------------------------------------------------------------


def without_text(figure):
    """The figure without a letter, so that fonts do not matter."""
    for text in [figure._supxlabel, *figure.legends]:
        if text is not None:
            text.remove()
    for ax in figure.axes:
        for text in [*ax.texts, *([ax.get_legend()] if ax.get_legend() else [])]:
            text.remove()
        ax.set(title="", xlabel="", ylabel="")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(NullFormatter())
            axis.set_minor_formatter(NullFormatter())
    figure._supxlabel = None
    return figure


def drawn(figure):
    """Pixels of the figure (Y, X, 3), 0 to 1."""
    with rc_context(figures.STYLE):
        figure.set_dpi(DPI)
        figure.canvas.draw()
        return np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255


def distance(a, b):
    """The largest difference of a colour between blocks of two pictures; infinite for pictures of different sizes."""
    if a.shape != b.shape:
        return np.inf
    y, x = (n // BLOCK * BLOCK for n in a.shape[:2])
    blocks = (a - b)[:y, :x].reshape(y // BLOCK, BLOCK, x // BLOCK, BLOCK, 3)
    return np.abs(blocks.mean((1, 3))).max()


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_as_it_did(name, request):
    picture, path = drawn(without_text(FIGURES[name]())), GOLDEN / f"{name}.png"
    if request.config.getoption("--golden"):
        imsave(path, picture, pil_kwargs={"optimize": True})
    assert distance(picture, imread(path)[..., :3]) < TOLERANCE
    assert path.stat().st_size <= 30_000


def curves(ax):
    """The curves, bands, steps and pictures of a panel that have a name, and the pictures."""
    named = [a for a in [*ax.lines, *ax.containers, *ax.collections, *ax.patches] if a.get_label()[:1] not in ("", "_")]
    return [*named, *ax.images]


def hide(artist):
    for part in artist.get_children() or [artist]:
        part.set_visible(False)


@pytest.mark.parametrize("name", FIGURES)
def test_a_curve_that_is_missing_is_noticed(name):
    golden = imread(GOLDEN / f"{name}.png")[..., :3]
    for i in range(len(curves(FIGURES[name]().axes[0]))):
        figure = FIGURES[name]()
        hide(curves(figure.axes[0])[i])
        assert distance(drawn(without_text(figure)), golden) > TOLERANCE


@pytest.mark.parametrize("name", FIGURES)
def test_text_is_legible_whole_and_apart(name):
    figure = FIGURES[name]()
    with rc_context(figures.STYLE):
        figure.set_dpi(figures.STYLE["savefig.dpi"])
        figure.canvas.draw()
    assert figure.get_figwidth() in (COLUMN, PAGE) or COLUMN < figure.get_figwidth() < PAGE
    ticks = [labels_of_ticks(axis) for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    names = [text for ax in figure.axes for text in (ax.title, ax.xaxis.label, ax.yaxis.label, *ax.texts)]
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    texts = [text for text in [*itertools.chain(*ticks), *names, *legends] if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 6.0
    corners = [(text.get_text(), corner) for text in texts for corner in text.get_window_extent().corners()]
    assert [text for text, corner in corners if not figure.bbox.padded(1.0).contains(*corner)] == []
    for labels in ticks:
        pairs = itertools.combinations([(text.get_text(), text.get_window_extent()) for text in labels], 2)
        assert [(a, b) for (a, box), (b, other) in pairs if box.overlaps(other)] == []


def labels_of_ticks(axis):
    """The labels of an axis that are drawn: those of ticks that lie in it."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()] if low <= tick.get_loc() <= high]
    return [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]


def test_fonts_do_not_matter(monkeypatch):
    monkeypatch.setitem(figures.STYLE, "font.family", "serif")
    monkeypatch.setitem(figures.STYLE, "xtick.labelsize", 12.0)
    picture = drawn(without_text(FIGURES["power"]()))
    assert distance(picture, imread(GOLDEN / "power.png")[..., :3]) < 0.5 * TOLERANCE

"""Recipes: every mistake is named before any work, what is done is kept, what was killed ends in the same bits."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from zwicky.dataset.plan import ObserveConfig
from zwicky.io import UserError
from zwicky.recipe import read_recipe, run_recipe
from zwicky.train import TrainConfig

RECIPES = Path(__file__).parents[1] / "recipes"
MICRO = """
[simulate]
n = 16
box = 50.0
seeds = [2]
da = 0.1
dlna = 0.2
eta = 100.0
mesh = 1

[clusters]
number = 1
lowest = 2e14
highest = 2e14
spacing = 2.0
seed = 5

[halos]
min_particles = 20

[observe]
min_mass = 1e13
per_bin = 4
cap = 3
pixels = 16
pixel_kpc = 800.0
fractions = [0.4, 0.3, 0.3]

[train]
steps = 2
batch = 2
widths = [8, 16]
blocks = 1
validate_every = 1
warmup = 1

[evaluate]
sightlines = 2
samples = 2
steps = 2
"""


def write(folder, text):
    (folder / "recipe.toml").write_text(text)
    return folder / "recipe.toml"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.stem)
def test_the_recipes_of_the_project_are_read(path):
    assert len(read_recipe(path).simulations) >= 1


def test_settings_reach_their_stage(tmp_path):
    text = "[simulate]\nn = 16\nseeds = [3, 5]\n[simulate.cosmology]\nomega_m = 0.25\n[train.noise]\nsigma_max = 70\n"
    recipe = read_recipe(write(tmp_path, text + "[observe]\nper_bin = 7\n[halos]\nmin_mass = 1\n"))
    assert [(s.seed, s.n, s.cosmology.omega_m) for s in recipe.simulations] == [(3, 16, 0.25), (5, 16, 0.25)]
    assert (recipe.train.noise.sigma_max, recipe.observe.per_bin, recipe.halos.min_mass) == (70.0, 7, 1.0)


def test_planted_clusters_are_flat_in_log_mass_in_boxes_just_large_enough(tmp_path):
    text = "[simulate]\nda = 0.02\nseeds = [1]\n[clusters]\nnumber = 4\nlowest = 1e14\nhighest = 1.6e15\nseed = 7\n"
    free, *bound = read_recipe(write(tmp_path, text)).simulations
    assert (free.seed, free.cluster, free.n) == (1, 0.0, 64)
    masses = sorted(s.cluster for s in bound)
    assert masses == pytest.approx([1.924e14, 3.703e14, 5.549e14, 1.068e15], rel=1e-3)
    shares = np.log([m / 1e14 for m in masses]) / np.log(16)
    assert (shares // 0.25).tolist() == [0, 1, 2, 3]
    assert [s.seed for s in bound] == [7, 8, 9, 10]
    for s in bound:
        assert s.da == 0.02
        assert s.box / s.n == pytest.approx(1000 / 1024)
        assert 1 <= s.box_mpc / (4 * s.cosmology.lagrangian_radius(s.cluster)) < 1.2
    alone = read_recipe(write(tmp_path, "[clusters]\nnumber = 2\n")).simulations
    assert [bool(s.cluster) for s in alone] == [True, True]


def test_the_first_of_many_clusters_are_flat_in_log_mass_too(tmp_path):
    few, many = (read_recipe(write(tmp_path, f"[clusters]\nnumber = {n}\n")).simulations for n in (24, 60))
    assert many[:24] == few  # a set can grow
    masses = [s.cluster for s in many]
    for count in (12, 24, 40, 60):
        shares = np.histogram(np.log(masses[:count]), 4, (np.log(1e14), np.log(2e15)))[0] / count
        np.testing.assert_allclose(shares, 0.25, atol=0.09)


def test_an_empty_recipe_has_the_defaults(tmp_path):
    recipe = read_recipe(write(tmp_path, ""))
    assert [s.seed for s in recipe.simulations] == [0]
    assert (recipe.train, recipe.observe) == (TrainConfig(), ObserveConfig())


WRONG = {
    "not toml": ("[simulate\n", "is not a TOML file"),
    "section": ("[simulat]\nn = 16\n", r"unknown section \[simulat\]"),
    "simulations": ("[simulations]\nn = 16\n", "unknown section"),
    "top level": ("n = 16\n", "unknown section"),
    "setting": ("[train]\nstep = 5\n", r"\[train\] has an unknown setting 'step'; known are .*steps"),
    "nested setting": ("[simulate.cosmology]\nw = -1.0\n", r"cosmology has an unknown setting 'w'"),
    "text for int": ("[train]\nsteps = '5'\n", r"\[train\] steps must be of type int, not '5'"),
    "float for int": ("[train]\nsteps = 5.5\n", r"\[train\] steps must be of type int"),
    "bool for int": ("[observe]\ncap = true\n", r"\[observe\] cap must be of type int, not True"),
    "bool for float": ("[observe]\npixel_kpc = true\n", r"pixel_kpc must be of type float"),
    "int for bool": ("[simulate]\nfixed_amplitude = 1\n", r"fixed_amplitude must be of type bool"),
    "int for text": ("[evaluate]\nsampler = 3\n", r"\[evaluate\] sampler must be of type str"),
    "impossible": ("[train]\nsteps = 0\n", r"\[train\]: steps, .* must be positive"),
    "impossible box": ("[simulate]\nbox = -3.0\n", r"\[simulate\]: .* positive box"),
    "impossible cosmology": ("[simulate.cosmology]\nh = 0.0\n", r"cosmology: not a cosmology"),
    "nan": ("[train]\nlearning_rate = nan\n", r"\[train\]: .*learning_rate"),
    "given": ("[evaluate]\ngiven = ['stars']\n", r"gives channels that \[train\] does not take: stars"),
    "none given": ("[evaluate]\ngiven = ['none', 'xray']\n", r"does not take: none"),
    "instruments": ("[evaluate]\ninstruments = ['Planck-y']\n", r"instruments that \[observe\] leaves out: Planck-y"),
    "prior": ("[evaluate]\nprior = 'flat'\n", r"another prior in \[evaluate\] needs mass = true"),
    "physics": ("[train.physics]\nmasses = 1.0\n", r"physics has an unknown setting 'masses'"),
    "channel": ("[observe]\nchannels = ['radio']\n", r"\[observe\]: unknown channel 'radio'"),
    "split": ("[evaluate]\nsplit = 'all'\n", r"\[evaluate\]: split must be"),
    "one seed": ("[simulate]\nseeds = 3\n", "seeds must be a list of different numbers"),
    "no seeds": ("[simulate]\nseeds = []\n", "seeds must be a list"),
    "same seeds": ("[simulate]\nseeds = [1, 1]\n", "seeds must be a list of different"),
    "seed of text": ("[simulate]\nseeds = ['a']\n", "seed must be of type int"),
    "section a number": ("train = 3\n", "train"),
    "simulate a number": ("simulate = 3\n", "simulate"),
    "section a list": ("[[train]]\nsteps = 3\n", "train"),
    "seeds of lists": ("[simulate]\nseeds = [[1], [2]]\n", "seed must be of type int"),
    "cosmology a number": ("[simulate]\ncosmology = 3\n", "cosmology"),
    "noise a text": ("[train]\nnoise = 'loud'\n", "noise"),
    "noise a bool": ("[train.noise]\nsigma_max = true\n", "sigma_max"),
    "number for list": ("[train]\nwidths = 8\n", "widths"),
    "texts for numbers": ("[train]\nwidths = ['a', 'b']\n", "widths"),
    "text for list": ("[observe]\nchannels = 'gas'\n", "channels"),
    "two fractions": ("[observe]\nfractions = [0.5, 0.5]\n", "fractions"),
    "nan box": ("[simulate]\nbox = nan\n", "box"),
    "negative seed": ("[simulate]\nseeds = [-1]\n", "seed"),
    "clusters": ("[clusters]\nnumber = -1\n", r"\[clusters\]: need number"),
    "cluster": ("[clusters]\nmass = 1e14\n", r"\[clusters\] has an unknown setting 'mass'"),
    "light cluster": ("[clusters]\nnumber = 1\nlowest = 1e11\nhighest = 1e11\n", r"\[clusters\]: .*200 particles"),
    "endless cluster": ("[clusters]\nnumber = 1\nhighest = inf\n", r"\[clusters\]: need number"),
    "no spacing": ("[clusters]\nnumber = 1\nspacing = 1e-320\n", r"\[clusters\]: need a spacing"),
    "box of clusters": ("[simulate]\nbox = 99.0\n[clusters]\nnumber = 1\n", r"\[simulate\] box does nothing"),
    "shared seed": ("[simulate]\nseed = 2\n[clusters]\nnumber = 1\nseed = 2\n", "share a seed"),
    "no blocks": ("[train]\nblocks = -1\n", "blocks"),
    "dropout": ("[train]\ndropout = 2.0\n", "dropout"),
    "map too wide": ("[simulate]\nbox = 10.0\n[observe]\npixel_kpc = 1000.0\n", "box"),
    "boxes of many depths": ("[observe]\ndepth_kpc = inf\n[clusters]\nnumber = 2\n", "depth_kpc is deeper than some"),
    "channels left out": ("[observe]\nchannels = ['gas', 'xray']\n", "dark_matter"),
    "odd pixels": ("[observe]\npixels = 100\n[train]\nwidths = [8, 8, 8, 8]\n", "pixels"),
}
WRONG_CASES = [pytest.param(*case, id=name) for name, case in WRONG.items()]


@pytest.mark.parametrize(("text", "message"), WRONG_CASES)
def test_what_is_wrong_is_named_before_any_work(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read_recipe(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path / "recipe.toml") in str(caught.value)


def test_a_recipe_must_be_a_file_of_text(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_recipe(tmp_path / "none.toml")
    with pytest.raises(UserError, match="does not exist or is not a file"):
        read_recipe(tmp_path)
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="is not a TOML file"):
        read_recipe(tmp_path / "a.toml")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The micro recipe, run without interruption."""
    folder = tmp_path_factory.mktemp("recipe")
    seen = []
    report = run_recipe(write(folder, MICRO), folder / "run", progress=lambda stage, *rest: seen.append(stage))
    assert report == folder / "run" / "report"
    return folder, list(dict.fromkeys(seen))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run that keeps its times of writing."""
    return shutil.copytree(finished[0], tmp_path / "copy")


def times(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_every_stage_runs_and_leaves_its_artefact(finished):
    folder, stages = finished
    simulations = ["simulate, seed 2", "halos, seed 2", "plant, seed 5", "simulate, seed 5", "halos, seed 5"]
    assert [s for s in stages if s != "outliers"] == [*simulations, "observe", "train", "evaluate"]
    runs = {"simulation-2", "simulation-5"}
    assert {p.name for p in (folder / "run").iterdir()} == {"recipe.toml", "maps.h5", "model", "report"} | runs
    for run in runs:
        assert {p.name for p in (folder / "run" / run).iterdir()} == {"snapshot.hdf5", "halos.hdf5", "log.jsonl"}
    assert {p.name for p in (folder / "run" / "report").iterdir()} >= {"metrics.json", "table1.md", "power.png"}


def test_repeating_rewrites_nothing(copy):
    before, seen = times(copy), []
    run_recipe(copy / "recipe.toml", copy / "run", progress=lambda stage, *rest: seen.append(stage))
    assert times(copy) == before
    assert set(seen) <= {"evaluate"}  # which says that it is done


def test_a_deleted_model_is_made_again_and_what_came_before_is_kept(copy, finished):
    before, seen = times(copy), []
    shutil.rmtree(copy / "run" / "model")
    run_recipe(copy / "recipe.toml", copy / "run", progress=lambda stage, *rest: seen.append(stage))
    assert "train" in seen
    assert not any(s.startswith(("simulate", "halos", "observe")) for s in seen)
    after = times(copy)
    assert [k for k in before if after[k] != before[k] and not k.startswith(("run/model", "run/report"))] == []
    assert contents(copy / "run") == contents(finished[0] / "run")


def test_another_recipe_is_refused(copy):
    before = times(copy / "run")
    with pytest.raises(UserError, match="was made by another recipe"):
        run_recipe(write(copy, MICRO.replace("steps = 2", "steps = 3")), copy / "run")
    assert times(copy / "run") == before


def test_the_same_recipe_in_other_words_is_accepted(copy):
    before = times(copy / "run")
    run_recipe(write(copy, "# a remark\n" + MICRO.replace("n = 16", "n   = 16")), copy / "run")
    assert times(copy / "run") == before


def contents(folder):
    """What a run left, by value: HDF5 data sets and attributes, weights and numbers; pictures by name."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix in (".h5", ".hdf5"):
            found[name] = _hdf5(path)
        else:
            found[name] = "" if path.suffix == ".png" else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _hdf5(path):
    values = {}

    def visit(name, item):
        values[name] = item[()].tobytes() if isinstance(item, h5py.Dataset) else ""
        values.update({f"{name}:{k}": str(v) for k, v in item.attrs.items()})

    with h5py.File(path) as f:
        visit("", f)
        f.visititems(visit)
    return values


DRIVER = """
import functools, json, os, signal, sys
from zwicky import recipe
for name in ("simulate", "train"):
    setattr(recipe, name, functools.partial(getattr(recipe, name), checkpoint_seconds=0))
stage, step = json.loads(sys.argv[3])
def tell(now, done, total, remark):
    if now.startswith(stage) and done >= step:
        os.kill(os.getpid(), signal.SIGKILL)
recipe.run_recipe(sys.argv[1], sys.argv[2], progress=tell)
"""
DEATHS = (("simulate", 300), ("halos", 2), ("plant", 1), ("observe", 4), ("train", 1), ("evaluate", 1))


def test_killed_in_every_stage_ends_in_the_same_bits(finished, tmp_path):
    """SIGKILL in each stage in turn, then a last start: all artefacts equal those of the uninterrupted run."""
    path = write(tmp_path, MICRO)
    for death in DEATHS:
        command = [sys.executable, "-c", DRIVER, str(path), str(tmp_path / "run"), json.dumps(death)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL, death
    run_recipe(path, tmp_path / "run")
    expected, found = contents(finished[0] / "run"), contents(tmp_path / "run")
    whole = {k: v for k, v in found.items() if not k.split("/")[-1].startswith(".")}
    assert whole == expected
    assert {k for k in found if k not in whole} <= {k for k in found if k.endswith(".part")}


@pytest.mark.filterwarnings("ignore")
def test_several_processes_make_the_same_bits(finished, tmp_path):
    pytest.importorskip("distributed")
    seen = []
    path = write(tmp_path, MICRO)
    run_recipe(path, tmp_path / "run", progress=lambda stage, *rest: seen.append((stage, *rest)), workers=2)
    assert [step[1:3] for step in seen if step[0] == "simulate"] == [(1, 2), (2, 2)]
    assert contents(tmp_path / "run") == contents(finished[0] / "run")


@pytest.mark.filterwarnings("ignore")
def test_what_goes_wrong_in_another_process_is_said(tmp_path):
    pytest.importorskip("distributed")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "simulation-5").write_text("a file is in the way")
    with pytest.raises(UserError, match="simulation-5"):
        run_recipe(write(tmp_path, MICRO), tmp_path / "run", workers=2)

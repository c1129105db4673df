"""The command line: help with examples, results on disk, and one sentence with status 2 for every mistake."""

import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from astropy.io import fits

from zwicky.cli import app, main
from zwicky.version import __version__

COMMANDS = [
    "simulate", "halos", "observe", "export", "prepare", "card", "train", "models", "reconstruct", "evaluate", "run",
    "demo",
]  # fmt: skip


@pytest.fixture
def zwicky(monkeypatch, capsys):
    """zwicky(*arguments) -> (exit status, standard output, standard error), in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["zwicky", *map(str, arguments)])
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return (status, *capsys.readouterr())

    return call


def process(*arguments, **options):
    """The same in a process of its own."""
    command = [sys.executable, "-m", "zwicky.cli", *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def assert_refused(result, message):
    """Exit status 2, nothing on standard output, one sentence on one line of standard error."""
    status, out, err = result
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("zwicky: ")
    assert message in err


@pytest.mark.parametrize("command", ["halos", "observe"])
def test_an_output_that_is_an_input_is_refused_and_the_input_kept(zwicky, tmp_path, command):
    for name in ("snapshot.hdf5", "halos.hdf5"):
        (tmp_path / name).write_text("data")
    paths = [tmp_path / "snapshot.hdf5", *([tmp_path / "halos.hdf5"] if command == "observe" else [])]
    assert_refused(zwicky(command, *paths, "--out", paths[-1]), "is to be read; choose another file")
    assert_refused(zwicky("halos", tmp_path, "--out", paths[0]), "is to be read; choose another file")
    assert all(path.read_text() == "data" for path in paths)


def test_the_commands_are_those_of_the_design():
    names = {c.name or c.callback.__name__ for c in app.registered_commands}
    assert names == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(zwicky, command):
    status, out, err = zwicky(command, "--help")
    assert (status, err) == (0, "")
    assert f"Example: zwicky {command} " in " ".join(out.split())


def test_version(zwicky):
    assert zwicky("--version") == (0, f"zwicky {__version__}\n", "")


def test_without_a_command_the_help_is_shown(zwicky):
    _, out, err = zwicky()
    assert "Usage: zwicky" in out
    assert err.strip() != "zwicky:"


@pytest.fixture
def sky(write_image, observation):
    """Options of a reconstruction that works."""
    files = {c: write_image(f"{c}.fits", x, u) for (c, x), u in zip(observation.items(), ("", None), strict=True)}
    return {"--sz": files["compton_y"], "--xray": files["xray"], "--redshift": 0.1, "--samples": 2, "--steps": 3}


@pytest.fixture
def reconstruct(zwicky, sky, model_folder, tmp_path):
    """reconstruct(option=value, ...) runs the command with some options changed, or dropped for None."""

    def call(runner=zwicky, **changes):
        options = {**sky, "--model": model_folder, "--out": tmp_path / "p.fits"}
        options |= {"--" + k.replace("_", "-"): v for k, v in changes.items()}
        return runner("reconstruct", *(x for k, v in options.items() if v is not None for x in (k, v)))

    return call


def test_a_reconstruction_in_a_process_of_its_own(reconstruct, tmp_path):
    status, out, err = reconstruct(process, r500c=500)
    assert status == 0
    assert "Mass [1e14 Msun]" in out
    assert "R500c" in out
    assert "Traceback" not in err
    assert "warning: xray.fits has no BUNIT" in err
    assert fits.getdata(tmp_path / "p.fits", "SAMPLES").shape == (2, 2, 16, 16)


def test_the_same_seed_gives_the_same_file(reconstruct, tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        assert reconstruct(out=tmp_path / f"{name}.fits", seed=seed)[0] == 0
    a, b, c = ((tmp_path / f"{name}.fits").read_bytes() for name in "abc")
    assert a == b != c


def mask_of(value, shape=(16, 16)):
    return lambda write, tmp_path: write("m.fits", np.full(shape, value))


def text_file(write, tmp_path):
    (tmp_path / "notes").write_text("not what you think\n" * 200)
    return tmp_path / "notes"


def folder(write, tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def image_of(data, **options):
    return lambda write, tmp_path: write("i.fits", data, **options)


ONES = np.ones((16, 16))
WITH_NAN = np.where(np.eye(16) > 0, np.nan, 1.0)
REFUSED = {
    "missing file": ({"sz": "none.fits"}, "none.fits does not exist"),
    "folder for a file": ({"sz": folder}, "does not exist or is not a file"),
    "text for an image": ({"xray": text_file}, "is not a readable FITS file"),
    "no coordinates": ({"sz": image_of(ONES, sky=False), "xray": None}, "--pixel-kpc"),
    "two shapes": ({"xray": image_of(np.ones((8, 16)))}, "16 x 16 pixels and i.fits is 16 x 8"),
    "two skies": ({"xray": image_of(ONES, ra=10.0)}, "different parts of the sky"),
    "nan": ({"xray": image_of(WITH_NAN)}, "--mask"),
    "inf": ({"xray": image_of(WITH_NAN + np.inf)}, "--mask"),
    "cube": ({"xray": image_of(np.ones((3, 16, 16)))}, "no two-dimensional image"),
    "unit": ({"xray": image_of(ONES, unit="furlong")}, "furlong"),
    "wrong unit": ({"sz": image_of(ONES, unit="K")}, "cannot be brought"),
    "mask shape": ({"mask": mask_of(1.0, (4, 4))}, "must match"),
    "mask of all": ({"mask": mask_of(0.0)}, "leaves no pixel"),
    "mask missing": ({"mask": "none.fits"}, "the mask none.fits does not exist"),
    "no image": ({"sz": None, "xray": None}, "give at least one image"),
    "negative redshift": ({"redshift": -0.1}, "redshift must be zero or positive"),
    "nan redshift": ({"redshift": "nan"}, "redshift must be zero or positive"),
    "redshift of text": ({"redshift": "far"}, "--redshift"),
    "no redshift": ({"redshift": None}, "--redshift"),
    "redshift zero": ({"redshift": 0}, "at redshift 0"),
    "pixel of nothing": ({"pixel_kpc": 0}, "pixel size must be positive"),
    "negative radius": ({"r500c": -5}, "radii of apertures must be positive"),
    "nan radius": ({"r200m": "nan"}, "radii of apertures must be positive"),
    "no samples": ({"samples": 0}, "at least one sample"),
    "samples of text": ({"samples": "many"}, "--samples"),
    "sampler": ({"sampler": "magic"}, "sampler must be one of"),
    "one level": ({"steps": 1}, "at least 2 noise levels"),
    "negative seed": ({"seed": -1}, "non-negative"),
    "device": ({"device": "tpu"}, "must be cpu, cuda or auto"),
    "model absent": ({"model": "nowhere"}, "there is no model"),
    "model a file": ({"model": text_file}, "there is no model"),
    "model an empty folder": ({"model": folder}, "there is no model"),
    "unknown option": ({"colour": "red"}, "--colour"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_reconstruction_that_cannot_be_is_refused(reconstruct, write_image, tmp_path, changes, message):
    made = {k: v(write_image, tmp_path) if callable(v) else v for k, v in changes.items()}
    before = tree(tmp_path)
    assert_refused(reconstruct(**made), message)
    assert tree(tmp_path) == before


def test_a_garbled_model_is_refused(reconstruct, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text('{"format": "zwicky-model-3"}')
    before = tree(tmp_path)
    assert_refused(reconstruct(model=tmp_path / "m"), "is not a model of Zwicky, or is damaged")
    assert tree(tmp_path) == before


def test_an_output_that_cannot_be_written_is_refused_at_once(reconstruct, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("zwicky.reconstruct.load_model", lambda *a: pytest.fail("work began"))
    assert_refused(reconstruct(out=tmp_path / "file" / "p.fits"), "cannot write into the folder")


def test_an_output_that_is_a_folder_is_refused_at_once(reconstruct, tmp_path, monkeypatch):
    monkeypatch.setattr("zwicky.reconstruct.load_model", lambda *a: pytest.fail("work began"))
    assert_refused(reconstruct(out=tmp_path), "cannot write")


def test_an_image_is_not_overwritten_by_its_reconstruction(reconstruct, sky):
    before = sky["--sz"].read_bytes()
    assert_refused(reconstruct(out=sky["--sz"]), "--out")
    assert sky["--sz"].read_bytes() == before


def test_a_file_cut_off_is_one_sentence(reconstruct, write_image, tmp_path):
    path = write_image("cut.fits", np.ones((64, 64)))
    path.write_bytes(path.read_bytes()[:9000])
    assert_refused(reconstruct(process, sz=path), "is cut off")


def test_refusals_in_a_process_of_its_own(reconstruct, tmp_path):
    before = tree(tmp_path)
    assert_refused(reconstruct(process, sz=tmp_path / "none.fits"), "does not exist")
    assert tree(tmp_path) == before


@pytest.fixture
def outside(tmp_path, map_file, model_folder):
    """Paths for the other commands."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "bad.toml").write_text("[train]\nstep = 5\n")
    (tmp_path / "good.toml").write_text("")
    with h5py.File(shutil.copy(map_file, tmp_path / "zero.h5"), "a") as f:
        f["maps/gas"][...] = 0
    names = {"OUT": tmp_path / "out" / "x", "FILE": tmp_path / "file", "MAPS": map_file, "MODEL": model_folder}
    return names | {
        "BELOW": tmp_path / "file" / "x", "BAD": tmp_path / "bad.toml", "GOOD": tmp_path / "good.toml",
        "ZERO": tmp_path / "zero.h5", "LONG": tmp_path / ("x" * 300),
    }  # fmt: skip


OTHERS = {
    "preset": ("simulate --preset n65 --out OUT", "preset must be one of n64"),
    "closure": ("simulate --closure loud --out OUT", "closure"),
    "particles": ("simulate --particles 2 --out OUT", "n >= 8"),
    "simulate, recipe": ("simulate --recipe BAD --seed 3 --out OUT", "has no simulation of seed 3; it has 0."),
    "simulate, no recipe": ("simulate --recipe none.toml --out OUT", "none.toml does not exist"),
    "simulate, both": ("simulate --recipe GOOD --box 20 --out OUT", "--box does not go with --recipe"),
    "memory": ("simulate --particles 100000 --out OUT", "GB of memory"),
    "redshift": ("simulate --redshift 60 --out OUT", "start > end"),
    "simulate, out": ("simulate --particles 8 --out BELOW", "cannot write into the folder"),
    "simulate, long out": ("simulate --particles 8 --out LONG", "cannot write into the folder"),
    "plant, long out": ("simulate --particles 16 --cluster 2e14 --out LONG", "cannot write into the folder"),
    "no out": ("simulate", "--out"),
    "halos, long out": ("halos MAPS --out LONG", "the name is too long"),
    "halos, no snapshot": ("halos none.hdf5 --out OUT", "none.hdf5 does not exist"),
    "halos, text": ("halos FILE --out OUT", "is not a complete HDF5 snapshot"),
    "halos, other file": ("halos MAPS --out OUT", "is not a complete HDF5 snapshot"),
    "halos, out": ("halos MAPS --out BELOW", "cannot write into the folder"),
    "observe, no halos": ("observe MAPS none.hdf5 --out OUT", "none.hdf5 does not exist"),
    "observe, text": ("observe MAPS FILE --out OUT", "is not a halo catalogue"),
    "observe, other file": ("observe MAPS MAPS --out OUT", "is not a halo catalogue"),
    "observe, channel": ("observe MAPS MAPS --channels radio --out OUT", "unknown channel 'radio'"),
    "observe, no table": ("observe MAPS MAPS --emissivity none.hdf5 --out OUT", "none.hdf5 does not exist"),
    "observe, other table": ("observe MAPS MAPS --emissivity FILE --out OUT", "is not a table of emissivities"),
    "observe, table is out": ("observe MAPS MAPS --emissivity FILE --out FILE", "which is to be read"),
    "observe, metals": ("observe MAPS MAPS --metallicity -1 --out OUT", "metallicity from 0 to 100 Zsun"),
    "observe, no stars": ("observe MAPS MAPS --populations none.hdf5 --out OUT", "none.hdf5 does not exist"),
    "observe, stars": ("observe MAPS MAPS --populations FILE --out OUT", "is not a table of stellar populations"),
    "observe, stars are out": ("observe MAPS MAPS --populations FILE --out FILE", "which is to be read"),
    "observe, kernel": ("observe MAPS MAPS --kernel gauss --out OUT", "the kernel must be one of wendland, cubic"),
    "observe, kernel of a mesh": ("observe MAPS MAPS --mesh --kernel cubic --out OUT", "wendland for a mesh"),
    "observe, mass": ("observe MAPS MAPS --min-mass nan --out OUT", "a finite min_mass"),
    "observe, pixel": ("observe MAPS MAPS --pixel-kpc inf --out OUT", "a finite pixel_kpc"),
    "halos, mass": ("halos MAPS --min-mass nan --out OUT", "least mass of halos"),
    "halos, particles": ("halos MAPS --min-particles 0 --out OUT", "least mass of halos"),
    "observe, pixels": ("observe MAPS MAPS --pixels 1 --out OUT", "pixels >= 8"),
    "train, no maps": ("train none.h5 --out OUT", "none.h5 does not exist"),
    "train, text": ("train FILE --out OUT", "is not a complete set of maps"),
    "train, steps": ("train MAPS --steps 0 --out OUT", "must be positive"),
    "train, out": ("train MAPS --steps 2 --out BELOW", "cannot write into the folder"),
    "train, device": ("train MAPS --device tpu --out OUT", "must be cpu, cuda or auto"),
    "train, no signal": ("train ZERO --steps 2 --out OUT", "without a positive pixel"),
    "evaluate, one path": ("evaluate MAPS --out OUT", "at least one model"),
    "evaluate, no model": ("evaluate nowhere MAPS --out OUT", "there is no model"),
    "evaluate, maps": ("evaluate MODEL FILE --out OUT", "is not a complete set of maps"),
    "evaluate, split": ("evaluate MODEL MAPS --split all --out OUT", "split must be"),
    "evaluate, samples": ("evaluate MODEL MAPS --samples 1 --out OUT", "samples >= 2"),
    "evaluate, seed": ("evaluate MODEL MAPS --seed -99 --out OUT", "seed"),
    "evaluate, out": ("evaluate MODEL MAPS --out BELOW", "cannot write into the folder"),
    "run, no recipe": ("run none.toml --out OUT", "none.toml does not exist"),
    "run, recipe": ("run BAD --out OUT", "unknown setting 'step'"),
    "run, out": ("run GOOD --out BELOW", "cannot write into the folder"),
    "unknown command": ("observ", "observ"),
}


@pytest.mark.parametrize(
    ("line", "message"), [pytest.param(*c[:2], id=name, marks=c[2:]) for name, c in OTHERS.items()]
)  # fmt: skip
def test_other_commands_refuse_what_cannot_be(zwicky, outside, tmp_path, line, message):
    before = tree(tmp_path)
    assert_refused(zwicky(*(outside.get(word, word) for word in line.split())), message)
    assert tree(tmp_path) == before


def test_paths_are_told_as_they_are(zwicky, tmp_path):
    """Brackets, which markup would take for its own, and more letters than a terminal is wide."""
    folder = tmp_path / "run[bold]" / ("long " * 20).strip() / "[end"
    status, out, err = zwicky("simulate", "--particles", 8, "--box", 8, "--redshift", 40, "--out", folder)
    assert (status, out) == (0, f"{folder / 'snapshot.hdf5'}\n"), err
    assert re.search(r"simulate, 0\.6 GB: \d+/1000 z = \d+\.\d+ \d+ s left\n", err)


DRY = ["simulate", "observe MAPS MAPS", "train MAPS", "evaluate MODEL MAPS", "run GOOD"]


@pytest.mark.parametrize("line", DRY)
def test_a_dry_run_prints_the_configuration_and_writes_nothing(zwicky, outside, tmp_path, line):
    before = tree(tmp_path)
    status, out, err = zwicky(*(outside.get(w, w) for w in line.split()), "--dry-run", "--out", outside["OUT"])
    assert (status, err) == (0, "")
    assert isinstance(json.loads(out), dict)
    assert tree(tmp_path) == before


def test_a_simulation_of_a_recipe_is_that_of_its_seed(zwicky, tmp_path):
    """Boxes may be narrower than the maps that a whole recipe would make of them."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "[simulate]\nn = 16\nbox = 5\nseeds = [2, 3]\neta = 0.1\ncosmology = { omega_m = 0.25 }\n"
        "[clusters]\nnumber = 2\nseed = 8\n"
    )

    def told(seed):
        return json.loads(zwicky("simulate", "--recipe", recipe, "--seed", seed, "--dry-run", "--out", tmp_path)[1])

    for seed in (3, 9):
        config = told(seed)
        assert (config["seed"], config["eta"], config["cosmology"]["omega_m"]) == (seed, 0.1, 0.25)
        assert (config["box"] == 5) is (seed == 3)
        assert (config["cluster"] > 1e14) is (seed == 9)


def test_the_table_and_the_metallicity_of_maps_are_settings(zwicky, outside):
    line = "observe MAPS MAPS --emissivity FILE --metallicity 0.5 --populations FILE --kernel cubic --dry-run --out OUT"
    config = json.loads(zwicky(*(outside.get(w, w) for w in line.split()))[1])
    assert (config["emissivity"], config["metallicity"]) == (str(outside["FILE"]), 0.5)
    assert (config["populations"], config["kernel"]) == (str(outside["FILE"]), "cubic")


def test_maps_of_a_mesh_are_asked_for_by_an_option(zwicky, outside):
    for option, expected in ((), False), (("--mesh",), True):
        _, out, _ = zwicky("observe", outside["MAPS"], outside["MAPS"], *option, "--dry-run", "--out", outside["OUT"])
        assert json.loads(out)["mesh"] is expected


def test_a_planted_cluster_is_simulated_with_the_peak_that_was_found(zwicky, tmp_path, monkeypatch):
    """The second call finds the run done and seeks no peak."""
    def found(config, progress, device):
        progress(1, 8, "3e14 Msun")
        return 1.9

    monkeypatch.setattr("zwicky.plant.peak_height", found)
    line = ("simulate", "--particles", 16, "--box", 34, "--cluster", 3e14, "--redshift", 15, "--out", tmp_path / "run")
    status, out, err = zwicky(*line)
    assert (status, out.strip()) == (0, str(tmp_path / "run" / "snapshot.hdf5"))
    assert "simulate, 0.6 GB" in err
    assert "plant: 1/8 3e14 Msun" in err
    with h5py.File(tmp_path / "run" / "snapshot.hdf5") as f:
        config = json.loads(f["Config"].attrs["json"])
    assert (config["cluster"], config["peak"]) == (3e14, 1.9)
    monkeypatch.setattr("zwicky.plant.peak_height", None)
    assert zwicky(*line)[0] == 0


def test_train_and_evaluate(zwicky, map_file, tmp_path):
    model, report = tmp_path / "model", tmp_path / "report"
    assert zwicky("train", map_file, "--steps", 2, "--batch", 1, "--out", model)[0] == 0
    options = ("--sightlines", 1, "--samples", 2, "--out", report)
    assert zwicky("evaluate", model, map_file, *options)[0] == 0
    assert (report / "metrics.json").is_file()


def test_models_are_listed(zwicky, model_folder):
    status, out, err = zwicky("models")
    assert (status, err) == (0, "")
    assert out.startswith("# laptop (")
    status, out, _ = zwicky("models", model_folder)
    assert status == 0
    assert "compton_y" in out
    assert_refused(zwicky("models", "nothing"), "there is no model 'nothing'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "magic"], "kind must be one of"),
        (["--network", "magic"], "network must be one of"),
        (["--instruments", "ACT"], "has no images of 'ACT'"),
        (["--degrade", "2"], "degrade must lie in"),
        (["--accumulate", "3"], "multiple of accumulate"),
        (["--time-budget", "-1"], "time budget must not be negative"),
        (["--from", "nothing"], "there is no model 'nothing'"),
    ],
)
def test_a_training_that_is_not_possible_is_refused(zwicky, map_file, tmp_path, options, message):
    command = ["train", map_file, "--out", tmp_path / "model", "--widths", "8,16", "--steps", "2", "--batch", "4"]
    assert_refused(zwicky(*command, *options), message)
    assert not (tmp_path / "model").exists()


def test_another_prior_needs_masses_apart(zwicky, write_image, observation, model_folder, tmp_path):
    y = write_image("y.fits", observation["compton_y"], unit="", sky=False)
    command = ["reconstruct", "--model", model_folder, "--sz", y, "--redshift", "0.1", "--pixel-kpc", "200"]
    found = zwicky(*command, "--prior", "flat", "--samples", "2", "--out", tmp_path / "p.fits")
    assert_refused(found, "needs a model that predicts masses apart")


def test_a_published_method_is_a_set_of_settings(zwicky, map_file, tmp_path):
    command = ["train", map_file, "--out", tmp_path / "model", "--dry-run"]
    status, out, _ = zwicky(*command, "--baseline", "h25", "--widths", "8,16")
    settings = json.loads(out)
    assert status == 0
    assert (settings["kind"], settings["network"], settings["widths"]) == ("h25", "ncsnpp", [8, 16])
    assert_refused(zwicky(*command, "--baseline", "magic"), "the baseline must be one of")

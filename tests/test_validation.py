"""The validation scripts run, in small."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zwicky.evaluate.run import EvaluateConfig, evaluate
from zwicky.model import read_model
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, simulate

FOLDER = Path(__file__).parents[1] / "validation"


def script(name):
    """A validation script as a module."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))  # for what the scripts share
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("closure", ["viscous", "inviscid"])
def test_gas_stays_in_equilibrium_with_the_viscous_closure_alone(closure):
    """Two dynamical times of 20000 particles: within 12% (the start is within 5%) from 0.2 to 1.5 R500c, or not."""
    model = replace(PressureModel(), closure=closure, support=1.0, support_slope=0.0, temperature=1.0)
    sphere = script("sphere").Sphere(model, particles=20000)
    times = []
    sphere.run(2, times.append)
    density, speed = sphere.shells()
    assert times == [1, 2]
    if closure == "viscous":
        np.testing.assert_allclose(density[1:6], 1, atol=0.12)
        assert speed[:5].max() < 0.15
    else:
        assert density[1:3].min() > 1.4


def nfw_radii(c, count, rng):
    """Random r / R200c of an NFW halo of concentration c."""
    x = np.linspace(1e-3, c, 20000)
    mass = np.log1p(x) - x / (1 + x)
    return np.interp(rng.uniform(0, mass[-1], count), mass, x) / c


@pytest.mark.parametrize("c", [3.0, 6.0, 10.0])
def test_concentration_is_that_of_the_mass_not_of_the_number_of_particles(c):
    """Light gas, far flatter than the dark matter, hardly changes it."""
    clusters, rng = script("clusters"), np.random.default_rng(1)
    dark = nfw_radii(c, 40000, rng)
    assert clusters.concentration(dark, np.ones(40000), 0.05) == pytest.approx(c, rel=0.05)
    gas = rng.uniform(0, 1, 40000) ** (1 / 2)
    both, mass = np.concatenate([dark, gas]), np.repeat([1.0, 0.01], 40000)
    assert clusters.concentration(both, mass, 0.05) == pytest.approx(c, rel=0.08)


def test_a_power_law_is_recovered_with_its_scatter():
    clusters, rng = script("clusters"), np.random.default_rng(2)
    mass = 10 ** rng.uniform(13.5, 15, 2000)
    value = 3 * (mass / 1e14) ** 1.6 * 10 ** rng.normal(0, 0.1, 2000)
    slope, error, scatter, height = clusters.straight_line(mass, value, rng)
    assert slope == pytest.approx(1.6, abs=4 * error)
    assert 0.002 < error < 0.01
    assert scatter == pytest.approx(0.1, rel=0.06)
    assert height == pytest.approx(np.log10(3) + 1.6 * np.log10(np.median(mass) / 1e14), abs=0.01)


def test_a_profile_is_averaged_over_the_volume_of_a_shell():
    clusters = script("clusters")
    edges = clusters.EDGES
    expected = 3 / 2 * np.diff(edges**2) / np.diff(edges**3)  # of 1 / r
    np.testing.assert_allclose(clusters.mean_of_shells(lambda r: 1 / r), expected, rtol=1e-4)


def test_axis_ratios_of_a_squeezed_shell():
    """On a thin ellipsoidal shell with axes 1, 0.8, 0.6 the reduced tensor is rounder than the shell, in order."""
    clusters, rng = script("clusters"), np.random.default_rng(3)
    d = rng.normal(size=(50000, 3))
    assert clusters.axis_ratios(d, np.ones(50000)) == pytest.approx([1, 1], abs=0.02)
    shortest, middle = clusters.axis_ratios(d * [0.6, 1.0, 0.8], np.ones(50000))
    assert 0.6 < shortest < 0.8 < middle < 1


def test_ewald_sum_of_the_script_is_that_of_two_particles():
    """Near each other they pull as Newton says; half a box apart along an axis not at all."""
    force, mass = script("force"), np.array([1.0, 2.0])
    near = force.ewald(np.array([[0.5, 0.5, 0.5], [0.51, 0.5, 0.5]]), mass, [0, 1], 1e-6)
    assert near[0, 0] == pytest.approx(2 / 0.01**2, rel=1e-4)
    np.testing.assert_allclose(mass @ near, 0, atol=1e-6 * near[0, 0])
    far = force.ewald(np.array([[0.1, 0.5, 0.5], [0.6, 0.5, 0.5]]), mass, [0], 1e-6)
    np.testing.assert_allclose(far, 0, atol=1e-6)


def test_clusters_of_a_run_are_measured(tmp_path):
    """A small planted cluster goes through the script: profiles near the model, a figure."""
    config = SimulationConfig(n=16, box=34.0, seed=3, cluster=3e14, redshift_start=19.0, da=0.02, eta=0.5)
    simulate(config, tmp_path / "run")
    command = [sys.executable, str(FOLDER / "clusters.py"), str(tmp_path / "run"), "--min-mass", "5e13"]
    done = subprocess.run([*command, "--figure", str(tmp_path / "figure.png")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fraction = float(done.stdout.split("84%:")[1].split()[1])
    assert 0.7 < fraction < 1.2
    assert (tmp_path / "figure.png").stat().st_size > 10000
    nothing = subprocess.run([*command[:-1], "1e17"], capture_output=True, text=True)
    assert (nothing.returncode, nothing.stderr.strip()) == (1, "no halo lies between the masses.")


def test_a_slice_of_an_even_lattice_is_the_mean_and_one_clump_is_in_its_pixel():
    from zwicky.simulate.state import Species

    slices, n, box = script("slices"), 16, 8.0
    x = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) + 0.5) * box / n
    even = Species(x, np.zeros_like(x), np.ones(n**3), np.ones(n**3))
    np.testing.assert_allclose(slices.slice_of(even, box, 2.0, 8), 1.0)
    clump = np.array([[1.5, 6.5, 4.0]])
    found = slices.slice_of(Species(clump, 0 * clump, np.ones(1), np.ones(1)), box, box, 8)
    assert found[6, 1] == 64.0
    assert found.sum() == 64.0


def test_the_median_of_directions_of_a_round_shell_is_its_mean():
    """The parts that points of a sphere fall into by their nearest direction have equal areas."""
    clusters = script("clusters")
    x = np.random.default_rng(0).standard_normal((400_000, 3))
    part = np.argmax(x @ clusters.DIRECTIONS.T, axis=1)
    np.testing.assert_allclose(np.bincount(part) * len(clusters.DIRECTIONS) / len(x), np.ones(20), atol=0.03)
    np.testing.assert_allclose(np.linalg.norm(clusters.DIRECTIONS, axis=1), 1)


def test_runs_that_differ_are_not_averaged(tmp_path, monkeypatch):
    for i, box in enumerate((8.0, 9.0)):
        config = SimulationConfig(n=8, box=box, da=0.08, dlna=0.2, eta=100.0, softening=0.1)
        simulate(config, tmp_path / str(i))
    monkeypatch.setattr(sys, "argv", ["power.py", str(tmp_path / "0"), str(tmp_path / "1"), "--mesh", "16"])
    with pytest.raises(SystemExit, match="differ"):
        script("power").main()


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "peer"))
def test_every_script_can_be_loaded(name):
    """Their settings are made when they are loaded; peer needs a package of its own."""
    assert script(name).__doc__


@pytest.fixture
def few_figures(monkeypatch):
    """Reports of the scripts have one figure."""
    from zwicky.evaluate import gallery

    monkeypatch.setattr(gallery, "PLATES", {"sets": gallery.PLATES["sets"]})


def test_quality_is_told_for_each_sampler_and_number_of_evaluations(
    model_folder, map_file, tmp_path, monkeypatch, capsys, few_figures
):
    levels = script("levels")
    config, _ = read_model(model_folder)
    assert [levels.levels_for(config, s, 8) for s in ("dpm", "heun", "euler_maruyama_open", "mean")] == [7, 4, 8, 9]
    published = replace(config, kind="h25")  # has no mean
    assert [levels.levels_for(published, s, 8) for s in ("dpm", "heun")] == [8, 4]
    arguments = [model_folder, map_file, tmp_path / "r", "--samplers", "dpm", "heun", "--evaluations", 2, 8, 16]
    arguments += ["--sightlines", 2, "--samples", 3, "--figure", tmp_path / "levels.png"]
    monkeypatch.setattr(sys, "argv", ["levels.py", *map(str, arguments)])
    levels.main()
    table = capsys.readouterr().out.split("dark_matter\n")[0].splitlines()
    found = {tuple(line.split()[:2]): line.split() for line in table if line.startswith(("dpm ", "heun ", "mean "))}
    assert set(found) >= {("mean", "1"), ("dpm", "16"), ("heun", "16")}  # few evaluations may diverge
    assert min(float(row[3]) for name, row in found.items() if name[0] != "mean") == 1.0
    assert (tmp_path / "levels.png").stat().st_size > 5000


def test_the_numbers_of_a_report_stand_beside_aims(model_folder, map_file, tmp_path, monkeypatch, capsys, few_figures):
    report = evaluate([model_folder], map_file, tmp_path / "r", EvaluateConfig(sightlines=2, samples=3, steps=3))
    monkeypatch.setattr(sys, "argv", ["aims.py", str(report)])
    script("aims").main()
    table = capsys.readouterr().out
    bins = json.loads((report / "metrics.json").read_text())["channels"]["gas"]["bins"]["all"]
    lines = {line[:34].strip(): line[34:].split() for line in table.splitlines()}
    assert "2 maps of 2 clusters" in table
    assert float(lines["pixels: CRPS / mean"][0]) == pytest.approx(bins["pixel"]["crps_over_mean"], abs=1e-4)
    assert lines["TARP: largest deviation"][-3:] == ["(", "to", "0.05)"]


def test_a_number_that_misses_its_aim_is_marked():
    cell = script("aims").cell
    assert cell(0.68, 0.02, 0.65, 0.7).split() == ["0.6800", "+-", "0.0200"]
    assert cell(0.72, 0.02, 0.65, 0.7)[-1] == "?"
    assert cell(0.75, 0.02, 0.65, 0.7)[-1] == "!"
    assert cell(0.06, None, None, 0.05)[-1] == "!"
    assert cell(None, None, 0.65, 0.7).strip() == "-"


def test_variants_are_trained_and_judged_side_by_side(map_file, tmp_path, monkeypatch, capsys, few_figures):
    arguments = [map_file, tmp_path, "--variants", "ours", "no_spread", "no_pixels", "--steps", 3, "--batch", 4]
    arguments += ["--widths", 8, 16, "--sightlines", 2, "--samples", 3]
    monkeypatch.setattr(sys, "argv", ["variants.py", *map(str, arguments)])
    script("variants").main()
    text = capsys.readouterr().out
    assert "scaling_xray" in text
    assert {line.split()[0] for line in text.split("gas: mass in the map")[1].splitlines()[2:6]} == {
        "ours", "no_spread", "no_pixels", "wiener",
    }  # fmt: skip
    stored = {n: json.loads((tmp_path / n / "training.json").read_text()) for n in ("ours", "no_pixels")}
    assert stored["ours"]["mass"]
    assert not stored["no_pixels"]["local"]
    ours, same = (read_model(tmp_path / name)[0] for name in ("ours", "no_spread"))
    assert ours.spread
    assert same == replace(ours, spread={})


def test_a_misplaced_centre_is_told(model_folder, map_file, monkeypatch, capsys):
    centring = script("centring")
    image, known = centring.moved(np.arange(9.0).reshape(3, 3), 1)
    assert image.tolist() == [[0, 0, 1], [0, 3, 4], [0, 6, 7]]
    assert known.tolist() == [[False, True, True]] * 3
    arguments = [model_folder, map_file, "--pixels", 0, 2, "--sightlines", 2, "--samples", 3]
    monkeypatch.setattr(sys, "argv", ["centring.py", *map(str, arguments)])
    centring.main()
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [tuple(line.split()[:3]) for line in lines] == [
        (pixels, target, radius) for pixels in "02" for target in ("gas", "dark_matter") for radius in centring.RADII
    ]
    assert lines[:4] != lines[4:]

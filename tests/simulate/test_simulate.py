"""From a configuration to a snapshot: resuming, repeating, and what is refused."""

import signal
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

from zwicky.io import UserError
from zwicky.simulate import run
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, simulate
from zwicky.snapshots import read_snapshot

SMALL = {"n": 8, "box": 8.0, "seed": 5, "da": 0.08, "dlna": 0.2, "softening": 0.1}
STEPS = len(SimulationConfig(**SMALL).scale_factors()) - 1

KILLED = """
import os, signal, sys
from zwicky.simulate.run import SimulationConfig, simulate

def kill(step, steps, redshift):
    if step == {kill_at}:
        os.kill(os.getpid(), signal.SIGKILL)

simulate(SimulationConfig(**{config!r}), sys.argv[1], kill, checkpoint_seconds=0.0)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The snapshot of an uninterrupted run."""
    return simulate(SimulationConfig(**SMALL), tmp_path_factory.mktemp("whole"))


def datasets(path):
    """Every data set of a file."""
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_killed_run_resumes_to_the_same_bits(finished, tmp_path):
    """SIGKILL after most of the steps; the resumed run makes only the remaining ones."""
    kill_at = STEPS - 4
    script = KILLED.format(kill_at=kill_at, config=SMALL)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.hdf5"]
    steps = []
    resumed = simulate(SimulationConfig(**SMALL), tmp_path, lambda *args: steps.append(args))
    assert [s[0] for s in steps] == list(range(kill_at, STEPS + 1))
    assert steps[-1][1:] == (STEPS, pytest.approx(0.0, abs=1e-12))
    whole, parts = datasets(finished), datasets(resumed)
    assert whole.keys() == parts.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, parts[name], err_msg=name)
    assert [p.name for p in tmp_path.iterdir()] == ["snapshot.hdf5"]


def test_repeating_a_finished_run_makes_no_step(finished):
    before = finished.stat().st_mtime_ns
    assert simulate(SimulationConfig(**SMALL), finished.parent, lambda *_: pytest.fail("a step was made")) == finished
    assert finished.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"da": 0.07}, {"pressure": PressureModel(closure="inviscid")}])
def test_another_configuration_in_the_same_folder_is_refused(finished, change):
    with pytest.raises(UserError, match="another configuration"):
        simulate(replace(SimulationConfig(**SMALL), **change), finished.parent)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    class Stop(Exception):  # noqa: N818
        pass

    def stop(step, *_):
        if step == 3:
            raise Stop

    with pytest.raises(Stop):
        simulate(SimulationConfig(**SMALL), tmp_path, stop, checkpoint_seconds=0.0)
    with pytest.raises(UserError, match="another configuration"):
        simulate(SimulationConfig(**SMALL | {"seed": 9}), tmp_path)


def test_a_damaged_file_in_the_folder_is_refused(tmp_path):
    (tmp_path / "snapshot.hdf5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        simulate(SimulationConfig(**SMALL), tmp_path)


def test_a_run_that_would_not_fit_in_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_available_memory", lambda: 1e8)
    with pytest.raises(UserError, match=r"0\.6 GB of memory and 0\.1 GB are free"):
        simulate(SimulationConfig(**SMALL), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_snapshot_holds_all_matter_at_the_redshift_asked_for(finished):
    config, particles = SimulationConfig(**SMALL), read_snapshot(finished)
    total = particles.dark_matter.masses.sum() + particles.gas.masses.sum()
    assert total == pytest.approx(config.cosmology.rho_mean * config.box_mpc**3, rel=1e-10)
    assert particles.box == pytest.approx(8.0 / 0.7, rel=1e-12)
    assert particles.redshift == pytest.approx(0.0, abs=1e-12)
    assert particles.cosmology == config.cosmology
    assert len(particles.gas) == len(particles.dark_matter) == 8**3
    for species in (particles.gas, particles.dark_matter):
        assert (species.positions >= 0).all()
        assert (species.positions < particles.box).all()
        assert 30 < np.sqrt((species.velocities.astype(float) ** 2).sum(axis=1).mean()) < 1000  # km/s


@pytest.mark.parametrize(
    "wrong",
    [{"n": 4}, {"box": 0.0}, {"redshift_end": 60.0}, {"redshift_end": -0.5}, {"da": 0.0}, {"dlna": 1.0},
     {"softening": 0.0}, {"mesh": 0}],
)
def test_what_cannot_be_simulated_is_refused(wrong):
    with pytest.raises(ValueError, match=r"need|must obey"):
        SimulationConfig(**SMALL | wrong)


def test_presets_have_one_mass_resolution():
    """The spacing of HYPER, 500/1024 Mpc/h, in every box."""
    for n, box in run.PRESETS.values():
        assert box / n == 500 / 1024

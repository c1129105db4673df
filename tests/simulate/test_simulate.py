"""From a configuration to a snapshot: resuming, repeating, and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from zwicky.io import UserError
from zwicky.simulate import run
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, simulate
from zwicky.snapshots import read_snapshot

SMALL = {"n": 8, "box": 8.0, "seed": 5, "da": 0.08, "dlna": 0.2, "eta": 100.0, "softening": 0.1, "redshifts": (1.0,)}

KILLED = """
import os, signal, sys
from zwicky.simulate.run import SimulationConfig, simulate

def kill(done, total, redshift):
    if redshift <= {kill_at}:
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


@pytest.mark.parametrize("kill_at", [1.5, 1.0, 0.3])
def test_a_killed_run_resumes_to_the_same_bits(finished, tmp_path, kill_at):
    """SIGKILL before, at and after the snapshot at z = 1; the resumed run makes only the remaining steps."""
    script = KILLED.format(kill_at=kill_at, config=SMALL)
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL
    earlier = {"snapshot-z1.000.hdf5"} if kill_at < 1 else set()
    assert {p.name for p in tmp_path.iterdir()} == {"checkpoint.hdf5", "log.jsonl"} | earlier
    seen = []
    simulate(SimulationConfig(**SMALL), tmp_path, lambda *args: seen.append(args))
    assert seen[0][2] <= kill_at
    assert seen[-1] == (1000, 1000, pytest.approx(0.0, abs=1e-12))
    assert {p.name for p in tmp_path.iterdir()} == {"snapshot.hdf5", "snapshot-z1.000.hdf5", "log.jsonl"}
    for name in ("snapshot.hdf5", "snapshot-z1.000.hdf5"):
        whole, parts = datasets(finished.parent / name), datasets(tmp_path / name)
        assert whole.keys() == parts.keys()
        for key, values in whole.items():
            np.testing.assert_array_equal(values, parts[key], err_msg=key)
    assert (tmp_path / "log.jsonl").read_text() == (finished.parent / "log.jsonl").read_text()


@pytest.mark.parametrize("name", ["snapshot-z1.000.hdf5", "snapshot.hdf5"])
def test_a_run_that_dies_over_a_snapshot_writes_it_when_it_is_resumed(finished, tmp_path, monkeypatch, name):
    """The checkpoint stands on the output already."""

    def die(particles, path, *rest):
        if path.name == name:
            raise KeyboardInterrupt
        return write(particles, path, *rest)

    write = run.write_snapshot
    monkeypatch.setattr(run, "write_snapshot", die)
    with pytest.raises(KeyboardInterrupt):
        simulate(SimulationConfig(**SMALL), tmp_path, checkpoint_seconds=0.0)
    monkeypatch.undo()
    simulate(SimulationConfig(**SMALL), tmp_path)
    for output in ("snapshot-z1.000.hdf5", "snapshot.hdf5"):
        whole, parts = datasets(finished.parent / output), datasets(tmp_path / output)
        assert all((values == parts[key]).all() for key, values in whole.items())


def test_a_disk_without_room_is_said_before_anything_is_written(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"cannot write .*snapshot.hdf5: it takes 0 MB and 0 MB are free"):
        run.write_snapshot(read_snapshot(finished), tmp_path / "snapshot.hdf5")
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_other_physics_is_refused(finished, tmp_path, monkeypatch):
    assert read_snapshot(finished).origin["written_by"].startswith("zwicky ")
    shutil.copytree(finished.parent, tmp_path / "run")
    monkeypatch.setattr(run, "PHYSICS", run.PHYSICS + 1)
    with pytest.raises(UserError, match="another version's physics"):
        simulate(SimulationConfig(**SMALL), tmp_path / "run")


def test_the_log_has_every_step_and_now_and_then_the_power(finished):
    lines = [json.loads(line) for line in (finished.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    assert [line["a"] for line in lines] == sorted(line["a"] for line in lines)
    assert {0.5, 1.0} <= {line["a"] for line in lines}
    assert all(line["momentum"] < 1e-5 for line in lines)
    assert len([line for line in lines if "k" in line]) > 10
    config, particles = SimulationConfig(**SMALL), read_snapshot(finished)
    species = (particles.gas, particles.dark_matter)
    kinetic = sum(0.5 * (s.masses * (s.velocities.astype(float) ** 2).sum(1)).sum() for s in species)
    assert lines[-1]["kinetic"] == pytest.approx(kinetic, rel=1e-5)
    last = next(line for line in reversed(lines) if "k" in line)
    grown = float(config.cosmology.growth(last["a"]) / config.cosmology.growth(lines[0]["a"])) ** 2
    first = next(line for line in lines if "k" in line)
    assert 0.2 * grown < last["dark_matter"][0] / first["dark_matter"][0] < 5 * grown


def test_a_snapshot_on_the_way_has_its_redshift(finished):
    assert read_snapshot(finished.parent / "snapshot-z1.000.hdf5").redshift == pytest.approx(1.0, rel=1e-12)


def test_repeating_a_finished_run_makes_no_step(finished):
    before = finished.stat().st_mtime_ns
    assert simulate(SimulationConfig(**SMALL), finished.parent, lambda *_: pytest.fail("a step was made")) == finished
    assert finished.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", [{"seed": 6}, {"da": 0.07}, {"pressure": PressureModel(closure="inviscid")}])
def test_another_configuration_in_the_same_folder_is_refused(finished, change):
    with pytest.raises(UserError, match="another configuration"):
        simulate(replace(SimulationConfig(**SMALL), **change), finished.parent)


def cut_off(folder):
    """Leave the checkpoint of a run that ended at a tenth of the expansion."""

    class Stop(Exception):  # noqa: N818
        pass

    def stop(done, *_):
        if done > 100:
            raise Stop

    with pytest.raises(Stop):
        simulate(SimulationConfig(**SMALL), folder, stop, checkpoint_seconds=0.0)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    cut_off(tmp_path)
    with pytest.raises(UserError, match="another configuration"):
        simulate(SimulationConfig(**SMALL | {"seed": 9}), tmp_path)


def test_a_checkpoint_of_another_version_or_device_is_refused(tmp_path):
    cut_off(tmp_path)
    with h5py.File(tmp_path / "checkpoint.hdf5", "a") as f:
        f.attrs["version"] = "0.0.1"
    with pytest.raises(UserError, match=r"written by version 0\.0\.1 on cpu"):
        simulate(SimulationConfig(**SMALL), tmp_path)


def test_a_snapshot_that_is_missing_on_the_way_is_named(finished, tmp_path):
    shutil.copy(finished, tmp_path)
    with pytest.raises(UserError, match=r"snapshot-z1\.000\.hdf5"):
        simulate(SimulationConfig(**SMALL), tmp_path)


def test_a_damaged_file_in_the_folder_is_refused(tmp_path):
    (tmp_path / "snapshot.hdf5").write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        simulate(SimulationConfig(**SMALL), tmp_path)


def test_a_run_that_would_not_fit_in_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_available_memory", lambda: 1e8)
    with pytest.raises(UserError, match=r"0\.6 GB of memory and 0\.1 GB are free"):
        simulate(SimulationConfig(**SMALL), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("gpu", "message"), [(5e10, r"57\.0 GB of memory beside"), (1e9, "GB of memory of the GPU")])
def test_a_run_on_a_gpu_needs_memory_there_and_for_its_start(tmp_path, monkeypatch, gpu, message):
    monkeypatch.setattr(run, "kernels", lambda device: None)
    monkeypatch.setattr(run, "_available_memory", lambda: 1e9)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (4 * gpu, 8 * gpu))
    with pytest.raises(UserError, match=message):
        simulate(SimulationConfig(n=512, box=250.0), tmp_path, device="cuda")


def test_free_memory_is_that_of_the_machine_or_of_the_closest_limit(tmp_path):
    """As of a batch job: its group has no limit, that of the user has one, with 2 MB of cache that can be dropped."""
    assert run._available_memory(tmp_path) == np.inf
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 16000 kB\nMemAvailable:    8000 kB\n")
    assert run._available_memory(tmp_path) == 8000 * 1024
    (tmp_path / "proc" / "self" / "cgroup").write_text("1:name=systemd:/x\n0::/user/job\n")
    job = tmp_path / "sys" / "fs" / "cgroup" / "user" / "job"
    job.mkdir(parents=True)
    for folder, limit in ((job, "max"), (job.parent, "5000000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("4000000\n")
        (folder / "memory.stat").write_text("anon 2000000\ninactive_file 2000000\nactive_file 0\n")
    assert run._available_memory(tmp_path) == 3e6


def test_what_a_killed_run_left_of_a_checkpoint_goes_when_the_run_is_finished(finished):
    rest = finished.parent / ".checkpoint.hdf5.abc.part"
    rest.write_bytes(b"half")
    simulate(SimulationConfig(**SMALL), finished.parent)
    assert not rest.exists()


def test_room_is_looked_for_as_much_as_a_snapshot_takes(finished, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("zwicky.simulate.output.require_room", lambda path, size: asked.append(size))
    write_snapshot(read_snapshot(finished), tmp_path / "copy.hdf5")
    assert asked == [sum(values.nbytes for values in datasets(tmp_path / "copy.hdf5").values())]


def test_numbers_of_numpy_are_numbers():
    """Settings computed with numpy name the same simulation."""
    plain, computed = SimulationConfig(n=8, box=8.0), SimulationConfig(n=np.int64(8), box=np.float64(8.0))
    assert run.identity(computed) == run.identity(plain)


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
     {"softening": 0.0}, {"mesh": 0}, {"eta": 0.0}, {"redshifts": (60.0,)},
     {"redshifts": (0.5, 0.5004)}, {"cluster": 15.0}, {"cluster": -1.0}, {"cluster": 1e15}, {"softening": 0.5},
     {"redshift_start": 5000.0}, {"n": 9, "mesh": 1}],
)
def test_what_cannot_be_simulated_is_refused(wrong):
    with pytest.raises(ValueError, match=r"need|must obey|must lie|must differ"):
        SimulationConfig(**SMALL | wrong)


def test_presets_have_one_mass_resolution():
    """The spacing of HYPER, 500/1024 Mpc/h, in every box."""
    for n, box in run.PRESETS.values():
        assert box / n == 500 / 1024


def test_particles_faster_than_light_end_the_run(tmp_path):
    """A viscosity far beyond what the sub-steps can follow."""
    wild = PressureModel(viscosity=1000.0, balsara=False)
    config = SimulationConfig(n=16, box=16.0, seed=1, redshift_end=1.0, da=0.05, dlna=0.2, eta=10.0, pressure=wild)
    with pytest.raises(UserError, match="faster than light at z = "):
        simulate(config, tmp_path)
    assert not (tmp_path / "snapshot.hdf5").exists()

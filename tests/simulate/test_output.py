"""Snapshots on disk: outside readers open them by name and find the same physical numbers; the layout is GADGET's."""

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.simulate import output
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species
from zwicky.units import MPC, MSUN

BOX, H, N = 25.0, 0.72, 40
PRECISION = 1e-6  # above the rounding of float32 velocities
outside = pytest.mark.filterwarnings("ignore")  # what the readers or their imports warn of is not ours
redshifts = pytest.mark.parametrize("redshift", [0.0, 0.5])


def species(rng, gas=False):
    """N random particles, every field filled."""
    extra = {"density": rng.uniform(1e9, 1e12, N), "temperature": rng.uniform(1e4, 1e8, N)} if gas else {}
    return Species(
        rng.uniform(0, BOX, (N, 3)), rng.normal(0, 300, (N, 3)).astype(np.float32),
        rng.uniform(1e9, 1e10, N), rng.uniform(0.1, 1.0, N), **extra,
    )  # fmt: skip


def make(redshift):
    """Random particles of a cosmology that is not the default one."""
    rng = np.random.default_rng(0)
    cosmology = Cosmology(0.25, 0.75, 0.04, H)
    return Particles(BOX, redshift, cosmology, species(rng), species(rng, gas=True), {"simulation": "a test"})


def assert_close(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=PRECISION)


@outside
@redshifts
def test_pynbody_reads_physical_units_without_help(tmp_path, redshift):
    """In CGS: pynbody's solar mass is another by 5e-6."""
    pynbody = pytest.importorskip("pynbody")
    particles, a = make(redshift), 1 / (1 + redshift)
    write_snapshot(particles, tmp_path / "snapshot.hdf5")
    snapshot = pynbody.load(str(tmp_path / "snapshot.hdf5"))
    for seen, ours in ((snapshot.gas, particles.gas), (snapshot.dm, particles.dark_matter)):
        assert_close(seen["pos"].in_units("cm"), ours.positions * MPC * a)
        assert_close(seen["vel"].in_units("km s**-1"), ours.velocities)
        assert_close(seen["mass"].in_units("g"), ours.masses * MSUN)
        assert_close(seen["smooth"].in_units("cm"), ours.support_radius * MPC * a)
    assert_close(snapshot.gas["rho"].in_units("g cm**-3"), particles.gas.density * MSUN / (MPC * a) ** 3)
    assert_close(snapshot.gas["temp"].in_units("K"), particles.gas.temperature)
    found = snapshot.properties
    assert_close(found["boxsize"].in_units("cm", **snapshot.conversion_context()), BOX * MPC * a)
    assert_close([found[k] for k in ("a", "h", "omegaM0", "omegaL0", "omegaB0")], [a, H, 0.25, 0.75, 0.04])


@outside
@redshifts
def test_yt_reads_physical_units_without_help(tmp_path, redshift):
    """In Mpc and Msun: yt's solar mass is another in grams by 3e-6."""
    yt = pytest.importorskip("yt")
    yt.set_log_level("error")
    particles, a = make(redshift), 1 / (1 + redshift)
    write_snapshot(particles, tmp_path / "snapshot.hdf5")
    snapshot = yt.load(tmp_path / "snapshot.hdf5")
    everything = snapshot.all_data()

    def column(group, name, unit):
        order = np.argsort(np.asarray(everything[group, "particle_index"]))  # yt sorts along its index
        return everything[group, name].to_value(unit)[order]

    for group, ours in (("PartType0", particles.gas), ("PartType1", particles.dark_matter)):
        assert_close(column(group, "particle_position", "Mpc"), ours.positions * a)
        assert_close(column(group, "particle_velocity", "km/s"), ours.velocities)
        assert_close(column(group, "particle_mass", "Msun"), ours.masses)
    assert_close(column("PartType0", "smoothing_length", "Mpc"), particles.gas.support_radius * a)
    assert_close(column("PartType0", "density", "Msun/Mpc**3"), particles.gas.density / a**3)
    assert_close(column("PartType0", "temperature", "K"), particles.gas.temperature)
    assert_close(snapshot.domain_width.to_value("Mpc"), BOX * a)
    assert_close(
        [snapshot.current_redshift, snapshot.hubble_constant, snapshot.omega_matter, snapshot.omega_lambda],
        [redshift, H, 0.25, 0.75],
    )


def test_stored_numbers_are_in_the_units_of_gadget(tmp_path):
    """At z = 0.5 and h = 0.72: kpc/h, 1e10 Msun/h and the peculiar velocity over sqrt(a)."""
    gas = make(0.5).gas
    write_snapshot(make(0.5), tmp_path / "snapshot.hdf5")
    with h5py.File(tmp_path / "snapshot.hdf5") as f:
        stored = f["PartType0"]
        assert_close(stored["Coordinates"], gas.positions * 720)
        assert_close(stored["Velocities"], gas.velocities * np.sqrt(1.5))
        assert_close(stored["Masses"], gas.masses * 0.72e-10)
        assert_close(stored["SmoothingLength"], gas.support_radius * 720)
        assert_close(stored["Density"], gas.density * 1e-19 / 0.72**2)
        assert_close(stored["Temperature"], gas.temperature)
        assert f["Header"].attrs["BoxSize"] == pytest.approx(BOX * 720)
        assert stored["Velocities"].dtype == np.float32
        units = {name: data.attrs["unit"] for name, data in stored.items() if name != "ParticleIDs"}
    assert units == {
        "Coordinates": "kpc/h", "Velocities": "sqrt(a) km/s", "Masses": "1e10 Msun/h", "SmoothingLength": "kpc/h",
        "Density": "1e10 Msun/h / (kpc/h)^3", "Temperature": "K",
    }  # fmt: skip


def test_particles_of_all_species_have_numbers_of_their_own(tmp_path):
    write_snapshot(make(0.5), tmp_path / "snapshot.hdf5")
    with h5py.File(tmp_path / "snapshot.hdf5") as f:
        ids = np.concatenate([f[group]["ParticleIDs"] for group in f if group.startswith("PartType")])
        assert len(ids) == f["Header"].attrs["NumPart_ThisFile"].sum()
    np.testing.assert_array_equal(np.sort(ids), np.arange(len(ids)))


def test_slabs_make_the_same_file(tmp_path, monkeypatch):
    """N is not a multiple of the seven rows of a slab."""
    write_snapshot(make(0.5), tmp_path / "whole.hdf5")
    monkeypatch.setattr(output, "SLAB", 7)
    write_snapshot(make(0.5), tmp_path / "slabs.hdf5")
    assert (tmp_path / "whole.hdf5").read_bytes() == (tmp_path / "slabs.hdf5").read_bytes()


def test_a_failed_write_leaves_the_older_file_and_no_other(tmp_path):
    """The masses of the dark matter, which come last, are no array."""
    path, broken = tmp_path / "snapshot.hdf5", make(0.5)
    write_snapshot(make(0.0), path)
    before = path.read_bytes()
    broken.dark_matter.masses = None
    with pytest.raises(TypeError):
        write_snapshot(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_configuration_is_kept_as_given(tmp_path):
    write_snapshot(make(0.0), tmp_path / "with.hdf5", '{"n": 8}')
    write_snapshot(make(0.0), tmp_path / "without.hdf5")
    with h5py.File(tmp_path / "with.hdf5") as f, h5py.File(tmp_path / "without.hdf5") as g:
        assert f["Config"].attrs["json"] == '{"n": 8}'
        assert "Config" not in g

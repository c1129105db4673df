"""Snapshots: what is written is read back in our units, foreign units are converted, damage is named."""

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.io import UserError
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots import read_snapshot

BOX, REDSHIFT = 25.0, 1.5
COLUMNS_OF_GAS = (("density", 1e9, 1e12), ("temperature", 1e4, 1e8), ("metallicity", 0.0, 2.0))


def species(rng, count, gas=False):
    """Random particles, every field filled."""
    extra = {name: rng.uniform(low, high, count) for name, low, high in COLUMNS_OF_GAS} if gas else {}
    return Species(
        rng.uniform(0, BOX, (count, 3)), rng.normal(0, 300, (count, 3)).astype(np.float32),
        rng.uniform(1e9, 1e10, count), rng.uniform(0.1, 1.0, count), **extra,
    )


@pytest.fixture
def particles():
    """30 dark matter and 20 gas particles at z = 1.5, of a cosmology that is not the default one."""
    rng = np.random.default_rng(0)
    cosmology = Cosmology(0.25, 0.75, 0.04, 0.72, 0.79, 0.95)
    return Particles(BOX, REDSHIFT, cosmology, species(rng, 30), species(rng, 20, gas=True), {"simulation": "a test"})


@pytest.fixture
def path(particles, tmp_path):
    """Those particles on disk."""
    write_snapshot(particles, tmp_path / "snapshot.hdf5")
    return tmp_path / "snapshot.hdf5"


def assert_same(a, b):
    """Two species hold the same numbers to the precision of the conversion, which for velocities is float32."""
    for name, value in vars(a).items():
        if value is None:
            assert getattr(b, name) is None
        else:
            rtol = 2e-7 if value.dtype == np.float32 else 1e-12
            np.testing.assert_allclose(getattr(b, name), value, rtol=rtol)


def test_round_trip_keeps_every_field_at_a_redshift(particles, path):
    back = read_snapshot(path)
    assert_same(particles.dark_matter, back.dark_matter)
    assert_same(particles.gas, back.gas)
    assert back.box == pytest.approx(BOX, rel=1e-12)
    assert back.redshift == pytest.approx(REDSHIFT, rel=1e-12)
    assert back.cosmology == particles.cosmology
    assert back.origin["simulation"] == "a test"


def test_stored_values_are_physical_cgs_after_their_own_attributes(particles, path):
    """value * to_cgs * a^a_scaling * h^h_scaling: a comoving Mpc is 3.0857e24 cm times a, a density goes as a^-3."""
    a, h = 1 / (1 + REDSHIFT), particles.cosmology.h
    expected = {"Coordinates": 3.0857e24 * a, "Density": 1.98841e33 / 3.0857e24**3 / a**3, "Velocities": 1e5,
                "Masses": 1.98841e33, "SmoothingLength": 3.0857e24 * a, "Temperature": 1.0}
    ours = {"Coordinates": "positions", "Density": "density", "Velocities": "velocities", "Masses": "masses",
            "SmoothingLength": "support_radius", "Temperature": "temperature"}
    with h5py.File(path) as f:
        for name, unit in expected.items():
            data = f["PartType0"][name]
            attributes = data.attrs
            cgs = data[()] * attributes["to_cgs"] * a ** attributes["a_scaling"] * h ** attributes["h_scaling"]
            np.testing.assert_allclose(cgs, getattr(particles.gas, ours[name]) * unit, rtol=1e-4)


def test_units_without_h_are_converted(particles, path):
    """Mpc, Msun and peculiar km/s, as Zwicky 0.1.0 wrote them, with the factors in the attributes."""
    mpc, msun = 3.0856775814913676e24, 1.988409870698051e33
    units = {"Coordinates": ("positions", mpc, 1), "SmoothingLength": ("support_radius", mpc, 1),
             "Masses": ("masses", msun, 0), "Velocities": ("velocities", 1e5, 0),
             "Density": ("density", msun / mpc**3, -3)}
    with h5py.File(path, "r+") as f:
        f["Header"].attrs["BoxSize"] = BOX
        for group, ours in (("PartType0", particles.gas), ("PartType1", particles.dark_matter)):
            for name, (field, cgs, a_power) in units.items():
                if name in f[group]:
                    f[group][name][...] = getattr(ours, field)
                    f[group][name].attrs.update(to_cgs=cgs, a_scaling=a_power, h_scaling=0)
    back = read_snapshot(path)
    assert back.box == pytest.approx(BOX, rel=1e-9)
    for ours, found in ((particles.gas, back.gas), (particles.dark_matter, back.dark_matter)):
        for name, value in vars(ours).items():
            if value is not None:
                np.testing.assert_allclose(getattr(found, name), value, rtol=1e-9)


def test_a_header_without_our_cosmology_group_gives_the_cosmology_of_the_header(path):
    with h5py.File(path, "r+") as f:
        del f["Cosmology"]
    c = read_snapshot(path).cosmology
    assert (c.omega_m, c.omega_l, c.omega_b, c.h) == (0.25, 0.75, 0.04, 0.72)


def damage_missing_group(f):
    del f["PartType0"]


def damage_missing_header(f):
    del f["Header"]


def damage_missing_column(f):
    del f["PartType1/Masses"]


def damage_nan(f):
    f["PartType0/Coordinates"][3, 1] = np.nan


def damage_infinity(f):
    f["PartType0/Temperature"][3] = np.inf


def damage_negative_mass(f):
    f["PartType1/Masses"][0] = -1.0


def damage_length(f):
    masses = f["PartType1/Masses"]
    attributes, values = dict(masses.attrs), masses[:-1]
    del f["PartType1/Masses"]
    f["PartType1/Masses"] = values
    f["PartType1/Masses"].attrs.update(attributes)


def damage_several_files(f):
    f["Header"].attrs["NumFilesPerSnapshot"] = 4
    f["Header"].attrs["NumPart_Total"] = np.array([80, 120, 0, 0, 0, 0])


def damage_counts(f):
    f["Header"].attrs["NumPart_ThisFile"] = np.array([21, 30, 0, 0, 0, 0])


def damage_never_written(f):
    del f["PartType1/Masses"]
    f["PartType1"].create_dataset("Masses", (30,), chunks=(10,), dtype=float)


def damage_virtual(f):
    layout = h5py.VirtualLayout((30,), float)
    layout[:] = h5py.VirtualSource("elsewhere.hdf5", "Masses", (30,))
    del f["PartType1/Masses"]
    f["PartType1"].create_virtual_dataset("Masses", layout)


def damage_zero_masses(f):
    f["PartType1/Masses"][...] = 0.0


def damage_link(f):
    del f["PartType1/Masses"]
    f["PartType1/Masses"] = h5py.SoftLink("/PartType1/Masses")


def damage_box(f):
    f["Header"].attrs["BoxSize"] = np.array([1.0, 1.0, 2.0])


def damage_text(f):
    del f["PartType1/Masses"]
    f["PartType1/Masses"] = np.array([b"heavy"] * 30)


def damage_unit(f):
    f["PartType1/Masses"].attrs["to_cgs"] = 0.0


def damage_time(f):
    f["Header"].attrs["Time"] = 0.0


def damage_cosmology_value(f):
    f["Cosmology"].attrs["omega_b"] = 0.9


def damage_cosmology_name(f):
    f["Cosmology"].attrs["w0"] = -1.0


def damage_shape(f):
    coordinates = f["PartType1/Coordinates"]
    attributes, values = dict(coordinates.attrs), coordinates[:, :2]
    del f["PartType1/Coordinates"]
    f["PartType1/Coordinates"] = values
    f["PartType1/Coordinates"].attrs.update(attributes)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_missing_group, "has no PartType0"), (damage_missing_header, "Header"),
        (damage_missing_column, "Masses"), (damage_nan, "NaN or infinity"),
        (damage_infinity, "NaN or infinity"), (damage_negative_mass, "negative"), (damage_length, "differ in length"),
        (damage_several_files, "one of 4 files"),
        (damage_time, "Time"), (damage_counts, "has 20 particles in PartType0, although its header counts 21"),
        (damage_never_written, "never written"), (damage_virtual, "elsewhere.hdf5, which does not exist"),
        (damage_zero_masses, "all zero"), (damage_link, "not a complete"), (damage_box, "only cubes"),
        (damage_text, "does not hold numbers"), (damage_unit, "impossible to_cgs"),
        (damage_cosmology_value, "not a cosmology"),
        (damage_cosmology_name, "Cosmology"),
        (damage_shape, "Coordinates"),
    ],
)
def test_a_damaged_snapshot_is_refused_in_one_sentence(path, damage, said):
    with h5py.File(path, "r+") as f:
        damage(f)
    with pytest.raises(UserError, match=said) as raised:
        read_snapshot(path)
    assert_one_sentence(raised.value)


def assert_one_sentence(error):
    """One line that ends with a full stop."""
    assert "\n" not in str(error)
    assert str(error).endswith(".")


@pytest.mark.parametrize("keep", [0, 10, 3000])
def test_a_truncated_snapshot_is_refused(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a complete HDF5 snapshot") as raised:
        read_snapshot(path)
    assert_one_sentence(raised.value)


def test_text_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "text").write_text("not HDF5\n" * 1000)
    with pytest.raises(UserError, match="not a complete HDF5 snapshot"):
        read_snapshot(tmp_path / "text")
    with pytest.raises(UserError, match="does not exist"):
        read_snapshot(tmp_path / "nothing.hdf5")

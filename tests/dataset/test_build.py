"""From a snapshot and its halos to maps: mass kept, clusters in one split whole, the same every time."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.table import Table

from zwicky.cosmology import Cosmology
from zwicky.dataset import build
from zwicky.dataset.build import ObserveConfig, build_maps
from zwicky.dataset.store import open_maps
from zwicky.halos import write_halos
from zwicky.io import UserError
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots import read_snapshot

BOX, BALLS, P = 40.0, 9, 300
CONFIG = ObserveConfig(
    pixels=16, pixel_kpc=500.0, min_mass=1e14, per_bin=6, cap=4, fractions=(0.4, 0.3, 0.3), seed=5
)  # fmt: skip


def balls(rng, centres, gas):
    """P particles in a ball of 1 Mpc about each centre, far from the next."""
    offset = np.clip(rng.normal(0, 0.3, (len(centres), P, 3)), -0.9, 0.9)
    positions = (centres[:, None] + offset).reshape(-1, 3) % BOX
    count = len(positions)
    extra = {"density": rng.uniform(1e13, 1e14, count), "temperature": rng.uniform(1e7, 1e8, count)}
    masses = np.repeat(np.geomspace(1e11, 1e12, len(centres)), P)
    return Species(
        positions, np.zeros((count, 3), np.float32), masses, np.full(count, 0.3), **(extra if gas else {})
    )  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Nine balls of gas and dark matter on a lattice, and their catalogue."""
    folder, rng = tmp_path_factory.mktemp("pair"), np.random.default_rng(0)
    axis = np.array([0.2, 13.5, 26.8])  # some balls lie across a face of the box
    centres = np.array([[x, y, 20.0] for x in axis for y in axis])
    particles = Particles(BOX, 0.0, Cosmology(), balls(rng, centres, False), balls(rng, centres, True))
    write_snapshot(particles, folder / "snapshot.hdf5")
    mass = particles.dark_matter.masses.reshape(BALLS, P).sum(1) + particles.gas.masses.reshape(BALLS, P).sum(1)
    halos = Table({"id": np.arange(BALLS), **dict(zip("xyz", centres.T, strict=True))})
    for name in ("200m", "200c", "500c"):
        halos[f"m{name}"], halos[f"r{name}"] = mass, np.full(BALLS, 1.2)
    halos["fgas200m"] = np.full(BALLS, 0.5)
    write_halos(halos, folder / "halos.hdf5")
    return folder / "snapshot.hdf5", folder / "halos.hdf5"


@pytest.fixture(scope="module")
def built(pair, tmp_path_factory):
    return open_maps(build_maps([pair, pair], tmp_path_factory.mktemp("built") / "maps.h5", CONFIG))


def test_each_map_holds_the_mass_of_its_cluster(built):
    """A ball of gas and one of dark matter, each half of the catalogue's mass, seen whole from every side."""
    for channel in ("gas", "dark_matter"):
        mass = built.read(channel).sum((1, 2), dtype=float) * built.pixel_kpc**2
        np.testing.assert_allclose(mass, 0.5 * built.halo["m200m"], rtol=1e-5)


def test_clusters_belong_to_one_split_and_all_splits_are_there(built):
    for cluster in np.unique(built.cluster):
        assert len(set(built.split[built.cluster == cluster])) == 1
    assert set(built.split) == {0, 1, 2}


def test_clusters_of_two_simulations_are_told_apart(built):
    with h5py.File(built.path) as f:
        simulation = f["simulation"][()]
    assert set(simulation) == {0, 1}
    assert not set(built.cluster[simulation == 0]) & set(built.cluster[simulation == 1])


def test_radii_are_in_kpc_and_rotations_are_rotations(built):
    np.testing.assert_allclose(built.halo["r200m"], 1200.0)
    with h5py.File(built.path) as f:
        R = f["rotation"][()]
    np.testing.assert_allclose(R @ R.transpose(0, 2, 1), np.broadcast_to(np.eye(3), R.shape), atol=1e-12)
    assert len(np.unique(R.round(9), axis=0)) > len(R) // 2  # sightlines differ


def test_no_cluster_has_more_sightlines_than_the_cap(built):
    assert np.bincount(built.cluster).max() <= CONFIG.cap


def test_building_is_repeatable_to_the_bit(built, pair, tmp_path):
    again = open_maps(build_maps([pair, pair], tmp_path / "again.h5", CONFIG))
    np.testing.assert_array_equal(again.split, built.split)
    for channel in CONFIG.channels:
        np.testing.assert_array_equal(again.read(channel), built.read(channel))


def test_maps_do_not_depend_on_how_much_of_the_snapshot_was_read(pair, tmp_path, monkeypatch):
    """One cluster of nine: only its surroundings are read."""
    heaviest = replace(CONFIG, min_mass=6e14 * 0.9)
    read, original = [], build.read_around
    monkeypatch.setattr(build, "read_around", lambda *a: read.append(original(*a)) or read[-1])
    near = open_maps(build_maps([pair], tmp_path / "near.h5", heaviest))
    monkeypatch.setattr(build, "read_around", lambda path, *region: read_snapshot(path))
    whole = open_maps(build_maps([pair], tmp_path / "whole.h5", heaviest))
    assert len(read[0].gas) < BALLS * P
    assert len(near) > 0
    for channel in CONFIG.channels:
        np.testing.assert_array_equal(near.read(channel), whole.read(channel))


def test_depth_redshift_and_column_of_the_maps_are_those_of_the_configuration(pair, tmp_path):
    """All of the box holds three balls on a line; absorption dims a soft band."""
    config = replace(CONFIG, channels=("gas", "xray_0.5-2keV"), redshift=0.2)
    shallow = open_maps(build_maps([pair], tmp_path / "a.h5", replace(config, hydrogen_column=1e21)))
    deep = open_maps(build_maps([pair], tmp_path / "b.h5", replace(config, depth_kpc=np.inf)))
    with h5py.File(deep.path) as f:
        assert f.attrs["depth_kpc"] == pytest.approx(40000.0)
    assert deep.read("gas").sum() > shallow.read("gas").sum() * 1.01
    bands = [maps.read("xray_0.5-2keV").sum((1, 2), dtype=float) for maps in (shallow, deep)]
    assert (bands[0] < 0.9 * bands[1]).all()
    for wrong in ({"depth_kpc": -1.0}, {"hydrogen_column": np.nan}, {"redshift": 50.0}):
        with pytest.raises(ValueError, match="depth_kpc"):
            replace(CONFIG, **wrong)


def test_maps_may_be_those_of_a_mesh(built, pair, tmp_path):
    meshed = open_maps(build_maps([pair, pair], tmp_path / "mesh.h5", replace(CONFIG, mesh=True)))
    sums = {name: [m.read(name).sum(dtype=float) for m in (meshed, built)] for name in ("gas", "xray")}
    assert sums["gas"][0] == pytest.approx(sums["gas"][1], rel=1e-5)
    assert abs(sums["xray"][0] / sums["xray"][1] - 1) > 0.1  # densities of these particles are those of nothing
    with h5py.File(meshed.path) as f:
        assert json.loads(f.attrs["config"])["mesh"] is True


def test_another_seed_gives_other_sightlines(built, pair, tmp_path):
    other = open_maps(build_maps([pair, pair], tmp_path / "other.h5", replace(CONFIG, seed=6)))
    with h5py.File(built.path) as a, h5py.File(other.path) as b:
        assert not np.array_equal(a["rotation"], b["rotation"])
    assert json.loads(json.dumps(other.config))["seed"] == 6


def test_progress_ends_at_the_total(pair, tmp_path):
    seen = []
    build_maps([pair], tmp_path / "m.h5", CONFIG, lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == len(open_maps(tmp_path / "m.h5"))


def test_without_a_massive_halo_nothing_is_written(pair, tmp_path):
    with pytest.raises(UserError, match="no halo has M200m above 1e"):
        build_maps([pair], tmp_path / "new" / "m.h5", ObserveConfig(min_mass=1e17))
    assert list(tmp_path.iterdir()) == []


def test_a_map_wider_than_the_box_leaves_no_file(pair, tmp_path):
    with pytest.raises(ValueError, match="does not fit into the box"):
        build_maps([pair], tmp_path / "m.h5", ObserveConfig(pixels=16, pixel_kpc=5000.0))
    assert list(tmp_path.iterdir()) == []


def test_snapshots_of_two_redshifts_do_not_mix(pair, tmp_path):
    with h5py.File(pair[0]) as old, h5py.File(tmp_path / "later.hdf5", "w") as new:
        for name in old:
            old.copy(name, new)
        new["Header"].attrs["Time"] = 0.5
    with pytest.raises(UserError, match="share their cosmology, redshift and depth"):
        build_maps([pair, (tmp_path / "later.hdf5", pair[1])], tmp_path / "m.h5", CONFIG)
    assert not (tmp_path / "m.h5").exists()


@pytest.mark.parametrize(
    "setting",
    [{"pixels": 4}, {"pixel_kpc": 0.0}, {"min_mass": -1.0}, {"per_bin": 0}, {"cap": 0}, {"channels": ("radio",)},
     {"fractions": (0.5, 0.5, 0.5)}, {"fractions": (1.5, -0.25, -0.25)}, {"pixel_kpc": float("nan")}],
    ids=str,
)  # fmt: skip
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"."):
        ObserveConfig(**setting)


@pytest.mark.parametrize("fractions", [(0, 0.5, 0.5), (0.2, 0.4, 0.4), (0.9, 0.1, 0), (0, 0, 1)])
@pytest.mark.parametrize("count", [3, 4, 7])
def test_every_split_has_a_simulation_whatever_the_fractions(count, fractions):
    split = build._split_simulations(count, fractions)
    assert len(split) == count
    assert set(split) == {"train", "validation", "test"}

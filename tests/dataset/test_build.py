"""From a snapshot and its halos to maps: mass kept, clusters in one split whole, the same every time."""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.table import Table

from zwicky.cosmology import Cosmology
from zwicky.dataset import build, plan
from zwicky.dataset.build import build_maps
from zwicky.dataset.plan import ObserveConfig
from zwicky.dataset.store import failed_clusters, open_maps
from zwicky.dataset.workers import each
from zwicky.halos import write_halos
from zwicky.io import UserError
from zwicky.observe.instrument import read_instruments
from zwicky.observe.populations import PopulationTable, write_populations
from zwicky.observe.render import reach_of_cube
from zwicky.observe.scene import Scene
from zwicky.observe.tables import EmissivityTable, write_table
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots import read_snapshot
from zwicky.train import TrainConfig, train
from zwicky.units import KEV

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


def test_a_table_of_emissivities_and_a_metallicity_reach_the_maps(pair, tmp_path):
    """A table that goes as 1 + Z: three times the brightness at Z = 2, and what it says; free-free without a table."""
    value = np.array([1e-23, 3e-23])[None, :, None] * np.ones((2, 1, 1))
    table = EmissivityTable([5.0, 9.0], [0.0, 2.0], [0.5, 2.0], value, "none", 0.0127, "a test", "1", "today")
    write_table(table, tmp_path / "table.hdf5")
    channels = ("xray_0.5-2keV", "xray_photons_0.5-2keV")
    config, sums = replace(CONFIG, channels=channels, emissivity=str(tmp_path / "table.hdf5")), []
    for name, more in (("a", {"metallicity": 0.0}), ("b", {"metallicity": 2.0}), ("c", {"emissivity": ""})):
        maps = open_maps(build_maps([pair], tmp_path / f"{name}.h5", replace(config, **more)))
        sums.append([maps.read(c).sum((1, 2), dtype=float) for c in channels])
        assert maps.units["xray_photons_0.5-2keV"] == "1 / (s cm2)"
    np.testing.assert_allclose(sums[1], 3 * np.array(sums[0]), rtol=1e-6)
    np.testing.assert_allclose(sums[0][0] / sums[0][1], 1.25 * KEV, rtol=1e-6)
    assert (np.abs(sums[2][0] / sums[0][0] - 1) > 0.05).all()
    with pytest.raises(ValueError, match="metallicity from 0 to 100"):
        replace(CONFIG, metallicity=-1.0)
    with pytest.raises(UserError, match="table of emissivities none does not exist"):
        replace(CONFIG, emissivity="none")


def test_a_table_of_stars_and_a_kernel_reach_the_maps(pair, tmp_path):
    """Stars where the dark matter is, all of one age: the light of the table; a cubic kernel moves it, not its sum."""
    snapshot = tmp_path / "snapshot.hdf5"
    shutil.copy(pair[0], snapshot)
    with h5py.File(snapshot, "r+") as f:
        counts = f["Header"].attrs["NumPart_ThisFile"]
        counts[4] = counts[1]
        f["Header"].attrs.update(NumPart_ThisFile=counts, NumPart_Total=counts)
        f.copy("PartType1", "PartType4")
        f["PartType4/Metallicity"] = np.full(counts[4], 0.02)
    light = np.full((2, 1), 0.25)
    table = PopulationTable([6.0, 10.5], [0.02], {"r": light}, "none", "a test", "1", "today")
    write_populations(table, tmp_path / "stars.hdf5")
    config = replace(CONFIG, channels=("stars", "light_r"), populations=str(tmp_path / "stars.hdf5"))
    with pytest.raises(UserError, match="needs ages of stars, which this snapshot lacks"):
        build_maps([(snapshot, pair[1])], tmp_path / "maps.h5", config)
    with h5py.File(snapshot, "r+") as f:
        f["PartType4/StellarFormationTime"] = np.full(counts[4], 0.5)
    found = {}
    for kernel in ("wendland", "cubic"):
        path = build_maps([(snapshot, pair[1])], tmp_path / f"{kernel}.h5", replace(config, kernel=kernel))
        found[kernel] = {name: open_maps(path).read(name) for name in config.channels}
        np.testing.assert_allclose(found[kernel]["light_r"], 0.25 * found[kernel]["stars"], rtol=1e-5)
    sums = [maps["stars"].sum((1, 2), dtype=float) for maps in found.values()]
    np.testing.assert_allclose(*sums, rtol=1e-3)  # but for what leaves a map at its border
    one, two = (maps["stars"] for maps in found.values())
    assert np.abs(one - two).max() > 1e-3 * one.max()
    with pytest.raises(UserError, match="table of stellar populations none does not exist"):
        replace(CONFIG, populations="none")


GALAXIES = ("galaxies", "members_9.5")


def test_galaxies_are_painted_the_same_whatever_was_read_and_in_whatever_order(pair, tmp_path, monkeypatch):
    """Of one cluster only its surroundings are read; the simulation decides the galaxies, not what was done before."""
    config = replace(CONFIG, channels=("gas", *GALAXIES), min_mass=6e14 * 0.9)
    read, radii, original = [], [], build.read_around
    monkeypatch.setattr(build, "read_around", lambda *a: radii.append(a[3]) or read.append(original(*a)) or read[-1])
    near = open_maps(build_maps([pair], tmp_path / "near.h5", config))
    assert len(read[0].gas) < BALLS * P
    assert radii == [pytest.approx(reach_of_cube(8.0) + 2 * 1.2)]  # whole halos, of which a galaxy may be in the map
    monkeypatch.setattr(build, "read_around", lambda path, *region: read_snapshot(path))
    whole = open_maps(build_maps([pair], tmp_path / "whole.h5", config))
    more = open_maps(build_maps([pair], tmp_path / "more.h5", replace(config, channels=("xray", *GALAXIES))))
    twice = open_maps(build_maps([pair, pair], tmp_path / "twice.h5", config))
    for channel in GALAXIES:
        assert near.read(channel).sum() > 0
        np.testing.assert_array_equal(near.read(channel), whole.read(channel))
        np.testing.assert_array_equal(near.read(channel), more.read(channel))
    per_map = [twice.read("members_9.5")[twice.cluster == c].sum((1, 2)).mean() for c in np.unique(twice.cluster)]
    assert len(set(per_map)) > 1  # two simulations of the same matter have other galaxies
    for c in np.unique(twice.cluster):
        stars = twice.read("galaxies")[twice.cluster == c].sum((1, 2), dtype=float)
        np.testing.assert_allclose(stars, stars[0], rtol=1e-5)  # a ball far from others, seen whole from every side


def test_shear_is_made_of_what_is_read_around_the_maps(pair, tmp_path, monkeypatch):
    config = replace(CONFIG, channels=("gas", "shear1_z1", "shear2_z1"), min_mass=6e14 * 0.9, redshift=0.3)
    radii, original = [], build.read_around
    monkeypatch.setattr(build, "read_around", lambda *a: radii.append(a[3]) or original(*a))
    near = open_maps(build_maps([pair], tmp_path / "near.h5", config))
    monkeypatch.setattr(build, "read_around", lambda path, *region: read_snapshot(path))
    whole = open_maps(build_maps([pair], tmp_path / "whole.h5", config))
    plain = open_maps(build_maps([pair], tmp_path / "plain.h5", replace(config, channels=("gas",))))
    assert radii == [pytest.approx(reach_of_cube(16.0, 8.0))]  # twice as wide, and as deep as ever
    np.testing.assert_array_equal(near.read("gas"), plain.read("gas"))
    for channel in config.channels:
        np.testing.assert_array_equal(near.read(channel), whole.read(channel))
    left, below = near.read("shear1_z1")[:, 7:9, 3], near.read("shear1_z1")[:, 3, 7:9]
    assert (left < 0).all()
    assert (below > 0).all()


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
    with pytest.raises(UserError, match=r"no cluster could be observed.*does not fit into the box"):
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
     {"instruments": ("Hubble",)}, {"directions": "up"}, {"pixel_arcsec": -1.0}, {"field_r200": np.inf},
     {"pixel_arcsec": 1.0, "field_r200": 4.0}, {"fractions": (0.5, 0.5, 0.5)},
     {"fractions": (1.5, -0.25, -0.25)}, {"pixel_kpc": float("nan")}],
    ids=str,
)  # fmt: skip
def test_impossible_settings_are_refused(setting):
    with pytest.raises((ValueError, UserError), match=r"."):
        ObserveConfig(**setting)


@pytest.mark.parametrize("fractions", [(0, 0.5, 0.5), (0.2, 0.4, 0.4), (0.9, 0.1, 0), (0, 0, 1)])
@pytest.mark.parametrize("count", [3, 4, 7])
def test_every_split_has_a_simulation_whatever_the_fractions(count, fractions):
    split = plan._split_simulations(count, fractions)
    assert len(split) == count
    assert set(split) == {"train", "validation", "test"}


def test_an_interrupted_build_goes_on_where_it_stopped(built, pair, tmp_path, monkeypatch):
    path, made = tmp_path / "m.h5", []

    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_maps([pair, pair], path, CONFIG, stop)
    kept = {p.name for p in (tmp_path / "m.h5.parts").glob("cluster-*")}
    assert kept
    assert not path.exists()
    views = build._views
    monkeypatch.setattr(build, "_views", lambda job, k, *a: made.append(int(job.clusters[k])) or views(job, k, *a))
    again = open_maps(build_maps([pair, pair], path, CONFIG))
    assert not {f"cluster-{c:06d}.h5" for c in made} & kept
    assert not (tmp_path / "m.h5.parts").exists()
    for name in CONFIG.channels:
        np.testing.assert_array_equal(again.read(name), built.read(name))
    np.testing.assert_array_equal(again.cluster, built.cluster)


def test_parts_of_other_settings_are_not_mixed_in(pair, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build_maps([pair], tmp_path / "m.h5", CONFIG, lambda done, total: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(UserError, match="parts of a set with other settings"):
        build_maps([pair], tmp_path / "m.h5", replace(CONFIG, seed=7))
    assert (tmp_path / "m.h5.parts").exists()


def test_a_cluster_that_fails_is_left_out_and_named(built, pair, tmp_path, monkeypatch):
    view, bad = build._view, int(built.cluster[0])

    def sometimes(cube, rotation, margin, pixel_kpc, seed, config):
        if seed[2] == bad:
            raise ValueError("no gas here")
        return view(cube, rotation, margin, pixel_kpc, seed, config)

    monkeypatch.setattr(build, "_view", sometimes)
    maps = open_maps(build_maps([pair, pair], tmp_path / "m.h5", CONFIG))
    assert failed_clusters(maps.path) == {str(bad): "no gas here"}
    rest = built.cluster != bad
    np.testing.assert_array_equal(maps.cluster, built.cluster[rest])
    np.testing.assert_array_equal(maps.read("gas"), built.read("gas")[rest])
    for name, column in maps.halo.items():
        np.testing.assert_array_equal(column, built.halo[name][rest])


@pytest.fixture
def environment():
    """dask leaves variables in the environment, which the processes of other tests would take over."""
    before = dict(os.environ)
    yield before
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.filterwarnings("ignore")
def test_workers_make_the_same_set_even_if_one_is_killed(built, pair, tmp_path, environment):
    distributed = pytest.importorskip("distributed")
    killed = []

    def kill(done, total):
        if not killed:
            with distributed.Client(cluster) as client:
                killed.extend(client.run(os.getpid).values())
            os.kill(killed[0], signal.SIGKILL)

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path), memory_limit=None
    ) as cluster:
        path = build_maps([pair, pair], tmp_path / "m.h5", CONFIG, kill, scheduler=cluster.scheduler_address)
    assert killed
    maps = open_maps(path)
    np.testing.assert_array_equal(maps.cluster, built.cluster)
    for name in CONFIG.channels:
        np.testing.assert_array_equal(maps.read(name), built.read(name))


def test_without_dask_one_is_told_what_to_install(pair, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'zwicky\[dask\]'"):
        build_maps([pair], tmp_path / "m.h5", CONFIG, workers=2)


def test_images_of_instruments_come_with_their_noise_mask_and_beam(pair, tmp_path):
    config = replace(CONFIG, channels=("gas",), instruments=("Planck-y", "SPT-3G-150"), redshift=0.2)
    maps = open_maps(build_maps([pair], tmp_path / "m.h5", config))
    assert list(maps.units) == ["gas"]
    assert maps.redshift == 0.2
    for name in config.instruments:
        seen = maps.exposure(name)
        assert seen.image.shape == seen.noise.shape == seen.mask.shape == (len(maps), 16, 16)
        assert (seen.noise > 0).all()
    with h5py.File(maps.path) as f:
        group = f["observed/SPT-3G-150"]
        assert (group.attrs["channel"], group.attrs["unit"]) == ("sz_150GHz", "uK")
        assert group.attrs["fwhm_arcsec"] == 72.0
        assert json.loads(group.attrs["instrument"])["depth"] == 4.4
    with pytest.raises(UserError, match="no images of 'Chandra'"):
        maps.exposure("Chandra")


def test_noise_depends_on_the_name_of_the_instrument_and_not_on_its_neighbours(pair, tmp_path):
    config = replace(CONFIG, channels=("gas",), redshift=0.2, instruments=("SPT-3G-150",))
    alone = open_maps(build_maps([pair], tmp_path / "a.h5", config)).exposure("SPT-3G-150")
    many = replace(config, instruments=("Planck-y", "SPT-3G-95", "SPT-3G-150"))
    maps = open_maps(build_maps([pair], tmp_path / "b.h5", many))
    np.testing.assert_allclose(maps.exposure("SPT-3G-150").image, alone.image, rtol=1e-4, atol=1e-3)
    other = open_maps(build_maps([pair], tmp_path / "c.h5", replace(config, seed=6))).exposure("SPT-3G-150")
    assert not np.allclose(other.image[0], alone.image[0])
    both = [maps.exposure(name).image.mean((1, 2)) for name in ("SPT-3G-95", "SPT-3G-150")]
    assert np.corrcoef(*both)[0, 1] > 0.9  # one CMB


def test_sets_of_other_simulations_have_other_noise(pair, tmp_path):
    """The same seed, and the same first cluster, but another origin."""
    shutil.copy(pair[0], tmp_path / "other.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "a") as f:
        f.require_group("Origin").attrs["simulation"] = "another"
    config = replace(CONFIG, channels=("gas",))
    sets = [build_maps([(p, pair[1])], tmp_path / f"{p.stem}.h5", config) for p in (pair[0], tmp_path / "other.hdf5")]
    with h5py.File(sets[0]) as a, h5py.File(sets[1]) as b:
        assert not np.allclose(a["rotation"][0], b["rotation"][0])


def test_parts_made_by_another_file_of_instruments_are_not_mixed_in(pair, tmp_path):
    mine = tmp_path / "mine.toml"
    text = "[Dish]\nkind = 'bolometer'\nsource = ''\nfwhm_arcsec = 30.0\nfrequency_ghz = 90.0\ndepth = "
    config = replace(CONFIG, redshift=0.2, instruments=(str(_write(mine, text + "2.0")),))
    with pytest.raises(KeyboardInterrupt):
        build_maps([pair], tmp_path / "m.h5", config, lambda done, total: (_ for _ in ()).throw(KeyboardInterrupt))
    _write(mine, text + "200.0")
    read_instruments.cache_clear()
    with pytest.raises(UserError, match="parts of a set with other settings"):
        build_maps([pair], tmp_path / "m.h5", config)


def _write(path, text):
    path.write_text(text)
    return path


@pytest.mark.filterwarnings("ignore")
def test_a_job_that_kills_its_process_is_reported(tmp_path):
    pytest.importorskip("distributed")
    before = dict(os.environ)
    found = list(each(_die_of_three, [1, 2, 3, 4], lambda job: [(job, "lost")], workers=2))
    assert sorted(found) == [(1, ""), (2, ""), (3, "lost"), (4, "")]
    assert dict(os.environ) == before


def test_clusters_that_shared_a_lost_job_are_tried_alone(built, pair, tmp_path, monkeypatch):
    """One cluster ends its process every time; the others of its job are in the set."""
    bad, tried = int(built.cluster[0]), []

    def each_but_one(function, jobs, lost, workers, scheduler):
        for job in jobs:
            tried.append(len(job.clusters))
            yield from lost(job) if bad in job.clusters else function(job)

    monkeypatch.setattr(build, "each", each_but_one)
    maps = open_maps(build_maps([pair, pair], tmp_path / "m.h5", CONFIG, workers=2))
    assert failed_clusters(maps.path) == {str(bad): "its process was lost"}
    assert tried.count(1) >= 1
    rest = built.cluster != bad
    np.testing.assert_array_equal(maps.cluster, built.cluster[rest])
    np.testing.assert_array_equal(maps.read("gas"), built.read("gas")[rest])


def _die_of_three(job):
    if job == 3:
        os._exit(1)
    return [(job, "")]


def test_instruments_need_an_angle(pair, tmp_path):
    for settings in ({"instruments": ("Planck-y",)}, {"pixel_arcsec": 30.0}):
        with pytest.raises(ValueError, match="at redshift 0 a length has no angle"):
            build_maps([pair], tmp_path / "m.h5", replace(CONFIG, **settings))
        assert list(tmp_path.iterdir()) == []


def test_pixels_of_an_angle(pair, tmp_path):
    maps = open_maps(build_maps([pair], tmp_path / "m.h5", replace(CONFIG, pixel_arcsec=200.0, redshift=0.1)))
    assert maps.pixel_kpc == pytest.approx(200 / Scene(1.0, Cosmology(), 0.1).arcsec_per_kpc)


@pytest.mark.parametrize(("directions", "count"), [("cardinal", 3), ("spread", 29)])
def test_every_cluster_from_the_same_sides(pair, tmp_path, directions, count):
    config = replace(CONFIG, channels=("gas",), directions=directions, min_mass=5e14)
    maps = open_maps(build_maps([pair], tmp_path / "m.h5", config))
    assert set(np.bincount(maps.cluster)[np.unique(maps.cluster)]) == {count}


def test_what_no_telescope_can_see_is_left_out_and_named(pair, tmp_path):
    config = replace(CONFIG, instruments=("NIKA2-150",), redshift=0.02)
    with pytest.raises(UserError, match="the field of NIKA2-150 is smaller than a pixel"):
        build_maps([pair], tmp_path / "m.h5", config)
    with pytest.raises(ValueError, match="too wide for a flat sky"):
        build_maps([pair], tmp_path / "m.h5", replace(config, redshift=1e-3))


def test_fields_as_wide_as_the_cluster_are_marked_and_not_trained_on(pair, tmp_path):
    config = replace(CONFIG, field_r200=4.0)
    maps = open_maps(build_maps([pair], tmp_path / "m.h5", config))
    np.testing.assert_allclose(maps.halo["pixel_kpc"], 4 * 1200.0 / 16)
    assert np.isnan(maps.pixel_kpc)
    with pytest.raises(UserError, match="which no observer knows"):
        train(maps.path, tmp_path / "model", TrainConfig(widths=(8, 8), steps=2))

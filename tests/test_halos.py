"""Spherical overdensity halos: analytic spheres, direct counts, and one halo in one place."""

import h5py
import numpy as np
import pytest
from scipy.optimize import brentq

from zwicky.cosmology import Cosmology
from zwicky.halos import find_halos, read_halos, write_halos
from zwicky.io import UserError
from zwicky.simulate.state import Particles, Species

COSMOLOGY = Cosmology()
BOX = 24.0
PARTICLE = 1e11  # Msun
BACKGROUND = 0.4  # over the mean matter density


def nfw(x):
    """M(<x r_s) of an NFW halo, in 4 pi rho_s r_s^3."""
    return np.log1p(x) - x / (1 + x)


def sphere(rng, m200m, concentration=6.0, cut=1.6, a=1.0):
    """Offsets of the particles of an NFW halo of m200m, sampled to `cut` R200m, and r_s [Mpc, comoving]."""
    r200 = np.cbrt(m200m / (4 / 3 * np.pi * 200 * COSMOLOGY.rho_mean))
    count = round(m200m * nfw(cut * concentration) / nfw(concentration) / PARTICLE)
    x = np.linspace(0, cut * concentration, 20001)
    r = np.interp((np.arange(count) + rng.uniform(size=count)) / count, nfw(x) / nfw(x[-1]), x) * r200 / concentration
    direction = rng.standard_normal((count, 3))
    return r[:, None] * direction / np.linalg.norm(direction, axis=1)[:, None], r200 / concentration


def universe(halos, redshift=0.0, seed=0):
    """Spheres (centre, offsets) in a uniform background; a sixth of all particles is gas."""
    rng = np.random.default_rng(seed)
    count = int(BACKGROUND * COSMOLOGY.rho_mean * BOX**3 / PARTICLE)
    x = np.concatenate([rng.uniform(0, BOX, (count, 3)), *[c + d for c, d in halos]]) % BOX
    gas = rng.uniform(size=len(x)) < 1 / 6
    kinds = [Species(x[k], np.zeros((k.sum(), 3), np.float32), np.full(k.sum(), PARTICLE)) for k in (~gas, gas)]
    return Particles(BOX, redshift, COSMOLOGY, *kinds, {"simulation": "spheres"})


def all_positions(particles):
    """Of both species."""
    return np.concatenate([particles.dark_matter.positions, particles.gas.positions])


def distance(x, centre):
    """Nearest-image distances."""
    d = x - centre
    return np.linalg.norm(d - BOX * np.round(d / BOX), axis=1)


def centre_of(halo):
    """x, y, z of a row."""
    return np.array([halo["x"], halo["y"], halo["z"]])


@pytest.fixture(scope="module")
def many():
    """Five halos from 1e14 to 1e15 Msun that do not overlap, one of them on a corner of the box."""
    rng = np.random.default_rng(1)
    places = np.array([[0.05, 23.9, 0.1], [12, 12, 12], [6, 18, 5], [18, 6, 18], [12, 1, 12]])
    masses = [1e15, 5e14, 3e14, 2e14, 1e14]
    halos = [(c, sphere(rng, m)[0]) for c, m in zip(places, masses, strict=True)]
    particles = universe(halos)
    return particles, find_halos(particles), places


@pytest.mark.parametrize("redshift", [0.0, 1.0])
def test_an_nfw_halo_across_the_edge_has_its_analytic_masses_and_radii(redshift):
    """R_Delta solves M(<R) = Delta rho V with NFW plus background; radii in the catalogue are proper."""
    rng = np.random.default_rng(2)
    m200m, a = 2e15, 1 / (1 + redshift)
    offsets, r_s = sphere(rng, m200m)
    centre = np.array([0.1, 23.8, 12.0])
    halo = find_halos(universe([(centre, offsets)], redshift))[0]
    scale = m200m / nfw(6.0)

    def mass(r):
        return scale * nfw(r / r_s) + BACKGROUND * COSMOLOGY.rho_mean * 4 / 3 * np.pi * r**3

    critical = COSMOLOGY.rho_crit(a) * a**3
    for name, threshold in (("200m", 200 * COSMOLOGY.rho_mean), ("200c", 200 * critical), ("500c", 500 * critical)):
        r = brentq(lambda r, t=threshold: mass(r) / (4 / 3 * np.pi * r**3) - t, 0.1 * r_s, 10 * r_s)
        assert halo[f"r{name}"] == pytest.approx(r * a, rel=0.01)
        assert halo[f"m{name}"] == pytest.approx(mass(r), rel=0.03)
    assert distance(centre_of(halo)[None], centre)[0] < 0.1 * r_s
    assert halo["fgas200m"] == pytest.approx(1 / 6, abs=0.02)


def test_every_halo_put_in_is_found_and_no_other(many):
    _, halos, places = many
    assert len(halos) == len(places)
    for halo, place in zip(halos, places, strict=True):
        assert distance(centre_of(halo)[None], place)[0] < 0.15
    assert (np.diff(halos["m200m"]) < 0).all()
    np.testing.assert_array_equal(halos["id"], np.arange(len(halos)))


def test_a_coarse_mesh_loses_no_halo(monkeypatch):
    """Eight halos of 300 particles, where a mesh point stands for as many as in a box of 2 x 1024^3 particles."""
    rng = np.random.default_rng(3)
    places = 6.0 + 12.0 * np.indices((2, 2, 2)).reshape(3, -1).T + rng.uniform(-1.5, 1.5, (8, 3))
    particles = universe([(place, sphere(rng, 3e13)[0]) for place in places])
    monkeypatch.setattr("zwicky.halos._mesh", lambda p: round((len(all_positions(p)) / 16) ** (1 / 3)))
    halos = find_halos(particles)
    assert len(halos) == 8
    assert all(distance(places, centre_of(halo)).min() < 0.3 for halo in halos)


def test_mass_is_the_direct_count_inside_the_radius_and_the_mean_density_is_delta(many):
    particles, halos, _ = many
    x = all_positions(particles)
    is_gas = np.arange(len(x)) >= len(particles.dark_matter)
    critical = COSMOLOGY.rho_crit0
    references = {"200m": 200 * COSMOLOGY.rho_mean, "200c": 200 * critical, "500c": 500 * critical}
    for halo in halos:
        r = distance(x, centre_of(halo))
        assert (r < halo["r200m"]).sum() == halo["n200m"]
        assert (is_gas & (r < halo["r200m"])).sum() / halo["n200m"] == pytest.approx(halo["fgas200m"], rel=1e-12)
        for name, threshold in references.items():
            inside = (r < halo[f"r{name}"]).sum() * PARTICLE
            assert halo[f"m{name}"] == pytest.approx(inside, rel=1e-12)
            assert inside / (4 / 3 * np.pi * halo[f"r{name}"] ** 3) == pytest.approx(threshold, rel=1e-9)


def test_no_halo_lies_inside_another(many):
    """Overlapping spheres at several separations: listed centres are farther apart than either R200m."""
    rng = np.random.default_rng(3)
    big, _ = sphere(rng, 1e15)
    r200 = np.cbrt(1e15 / (4 / 3 * np.pi * 200 * COSMOLOGY.rho_mean))
    counts = []
    for separation in (0.3, 0.7, 1.5):
        small, _ = sphere(rng, 3e14)
        where = np.full(3, 12.0)
        halos = find_halos(universe([(where, big), (where + np.array([separation * r200, 0, 0]), small)]))
        counts.append(len(halos))
        for i, halo in enumerate(halos):
            others = np.delete(np.stack([halos["x"], halos["y"], halos["z"]], axis=1), i, axis=0)
            assert (distance(others, centre_of(halo)) > halo["r200m"]).all()
        assert distance(np.full((1, 3), 12.0), centre_of(halos[0]))[0] < 0.1
    assert counts == [1, 1, 2]


def test_a_dense_satellite_does_not_hide_the_halo_it_lives_in():
    """A compact clump, denser on the mesh than the centre of its host, belongs to the host, which keeps its place."""
    rng = np.random.default_rng(4)
    host, _ = sphere(rng, 1e15, concentration=3.0)
    satellite = 0.03 * rng.standard_normal((1500, 3))
    where = np.full(3, 12.0)
    alone = find_halos(universe([(where, host)]))
    halos = find_halos(universe([(where, host), (where + np.array([2.0, 0, 0]), satellite)]))
    assert len(halos) == 1
    assert distance(centre_of(halos[0])[None], where)[0] < 0.3
    assert halos[0]["m200m"] == pytest.approx(alone[0]["m200m"] + 1500 * PARTICLE, rel=0.05)


def test_halos_do_not_depend_on_where_the_box_begins(many):
    particles, halos, _ = many
    shift = np.array([5.0, 13.0, 21.5]) * (BOX / 24)
    kinds = [Species((s.positions + shift) % BOX, s.velocities, s.masses)
             for s in (particles.dark_matter, particles.gas)]
    moved = find_halos(Particles(BOX, 0.0, COSMOLOGY, *kinds))
    assert len(moved) == len(halos)
    for a, b in zip(halos, moved, strict=True):
        assert distance(centre_of(b)[None], (centre_of(a) + shift) % BOX)[0] < 0.05
        assert b["m200m"] == pytest.approx(a["m200m"], rel=0.01)


def test_limits_on_mass_and_number_are_kept(many):
    particles, halos, _ = many
    heavy = find_halos(particles, min_mass=4e14)
    np.testing.assert_array_equal(heavy["m200m"], halos["m200m"][halos["m200m"] >= 4e14])
    limit = int(np.sort(halos["n200m"])[1])
    assert len(find_halos(particles, min_particles=limit)) == len(halos) - 1
    assert len(find_halos(particles, min_mass=1e17)) == 0


def test_a_uniform_universe_has_no_halos():
    assert len(find_halos(universe([]))) == 0


def test_a_catalogue_is_read_back_as_it_was_written(many, tmp_path):
    _, halos, _ = many
    write_halos(halos, tmp_path / "halos.hdf5")
    back = read_halos(tmp_path / "halos.hdf5")
    assert set(back.colnames) == set(halos.colnames)
    for name in halos.colnames:
        np.testing.assert_array_equal(back[name], halos[name])
        assert back[name].unit == halos[name].unit
    assert back.meta["box"] == BOX
    assert back.meta["simulation"] == "spheres"


def test_an_empty_catalogue_is_read_back(tmp_path):
    write_halos(find_halos(universe([])), tmp_path / "halos.hdf5")
    assert len(read_halos(tmp_path / "halos.hdf5")) == 0


def test_what_is_not_a_catalogue_is_refused(tmp_path):
    (tmp_path / "text").write_text("not HDF5\n" * 1000)
    with h5py.File(tmp_path / "other.hdf5", "w") as f:
        f["something"] = 1.0
    for name in ("text", "other.hdf5"):
        with pytest.raises(UserError, match="is not a halo catalogue"):
            read_halos(tmp_path / name)
    with pytest.raises(UserError, match="does not exist"):
        read_halos(tmp_path / "nothing.hdf5")

"""Planted clusters: the search for the height of the peak, on functions that are known and on a small box."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.table import Table

from zwicky import plant
from zwicky.halos import find_halos
from zwicky.io import UserError
from zwicky.simulate.initial import coarser, collapse_threshold
from zwicky.simulate.run import SimulationConfig, first_modes, simulate
from zwicky.simulate.state import Particles, Species
from zwicky.snapshots import read_snapshot

CONFIG = SimulationConfig(n=16, box=34.0, seed=3, cluster=3e14, redshift_start=19.0)


def search(monkeypatch, error_of, progress=None):
    """The heights tried by `peak_height`, and its answer, for log10(mass / asked) a known function of the height."""
    tried = []

    def weigh(c, modes, device):
        tried.append(c.peak)
        error = error_of(c.peak)
        return 0.0 if error is None else c.cluster * 10**error

    monkeypatch.setattr(plant, "cluster_mass", weigh)
    return tried, plant.peak_height(CONFIG, progress)


@pytest.mark.parametrize("right", [0.7, 1.2, 1.5, 1.9, 2.4, 3.0])
@pytest.mark.parametrize("slope", [0.3, 0.6, 1.5])
def test_a_smooth_relation_is_solved(monkeypatch, right, slope):
    tried, height = search(monkeypatch, lambda x: slope * (x - right))
    assert abs(slope * (height - right)) < plant.CLOSE
    assert tried[0] == pytest.approx(collapse_threshold(CONFIG.cosmology, CONFIG.cluster, 1.0))


def test_a_jump_in_mass_ends_on_its_better_side(monkeypatch):
    """Two halos that merge or not: nothing lies between -0.2 and 0.3."""
    told = []
    tried, height = search(monkeypatch, lambda x: -0.2 if x < 1.8 else 0.3, lambda *what: told.append(what))
    assert height < 1.8
    assert len(tried) == plant.TRIALS
    assert told[-1] == (plant.TRIALS, plant.TRIALS, "the closest has 0.63 of the mass asked for")


def test_without_a_halo_the_peak_is_raised(monkeypatch):
    assert search(monkeypatch, lambda x: None if x < 2.5 else 0.0)[1] > 2.5


@pytest.mark.parametrize("error", [None, -0.4, 0.5])
def test_a_mass_that_is_never_reached_is_an_error(monkeypatch, error):
    with pytest.raises(UserError, match="choose another seed"):
        search(monkeypatch, lambda x: error)


def test_few_particles_are_tried_for_many(monkeypatch):
    """500 of each species in the cluster, as long as the run has more."""
    sides = []
    monkeypatch.setattr(plant, "cluster_mass", lambda c, modes, device: sides.append((c.n, len(modes))) or c.cluster)
    for n in (16, 40):
        plant.peak_height(replace(CONFIG, n=n))
    share = CONFIG.cosmology.rho_mean * CONFIG.box_mpc**3 / CONFIG.cluster
    assert sides == [(16, 16), (20, 20)]
    assert 20**3 / share == pytest.approx(plant.PARTICLES, rel=0.1)


def test_a_coarser_mesh_has_the_same_long_modes():
    """On the points that both meshes share, a field without short modes is the same."""
    config = replace(CONFIG, cluster=0.0)
    modes = first_modes(config)
    m = torch.fft.fftfreq(16, 1 / 16).abs()
    long = (m[:, None, None] < 4) & (m[None, :, None] < 4) & (torch.arange(9)[None, None] < 4)
    fine = torch.fft.irfftn(modes * long, s=(16, 16, 16))
    coarse = torch.fft.irfftn(coarser(modes * long, 8), s=(8, 8, 8))
    assert torch.allclose(coarse, fine[::2, ::2, ::2], atol=1e-12 * float(fine.abs().max()))
    everything = coarser(modes, 8)
    assert not any(everything.select(axis, 4).any() for axis in range(3))
    assert coarser(modes, 16) is modes


def test_a_planted_cluster_of_a_small_box_has_its_mass(tmp_path):
    """At z = 0.5, found with the box that is run: the trials have as many particles as it has."""
    told, config = [], replace(CONFIG, redshift_end=0.5)
    found = plant.planted(config, tmp_path, lambda *what: told.append(what))
    assert replace(found, peak=0.0) == config
    assert [t[:2] for t in told] == [(k + 1, plant.TRIALS) for k in range(len(told))]
    particles = read_snapshot(simulate(found, tmp_path / "run"))
    halos = find_halos(particles, min_particles=50)
    mass = halos["m200m"][plant.planted_halo(particles, halos, config.cluster)]
    assert abs(np.log10(mass / config.cluster)) < 0.1


def test_the_peak_of_a_run_that_is_there_is_not_sought_again(tmp_path, monkeypatch):
    small = replace(CONFIG, redshift_end=15.0, peak=1.9)
    simulate(small, tmp_path)
    monkeypatch.setattr(plant, "peak_height", None)
    assert plant.planted(replace(small, peak=0.0), tmp_path) == small
    free = replace(CONFIG, cluster=0.0)
    assert plant.planted(free, tmp_path / "other") is free
    assert plant.planted(small, tmp_path / "other") is small
    assert not (tmp_path / "other").exists()


def test_what_cannot_run_is_refused_before_any_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(plant, "peak_height", None)
    monkeypatch.setattr("zwicky.simulate.run._available_memory", lambda: 1e6)
    with pytest.raises(UserError, match="GB of memory"):
        plant.planted(CONFIG, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_planted_halo_is_known_by_its_particles():
    """Two halos made of the particles that started at the centre of the box and near its corner; both have moved."""
    n, box = 12, 60.0
    sites = np.indices((n, n, n)).reshape(3, -1).T * (box / n)
    cosmology, mass = CONFIG.cosmology, 5e13
    radius = cosmology.lagrangian_radius(mass)
    central = np.linalg.norm(sites - box / 2, axis=1) < radius
    corner = np.linalg.norm(sites - 10.0, axis=1) < 2 * radius
    places = {"x": np.array([55.0, 31.0]), "y": np.array([59.5, 30.0]), "z": np.array([2.0, 29.0])}
    positions = sites.copy()
    rng = np.random.default_rng(1)
    for row, which in enumerate((central, corner)):
        centre = np.array([places[axis][row] for axis in "xyz"])
        positions[which] = (centre + rng.uniform(-0.5, 0.5, (which.sum(), 3))) % box
    dark = Species(positions, np.zeros((n**3, 3), np.float32), np.ones(n**3), np.ones(n**3))
    particles = Particles(box, 0.0, cosmology, dark, dark, {})
    halos = Table(places | {"r200m": np.array([1.5, 1.5]), "m200m": np.array([5e13, 4e14])})
    assert plant.planted_halo(particles, halos, mass) == 0
    assert plant.planted_halo(particles, halos[:0], mass) is None

"""Planted clusters: the search for the height of the peak, on functions that are known and on a small box."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from zwicky import plant
from zwicky.io import UserError
from zwicky.simulate.initial import coarser, collapse_threshold, linear_modes
from zwicky.simulate.run import SimulationConfig, first_modes

CONFIG = SimulationConfig(n=16, box=34.0, seed=3, cluster=3e14, redshift_start=19.0)


def search(monkeypatch, error_of):
    """`peak_height` with a cluster whose log10(mass / asked) is a known function of the height."""
    monkeypatch.setattr(plant, "cluster_mass", lambda c, modes: c.cluster * 10 ** error_of(c.peak))
    return plant.peak_height(CONFIG)


@pytest.mark.parametrize("right", [1.2, 1.5, 1.9, 2.4, 3.0])
@pytest.mark.parametrize("slope", [0.3, 0.6, 1.5])
def test_a_smooth_relation_is_solved(monkeypatch, right, slope):
    height, tried = search(monkeypatch, lambda x: slope * (x - right))
    assert abs(slope * (height - right)) < plant.CLOSE
    assert tried[0][0] == pytest.approx(collapse_threshold(CONFIG.cosmology, CONFIG.cluster, 1.0))


def test_a_jump_in_mass_ends_on_its_better_side(monkeypatch):
    """Two halos that merge or not: nothing lies between -0.2 and 0.3."""
    height, tried = search(monkeypatch, lambda x: -0.2 if x < 1.8 else 0.3)
    assert height < 1.8
    assert len(tried) == plant.TRIALS


def test_without_a_halo_the_peak_is_raised(monkeypatch):
    monkeypatch.setattr(plant, "cluster_mass", lambda c, modes: 0.0 if c.peak < 2.5 else c.cluster)
    assert plant.peak_height(CONFIG)[0] > 2.5


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
    """Found with the box that is run: the trials have as many particles as it has."""
    told = []
    found = plant.planted(CONFIG, tmp_path, lambda *what: told.append(what))
    modes = linear_modes(CONFIG.cosmology, CONFIG.box_mpc, 16, 0.05, np.random.default_rng(3))
    assert abs(np.log10(plant.cluster_mass(found, modes) / CONFIG.cluster)) < 0.1
    assert replace(found, peak=0.0) == CONFIG
    kept = json.loads((tmp_path / "peak.json").read_text())
    assert kept["peak"] == found.peak
    assert len(told) == len(kept["trials"])


def test_a_peak_that_is_known_is_not_sought_again(tmp_path, monkeypatch):
    monkeypatch.setattr(plant, "peak_height", lambda config, progress: (2.0, [(2.0, 0.0)]))
    assert plant.planted(CONFIG, tmp_path).peak == 2.0
    monkeypatch.setattr(plant, "peak_height", None)
    assert plant.planted(CONFIG, tmp_path).peak == 2.0
    given = replace(CONFIG, peak=1.7)
    assert plant.planted(given, tmp_path / "other") is given
    free = replace(CONFIG, cluster=0.0)
    assert plant.planted(free, tmp_path / "other") is free
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="another configuration"):
        plant.planted(replace(CONFIG, seed=4), tmp_path)

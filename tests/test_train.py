"""Training: the loss falls, and what was killed ends in the same bits as what was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise

import h5py
import numba
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from zwicky.io import UserError
from zwicky.model import KINDS
from zwicky.physics import PhysicsWeights
from zwicky.reconstruct import load_model
from zwicky.train import TrainConfig, train

DRIVER = """
import json, os, signal, sys
from zwicky.physics import PhysicsWeights
from zwicky.train import TrainConfig, train
maps, folder, die_at, settings = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
config = TrainConfig(**settings | {"physics": PhysicsWeights(**settings["physics"])})
def tell(step, total, latest):
    if step == die_at:
        os.kill(os.getpid(), signal.SIGKILL)
train(maps, folder, config, progress=tell, checkpoint_seconds=0)
"""


def bits(folder):
    """Everything that training leaves, weights as bytes."""
    weights = {k: v.numpy().tobytes() for k, v in load_file(folder / "model.safetensors").items()}
    return weights, {p.name: p.read_text() for p in folder.iterdir() if p.suffix in (".json", ".jsonl")}


def run_and_die(maps, folder, config, step, **environment):
    """Train in a process that kills itself after a step, in the middle of what follows."""
    command = [sys.executable, "-c", DRIVER, str(maps), str(folder), str(step), json.dumps(asdict(config))]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def test_killed_and_resumed_with_physics_and_corrected_spread(map_file, tmp_path, tiny_config):
    """The terms, and what is fitted at the end, do not depend on where the training was cut off."""
    physics = PhysicsWeights(mass=0.1, power=0.1, gas_fraction=0.1, forward=0.1)
    config = replace(tiny_config, spread_maps=2, physics=physics)
    for step in (2, 5):
        assert run_and_die(map_file, tmp_path / "killed", config, step) == -signal.SIGKILL
    folders = [train(map_file, tmp_path / name, config) for name in ("killed", "whole")]
    assert bits(folders[0]) == bits(folders[1])


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(map_file, tmp_path, tiny_config, model_folder):
    folder = tmp_path / "killed"
    assert run_and_die(map_file, folder, tiny_config, 2) == -signal.SIGKILL
    assert not folder.exists()
    assert run_and_die(map_file, folder, tiny_config, 5) == -signal.SIGKILL  # after a validation; before its checkpoint
    steps = []
    train(map_file, folder, tiny_config, progress=lambda done, total, latest: steps.append(done))
    assert steps == [5, 6]
    assert bits(folder) == bits(model_folder)
    assert [p.name for p in tmp_path.iterdir()] == ["killed"]


@numba.njit(parallel=True)
def start_numbas_threads():
    for _ in numba.prange(2):
        pass


@pytest.mark.parametrize("died", [2, 3])
def test_a_training_ends_on_as_many_threads_as_it_began(map_file, tmp_path, tiny_config, died):
    """Sums depend on the number of threads: the checkpoint keeps it, and numba's pool does not change it."""
    assert run_and_die(map_file, tmp_path / "whole", tiny_config, -1, OMP_NUM_THREADS="1") == 0
    assert run_and_die(map_file, tmp_path / "killed", tiny_config, died, OMP_NUM_THREADS="1") == -signal.SIGKILL
    start_numbas_threads()
    before = torch.get_num_threads()
    train(map_file, tmp_path / "killed", tiny_config)
    assert bits(tmp_path / "killed") == bits(tmp_path / "whole")
    assert torch.get_num_threads() == before


def test_a_finished_model_is_left_alone(map_file, tiny_config, model_folder):
    before = {p.name: p.stat().st_mtime_ns for p in model_folder.iterdir()}
    assert train(map_file, model_folder, tiny_config, progress=lambda *a: pytest.fail("trained again")) == model_folder
    assert {p.name: p.stat().st_mtime_ns for p in model_folder.iterdir()} == before


def test_another_configuration_is_refused_in_a_finished_folder(map_file, tiny_config, model_folder):
    with pytest.raises(UserError, match="choose another folder"):
        train(map_file, model_folder, replace(tiny_config, learning_rate=2e-3))


def test_other_maps_are_refused_in_a_finished_folder(map_file, tmp_path, tiny_config, model_folder):
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f["split"][:3] = 2
    with pytest.raises(UserError, match="choose another folder"):
        train(other, model_folder, tiny_config)


def test_another_configuration_is_refused_where_one_was_cut_off(map_file, tmp_path, tiny_config):
    with pytest.raises(KeyboardInterrupt):
        train(map_file, tmp_path / "m", tiny_config, progress=_interrupt, checkpoint_seconds=-1)
    with pytest.raises(UserError, match=r"denoiser.safetensors belongs to a training with other"):
        train(map_file, tmp_path / "m", replace(tiny_config, learning_rate=2e-3))


def _interrupt(step, total, latest):
    if step == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize("keep", [0, 200])
def test_a_damaged_checkpoint_is_named(map_file, tmp_path, tiny_config, keep):
    with pytest.raises(KeyboardInterrupt):
        train(map_file, tmp_path / "m", tiny_config, progress=_interrupt, checkpoint_seconds=-1)
    checkpoint = tmp_path / "m.training" / "denoiser.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"denoiser.safetensors is damaged; move it away"):
        train(map_file, tmp_path / "m", tiny_config)


def test_a_line_of_statistics_cut_off_is_made_again(map_file, tmp_path, tiny_config, model_folder):
    with pytest.raises(KeyboardInterrupt):
        train(map_file, tmp_path / "m", tiny_config, progress=_interrupt, checkpoint_seconds=-1)
    stats = tmp_path / "m.training" / "stats.jsonl"
    stats.write_text(stats.read_text()[:-9])
    train(map_file, tmp_path / "m", tiny_config)
    assert bits(tmp_path / "m") == bits(model_folder)


def test_statistics_are_one_line_a_validation(model_folder):
    lines = [json.loads(line) for line in (model_folder / "stats.jsonl").read_text().splitlines()]
    told = [(line["step"], *(set(line) - {"step"})) for line in lines]
    assert told == [(2, "mean"), (3, "denoiser"), (6, "denoiser")]
    assert all(line["denoiser"] > 0 for line in lines[1:])


@pytest.mark.parametrize(
    ("kind", "steps", "stages"),
    [("score", 10, [("mean", 4), ("denoiser", 6)]), ("score", 2, [("mean", 1), ("denoiser", 1)]),
     ("regression", 1, [("mean", 1)]), ("h25", 10, [("denoiser", 10)])],
)  # fmt: skip
def test_a_training_has_a_stage_for_the_mean_and_one_for_what_is_left(kind, steps, stages):
    assert TrainConfig(kind=kind, steps=steps).stages == stages


def test_another_seed_gives_another_model(map_file, tmp_path, tiny_config, model_folder):
    other = train(map_file, tmp_path / "m", replace(tiny_config, seed=1))
    assert bits(other)[0] != bits(model_folder)[0]


def test_the_loss_falls(map_file, tmp_path, tiny_config):
    config = replace(tiny_config, steps=120, warmup=5, ema=0.9, learning_rate=3e-3, validate_every=20)
    folder = train(map_file, tmp_path / "m", config)
    stats = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    for name in ("mean", "denoiser"):
        losses = [line[name] for line in stats if name in line]
        assert len(losses) >= 3
        assert losses[-1] < losses[0] - 0.02


def test_the_rate_warms_up_and_decays():
    config = TrainConfig(steps=100, warmup=10, learning_rate=2.0)
    rates = [config.rate(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert max(rates) == 2.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[55] == pytest.approx(2.0 * (0.01 + 0.99 / 2))  # half-way down the cosine
    assert rates[100] == pytest.approx(0.02)


def test_without_a_warm_up_the_peak_comes_first():
    assert TrainConfig(warmup=0, learning_rate=2.0).rate(0, 3) == 2.0


def test_the_card_says_what_it_was_trained_on(model, tiny_config):
    card = model.config.training
    assert (card["sightlines"], card["clusters"], card["steps"]) == (12, 4, tiny_config.steps)
    assert card["m200m_range"][0] == pytest.approx(1e14)
    assert model.config.ranges["redshift"] == (0.1, 0.1)
    assert torch.isfinite(torch.cat([p.flatten() for p in model.networks.parameters()])).all()


def test_a_set_without_the_channel_leaves_nothing(map_file, tmp_path, tiny_config):
    with pytest.raises(UserError, match="no channel 'stars'"):
        train(map_file, tmp_path / "m", replace(tiny_config, inputs=("stars",)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [{"steps": 0}, {"steps": 1}, {"mean_share": 1.0}, {"mean_share": 0.0},
     {"batch": 0}, {"validate_every": 0}, {"widths": (8, 0)}, {"learning_rate": 0.0}, {"ema": 1.0},
     {"learning_rate": float("nan")}, {"drop_channel": 1.0}, {"drop_pixels": 1.5}, {"clip": 0.0}, {"targets": ()},
     {"inputs": ()}],
    ids=str,
)  # fmt: skip
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"must|needs"):
        TrainConfig(**setting)


@pytest.mark.parametrize("network", ["unet", "ncsnpp"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_and_network_trains_and_samples(map_file, tmp_path, tiny_config, observation, kind, network):
    folder = train(map_file, tmp_path / "model", replace(tiny_config, steps=3, kind=kind, network=network))
    model = load_model(folder)
    assert (model.config.kind, model.config.architecture) == (kind, network)
    posterior = model.sample(observation, 0.1, 200.0, n=2, steps=4)
    assert posterior.samples["gas"].shape == ((1 if kind == "regression" else 2), 16, 16)
    assert all((x > 0).any() for x in posterior.samples.values())


def test_the_replica_has_the_published_schedule_and_scaling(map_file, tmp_path, tiny_config, maps):
    """Images from 0 to 1, sigma from 1e-3 to 1 with ln sigma uniform (Hsu et al. 2025)."""
    folder = train(map_file, tmp_path / "model", replace(tiny_config, steps=1, kind="h25"))
    config = load_model(folder).config
    v = config.scales["gas"].forward(maps.read("gas", maps.rows("train")))
    assert (v.min(), v.max()) == pytest.approx((0, 1), abs=1e-5)
    ln_sigma = config.noise.training_sigmas(20000, torch.Generator().manual_seed(0)).log()
    low, high = np.log(1e-3), 0.0
    counts = torch.histc(ln_sigma, 5, low, high) / 20000
    torch.testing.assert_close(counts, torch.full((5,), 0.2), atol=0.015, rtol=0)


@pytest.mark.parametrize("setting", [{"kind": "magic"}, {"network": "magic"}])
def test_unknown_kinds_are_refused(setting):
    with pytest.raises(ValueError, match="must be one of"):
        TrainConfig(**setting)

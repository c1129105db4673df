"""The engine of training: processes, parts of a batch, masses apart, noise, budgets, early ends, fine-tuning."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from zwicky.dataset.loader import MapLoader
from zwicky.io import UserError
from zwicky.nn.mass import MassHead, draw, log_density, mixture_mean, widened
from zwicky.products import aperture_mass
from zwicky.recalibration import likeliest_widths
from zwicky.reconstruct import load_model
from zwicky.train import TrainConfig, train
from zwicky.train_config import BASELINES
from zwicky.trainer import Trainer

DRIVER = """
import json, sys
from zwicky.physics import PhysicsWeights
from zwicky.train import TrainConfig, train
settings = json.loads(sys.argv[3])
physics = PhysicsWeights(**settings.pop("physics"))
train(sys.argv[1], sys.argv[2], TrainConfig(**settings, physics=physics))
"""


def weights(folder):
    return load_file(folder / "model.safetensors")


def largest_difference(a, b):
    a, b = weights(a), weights(b)
    assert set(a) == set(b)
    return max(float((a[k] - b[k]).abs().max()) for k in a)


@pytest.mark.parametrize("mass", [False, True])
def test_two_processes_equal_one_with_the_whole_batch(map_file, tmp_path, tiny_config, mass):
    """Gradients are averaged by gloo; what differs is rounding."""
    config = replace(tiny_config, steps=4, mass=mass, learning_rate=1e-4)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    meet = ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", *meet, str(script)]
    arguments = [str(map_file), str(tmp_path / "two"), json.dumps(asdict(config))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *arguments], env=environment, check=True, capture_output=True)
    train(map_file, tmp_path / "one", config)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 1e-4
    fresh = train(map_file, tmp_path / "fresh", replace(config, steps=2))
    assert largest_difference(fresh, tmp_path / "one") > 1e-4  # what was trained moved by more than that


def test_parts_of_a_batch_equal_the_batch(map_file, tmp_path, tiny_config):
    config = replace(tiny_config, steps=3, learning_rate=1e-4)
    whole = train(map_file, tmp_path / "whole", config)
    parts = train(map_file, tmp_path / "parts", replace(config, accumulate=2))
    assert largest_difference(whole, parts) < 1e-4


def test_masses_apart_are_those_of_the_samples(map_file, tmp_path, tiny_config, observation):
    """The map of a sample weighs what the head drew, and every target has a mass of its own."""
    model = load_model(train(map_file, tmp_path / "model", replace(tiny_config, mass=True)))
    posterior = model.sample(observation, 0.1, 200.0, n=6, seed=3, steps=4)
    mass = {name: posterior.mass(name) for name in posterior.samples}
    assert all(np.ptp(values) > 0 for values in mass.values())
    again = model.sample(observation, 0.1, 200.0, n=6, seed=3, steps=9)
    for name, values in mass.items():
        np.testing.assert_allclose(again.mass(name), values, rtol=1e-5)  # the masses know nothing of the sampler
    mean = model.sample(observation, 0.1, 200.0, n=6, sampler="mean")
    assert mean.samples["gas"].shape == (1, 16, 16)


def test_standard_masses_have_mean_0_and_covariance_1(map_file, maps, tmp_path, tiny_config):
    """Up to the least spread: gas and dark matter of the test set differ by one factor."""
    config = load_model(train(map_file, tmp_path / "model", replace(tiny_config, steps=2, mass=True))).config
    rows = maps.rows("train")
    ln_mass = torch.tensor(np.log([aperture_mass(maps.read(name, rows), maps.pixel_kpc) for name in config.targets]).T)
    u = config.standard_mass(ln_mass)
    torch.testing.assert_close(config.ln_mass(u), ln_mass, rtol=1e-8, atol=1e-6)
    covariance = torch.cov(u.T, correction=0)
    assert u.mean(0).abs().max() < 1e-4
    assert covariance[0, 0] == pytest.approx(1, abs=1e-3)
    assert abs(covariance[0, 1]) < 0.02
    assert covariance[1, 1] < 1 + 1e-3


def test_masses_are_learnt_and_their_widths_corrected(map_file, maps, tmp_path):
    """Compton y tells the mass of the test set's blobs almost exactly; the head must see it within its errors."""
    config = TrainConfig(
        kind="regression", steps=250, batch=12, warmup=20, widths=(8, 16), mass=True, drop_channel=0.0,
        drop_pixels=0.0, validate_every=250, learning_rate=1e-3, ema=0.98, spread_maps=0,
    )  # fmt: skip
    model = load_model(train(map_file, tmp_path / "model", config))
    assert set(model.config.mass["widths"]) == {"", "compton_y", "xray", "compton_y,xray"}
    assert all(0.5 <= width <= 3 for widths in model.config.mass["widths"].values() for width in widths)
    stats = [json.loads(line) for line in (tmp_path / "model" / "stats.jsonl").read_text().splitlines()]
    root = np.array(model.config.mass["root"])
    std = np.sqrt(np.diag(root @ root.T))
    lowest = min(line["mass"] for line in stats if "mass" in line)
    in_units_of_std = lowest - np.log(std / np.diag(root)).mean()  # -ln p of (ln M - mean) / std, a target
    assert in_units_of_std < 0.3  # -ln p of a unit Gaussian is 1.42
    for split, limit in (("train", 0.1), ("test", 0.3)):
        rows, found = maps.rows(split), {"gas": [], "dark_matter": []}
        for row in rows:
            images = {name: maps.read(name, np.array([row]))[0] for name in model.config.inputs}
            mean = model.sample(images, maps.redshift, maps.pixel_kpc, sampler="mean")
            for name, masses in found.items():
                masses.append(float(mean.mass(name)[0]))
        for name, masses in found.items():
            error = np.log(masses) - np.log(aperture_mass(maps.read(name, rows), maps.pixel_kpc))
            assert np.sqrt(np.mean(error**2)) < limit  # they span 0.7


@pytest.mark.parametrize("kind", ["score", "regression"])
def test_noise_is_told_and_changes_the_posterior(map_file, tmp_path, tiny_config, observation, kind):
    config = replace(tiny_config, degrade=0.5, mass=True, kind=kind)
    model = load_model(train(map_file, tmp_path / "model", config))
    assert model.config.noisy
    clean = model.sample(observation, 0.1, 200.0, n=2, steps=3)
    noise = {name: float(image.max()) for name, image in observation.items()}
    told = model.sample(observation, 0.1, 200.0, n=2, steps=3, noise=noise, fwhm_kpc=dict.fromkeys(observation, 300.0))
    assert not np.array_equal(clean.samples["gas"], told.samples["gas"])
    with pytest.raises(ValueError, match="noise of xray must be"):
        model.sample(observation, 0.1, 200.0, n=2, steps=3, noise={"xray": -1.0})


def test_a_training_ends_when_its_time_is_over(map_file, tmp_path, tiny_config):
    folder = train(map_file, tmp_path / "model", replace(tiny_config, steps=100_000), time_budget=2.0)
    stats = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert stats[-1]["step"] == load_model(folder).config.training["steps"] < 100_000


def test_a_training_ends_early_and_keeps_the_best(map_file, tmp_path, tiny_config):
    """With a hopeless learning rate the CRPS never falls below that of the first validation."""
    config = replace(tiny_config, steps=40, validate_every=2, patience=2, learning_rate=0.3, warmup=6, ema=0.0)
    folder = train(map_file, tmp_path / "model", config)
    stats = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    crps = [entry["crps"] for entry in stats if "crps" in entry]
    assert stats[-1]["step"] == load_model(folder).config.training["steps"] < 40
    assert min(crps) == crps[-3]
    assert all(torch.isfinite(w).all() for w in weights(folder).values())


def test_the_mean_and_the_head_keep_their_own_best_weights(map_file, tmp_path, tiny_config, monkeypatch):
    """With a hopeless learning rate their losses soon rise; the denoiser keeps its last average."""
    averages = []

    class Watched(Trainer):
        def validate(self, *args):
            averages.append({k: v.clone() for k, v in self.ema.weights.items()})
            return super().validate(*args)

    monkeypatch.setattr("zwicky.train.Trainer", Watched)
    config = replace(tiny_config, mass=True, steps=20, mean_share=0.9, validate_every=2, learning_rate=0.5, warmup=6,
                     ema=0.0)  # fmt: skip
    folder = train(map_file, tmp_path / "model", config)
    stats = [json.loads(line) for line in (folder / "stats.jsonl").read_text().splitlines()]
    assert len(averages) == len(stats)
    best = {name: int(np.argmin([line.get(name, np.inf) for line in stats])) for name in ("mean", "mass")}
    assert max(best.values()) < max(i for i, line in enumerate(stats) if "mean" in line)
    for name, weight in weights(folder).items():
        expected = averages[best.get(name.split(".")[0], -1)][name]
        torch.testing.assert_close(weight, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("patience", [0, 2])
def test_a_training_that_diverges_says_so_and_leaves_no_model(map_file, tmp_path, tiny_config, patience):
    config = replace(tiny_config, steps=10, learning_rate=1e30, warmup=0, ema=0.0, patience=patience)
    with pytest.raises(UserError, match="diverged"):
        train(map_file, tmp_path / "model", config)
    assert not (tmp_path / "model").exists()


def test_one_that_diverges_before_its_first_validation_says_so_too(map_file, tmp_path, tiny_config):
    config = replace(tiny_config, steps=10, learning_rate=1e30, warmup=0, ema=0.0, validate_every=10)
    with pytest.raises(UserError, match="diverged before step"):
        train(map_file, tmp_path / "model", config, time_budget=1e-6)
    assert not (tmp_path / "model").exists()


def test_the_corrected_spread_is_that_of_the_new_weights(map_file, tmp_path, tiny_config):
    """None without `spread_maps`, or of another kind of model; another one for other weights."""
    first = train(map_file, tmp_path / "first", replace(tiny_config, spread_maps=2))
    factors = load_model(first).config.spread
    on = {n: train(map_file, tmp_path / f"on{n}", replace(tiny_config, spread_maps=n), start=first) for n in (0, 2)}
    assert load_model(on[0]).config.spread == {}
    assert set(load_model(on[2]).config.spread) == set(factors)
    assert load_model(on[2]).config.spread != factors
    published = train(map_file, tmp_path / "h25", replace(tiny_config, kind="h25"))
    again = train(map_file, tmp_path / "again", replace(tiny_config, spread_maps=2), start=published)
    assert load_model(again).config.spread == {}


@pytest.mark.parametrize("fine", [False, True])
def test_dropout_goes_by_the_step(map_file, tmp_path, tiny_config, fine):
    """Resumed after two of four steps, the weights have the same bits; a model trained on has the dropout it had."""
    config = replace(tiny_config, steps=4, dropout=0.3)
    start = train(map_file, tmp_path / "start", config) if fine else None
    config = replace(config, dropout=0.0) if fine else config
    whole = train(map_file, tmp_path / "whole", config, start=start)
    with pytest.raises(KeyboardInterrupt):
        train(map_file, tmp_path / "cut", config, progress=stop_at(2), checkpoint_seconds=0, start=start)
    torch.rand(7)
    assert largest_difference(train(map_file, tmp_path / "cut", config, start=start), whole) == 0


def test_the_denoiser_is_told_a_mean_without_dropout(map_file, tmp_path, tiny_config, monkeypatch):
    modes = []

    class Watched(Trainer):
        def advance(self, *args):
            super().advance(*args)
            modes.append((self.networks.mean.training, self.networks.denoiser.training))

    monkeypatch.setattr("zwicky.train.Trainer", Watched)
    train(map_file, tmp_path / "model", replace(tiny_config, steps=2, dropout=0.3))
    assert modes == [(True, False), (False, True)]


def test_pixels_that_one_input_does_not_show_tell_of_the_others(map_file, tmp_path, tiny_config, monkeypatch):
    """An input with a narrow field: what is fitted for the other, and for none, is what it is with the whole field."""
    found = []

    class Watched(Trainer):
        def prepare(self, loader):
            super().prepare(loader)
            found.append(self.networks.mean.local.weight.clone())

    class Narrow(MapLoader):
        def batch(self, *args):
            batch, rng = super().batch(*args)
            batch.condition[:, [1, 3], :, :5] = 0  # of X-rays and their mask
            return batch, rng

    monkeypatch.setattr("zwicky.train.Trainer", Watched)
    train(map_file, tmp_path / "whole", replace(tiny_config, steps=2))
    monkeypatch.setattr("zwicky.train.MapLoader", Narrow)
    train(map_file, tmp_path / "narrow", replace(tiny_config, steps=2))
    (whole, _), (narrow, _) = found[:2], found[2:]  # before each stage
    torch.testing.assert_close(narrow[:2], whole[:2], rtol=1e-3, atol=1e-3)  # none, compton_y
    assert (narrow[2:] - whole[2:]).abs().max() > 1e-2


def stop_at(step):
    def tell(done, total, numbers):
        if done == step + 1:  # the checkpoint of a step follows its report
            raise KeyboardInterrupt

    return tell


def test_a_folder_with_other_files_is_left_alone(map_file, tmp_path, tiny_config):
    (tmp_path / "notes.txt").write_text("of the observer")
    with pytest.raises(UserError, match="holds other files"):
        train(map_file, tmp_path, tiny_config)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_channels_with_a_sign_are_refused(map_file, tmp_path, tiny_config):
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f["maps/xray"][0] *= -1
    with pytest.raises(UserError, match=r"xray of .* negative values"):
        train(other, tmp_path / "model", tiny_config)


def test_a_model_learns_the_set_it_is_trained_on(map_file, tmp_path, tiny_config):
    """Its noise levels stay; the distribution of masses and the redshift are those of the new set."""
    config = replace(tiny_config, mass=True)
    first = train(map_file, tmp_path / "first", config)
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f.attrs["redshift"] = 0.3
        f["halo/m200m"][:] *= 2
    old, new = (load_model(m).config for m in (first, train(other, tmp_path / "on", config, start=first)))
    assert new.ranges["redshift"] == (0.3, 0.3)
    assert old.ranges["redshift"] != (0.3, 0.3)
    assert new.mass["prior"]["offset"] == pytest.approx(old.mass["prior"]["offset"] + np.log(2))
    with pytest.raises(UserError, match="is not told of noise"):
        train(other, tmp_path / "noisy", replace(config, degrade=0.5), start=first)


def test_noise_levels_of_a_training_are_those_of_its_model(map_file, tmp_path, tiny_config, monkeypatch):
    seen = []

    class Watched(Trainer):
        def draw(self, *args):
            found = super().draw(*args)
            seen.append(float(found[1].max()))
            return found

    published = train(map_file, tmp_path / "h25", replace(tiny_config, kind="h25"))
    monkeypatch.setattr("zwicky.train.Trainer", Watched)
    train(map_file, tmp_path / "on", tiny_config, start=published)
    assert 0 < max(seen) <= 1


def test_a_model_is_trained_on(map_file, model_folder, tmp_path, tiny_config):
    folder = train(map_file, tmp_path / "model", replace(tiny_config, steps=2, learning_rate=1e-5), start=model_folder)
    fine, base = load_model(folder).config, load_model(model_folder).config
    assert fine.scales == base.scales
    assert fine.training["started_from"] == base.training
    assert 0 < largest_difference(folder, model_folder) < 1e-3


def test_a_model_of_other_pixels_is_not_trained_on(map_file, model_folder, tmp_path, tiny_config):
    other = shutil.copy(map_file, tmp_path / "maps.h5")
    with h5py.File(other, "a") as f:
        f.attrs["pixel_kpc"] = 100.0
    with pytest.raises(UserError, match="other pixels"):
        train(other, tmp_path / "model", tiny_config, start=model_folder)


@pytest.mark.parametrize("setting", [
    {"accumulate": 3}, {"patience": -1}, {"spread_maps": -1}, {"clean": 2.0}, {"degrade": -0.1},
    {"mass": True, "kind": "h25"},
])  # fmt: skip
def test_impossible_settings_are_refused(setting):
    with pytest.raises(ValueError, match=r"need|must|does not"):
        TrainConfig(**setting)


def test_instruments_that_are_not_there_are_refused(map_file, tmp_path, tiny_config):
    with pytest.raises(UserError, match="no images of 'ACT'"):
        train(map_file, tmp_path / "model", replace(tiny_config, instruments=("ACT",)))


# The mixture --------------------------------------------------------------------------------------------------------


def mixture():
    ln_w = torch.tensor([0.3, 0.7]).log()
    m = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    L = torch.tensor([[[0.5, 0.0], [0.3, 0.4]], [[1.0, 0.0], [-0.5, 0.2]]])
    return ln_w, m, L


def test_density_of_a_mixture_is_that_of_scipy():
    from scipy.stats import multivariate_normal

    ln_w, m, L = mixture()
    u = torch.tensor([[0.1, 0.2], [1.5, -2.0], [3.0, 0.0]])
    found = log_density(u, *(part.expand(3, *part.shape) for part in (ln_w, m, L)))
    expected = sum(
        w * multivariate_normal(mean, l @ l.T).pdf(u.numpy())
        for w, mean, l in zip(ln_w.exp().numpy(), m.numpy(), L.numpy(), strict=True)
    )
    np.testing.assert_allclose(found.exp(), expected, rtol=1e-5)


@pytest.mark.parametrize("widths", [(1.0, 1.0), (1.5, 0.7)])
def test_draws_have_the_moments_of_the_mixture(widths):
    ln_w, m, L = mixture()
    g, widths = torch.Generator().manual_seed(0), torch.tensor(widths)
    normals, uniforms = torch.randn(200_000, 2, generator=g), torch.rand(200_000, generator=g)
    u = draw(*widened(ln_w, m, L, widths), normals, uniforms)
    w, mean = ln_w.exp(), mixture_mean(ln_w, m)
    covariance = sum(w[k] * (L[k] @ L[k].T + torch.outer(m[k] - mean, m[k] - mean)) for k in range(2))
    torch.testing.assert_close(u.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(u.T.cov(), torch.outer(widths, widths) * covariance, atol=0.03, rtol=0.02)


@pytest.mark.parametrize(("clusters", "expected"), [(1000, 1.5), (1, 1.13)])
def test_a_known_fault_of_the_widths_is_found(clusters, expected):
    """Truths 1.5 times as far from their means as the head says in one direction; one cluster is believed in part.

    The most probable width w: n ((1.5 / w)^2 - 1) = ln w / 0.4^2, of n clusters.
    """
    g = torch.Generator().manual_seed(0)
    m, L = torch.randn(4000, 1, 2, generator=g), 0.3 * torch.eye(2).expand(4000, 1, 2, 2)
    u = m[:, 0] + torch.tensor([1.0, 1.5]) * 0.3 * torch.randn(4000, 2, generator=g)
    widths = likeliest_widths(u, torch.zeros(4000, 1), m, L, clusters)
    assert widths == pytest.approx([1.0, expected], rel=0.03)


def test_the_mean_is_that_of_the_mass(map_file, tmp_path, tiny_config, observation):
    """The mean of one evaluation weighs the mean of the masses of samples, not exp of that of ln M."""
    model = load_model(train(map_file, tmp_path / "model", replace(tiny_config, mass=True)))
    about = observation, model.config.ranges["redshift"][0], model.config.pixel_kpc
    mean = model.sample(*about, sampler="mean").mass("gas")[0]
    samples = model.sample(*about, n=600, steps=2).mass("gas")
    assert mean == pytest.approx(samples.mean(), rel=4 * samples.std() / samples.mean() / 600**0.5)
    assert np.exp(np.log(samples).mean()) < 0.95 * mean  # the head of a few steps knows little


def test_a_new_head_knows_nothing_of_its_input():
    torch.manual_seed(0)
    head = MassHead(4, 2, 1, widths=(8, 16))
    a, b = (head(torch.randn(3, 4, 16, 16), torch.zeros(3, 1)) for _ in range(2))
    for left, right in zip(a, b, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", BASELINES)
def test_every_published_method_has_settings_that_are_possible(name):
    config = TrainConfig(**BASELINES[name])
    assert config.kind in ("regression", "h25")
    assert config.drop_channel == config.drop_pixels == 0

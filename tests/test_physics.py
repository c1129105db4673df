"""Losses that know what maps are: each is zero for the truth, and what it should be for known faults."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from zwicky.dataset.normalize import LogScale, fit
from zwicky.io import UserError
from zwicky.model import read_model
from zwicky.physics import TERMS, Physics, PhysicsWeights, forward, gas_fraction, mass, octaves, physics_of, power
from zwicky.train import train

P, TARGETS = 32, ("gas", "dark_matter")
SCALES = {"gas": LogScale(1e5, 2.0, 1.0, -3.0, 4.0), "dark_matter": LogScale(1e6, 2.0, 1.2, -3.0, 4.0)}


def densities(seed=0, n=3):
    """Positive maps (n, 2, P, P)."""
    g = torch.Generator().manual_seed(seed)
    return torch.tensor([1e6, 6e6])[:, None, None] * torch.exp(0.5 * torch.randn(n, 2, P, P, generator=g))


def about(**changes):
    """The terms of a model of gas and dark matter."""
    W = torch.randn(2, 2, P, P // 2 + 1, generator=torch.Generator().manual_seed(7))
    return Physics(PhysicsWeights(**{"mass": 1.0, **changes}), TARGETS, SCALES, W)


@pytest.mark.parametrize("name", TERMS)
def test_the_truth_has_no_loss(name):
    t = densities()
    torch.testing.assert_close(TERMS[name](t, t, about()), torch.zeros(3), atol=1e-6, rtol=0)


def test_a_wrong_mass_costs_its_square_in_ln():
    t = densities()
    a = t * torch.tensor([0.1, -0.2]).exp()[:, None, None]
    torch.testing.assert_close(mass(a, t, about()), torch.full((3,), (0.01 + 0.04) / 2), rtol=1e-3, atol=0)


def test_power_knows_no_mass_and_asks_of_a_posterior_mean_that_b_is_r():
    """t = s + n: s has b = r < 1, which costs 1 - r; s / 2 about its mean has b = r / 2, which costs (r / 2)^2 more."""
    g = torch.Generator().manual_seed(0)
    s, n = (0.1 * torch.randn(400, 2, P, P, generator=g) for _ in range(2))
    t, a, half = 1 + s + n, 1 + s, 1 + s / 2
    r = 0.5**0.5
    assert power(a, t, about()).mean() == pytest.approx(1 - r, abs=0.04)  # few modes in the first octave
    extra = (power(half, t, about()) - power(a, t, about())).mean()
    assert extra == pytest.approx(r**2 / 4, abs=0.025)
    torch.testing.assert_close(power(3 * a, t, about()), power(a, t, about()))


def test_octaves_hold_the_modes_from_one_power_of_two_to_the_next():
    number = octaves(8).view(8, 5)
    k = np.hypot(np.fft.fftfreq(8, 1 / 8)[:, None], np.arange(5))
    assert number[0, 0] == 0
    np.testing.assert_array_equal(number.flatten()[1:], 1 + np.floor(np.log2(k.flatten()[1:])))


def test_a_wrong_gas_fraction_costs_its_square_in_ln():
    t = torch.ones(2, 2, P, P) * torch.tensor([1.0, 4.0])[:, None, None]
    a = t * torch.tensor([2.0, 1.0])[:, None, None]
    torch.testing.assert_close(gas_fraction(a, t, about()), torch.full((2,), float(np.log((2 / 6) / (1 / 5))) ** 2))
    outside = t.clone()
    outside[:, 0, : P // 8] = 9.0
    assert not gas_fraction(outside, t, about()).any()


def test_forward_is_the_share_of_the_power_that_would_be_seen():
    t, W = densities(), about().filter
    torch.testing.assert_close(forward(1.1 * t, t, about()), torch.full((3,), 0.01), rtol=1e-3, atol=0)
    blind = replace(about(), filter=W * (torch.arange(P // 2 + 1) < 4))
    fine = t + 1e5 * torch.cos(2 * torch.pi * 10 * torch.arange(P) / P)
    torch.testing.assert_close(forward(fine, t, blind), torch.zeros(3), atol=1e-6, rtol=0)
    assert forward(fine, t, about()).min() > 1e-5


def test_the_sum_weighs_terms_and_noise_levels_and_pulls_towards_the_truth():
    """1 / (1 + sigma^2); steps down the gradient bring masses together."""
    physics, t = about(mass=2.0, power=0.5), densities(n=2)
    x = torch.stack([SCALES[c].forward(t[:, i]) for i, c in enumerate(TARGETS)], 1)
    D = (x + 0.3).requires_grad_()
    a = physics._densities(D.detach())
    each = 2.0 * mass(a, t, physics) + 0.5 * power(a, t, physics)
    sigma = torch.tensor([0.0, 3.0])
    expected = (each * torch.tensor([1.0, 0.1])).mean()
    torch.testing.assert_close(physics(D.detach(), x, sigma), expected, rtol=1e-4, atol=0)
    optimizer = torch.optim.Adam([D], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        loss = physics(D, x, torch.zeros(2))
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.01 * float(each.mean())


def test_maps_brighter_than_any_cost_no_infinity():
    physics, x = about(power=1.0, gas_fraction=1.0, forward=1.0), torch.zeros(1, 2, P, P)
    assert torch.isfinite(physics(x + 1e3, x, torch.ones(1)))


def test_the_filter_is_that_of_the_training_rows(maps):
    """y and the root of the X-rays from gas and dark matter: the residual is what the Wiener filter leaves."""
    scales = {name: fit(maps.read(name, maps.rows("train"))) for name in TARGETS}
    physics = physics_of(PhysicsWeights(forward=1.0), maps, TARGETS, ("compton_y", "xray"), scales)
    assert physics.filter.shape == (2, 2, maps.pixels, maps.pixels // 2 + 1)
    rows = maps.rows("test")
    modes = [torch.fft.rfft2(torch.from_numpy(maps.read(name, rows))) for name in TARGETS]
    y = np.fft.rfft2(maps.read("compton_y", rows))
    shown = sum(physics.filter[0, i] * m for i, m in enumerate(modes)).numpy()
    shown, y = shown[:, 1:], y[:, 1:]
    r = np.abs((shown * y.conj()).sum()) / np.sqrt((np.abs(shown) ** 2).sum() * (np.abs(y) ** 2).sum())
    assert r > 0.98


def test_a_training_with_physics_differs_and_is_told_apart(map_file, tmp_path, tiny_config):
    config = replace(tiny_config, physics=PhysicsWeights(mass=0.5, power=0.1, gas_fraction=0.1, forward=0.1))
    folders = [train(map_file, tmp_path / str(i), c) for i, c in enumerate((tiny_config, config))]
    (_, plain), (_, other) = (read_model(folder) for folder in folders)
    weights = [torch.cat([p.flatten() for p in networks.parameters()]) for networks in (plain, other)]
    assert torch.isfinite(weights[1]).all()
    assert not torch.equal(*weights)
    stored = json.loads((tmp_path / "1/training.json").read_text())
    assert stored["physics"] == {"mass": 0.5, "power": 0.1, "gas_fraction": 0.1, "forward": 0.1}
    with pytest.raises(UserError, match="other settings"):
        train(map_file, tmp_path / "0", config)


def test_the_gas_fraction_needs_gas_and_dark_matter(map_file, tmp_path, tiny_config):
    config = replace(tiny_config, targets=("gas",), physics=PhysicsWeights(gas_fraction=0.1))
    with pytest.raises(ValueError, match="gas fraction of physics needs"):
        train(map_file, tmp_path / "m", config)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"mass": -1.0}, {"power": float("nan")}])
def test_weights_that_are_not_weights_are_refused(wrong):
    with pytest.raises(ValueError, match="finite and not negative"):
        PhysicsWeights(**wrong)

"""The noise schedule: its range, its spacing, and the law of the training levels."""

import math

import pytest
import torch
from scipy.stats import truncnorm

from zwicky.diffusion.noise import NoiseSchedule, add_noise

SCHEDULE = NoiseSchedule()


@pytest.mark.parametrize("spacing", ["geometric", "karras"])
@pytest.mark.parametrize("n", [2, 16, 65])
def test_steps_fall_from_sigma_max_to_sigma_min(spacing, n):
    sigma = SCHEDULE.steps(n, spacing)
    assert sigma.shape == (n,)
    assert sigma.dtype == torch.float64
    assert sigma[0] == SCHEDULE.sigma_max
    assert sigma[-1] == SCHEDULE.sigma_min
    assert (sigma.diff() < 0).all()


def test_geometric_steps_have_one_ratio():
    sigma = SCHEDULE.steps(20)
    torch.testing.assert_close(sigma[1:] / sigma[:-1], torch.full((19,), (2e-3 / 80) ** (1 / 19), dtype=torch.float64))


def test_karras_steps_are_uniform_in_the_root():
    root = SCHEDULE.steps(20, "karras", rho=5.0) ** (1 / 5)
    torch.testing.assert_close(root.diff(), root.diff()[:1].expand(19))


def test_training_levels_follow_the_truncated_normal():
    schedule = NoiseSchedule(sigma_min=0.05, sigma_max=2.0)
    sigma = schedule.training_sigmas(200_000, torch.Generator().manual_seed(0))
    assert sigma.min() >= 0.05
    assert sigma.max() <= 2.0
    law = torch.distributions.Normal(0.0, 2.0)
    low, high = law.cdf(torch.tensor(0.05).log()), law.cdf(torch.tensor(2.0).log())
    for q in (0.1, 0.5, 0.9):
        expected = law.icdf(low + q * (high - low)).item()
        assert sigma.log().quantile(q).item() == pytest.approx(expected, abs=0.02)


def test_training_levels_of_the_default_have_the_stated_moments():
    ln_sigma = SCHEDULE.training_sigmas(400_000, torch.Generator().manual_seed(1)).log()
    law = truncnorm(math.log(2e-3) / 2, math.log(80) / 2, scale=2)  # of N(0, 2^2)
    assert ln_sigma.mean().item() == pytest.approx(law.mean(), abs=0.02)
    assert ln_sigma.std().item() == pytest.approx(law.std(), rel=0.02)


def test_one_seed_gives_one_set_of_levels():
    draws = [SCHEDULE.training_sigmas(8, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


def test_noise_is_added_with_one_level_per_map():
    x, z = torch.ones(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    assert add_noise(x, torch.tensor([0.5, 3.0]), z).mean(dim=(1, 2, 3)).tolist() == [1.5, 4.0]


@pytest.mark.parametrize(
    "bad", [{"sigma_min": 0.0}, {"sigma_max": 1e-3}, {"sigma_max": math.inf}, {"P_std": 0.0}, {"P_mean": math.nan}]
)
def test_bad_schedules_are_refused(bad):
    with pytest.raises(ValueError, match="need"):
        NoiseSchedule(**bad)


def test_bad_steps_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        SCHEDULE.steps(1)
    with pytest.raises(ValueError, match="spacing"):
        SCHEDULE.steps(4, "linear")

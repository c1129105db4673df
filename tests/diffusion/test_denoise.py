"""Preconditioning: its limits; the loss: its target, its least value, and what training to it finds."""

import pytest
import torch
from torch import nn

from zwicky.diffusion.denoise import FORMS, Denoiser, edm, weighted_error
from zwicky.diffusion.noise import NoiseSchedule, add_noise
from zwicky.diffusion.sample import SAMPLERS


class Constant(nn.Module):
    """A network that returns one number everywhere, and keeps what it was given."""

    def __init__(self, value: float = 0.0):
        super().__init__()
        self.value = value

    def forward(self, x, c_noise, condition, scalars):
        self.x, self.c_noise = x, c_noise
        return torch.full_like(x, self.value)


class Ideal(nn.Module):
    """The exact denoiser of white data of variance v."""

    def __init__(self, v: float):
        super().__init__()
        self.v = v

    def c_out(self, sigma):
        return edm(sigma).c_out

    def forward(self, x, sigma, condition, scalars):
        s2 = sigma.view(-1, 1, 1, 1) ** 2
        return x * self.v / (self.v + s2)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_without_noise_the_input_comes_back():
    x = randn(3, 2, 4, 4)
    torch.testing.assert_close(Denoiser(Constant(1.0))(x, torch.full((3,), 1e-7)), x)


def test_pure_noise_and_a_zero_network_give_zero():
    x = 1e6 * randn(3, 2, 4, 4)
    assert Denoiser(Constant())(x, torch.full((3,), 1e6)).abs().max() < 1e-5


@pytest.mark.parametrize("s", [2e-3, 0.1, 1.0, 80.0])
def test_network_input_and_target_have_unit_variance(s):
    x, z, sigma = randn(4, 2, 64, 64), randn(4, 2, 64, 64, seed=1), torch.full((4,), s)
    net, c = Constant(), edm(sigma)
    noisy = add_noise(x, sigma, z)
    Denoiser(net)(noisy, sigma)
    assert net.x.std().item() == pytest.approx(1, abs=0.02)
    target = (x - c.c_skip * noisy) / c.c_out
    assert target.std().item() == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(net.c_noise, torch.full((4,), s).log() / 4)


def loss_of(denoiser, x, sigma, z, condition=None):
    """The loss of x at the levels sigma with the noise z."""
    return weighted_error(denoiser(add_noise(x, sigma, z), sigma, condition, None), x, denoiser.c_out(sigma))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("s", [2e-3, 0.1, 1.0, 80.0])
def test_loss_is_the_mean_squared_error_of_the_network(s, form):
    x, z, sigma = randn(4, 2, 16, 16), randn(4, 2, 16, 16, seed=1), torch.full((4,), s)
    c = FORMS[form](sigma)
    target = (x - c.c_skip * add_noise(x, sigma, z)) / c.c_out
    loss = loss_of(Denoiser(Constant(0.3), form), x, sigma, z)
    torch.testing.assert_close(loss, ((0.3 - target) ** 2).mean(), rtol=1e-3, atol=0)


def test_loss_of_the_score_is_that_of_score_matching():
    """<|sigma s + z|^2> with the score s = F / sigma, Song et al. 2021, eq. 7 with lambda = sigma^2."""
    x, z, sigma = randn(4, 2, 16, 16), randn(4, 2, 16, 16, seed=1), torch.full((4,), 0.2)
    loss = loss_of(Denoiser(Constant(0.3), "ve"), x, sigma, z)
    torch.testing.assert_close(loss, ((0.3 + z) ** 2).mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("v", [0.01, 1.0])
@pytest.mark.parametrize("s", [0.05, 1.0, 20.0])
def test_least_loss_is_the_analytic_one(v, s):
    x, z = v**0.5 * randn(16, 1, 64, 64), randn(16, 1, 64, 64, seed=1)
    loss = loss_of(Ideal(v), x, torch.full((16,), s), z)
    assert loss.item() == pytest.approx((1 + s**2) / s**2 * v * s**2 / (v + s**2), rel=0.02)


def test_result_is_float32_under_autocast():
    net = nn.Conv2d(1, 1, 3, padding=1)
    denoiser = Denoiser(Wrapped(net))
    with torch.autocast("cpu", torch.bfloat16):
        D = denoiser(randn(2, 1, 8, 8), torch.tensor([0.1, 1.0]))
    assert D.dtype == torch.float32


class Wrapped(nn.Module):
    """A plain layer as a network that is told nothing."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x, c_noise, condition, scalars):
        return self.net(x)


class TwoPixels(nn.Module):
    """A small network for maps of 1 x 2 pixels."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x, c_noise, condition, scalars):
        c = c_noise[:, None]
        told = torch.cat([x.flatten(1), condition.flatten(1), c, c.sin(), (2 * c).cos()], dim=1)
        return self.net(told).view_as(x)


def train_two_pixels(L: torch.Tensor, noise: float, steps: int) -> Denoiser:
    """Return a denoiser trained on x = L z with observations x + noise n."""
    torch.manual_seed(0)
    generator, schedule, denoiser = torch.Generator().manual_seed(0), NoiseSchedule(), Denoiser(TwoPixels())
    optimiser = torch.optim.Adam(denoiser.parameters(), 5e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = (torch.randn(512, 2) @ L.T).view(-1, 1, 1, 2)
        y = x + noise * torch.randn_like(x)
        loss = loss_of(denoiser, x, schedule.training_sigmas(512, generator), torch.randn_like(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cosine.step()
    return denoiser


@pytest.fixture
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_training_finds_a_two_pixel_posterior():
    C, noise = torch.tensor([[1.0, 0.8], [0.8, 1.0]]), 0.5
    denoiser = train_two_pixels(torch.linalg.cholesky(C), noise, steps=1000)
    gain = C @ torch.linalg.inv(C + noise**2 * torch.eye(2))
    y = torch.tensor([1.0, -0.5])
    mean, covariance = gain @ y, C - gain @ C
    condition = y.expand(10_000, 1, 1, 2)
    schedule, z = NoiseSchedule(), torch.randn(10_000, 1, 1, 2)

    @torch.no_grad()
    def denoise(x, sigma):
        return denoiser(x, sigma, condition)

    samples = SAMPLERS["dpm"](denoise, 80 * z, schedule.steps(18), lambda: z).view(-1, 2)
    torch.testing.assert_close(samples.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(samples.T.cov(), covariance, atol=0.03, rtol=0.1)
    found = SAMPLERS["mean"](denoise, 80 * z, schedule.steps(2), lambda: z)
    torch.testing.assert_close(found.mean((0, 1, 2)), mean, atol=0.1, rtol=0)

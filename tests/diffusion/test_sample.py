"""Samplers against posteriors that are known exactly, with the exact denoiser in place of a network."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from zwicky.diffusion.noise import NoiseSchedule
from zwicky.diffusion.sample import DEFAULT_LEVELS, SAMPLERS, evaluations, exponential_weights, seeded_noise

SCHEDULE = NoiseSchedule()
EXACT = [name for name in SAMPLERS if name not in ("mean", "euler_maruyama_open")]
EVALUATIONS = {"sde": 64, "dpm": 24, "heun": 63, "euler_maruyama": 100, "euler_maruyama_open": 99, "mean": 1}


def gaussian_denoiser(mean, variance):
    """Return D of a posterior N(mean, variance) per pixel."""

    def denoise(x, sigma):
        s2 = sigma.view(-1, 1, 1, 1) ** 2
        return (variance * x + s2 * mean) / (variance + s2)

    return denoise


def draw(name, denoise, shape, n=None, seed=0):
    """Return samples at the sampler's default number of levels."""
    generator = torch.Generator().manual_seed(seed)
    sigmas = SCHEDULE.steps(n or DEFAULT_LEVELS[name])
    return SAMPLERS[name](
        denoise,
        sigmas[0].item() * torch.randn(shape, generator=generator),
        sigmas,
        lambda: torch.randn(shape, generator=generator),
    )


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("s", [0.01, 0.03, 0.1, 0.3, 1.0])
def test_linear_gaussian_posterior(name, s):
    """Prior N(0.5, 1.5^2), y = x + n with the noise that makes the posterior s wide."""
    prior_mean, prior, y = 0.5, 1.5**2, 0.9
    noise = 1 / (1 / s**2 - 1 / prior)
    mean = (prior_mean / prior + y / noise) * s**2
    x = draw(name, gaussian_denoiser(mean, s**2), (4, 1, 250, 200))
    assert x.mean().item() == pytest.approx(mean, abs=0.02 * s)
    assert x.std().item() == pytest.approx(s, rel=0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_number_of_evaluations(name):
    done = []
    SAMPLERS[name](
        gaussian_denoiser(0.0, 1.0),
        torch.zeros(1, 1, 1, 1),
        SCHEDULE.steps(DEFAULT_LEVELS[name]),
        lambda: torch.zeros(1, 1, 1, 1),
        lambda: done.append(1),
    )
    assert len(done) == EVALUATIONS[name] == evaluations(name, DEFAULT_LEVELS[name])


@pytest.mark.parametrize("name", EXACT)
def test_no_floor_of_sigma_min_is_left(name):
    x = draw(name, gaussian_denoiser(0.3, 0.0), (2, 1, 8, 8))
    torch.testing.assert_close(x, torch.full_like(x, 0.3))


def test_last_step_narrows_a_posterior_near_sigma_min_as_stated():
    s = SCHEDULE.sigma_min
    x = draw("dpm", gaussian_denoiser(0.0, s**2), (4, 1, 200, 200), n=64)
    assert x.std().item() == pytest.approx(s / math.sqrt(2), rel=0.02)


def field_denoiser(P, N, y):
    """Return D of a Gaussian field of power P (H, W) observed as y = x + white noise of variance N."""

    def denoise(x, sigma):
        s2 = sigma.view(-1, 1, 1, 1) ** 2
        x_k, y_k = torch.fft.fft2(x), torch.fft.fft2(y)
        return torch.fft.ifft2((x_k / s2 + y_k / N) / (1 / s2 + 1 / N + 1 / P)).real

    return denoise


def binned(P_k, k, edges):
    """Return the mean of P_k (H, W) in bins of k."""
    return torch.stack([P_k[(k >= a) & (k < b)].mean() for a, b in pairwise(edges)])


def cross_power(a, b):
    """Return Re a b* averaged over maps, (H, W)."""
    return (torch.fft.fft2(a) * torch.fft.fft2(b).conj()).real.mean((0, 1))


@pytest.mark.parametrize(("share", "ratio"), [(1.0, 1.41), (1 / 3, 3.2), (3.0, 1.05)])
def test_without_the_last_step_a_floor_of_sigma_min_is_left(share, ratio):
    """sqrt(s^2 + sigma_min^2) / s of a posterior of width s = share sigma_min."""
    s = share * SCHEDULE.sigma_min
    x = draw("euler_maruyama_open", gaussian_denoiser(0.0, s**2), (4, 1, 100, 100), n=400)
    assert x.std().item() / s == pytest.approx(ratio, rel=0.06)


def test_the_mean_is_the_mean():
    x = draw("mean", gaussian_denoiser(0.3, 0.5), (1, 1, 8, 8))
    torch.testing.assert_close(x, torch.full_like(x, 0.3), atol=0.04, rtol=0)


@pytest.mark.parametrize("name", EXACT)
def test_correlated_field(name):
    """b_mean = r_mean for the posterior mean, b = 1 for its samples, and one evaluation gives that mean."""
    H, N, shape = 32, 0.3, (256, 1, 32, 32)
    f = torch.fft.fftfreq(H) * H
    k = torch.hypot(f[:, None], f[None, :])
    P = 30 / (1 + (k / 3) ** 3)
    generator = torch.Generator().manual_seed(5)
    truth = torch.fft.ifft2(torch.fft.fft2(torch.randn(shape, generator=generator)) * P.sqrt()).real
    y = truth + N**0.5 * torch.randn(shape, generator=generator)
    denoise = field_denoiser(P, N, y)
    mean = draw("mean", denoise, shape)
    wiener = torch.fft.ifft2(torch.fft.fft2(y) * P / (P + N)).real
    torch.testing.assert_close(mean, wiener, atol=0.03, rtol=0)
    x = draw(name, denoise, shape)
    edges = [1, 3, 6, 10, 16]
    t, m, c = (binned(cross_power(a, b), k, edges) for a, b in [(truth, truth), (mean, mean), (mean, truth)])
    b_mean, r_mean = (m / t).sqrt(), c / (m * t).sqrt()
    torch.testing.assert_close(b_mean, r_mean, atol=0, rtol=0.03)
    b_sample = (binned(cross_power(x, x), k, edges) / t).sqrt()
    torch.testing.assert_close(b_sample, torch.ones(4), atol=0.03, rtol=0)
    spread = binned(cross_power(x - wiener, x - wiener), k, edges) / binned(H * H * P * N / (P + N), k, edges)
    torch.testing.assert_close(spread.sqrt(), torch.ones(4), atol=0.03, rtol=0)


def convergence_order(name, levels):
    """Return the order of convergence of an ODE sampler on a Gaussian posterior: regression of ln error on ln n."""
    mean, v, x = 0.4, 0.3**2, torch.full((1, 1, 1, 1), 50.0, dtype=torch.float64)
    low, high = SCHEDULE.sigma_min**2, SCHEDULE.sigma_max**2
    exact = mean + (50.0 - mean) * v / math.sqrt((v + low) * (v + high))
    denoise = gaussian_denoiser(mean, v)
    errors = [abs(SAMPLERS[name](denoise, x, SCHEDULE.steps(n), lambda: x).item() - exact) for n in levels]
    return -np.polyfit(np.log(levels), np.log(errors), 1)[0]


def test_dpm_is_of_third_order():
    order = convergence_order("dpm", [64, 96, 128, 192, 256])
    assert order >= 2.7, f"measured order {order:.2f}"


def test_heun_is_of_second_order():
    order = convergence_order("heun", [64, 96, 128, 192, 256])
    assert order >= 1.8, f"measured order {order:.2f}"


@pytest.mark.parametrize("nodes", [[0.0], [0.0, -0.4], [0.0, -0.4, -0.5]])
def test_exponential_weights_integrate_polynomials_exactly(nodes):
    h = 0.7
    u, du = np.linspace(0, h, 20001, retstep=True)
    for p in range(len(nodes)):
        integrand = np.exp(u - h) * u**p
        expected = du * (integrand.sum() - (integrand[0] + integrand[-1]) / 2)
        value = sum(w * node**p for w, node in zip(exponential_weights(nodes, h), nodes, strict=True))
        assert value == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(name):
    def sample(indices):
        noise = seeded_noise((2, 4, 4), seed=7, indices=indices)
        return SAMPLERS[name](gaussian_denoiser(0.2, 0.5), 80 * noise(), SCHEDULE.steps(8), noise)

    together, alone = sample([0, 1, 2]), sample([1])
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(together[0], together[1])

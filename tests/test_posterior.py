"""The spread of samples: corrected scale by scale, by what validation maps say of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from zwicky.diffusion.sample import seeded_noise
from zwicky.grid import waves
from zwicky.model import BANDS, read_model
from zwicky.posterior import PRIOR_MODES, Drawn, _modes, draw_maps, key_of, respread, spread_factors
from zwicky.train import train

P, C = 32, 2
NONE = [[1.0] * (len(BANDS) + 1)] * C


def white(*shape):
    """White noise of a seed that goes with the shape."""
    return torch.randn(*shape, P, P, generator=torch.Generator().manual_seed(sum(shape)))


def test_known_faults_of_the_spread_are_found_and_mended():
    """Posteriors that are 1.5 times too wide, or half as wide, in a band: the factors are 1 / 1.5 and 2 to 3%."""
    wrong = [list(row) for row in NONE]
    wrong[0][3], wrong[1][5] = 1.5, 0.5
    truth, samples = white(200, 1, C), respread(white(200, 4, C).flatten(0, 1), wrong).view(200, 4, C, P, P)
    factors = torch.tensor(spread_factors(truth, samples))
    expected = 1 / torch.tensor(wrong)
    torch.testing.assert_close(factors[:, 3:-1], expected[:, 3:-1], rtol=0.03, atol=0)  # bands of many modes
    torch.testing.assert_close(factors[:, 1:3], expected[:, 1:3], rtol=0.12, atol=0)
    mended = respread(samples.flatten(0, 1), factors.tolist()).view(samples.shape)
    again = torch.tensor(spread_factors(truth, mended))
    left = PRIOR_MODES / (200 * _modes((P, P)) + PRIOR_MODES)
    torch.testing.assert_close(again, factors**left, rtol=1e-4, atol=0)  # what few modes were not believed


def test_few_modes_say_little_of_the_spread():
    """Of one map: a mean ten times as far off as samples are is believed to the power 1 / 4, many modes are whole."""
    samples = white(1, 400, C) / 2
    truth = white(1, 1, C)
    truth += 10 * 0.5 / P - truth.mean((3, 4), keepdim=True)
    factors = torch.tensor(spread_factors(truth, samples))
    torch.testing.assert_close(factors[:, 0], torch.full((C,), 10**0.25), rtol=0.03, atol=0)
    torch.testing.assert_close(factors[:, -2], torch.full((C,), 2.0), rtol=0.1, atol=0)


class Gaussian:
    """Networks that know a posterior of independent modes exactly: the condition is its mean, `power` its variances."""

    def __init__(self, power, s):
        self.power, self.s, self.mean, self.denoiser = power, s, "there is one", self

    def reference(self, condition, scalars):
        """The mean, the unit of what is left, of which any is as good as another, and the condition with the mean."""
        return condition, torch.full_like(condition, self.s), torch.cat([condition, condition], 1)

    def start(self, z, sigma, condition):
        """White noise."""
        return sigma * z

    def __call__(self, rho, sigma, condition, scalars):
        """E[rho_0 | rho, condition], of the condition and the mean."""
        mean, same = condition.chunk(2, 1)
        assert torch.equal(mean, same)
        power = self.power / self.s**2
        return torch.fft.irfft2(power / (power + sigma[0] ** 2) * torch.fft.rfft2(rho), s=rho.shape[-2:])


@pytest.mark.parametrize("s", [0.5, 2.0])
@pytest.mark.parametrize("known", [0.0, 0.9, 0.99])
def test_an_exact_denoiser_gives_exact_samples(model, known, s):
    """Red maps, of which the images tell some of the variance: means and, after the correction, widths are right.

    The largest waves hold up to 1.5 of what the noise at the start has there, so that samples begin too narrow.
    """
    config = replace(model.config, pixels=P)
    prior = torch.from_numpy(np.maximum(waves(P), 0.7) ** -3.0).float() * 4000 * (config.noise.sigma_max * s / 80) ** 2

    def field(power, seed, n=400):
        noise = torch.randn(n, C, P, P, generator=torch.Generator().manual_seed(seed))
        return torch.fft.irfft2(power.sqrt() * torch.fft.rfft2(noise), s=(P, P))

    posterior = prior * (1 - known)
    means = field(prior * known, 1)
    truth = means + field(posterior, 2)
    noise, networks = seeded_noise((C, P, P), 3, range(400)), Gaussian(posterior, s)
    drawn = draw_maps(networks, config, means, torch.zeros(400, 1), noise, "dpm", 24, torch.device("cpu"))
    assert torch.equal(drawn.mu, means)
    off = drawn.respread(spread_factors(((truth - means) / s)[:, None], drawn.rho[:, None])).x - means
    band = torch.bucketize(torch.from_numpy(waves(P)), torch.tensor(BANDS, dtype=torch.float64))
    modes = torch.fft.rfft2(off).abs().square().mean((0, 1)) / (P**2 * posterior)
    for b in range(4):
        assert float(modes[band == b].mean()) ** 0.5 == pytest.approx(1, abs=0.12 if b == 0 else 0.06), b
    off, means = off.mean((-2, -1)) * P, means.mean((-2, -1)) * P
    pull = float((off * means).mean()) / float((prior * posterior).sqrt()[0, 0])
    assert abs(pull) < 0.15  # samples are not drawn from the mean of the posterior to that of the prior


def test_factors_of_one_change_nothing_and_of_zero_leave_the_mean():
    drawn = Drawn(white(5, C), white(4, C)[:1], white(3, C)[:1].exp())
    torch.testing.assert_close(drawn.respread(NONE).x, drawn.x, rtol=1e-5, atol=1e-5)
    zero = [[0.0] * (len(BANDS) + 1)] * C
    torch.testing.assert_close(drawn.respread(zero).x, drawn.mu.expand_as(drawn.x))


def test_samples_without_spread_are_left_alone():
    assert spread_factors(white(3, 1, C), torch.zeros(3, 2, C, P, P)) == NONE


def test_given_inputs_have_a_name(model):
    known = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert key_of(model.config, known) == ""
    known[1, 2, 2] = True
    assert key_of(model.config, known) == "xray"
    assert key_of(model.config, ~known) == "compton_y,xray"


def test_the_correction_goes_by_what_is_given(model, maps, observation, monkeypatch):
    """With factors of zero for one set of inputs, samples are the first means; with others they are as they were."""
    drawn = []
    monkeypatch.setattr("zwicky.reconstruct.draw_maps", lambda *a: drawn.append(draw_maps(*a)) or drawn[-1])
    zero = {"compton_y,xray": [[0.0] * (len(BANDS) + 1)] * C}
    corrected = replace(model, config=replace(model.config, spread=zero))
    about = (maps.redshift, maps.pixel_kpc, 1, 3)
    found = [corrected.sample(observation, *about, sampler=s, steps=4).samples["gas"] for s in ("dpm", "sde")]
    means = [corrected._maps(each.mu, None)["gas"] for each in drawn]
    np.testing.assert_allclose(found, means, rtol=1e-4)
    np.testing.assert_allclose(*means, rtol=1e-4)
    one = {"xray": observation["xray"]}
    before, after = (m.sample(one, *about, steps=4).samples["gas"] for m in (model, corrected))
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("kind", "names"), [("score", {"", "compton_y", "xray", "compton_y,xray"}), ("h25", set())])
def test_trainings_of_our_kind_end_with_the_correction(map_file, tmp_path, tiny_config, kind, names):
    config, _ = read_model(train(map_file, tmp_path / "m", replace(tiny_config, kind=kind, spread_maps=4)))
    assert set(config.spread) == names
    assert all(np.shape(factors) == (C, len(BANDS) + 1) for factors in config.spread.values())

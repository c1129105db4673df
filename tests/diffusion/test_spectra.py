"""Spectra: found in fields that have them, and the linear denoiser exact for such fields."""

import pytest
import torch
from torch import nn

from zwicky.diffusion.denoise import Denoiser
from zwicky.diffusion.noise import NoiseSchedule, add_noise
from zwicky.diffusion.sample import SAMPLERS, seeded_noise
from zwicky.diffusion.spectra import NODES, Spectra, denoised, filtered, left, nodes

P, K, C = 32, 2, 2
RED = torch.linspace(6.0, -3.0, NODES)  # ln P at the nodes: amplitudes from 20 to 0.2


class Zero(nn.Module):
    """A network that has learnt nothing."""

    def forward(self, x, c_noise, condition, scalars):
        assert x.shape[1] == 2 * C  # the noisy maps and what the linear denoiser makes of them
        return torch.zeros_like(x[:, :C])


def given(count, which=(1, 1)):
    """Conditions with the masks of the inputs that are given."""
    masks = torch.tensor(which, dtype=torch.float32)[:, None, None].expand(count, K, P, P)
    return torch.cat([torch.zeros(count, K, P, P), masks], 1)


def white(count, seed=0):
    return torch.randn(count, C, P, P, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def spectra():
    """Red ones where all inputs are given, ten times as much where none is, else white ones."""
    found = Spectra(K, C)
    found.ln_power[3], found.ln_power[0] = RED, RED + torch.tensor(10.0).log()
    return found


@pytest.fixture
def field(spectra):
    """Gaussian fields of the red spectra."""
    return filtered(white(500), spectra(given(500)).sqrt())


def test_the_parts_of_a_spectrum_sum_to_one():
    torch.testing.assert_close(nodes((P, P)).sum(0), torch.ones(P, P // 2 + 1))
    assert nodes((P, P))[0].sum() == nodes((P, P))[0, 0, 0] == 1  # the mean of a map has a node of its own


def test_the_spectra_of_fields_are_found(spectra, field):
    """Of each set of inputs its own, to what so many modes can tell."""
    found = Spectra(K, C)
    found.fit([(field, given(500)), (10**0.5 * field[:250], given(250, (0, 0))), (white(250), given(250, (1, 0)))])
    inside = nodes((P, P)).sum((1, 2)) > 0
    for case in (0, 1, 3):
        off = (found.ln_power - spectra.ln_power)[case, :, inside]
        assert off[:, :3].abs().max() < 0.3
        assert off[:, 3:].abs().max() < 0.07
    assert not found.ln_power[2].any()  # of which no map was shown
    assert not found.ln_power[:, :, ~inside].any()  # waves shorter than these maps have


@pytest.mark.parametrize("s", [0.3, 3.0, 30.0])
def test_what_the_linear_denoiser_leaves_is_known_and_unlike_what_it_finds(spectra, field, s):
    """The error of a conditional mean is orthogonal to it (Wiener), and its variance is that of the equation."""
    sigma, power = torch.full((500,), s), spectra(given(500))
    found = denoised(add_noise(field, sigma, white(500, seed=1)), power, sigma)
    error = field - found
    std = left(power, sigma, P)[0, 0, 0, 0]
    assert float(error.std() / std) == pytest.approx(1, abs=0.04)
    assert float((error * found).mean() / (std * found.std())) == pytest.approx(0, abs=0.04)


def test_a_denoiser_that_has_learnt_nothing_samples_gaussian_fields(spectra):
    """At all scales, though the mean of a map is as large as its noise at the start."""
    noise, schedule = seeded_noise((C, P, P), 3, range(400)), NoiseSchedule(2e-3, 20.0)
    denoiser, condition = Denoiser(Zero(), "edm", spectra), given(400)

    def denoise(x, sigma):
        return denoiser(x, sigma, condition)

    start = denoiser.start(noise(), schedule.sigma_max, condition)
    x = SAMPLERS["dpm"](denoise, start, schedule.steps(24), noise)
    found = Spectra(K, C)
    found.fit([(x, condition)])
    exact = Spectra(K, C)
    exact.fit([(filtered(white(400), spectra(condition).sqrt()), condition)])
    off = (found.ln_power - exact.ln_power)[3]
    assert off[:, :3].abs().max() < 0.3  # of few modes; the mean would lack 0.7 with white noise at the start
    assert off[:, 3:].abs().max() < 0.07


def test_without_spectra_the_start_is_white():
    z = white(2)
    torch.testing.assert_close(Denoiser(Zero()).start(z, 80.0), 80 * z)

"""The denoiser: the posterior mean of x given the noisy x_sigma and the observations, from any network.

A network F is wrapped so that its input and its target have unit variance at every noise level:

    D(x_sigma; sigma, c) = c_skip x_sigma + c_out F(c_in x_sigma; c_noise, c),       c_noise = ln(sigma) / 4

| form | c_skip | c_out | c_in | |
|---|---|---|---|---|
| edm | 1 / (1 + sigma^2) | sigma / sqrt(1 + sigma^2) | 1 / sqrt(1 + sigma^2) | for maps of unit variance |
| ve | 1 | sigma | 1 | Song et al.: F = sigma times the score; for maps in [0, 1] and sigma < 1 |

c_skip and c_out of `edm` are exact for white data. Where the spectra of the data are known, `diffusion.spectra` has
what stands in their place: the linear denoiser of a Gaussian field, and the standard deviation of what that leaves. The
network sees the result of it, too.

The loss

    L = < (D(x + sigma z; sigma, c) - x)^2 / c_out^2 >

is the mean squared error of F itself, for `ve` the denoising score matching < |sigma s + z|^2 >. It is least where D is
the posterior mean E[x | x_sigma, c], and a network that returns zero scores 1 at every sigma on white data of unit
variance.

References: Karras et al. 2022 (EDM), arXiv 2206.00364, Table 1, eqs. 7 and 8; Song et al. 2021, arXiv 2011.13456.
"""

from collections.abc import Callable
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from zwicky.diffusion import spectra


class Preconditioning(NamedTuple):
    """The four coefficients of one batch: c_skip, c_out, c_in (B, 1, 1, 1) and c_noise (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def edm(sigma: Tensor) -> Preconditioning:
    """Return the EDM coefficients at the levels sigma (B,), for data of unit variance (EDM Table 1)."""
    s = sigma.float().view(-1, 1, 1, 1)
    c_in = torch.rsqrt(1 + s**2)
    return Preconditioning(c_skip=c_in**2, c_out=s * c_in, c_in=c_in, c_noise=sigma.float().log() / 4)


def ve(sigma: Tensor) -> Preconditioning:
    """Return the coefficients of the variance-exploding score at the levels sigma (B,)."""
    s = sigma.float().view(-1, 1, 1, 1)
    one = torch.ones_like(s)
    return Preconditioning(c_skip=one, c_out=s, c_in=one, c_noise=sigma.float().log() / 4)


FORMS: dict[str, Callable[[Tensor], Preconditioning]] = {"edm": edm, "ve": ve}


@final
class Denoiser(nn.Module):
    """D(x_sigma; sigma, c), the posterior mean, around a network.

    Args:
        net: the network F, called as net(x, c_noise, condition, scalars) -> (B, C, H, W), with x (B, C, H, W), or
            (B, 2 C, H, W) with spectra, c_noise (B,), condition (B, K, H, W) or None, scalars (B, Q) or None.
        form: a name of FORMS. known: the spectra of data that are not white; they need a condition.
    """

    def __init__(self, net: nn.Module, form: str = "edm", known: spectra.Spectra | None = None) -> None:
        super().__init__()
        self.net, self.spectra = net, known
        self.coefficients = FORMS[form]

    def forward(
        self, x: Tensor, sigma: Tensor, condition: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """Return D(x; sigma, condition, scalars), (B, C, H, W) float32 (the network may run under autocast).

        Args:
            x: noisy maps x_sigma, (B, C, H, W).
            sigma: their noise levels, (B,), positive.
            condition: observed maps and masks, (B, K, H, W).
            scalars: redshift and other numbers, (B, Q).
        """
        x = x.float()
        c = self.coefficients(sigma)
        if self.spectra is None or condition is None:
            return c.c_skip * x + c.c_out * self.net(c.c_in * x, c.c_noise, condition, scalars).float()
        power = self.spectra(condition)
        linear = spectra.denoised(x, power, sigma)
        F = self.net(torch.cat([c.c_in * x, linear], 1), c.c_noise, condition, scalars).float()
        return linear + spectra.left(power, sigma, x.shape[-1]) * F

    def c_out(self, sigma: Tensor, condition: Tensor | None = None) -> Tensor:
        """The standard deviation of what the network is to add, which broadcasts with the maps."""
        if self.spectra is None or condition is None:
            return self.coefficients(sigma).c_out
        return spectra.left(self.spectra(condition), sigma, condition.shape[-1])

    def start(self, z: Tensor, sigma: float, condition: Tensor | None = None) -> Tensor:
        """x_sigma (B, C, H, W) of white noise z: sigma z and, as if the data were Gaussian, what they add to it."""
        if self.spectra is None or condition is None:
            return sigma * z
        return spectra.noisy(z, self.spectra(condition), sigma)


def weighted_error(D: Tensor, x: Tensor, c_out: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the weighted squared error of denoised maps, averaged over all values: a scalar (EDM eq. 8).

    Args:
        D, x: denoised and noise-free standardised maps, (B, C, H, W). c_out: of the denoiser.
        weight: of pixels besides, of mean 1, (B, 1, H, W).
    """
    return (weight * ((D - x.float()) / c_out) ** 2).mean()

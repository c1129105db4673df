"""The denoiser: the posterior mean of x given the noisy x_sigma and the observations, from any network.

A network F is wrapped so that its input and its target have unit variance at every noise level:

    D(x_sigma; sigma, c) = c_skip x_sigma + c_out F(c_in x_sigma; c_noise, c),
    c_skip = 1 / (1 + sigma^2),      c_out = sigma / sqrt(1 + sigma^2),
    c_in = 1 / sqrt(1 + sigma^2),    c_noise = ln(sigma) / 4.

These are the EDM coefficients for sigma_data = 1: maps are standardised before they come here. The loss

    L = < lambda(sigma) (D(x + sigma z; sigma, c) - x)^2 >,      lambda = (1 + sigma^2) / sigma^2 = 1 / c_out^2

is the mean squared error of F itself. It is least where D is the posterior mean E[x | x_sigma, c], and a network that
returns zero scores 1 at every sigma on white unit-variance data.

Reference: Karras et al. 2022 (EDM), arXiv 2206.00364, Table 1, eqs. 7 and 8.
"""

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from zwicky.diffusion.noise import add_noise


class Preconditioning(NamedTuple):
    """The four EDM coefficients of one batch: c_skip, c_out, c_in (B, 1, 1, 1) and c_noise (B,)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def precondition(sigma: Tensor) -> Preconditioning:
    """Return the EDM coefficients at the levels sigma (B,), for data of unit variance (EDM Table 1)."""
    s = sigma.float().view(-1, 1, 1, 1)
    c_in = torch.rsqrt(1 + s**2)
    return Preconditioning(c_skip=c_in**2, c_out=s * c_in, c_in=c_in, c_noise=sigma.float().log() / 4)


@final
class Denoiser(nn.Module):
    """D(x_sigma; sigma, c), the posterior mean, around a network.

    Args:
        net: the network F, called as net(x, c_noise, condition, scalars) -> (B, C, H, W), with x (B, C, H, W),
            c_noise (B,), condition (B, K, H, W) or None, scalars (B, Q) or None.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

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
        c = precondition(sigma)
        F = self.net(c.c_in * x, c.c_noise, condition, scalars).float()
        return c.c_skip * x + c.c_out * F


def denoising_loss(
    denoiser: nn.Module,
    x: Tensor,
    condition: Tensor | None,
    scalars: Tensor | None,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Return the weighted squared error of the denoised maps, averaged over all values: a scalar (EDM eq. 8).

    Args:
        denoiser: a Denoiser, or anything called like one.
        x: noise-free standardised maps, (B, C, H, W).
        condition: observed maps and masks, (B, K, H, W).
        scalars: redshift and other numbers, (B, Q).
        sigma: noise levels, (B,).
        noise: white noise z of unit variance, (B, C, H, W).
    """
    D = denoiser(add_noise(x, sigma, noise), sigma, condition, scalars)
    weight = 1 + sigma.float().view(-1, 1, 1, 1) ** -2
    return (weight * (D - x.float()) ** 2).mean()

"""Spectra of what is left of the mean, for the linear denoiser that is exact for Gaussian fields of such spectra.

    W(k; sigma) = P(k) / (P(k) + sigma^2),     E[x | x_sigma] = F^-1 W F x_sigma,     F the Fourier transform
    ln P(k) = sum_j p_j h_j(k)

which leaves errors of the variance < P sigma^2 / (P + sigma^2) >, averaged over the modes. P is that of a mode in units
of what white noise of unit variance has; h_j are piecewise linear in ln k, one of which is 1 at each node, and the mean
of a map, k = 0, has a node of its own. There is a set of p for each target and for each set of inputs that are given.

What is left of the mean is red: its longest waves hold a million times what the shortest do, and are told from the
noise at a sigma where no pixel is. The linear denoiser knows all of that before a network has learnt anything, and the
network adds what is not linear.

References: Wiener 1949; Karras et al. 2022, arXiv 2206.00364, eq. 7, of which it is the form for other spectra.
"""

import functools
import math
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from zwicky.grid import mode_counts, waves

NODES, RATIO = 13, 1.5  # k = 0, 1, 1.5, ..., 86 waves along a side
ITERATIONS, LEAST = 30, 1e-6


@final
class Spectra(nn.Module):
    """P(k) of the targets for conditions that begin with K inputs and their masks.

    Args:
        inputs: K. targets: C.
    """

    ln_power: Tensor

    def __init__(self, inputs: int, targets: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.register_buffer("ln_power", torch.zeros(2**inputs, targets, NODES))

    def forward(self, condition: Tensor) -> Tensor:
        """P, (B, C, H, W // 2 + 1), for conditions (B, K', H, W)."""
        h = nodes(tuple(condition.shape[-2:])).to(condition.device)
        with torch.autocast(condition.device.type, enabled=False):
            return torch.einsum("bcj,jyx->bcyx", self.ln_power[self.given(condition)], h).exp()

    def given(self, condition: Tensor) -> Tensor:
        """The number of the set of inputs of which a pixel at least is known, (B,)."""
        known = condition[:, self.inputs : 2 * self.inputs].flatten(2).amax(2) > 0
        return (known * 2 ** torch.arange(self.inputs, device=known.device)).sum(1)

    def fit(self, left: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Find the likeliest P of what is left (B, C, H, W), told with conditions; 1 where there are no modes or maps.

        The likelihood of Gaussian modes x_k, - sum_k |x_k|^2 / P + ln P, is largest where sum_k h_j (|x_k|^2 / P - 1)
        is zero for each j, which is found by going from p_j to p_j + ln (sum_k h_j |x_k|^2 / P / sum_k h_j).
        """
        cases, c, _ = self.ln_power.shape
        power, count = torch.zeros((), dtype=torch.float64), torch.zeros(cases, 1, 1, 1, dtype=torch.float64)
        for rho, condition in left:
            modes = torch.fft.rfft2(rho.double().cpu(), norm="ortho").abs().square()
            power = power + modes.new_zeros(cases, *modes.shape[1:]).index_add(0, self.given(condition).cpu(), modes)
            count += self.given(condition).cpu().bincount(minlength=cases)[:, None, None, None]
        power = torch.where(count > 0, power / count, 1.0)
        h = nodes((power.shape[2], rho.shape[3])).double()
        p, weight = torch.zeros(cases, c, NODES, dtype=torch.float64), h.sum((1, 2))
        for _ in range(ITERATIONS):
            found = torch.einsum("ncyx,jyx->ncj", power / torch.einsum("ncj,jyx->ncyx", p, h).exp(), h) / weight
            p += torch.where(weight > 0, found, 1.0).clamp_min(LEAST).log()
        self.ln_power.copy_(p)


@functools.cache
def nodes(shape: tuple[int, ...]) -> Tensor:
    """h_j of the modes of a real transform, (NODES, H, W // 2 + 1), of sum 1."""
    k = torch.from_numpy(waves(*shape)).float()
    t = torch.where(k > 0, 1 + k.clamp_min(1).log() / math.log(RATIO), 0.0).clamp(max=NODES - 1)
    return (1 - (t - torch.arange(NODES)[:, None, None]).abs()).clamp_min(0)


def denoised(x: Tensor, power: Tensor, sigma: Tensor) -> Tensor:
    """E[x | x_sigma] of Gaussian fields x_sigma (B, C, H, W) of P (B, C, H, W // 2 + 1), sigma (B,)."""
    return filtered(x, power / (power + _square(sigma)))


def left(power: Tensor, sigma: Tensor, width: int) -> Tensor:
    """The standard deviation of x - E[x | x_sigma], (B, C, 1, 1), of maps of `width` columns."""
    counts = torch.from_numpy(mode_counts(width)).to(power)
    variance = (counts * power * _square(sigma) / (power + _square(sigma))).sum((2, 3), keepdim=True)
    return (variance / (width * power.shape[2])).sqrt()


def noisy(z: Tensor, power: Tensor, sigma: float) -> Tensor:
    """x_sigma (B, C, H, W) of a Gaussian field of P (B, C, H, W // 2 + 1), made of white noise z."""
    return filtered(z, (power + sigma**2).sqrt())


def filtered(x: Tensor, W: Tensor) -> Tensor:
    """F^-1 W F x of maps x (B, C, H, W), float32."""
    return torch.fft.irfft2(W * torch.fft.rfft2(x.float()), s=x.shape[-2:])


def _square(sigma: Tensor) -> Tensor:
    """sigma^2, (B, 1, 1, 1)."""
    return sigma.float().view(-1, 1, 1, 1).square()

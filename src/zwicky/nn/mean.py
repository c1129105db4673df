"""The mean of the posterior, and how far the truth lies from it.

    mu = g(y) + F_1(g, y; q),     ln s = F_2(g, y; q),     g the polynomial of each pixel (`nn.local`), F a network

Both are maps and learnt by the likelihood of Gaussian errors, - ln p = (x - mu)^2 / 2 s^2 + ln s: with all images
given, mu is ten times closer than with none, and three times closer in the outskirts than where clusters are bright.
What is left, (x - mu) / s, is of order one for every set of images and in every pixel.

Inside a map the pixels that can be known must not count for more than the bright ones: while the mean is trained, they
are weighed by s^2 / <s^2>, which leaves s as it is and mu with the weights of its squared error; between maps, those
that can be known count, and those that cannot do not drown them.

References: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution; Seitzer et al.
2022, arXiv 2203.09168 (the weights, over batches there).
"""

from typing import final

import torch
from torch import Tensor, nn

from zwicky.nn.local import Local


@final
class Mean(nn.Module):
    """mu and s (B, C, H, W) of a condition (B, P, H, W).

    Args:
        net: F, called as net(planes, c_noise, None, scalars) -> (B, 2 C, H, W); its planes are those of `Local`, if
            there is one, and of the condition. inputs: number K of images; P is 2 K, or 3 K with the noise.
        planes: P. targets: C. local: whether there is g.
    """

    def __init__(self, net: nn.Module, inputs: int, planes: int, targets: int, local: bool) -> None:
        super().__init__()
        self.net = net
        self.local = Local(inputs, targets, planes > 2 * inputs) if local else None

    def forward(self, condition: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu and s (B, C, H, W) told q (B, Q), in float32."""
        planes = with_local(self.local, condition)
        mu, ln_s = self.net(planes, condition.new_zeros(len(condition)), None, scalars).float().chunk(2, 1)
        if self.local is not None:
            mu = mu + planes[:, : mu.shape[1]]
        return mu, ln_s.clamp(-7, 7).exp()


def with_local(local: Local | None, condition: Tensor) -> Tensor:
    """The planes of `Local`, if there is one, and those of the condition."""
    if local is None:
        return condition
    with torch.autocast(condition.device.type, enabled=False):
        return torch.cat([local(condition.float()), condition.float()], 1)


def gaussian_error(mu: Tensor, s: Tensor, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """- ln p of x about mu with standard deviations s, all (B, C, H, W), a pixel, without the constant: a scalar.

    Args:
        weight: of pixels, of mean 1 in each map.
    """
    return (weight * (((x.float() - mu) / s).square() / 2 + s.log())).mean()


def squared(s: Tensor) -> Tensor:
    """s^2 / <s^2> of each map (B, C, H, W), as weights, through which no gradient flows."""
    v = s.detach().square()
    return v / v.mean((2, 3), keepdim=True)

"""The mean of the posterior, and how far the truth lies from it.

    mu(y, q) = g(y) + F(g, y; q),           g the polynomial of each pixel (`nn.local`), F a network
    ln s(y, q) = a small network of the shares of pixels that are known, of the mean noise of images, and of q

s is one number for a map and a target: with all images given, mu is ten times closer than with none. Both are learnt by
the likelihood of Gaussian errors, - ln p = (x - mu)^2 / 2 s^2 + ln s, in which maps that can be known count, and
those that cannot do not drown them. What is left, (x - mu) / s, is of order one for every set of images.

Reference: Nix & Weigend 1994, Estimating the mean and variance of the target probability distribution.
"""

from typing import final

import torch
from torch import Tensor, nn

from zwicky.nn.layers import zeroed
from zwicky.nn.local import Local


@final
class Mean(nn.Module):
    """mu (B, C, H, W) and s (B, C) of a condition (B, P, H, W).

    Args:
        net: F, called as net(planes, c_noise, None, scalars); its planes are those of `Local`, if there is one, and
            of the condition. inputs: number K of images; P is 2 K, or 3 K with the noise.
        planes: P. targets: C. scalars: number of q. local: whether there is g.
    """

    def __init__(self, net: nn.Module, inputs: int, planes: int, targets: int, scalars: int, local: bool) -> None:
        super().__init__()
        self.net, self.inputs = net, inputs
        self.local = Local(inputs, targets, planes > 2 * inputs) if local else None
        self.spread = nn.Sequential(nn.Linear(planes - inputs + scalars, 32), nn.SiLU(), zeroed(nn.Linear(32, targets)))

    def forward(self, condition: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return mu (B, C, H, W) and s (B, C) told q (B, Q), in float32."""
        planes = with_local(self.local, condition)
        mu = self.net(planes, condition.new_zeros(len(condition)), None, scalars).float()
        if self.local is not None:
            mu = mu + planes[:, : mu.shape[1]]
        with torch.autocast(condition.device.type, enabled=False):
            about = torch.cat([condition[:, self.inputs :].float().mean((2, 3)), scalars.float()], 1)
            return mu, self.spread(about).clamp(-7, 7).exp()


def with_local(local: Local | None, condition: Tensor) -> Tensor:
    """The planes of `Local`, if there is one, and those of the condition."""
    if local is None:
        return condition
    with torch.autocast(condition.device.type, enabled=False):
        return torch.cat([local(condition.float()), condition.float()], 1)


def gaussian_error(mu: Tensor, s: Tensor, x: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """- ln p of x (B, C, H, W) about mu with standard deviations s (B, C), a pixel, without the constant: a scalar.

    Args:
        weight: of pixels, of mean 1 in each map, (B, 1, H, W).
    """
    s = s[..., None, None]
    return (weight * ((x.float() - mu) / s).square() / 2 + s.log()).mean()

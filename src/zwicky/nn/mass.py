"""The posterior of the masses in the map, apart from their shape: a mixture of Gaussians from an encoder.

    p(u | y) = sum_k w_k N(u; m_k, L_k L_k^T),     u = R^-1 (ln M - mean),   R R^T the covariance of ln M in training

The total mass is a number that a diffusion over pixels has to put together from all of them; here it is predicted as
such, with a likelihood of its own. Besides what its encoder sees, it knows totals of the planes v of its condition,

    t_j = ln mean exp(a_j + sum_p a_jp v_p) over the pixels,

of which the sum of y, that of the X-rays and the mass in a first map of the target are cases, since planes are
logarithms. Widths can be corrected on held-out maps, and the prior of the training set exchanged for another, in closed
form.

Reference: Bishop 1994, Mixture density networks.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zwicky.nn.layers import Network, ResidualBlock, conv3x3, group_norm, zeroed

LEAST = 1e-2  # of a width, in units of the spread of the training set


@final
class MassHead(Network):
    """Mixture of Gaussians of standardised ln M given condition planes.

    Args:
        in_channels: planes of the condition. targets: number C of masses. scalar_features: number Q of scalars.
        widths: channels of each level of the encoder, finest first. components: of the mixture. patch: side of the
            pixel blocks folded into channels. totals: number of t_j.
    """

    def __init__(
        self,
        in_channels: int,
        targets: int,
        scalar_features: int = 0,
        widths: Sequence[int] = (24, 48, 96, 96),
        components: int = 3,
        patch: int = 4,
        totals: int = 8,
    ) -> None:
        super().__init__(
            in_channels=in_channels, targets=targets, scalar_features=scalar_features, widths=list(widths),
            components=components, patch=patch, totals=totals,
        )  # fmt: skip
        e = 2 * widths[-1]
        self.told = nn.Sequential(nn.Linear(max(1, scalar_features), e), nn.SiLU())
        self.stem = conv3x3(in_channels * patch**2, widths[0])
        self.blocks = nn.ModuleList(ResidualBlock(w, w, e) for w in widths)
        self.halve = nn.ModuleList(conv3x3(a, b, stride=2) for a, b in pairwise(widths))
        self.norm = group_norm(widths[-1])
        self.totals = nn.Conv2d(in_channels, totals, 1)
        nn.init.eye_(self.totals.weight[:, :, 0, 0])
        self.relation = zeroed(nn.Linear(totals, targets))
        self.triangle = targets * (targets + 1) // 2
        self.mlp = nn.Sequential(nn.Linear(3 * widths[-1] + totals, e), nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.out = nn.Linear(e, components * (1 + targets + self.triangle))
        nn.init.zeros_(self.out.weight)
        nn.init.normal_(self.out.bias, std=0.5)

    def forward(self, condition: Tensor, scalars: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return ln w (B, K), m (B, K, C) and L (B, K, C, C), lower triangular.

        Args:
            condition: (B, P, H, W). scalars: (B, Q).
        """
        c = self.config
        h = self.stem(F.pixel_unshuffle(condition.float(), c["patch"]))
        e = self.told(condition.new_zeros(len(h), 1) if scalars is None or not scalars.shape[1] else scalars.float())
        for i, block in enumerate(self.blocks):
            h = block(h, e)
            if i < len(self.halve):
                h = self.halve[i](h)
        h = F.silu(self.norm(h)).float()
        middle = h[..., h.shape[-2] // 4 : -(h.shape[-2] // 4) or None, h.shape[-1] // 4 : -(h.shape[-1] // 4) or None]
        with torch.autocast(condition.device.type, enabled=False):
            t = self.totals(condition.float()).flatten(2)
            t = t.logsumexp(2) - math.log(t.shape[2])
            pooled = torch.cat([h.mean((2, 3)), h.amax((2, 3)), middle.mean((2, 3)), t], 1)
            ln_w, m, L = self._mixture(self.out(self.mlp(pooled)))
            return ln_w, m + self.relation(t)[:, None], L

    def _mixture(self, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c, k = self.config["targets"], self.config["components"]
        ln_w, m, entries = out.view(-1, k, 1 + c + self.triangle).split([1, c, self.triangle], 2)
        rows, columns = torch.tril_indices(c, c, device=out.device)
        L = out.new_zeros(len(out), k, c, c)
        L[:, :, rows, columns] = torch.where(rows == columns, LEAST + F.softplus(entries), entries)
        return ln_w[..., 0].log_softmax(1), m, L


def log_density(u: Tensor, ln_w: Tensor, m: Tensor, L: Tensor) -> Tensor:
    """ln p(u), (B,), of u (B, C) under a mixture ln w (B, K), m (B, K, C), L (B, K, C, C)."""
    z = torch.linalg.solve_triangular(L, (u[:, None] - m)[..., None], upper=False)[..., 0]
    ln_det = torch.diagonal(L, dim1=-2, dim2=-1).log().sum(-1)
    norm = 0.5 * u.shape[1] * math.log(2 * math.pi)
    return torch.logsumexp(ln_w - 0.5 * (z**2).sum(-1) - ln_det - norm, dim=1)


def mixture_mean(ln_w: Tensor, m: Tensor) -> Tensor:
    """Mean (..., C) of mixtures: ln w (..., K), m (..., K, C)."""
    return (ln_w.exp()[..., None] * m).sum(-2)


def widened(ln_w: Tensor, m: Tensor, L: Tensor, widths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mixtures ln w (..., K), m (..., K, C), L (..., K, C, C), u_i - mean of u_i times widths_i of widths (C,)."""
    mean = mixture_mean(ln_w, m)[..., None, :]
    return ln_w, mean + widths * (m - mean), widths[:, None] * L


def draw(ln_w: Tensor, m: Tensor, L: Tensor, normals: Tensor, uniforms: Tensor) -> Tensor:
    """Samples u (n, C) of the mixture of one map.

    Args:
        ln_w (K,), m (K, C), L (K, C, C). normals (n, C), uniforms (n,): the randomness.
    """
    which = torch.searchsorted(ln_w.exp().cumsum(0), uniforms * ln_w.exp().sum()).clamp_max(len(ln_w) - 1)
    return m[which] + torch.einsum("nij,nj->ni", L[which], normals)

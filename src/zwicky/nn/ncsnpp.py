"""NCSN++, the network of published score models, in any width (Song et al. 2021, arXiv 2011.13456, appendix H).

    (x, condition) -> conv -> [blocks, halve] x L -> block, attention, block -> [blocks with skips, double] x L -> conv

Of the U-Net of Ho et al. 2020 it keeps the layout. Its residual blocks are those of BigGAN, which change the resolution
inside; every change of resolution is by a finite impulse response filter (1, 3, 3, 1); sums are divided by sqrt(2); the
noise level comes as Gaussian Fourier features; and the input is fed to every level again (progressive growing,
"residual"). Attention acts at the coarsest level.
"""

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zwicky.nn.layers import Network, SelfAttention, conv3x3, group_norm, zeroed

ROOT_HALF = math.sqrt(0.5)
FOURIER_SCALE = 16.0  # of the random frequencies of ln sigma


@final
class FourierEmbedding(nn.Module):
    """e (B, features) from cos and sin of 2 pi W ln(sigma), with fixed random W, and the scalars."""

    W: Tensor

    def __init__(self, features: int, scalar_features: int, width: int) -> None:
        super().__init__()
        self.register_buffer("W", FOURIER_SCALE * torch.randn(width))
        self.mlp = nn.Sequential(
            nn.Linear(2 * width + scalar_features, features), nn.SiLU(), nn.Linear(features, features)
        )

    def forward(self, c_noise: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Return e, (B, features), from c_noise = ln(sigma) / 4 (B,) and scalars (B, Q)."""
        phase = 2 * math.pi * 4 * c_noise.to(self.W.dtype)[:, None] * self.W
        parts = [phase.sin(), phase.cos(), *([] if scalars is None else [scalars.to(phase.dtype)])]
        return self.mlp(torch.cat(parts, dim=1))


def fir(x: Tensor, up: bool) -> Tensor:
    """Twice or half the resolution of x (B, C, H, W), by the separable filter (1, 3, 3, 1)."""
    one = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = torch.outer(one, one) / (16.0 if up else 64.0)
    weight = kernel.expand(x.shape[1], 1, 4, 4)
    if up:
        return F.conv_transpose2d(x, weight, stride=2, padding=1, groups=x.shape[1])
    return F.conv2d(x, weight, stride=2, padding=1, groups=x.shape[1])


@final
class BigGANBlock(nn.Module):
    """(skip(r(x)) + conv_2(act(norm(conv_1(r(act(norm(x)))) + W e)))) / sqrt 2, r a change of resolution or nothing."""

    def __init__(
        self, c_in: int, c_out: int, embedding: int, dropout: float = 0.0, up: bool = False, down: bool = False
    ) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = group_norm(c_in), conv3x3(c_in, c_out)
        self.told = nn.Linear(embedding, c_out)
        self.norm_2, self.conv_2 = group_norm(c_out), zeroed(conv3x3(c_out, c_out))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out or up or down else nn.Identity()
        self.up, self.down = up, down

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return the block of x (B, c_in, H, W) told e (B, embedding)."""
        h = F.silu(self.norm_1(x))
        if self.up or self.down:
            h, x = fir(h, self.up), fir(x, self.up)
        h = self.conv_1(h) + self.told(F.silu(e))[:, :, None, None]
        h = self.conv_2(self.dropout(F.silu(self.norm_2(h))))
        return (self.skip(x) + h) * ROOT_HALF


@final
class NCSNpp(Network):
    """NCSN++ F(x; c_noise, condition, scalars); a new one returns zero everywhere.

    Args:
        in_channels: channels of x and of the condition together. out_channels: of the result.
        scalar_features: number Q of scalars.
        widths: channels of each level, finest first; the published width is (256, 256, 256, 256) of a base of 128.
        blocks: residual blocks at each level; up, one more.
        dropout: probability inside the blocks.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scalar_features: int = 0,
        widths: Sequence[int] = (32, 32, 32, 32),
        blocks: int = 2,
        dropout: float = 0.0,
    ) -> None:
        if min(in_channels, out_channels, blocks, len(widths), *widths) < 1 or scalar_features < 0:
            raise ValueError("an NCSN++ needs positive channels, widths and blocks")
        super().__init__(
            in_channels=in_channels, out_channels=out_channels, scalar_features=scalar_features, widths=list(widths),
            blocks=blocks, dropout=dropout,
        )  # fmt: skip
        e, last = 4 * widths[0], widths[-1]
        self.embed = FourierEmbedding(e, scalar_features, widths[0])
        self.stem = conv3x3(in_channels, widths[0])
        self.down, self.halve, self.again = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        kept, c = [widths[0]], widths[0]
        for level, width in enumerate(widths):
            stage = [BigGANBlock(c if b == 0 else width, width, e, dropout) for b in range(blocks)]
            self.down.append(nn.ModuleList(stage))
            kept, c = kept + [width] * blocks, width
            if level < len(widths) - 1:
                self.halve.append(BigGANBlock(c, c, e, dropout, down=True))
                self.again.append(nn.Conv2d(in_channels, c, 1))
                kept.append(c)
        self.middle = nn.ModuleList([BigGANBlock(last, last, e, dropout), BigGANBlock(last, last, e, dropout)])
        self.attention = SelfAttention(last)
        self.up, self.enlarge = nn.ModuleList(), nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            stage = []
            for _ in range(blocks + 1):
                stage.append(BigGANBlock(c + kept.pop(), width, e, dropout))
                c = width
            self.up.append(nn.ModuleList(stage))
            if level:
                self.enlarge.append(BigGANBlock(c, c, e, dropout, up=True))
        self.head = nn.Sequential(group_norm(c), nn.SiLU(), zeroed(conv3x3(c, out_channels)))

    @property
    def multiple(self) -> int:
        """The number of pixels that the sides of a map must be a multiple of."""
        return 2 ** len(self.halve)

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """Return the network's map (B, out_channels, H, W); arguments as of `nn.unet.UNet.forward`."""
        e = self.embed(c_noise, scalars)
        planes = x if condition is None else torch.cat([x, condition.to(x.dtype)], dim=1)
        h = self.stem(planes)
        skips = [h]
        for level, stage in enumerate(self.down):
            for block in stage.children():
                h = block(h, e)
                skips.append(h)
            if level < len(self.halve):
                planes = fir(planes, up=False)
                h = (self.halve[level](h, e) + self.again[level](planes)) * ROOT_HALF
                skips.append(h)
        h = self.middle[1](self.attention(self.middle[0](h, e)), e)
        for level, stage in enumerate(self.up):
            for block in stage.children():
                h = block(torch.cat([h, skips.pop()], dim=1), e)
            if level < len(self.enlarge):
                h = self.enlarge[level](h, e)
        return self.head(h.float())

"""Layers of the networks: residual blocks told a vector, attention, and changes of resolution.

A residual block that is modulated by an embedding e (FiLM, adaptive group norm) is

    x -> W_skip x + conv_2(SiLU((1 + scale(e)) GroupNorm(conv_1(SiLU(GroupNorm(x)))) + shift(e))).

conv_2 starts at zero, so that a new block is its skip. Convolutions are padded with zeros: it costs no copy, and the
network can feel the edge of the map, where a mirrored cluster would be a second, false one.

References: Dhariwal & Nichol 2021, arXiv 2105.05233 (AdaGN, zero start); Perez et al. 2018, arXiv 1709.07871 (FiLM).
"""

import math
from itertools import pairwise
from typing import Any, TypeVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def zeroed(layer: Layer) -> Layer:
    """Return the layer with all its parameters set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int) -> nn.GroupNorm:
    """Return a group norm of at most 16 groups, of at least 4 channels each where the width allows."""
    return nn.GroupNorm(math.gcd(channels, min(16, max(1, channels // 4))), channels)


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution padded with zeros."""
    return nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1)


class Network(nn.Module):
    """A network that knows the keyword arguments that build it again.

    Args:
        config: these arguments, ready for JSON.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config


@final
class Embedding(nn.Module):
    """Vector e (B, features) from the noise level and the scalars, by Fourier features and two linear layers.

    The features are cos and sin of 2 pi f c_noise, with fixed f from 1/8 to 4: D is a smooth function of ln sigma, and
    higher frequencies would only let the network be rough in it.

    Args:
        features: width of e.
        scalar_features: number Q of scalars, already of order one.
        frequencies: number of f.
    """

    f: Tensor

    def __init__(self, features: int, scalar_features: int, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("f", torch.logspace(-3, 2, frequencies, base=2.0), persistent=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * frequencies + scalar_features, features), nn.SiLU(), nn.Linear(features, features), nn.SiLU()
        )

    def forward(self, c_noise: Tensor, scalars: Tensor | None = None) -> Tensor:
        """Return e, (B, features), from c_noise (B,) and scalars (B, Q)."""
        phase = 2 * math.pi * self.f * c_noise.to(self.f.dtype)[:, None]
        parts = [phase.cos(), phase.sin()]
        if scalars is not None:
            parts.append(scalars.to(phase.dtype))
        return self.mlp(torch.cat(parts, dim=1))


@final
class ResidualBlock(nn.Module):
    """The modulated residual block above, (B, c_in, H, W) and (B, embedding) -> (B, c_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = group_norm(c_in), conv3x3(c_in, c_out)
        self.modulation = nn.Linear(embedding, 2 * c_out)
        self.norm_2, self.conv_2 = group_norm(c_out), zeroed(conv3x3(c_out, c_out))
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return the block of x (B, c_in, H, W) told e (B, embedding)."""
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_1(F.silu(self.norm_1(x)))
        h = torch.addcmul(shift, self.norm_2(h), 1 + scale)
        return self.skip(x) + self.conv_2(self.dropout(F.silu(h)))


@final
class Stage(nn.Module):
    """Residual blocks one after the other, the first of which changes the width."""

    def __init__(self, c_in: int, c_out: int, blocks: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        widths = [c_in] + [c_out] * blocks
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding, dropout) for a, b in pairwise(widths))

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return all blocks of x (B, c_in, H, W) told e (B, embedding): (B, c_out, H, W)."""
        for block in self.blocks:
            x = block(x, e)
        return x


@final
class SelfAttention(nn.Module):
    """Multi-head self-attention over all pixels, added to its input; for coarse maps only (cost ~ (H W)^2)."""

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        if channels % self.heads:
            raise ValueError(f"{channels} channels do not divide into {self.heads} attention heads")
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) plus the attention of its pixels."""
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(h.transpose(-1, -2).reshape(B, C, H, W))


@final
class Upsample(nn.Module):
    """Twice the resolution: each pixel repeated, then a 3x3 convolution (no checkerboard)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv3x3(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, c_out, 2 H, 2 W) from x (B, c_in, H, W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

"""A compact U-Net for maps, told the noise level, observed maps and a few numbers.

    (x, condition) -> unshuffle by p -> conv -> [stage, halve] x (L - 1) -> stage, attention, stage
                   -> [double, join skip, stage] x (L - 1) -> norm, SiLU, conv (zero) -> shuffle by p.

A linear path leads around it in full precision, from the input planes to the result, with gains of planes and of
results that depend on what the network is told: the maps are sharpest in the inputs, and what goes through the levels
loses the smallest scales.

Folding p x p pixels into channels at the input and back at the output loses nothing and makes a 128^2 map as cheap as a
(128/p)^2 one; most of the cost of a U-Net is at its finest level. All is convolutional but the attention, which takes
any size too, so weights trained at one map size serve others.

References: Ronneberger et al. 2015, arXiv 1505.04597; Shi et al. 2016, arXiv 1609.05158 (pixel shuffle).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zwicky.nn.layers import Embedding, Network, SelfAttention, Stage, Upsample, conv3x3, group_norm, zeroed


@final
class UNet(Network):
    """U-Net F(x; c_noise, condition, scalars); a new one returns zero everywhere.

    Args:
        in_channels: channels of x and of the condition together.
        out_channels: channels of the result.
        scalar_features: number Q of scalars.
        widths: channels of each level, finest first.
        blocks: residual blocks at each level, down and up.
        patch: side p of the pixel blocks folded into channels.
        embedding: width of the vector that modulates the blocks.
        dropout: probability inside the blocks.

    Raises:
        ValueError: if a number is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scalar_features: int = 0,
        widths: Sequence[int] = (32, 64, 96, 128),
        blocks: int = 2,
        patch: int = 2,
        embedding: int = 128,
        dropout: float = 0.0,
    ) -> None:
        if min(in_channels, out_channels, blocks, patch, embedding, len(widths), *widths) < 1 or scalar_features < 0:
            raise ValueError("a U-Net needs positive channels, widths, blocks, patch and embedding")
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            scalar_features=scalar_features,
            widths=list(widths),
            blocks=blocks,
            patch=patch,
            embedding=embedding,
            dropout=dropout,
        )
        self.embed = Embedding(embedding, scalar_features)
        self.stem = conv3x3(in_channels * patch**2, widths[0])
        self.down = nn.ModuleList(Stage(w, w, blocks, embedding, dropout) for w in widths[:-1])
        self.downsample = nn.ModuleList(conv3x3(a, b, stride=2) for a, b in pairwise(widths))
        self.coarse_in = Stage(widths[-1], widths[-1], blocks, embedding, dropout)
        self.attention = SelfAttention(widths[-1])
        self.coarse_out = Stage(widths[-1], widths[-1], blocks, embedding, dropout)
        self.upsample = nn.ModuleList(Upsample(b, a) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Stage(2 * w, w, blocks, embedding, dropout) for w in widths[:-1])
        self.head = nn.Sequential(group_norm(widths[0]), nn.SiLU(), zeroed(conv3x3(widths[0], out_channels * patch**2)))
        self.linear = zeroed(conv3x3(in_channels * patch**2, out_channels * patch**2))
        self.plane_gain = nn.Linear(embedding, in_channels)
        self.gain = nn.Linear(embedding, out_channels * patch**2)

    @property
    def multiple(self) -> int:
        """The number of pixels that the sides of a map must be a multiple of."""
        return self.config["patch"] * 2 ** len(self.downsample)

    def forward(
        self, x: Tensor, c_noise: Tensor, condition: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """Return the network's map, (B, out_channels, H, W).

        Args:
            x: maps, (B, C_x, H, W).
            c_noise: noise level as the network is told it, ln(sigma) / 4, (B,).
            condition: further maps and masks, (B, C_c, H, W), with C_x + C_c = in_channels.
            scalars: numbers of order one, (B, Q).

        Raises:
            ValueError: if the shapes do not fit this network.
        """
        self._check(x, condition, scalars)
        e = self.embed(c_noise, scalars)
        planes = x if condition is None else torch.cat([x, condition.to(x.dtype)], dim=1)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 would round bright pixels by several per cent
            folded = F.pixel_unshuffle(planes.float(), self.config["patch"])
            h = self.stem(folded)
        h = self._levels(h, e)
        with torch.autocast(x.device.type, enabled=False):
            result = self.head(h.float()) + self._linear(planes.float(), e.float())
            return F.pixel_shuffle(result, self.config["patch"])

    def _linear(self, planes: Tensor, e: Tensor) -> Tensor:
        """Return the linear path of the planes (B, in_channels, H, W), folded."""
        before, after = ((1 + gain(e))[..., None, None] for gain in (self.plane_gain, self.gain))
        return after * self.linear(F.pixel_unshuffle(before * planes, self.config["patch"]))

    def _levels(self, h: Tensor, e: Tensor) -> Tensor:
        """Return the features h (B, widths[0], H/p, W/p) after the way down and up again."""
        skips = []
        for stage, downsample in zip(self.down, self.downsample, strict=True):
            skips.append(stage(h, e))
            h = downsample(skips[-1])
        h = self.coarse_out(self.attention(self.coarse_in(h, e)), e)
        for upsample, stage in zip(self.upsample[::-1], self.up[::-1], strict=True):
            h = stage(torch.cat([upsample(h), skips.pop()], dim=1), e)
        return h

    def _check(self, x: Tensor, condition: Tensor | None, scalars: Tensor | None) -> None:
        """Raise ValueError where the input does not fit."""
        channels = x.shape[1] + (0 if condition is None else condition.shape[1])
        if channels != self.config["in_channels"]:
            raise ValueError(f"this network takes {self.config['in_channels']} input planes, got {channels}")
        if (given := 0 if scalars is None else scalars.shape[1]) != self.config["scalar_features"]:
            raise ValueError(f"this network takes {self.config['scalar_features']} scalars, got {given}")
        if x.shape[-2] % self.multiple or x.shape[-1] % self.multiple:
            raise ValueError(
                f"map sides must be multiples of {self.multiple} pixels, got {x.shape[-2]} x {x.shape[-1]}"
            )

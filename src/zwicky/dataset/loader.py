"""Batches for training: maps in memory, symmetries, dropped channels and masked pixels.

The batch of a step depends on (seed, step) alone, so that a resumed run sees what the uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from zwicky.dataset.normalize import LogScale
from zwicky.dataset.store import MapSet


@dataclass(frozen=True)
class Batch:
    """x (B, C, Y, X) normalised targets; condition (B, 2K, Y, X): K masked inputs, then their K masks."""

    x: torch.Tensor
    condition: torch.Tensor


class MapLoader:
    """Normalised maps of one split, held in memory as float32.

    Args:
        maps: the set. split: which rows. targets, inputs: channel names. scales: of all of them.
        drop_channel: probability that an input is withheld. drop_pixels: probability that an input has holes,
            and that all inputs of a cluster end at a smaller field of view.
    """

    def __init__(
        self,
        maps: MapSet,
        split: str,
        targets: Sequence[str],
        inputs: Sequence[str],
        scales: Mapping[str, LogScale],
        drop_channel: float = 0.15,
        drop_pixels: float = 0.15,
    ) -> None:
        rows = maps.rows(split)
        self.x = torch.stack([scales[c].forward(torch.from_numpy(maps.read(c, rows))) for c in targets], 1)
        self.y = torch.stack([scales[c].forward(torch.from_numpy(maps.read(c, rows))) for c in inputs], 1)
        self.drop_channel, self.drop_pixels = drop_channel, drop_pixels

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, size: int, seed: int, step: int) -> tuple[Batch, torch.Generator]:
        """The batch of a step, and the generator that goes on with the randomness of this step."""
        state = np.random.SeedSequence([seed, step]).generate_state(1)[0]  # torch keeps 32 bits of a seed
        rng = torch.Generator().manual_seed(int(state))
        rows = torch.randint(len(self.x), (size,), generator=rng)
        symmetry = torch.randint(8, (size,), generator=rng)
        both = torch.cat([self.x[rows], self.y[rows]], 1)
        both = torch.stack([dihedral(m, int(s)) for m, s in zip(both, symmetry, strict=True)])
        x, y = both[:, : self.x.shape[1]], both[:, self.x.shape[1] :]
        return Batch(x, conditioned(y, self._masks(y, rng))), rng

    def _masks(self, y: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """1 where an input pixel is known, (B, K, Y, X)."""
        keep = torch.rand(y.shape[:2], generator=rng) >= self.drop_channel
        holes = _disks(y.shape, rng)
        pierced = torch.rand(y.shape[:2], generator=rng) < self.drop_pixels
        field = _fields(y.shape, self.drop_pixels, rng)
        return keep[..., None, None] * (1 - holes * pierced[..., None, None]) * field


def conditioned(y: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The condition of the network: masked inputs, then masks, (B, 2K, Y, X)."""
    mask = mask.to(y.dtype)
    return torch.cat([torch.where(mask > 0, y, torch.zeros_like(y)), mask], 1)


def dihedral(maps: torch.Tensor, element: int) -> torch.Tensor:
    """`maps` (..., Y, X) under one of the eight symmetries of the square."""
    turned = torch.rot90(maps, element % 4, (-2, -1))
    return turned.flip(-1) if element >= 4 else turned


def _fields(shape: torch.Size, probability: float, rng: torch.Generator) -> torch.Tensor:
    """1 inside a centred square of a quarter to all of the side, one for all inputs of a cluster, (B, 1, Y, X)."""
    b, _, ny, nx = shape
    narrow = torch.rand(b, generator=rng) < probability
    side = torch.where(narrow, 0.25 + 0.75 * torch.rand(b, generator=rng), torch.ones(b))[:, None]
    y = (torch.arange(ny) + 0.5).div(ny).sub(0.5).abs()[None] <= side / 2
    x = (torch.arange(nx) + 0.5).div(nx).sub(0.5).abs()[None] <= side / 2
    return (y[:, None, :, None] & x[:, None, None, :]).float()


def _disks(shape: torch.Size, rng: torch.Generator, count: int = 4) -> torch.Tensor:
    """1 inside `count` random disks per image, of 1 to 8% of the side in radius, (B, K, Y, X)."""
    b, k, ny, nx = shape
    centre = torch.rand((b, k, count, 2, 1, 1), generator=rng)
    radius = 0.01 + 0.07 * torch.rand((b, k, count, 1, 1), generator=rng)
    y = (torch.arange(ny) / ny)[:, None]
    x = (torch.arange(nx) / nx)[None, :]
    inside = (y - centre[:, :, :, 0]) ** 2 + (x - centre[:, :, :, 1]) ** 2 < radius**2
    return inside.any(2).float()

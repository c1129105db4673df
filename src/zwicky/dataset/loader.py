"""Batches for training: maps, what is seen of them, symmetries, dropped channels and masked pixels.

The batch of a step depends on (seed, step) alone, so that a resumed run sees what the uninterrupted one would have. A
small split is held in memory; of a large one, the rows of a batch are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zwicky.dataset.normalize import LogScale
from zwicky.dataset.store import MapSet
from zwicky.observe.instrument import FWHM

MEMORY = 2 << 30  # bytes of a split that are held
BEAM = (0.5, 4.0)  # full width at half maximum of a random beam [pixels]
ALL = 1 / 3  # of the probability that an input is withheld, that all are: chance alone would hardly ever show the prior
NOISE = (0.1, 300.0)  # rms of random white noise over the floor of the channel


@dataclass(frozen=True)
class View:
    """How the maps of a set are shown to a network.

    Args:
        targets, inputs: channel names. scales: of all of them.
        noisy: whether the network is told noise and beams. instruments: input -> instruments whose images stand for it.
        clean: share of images without noise where there are instruments. degrade: probability that a clean image gets
            a random beam and white noise.
        drop_channel: probability that an input is withheld, besides ALL times that, that all are.
        drop_pixels: probability that an input has holes, and that all inputs of a cluster end at a smaller field of
            view.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    scales: Mapping[str, LogScale]
    noisy: bool = False
    instruments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    clean: float = 0.2
    degrade: float = 0.0
    drop_channel: float = 0.15
    drop_pixels: float = 0.15


@dataclass(frozen=True)
class Batch:
    """Maps of a step.

    x (B, C, Y, X) normalised targets; condition (B, 2K or 3K, Y, X), see `conditioned`; beams (B, K) full widths at
    half maximum [pixels]; ln_mass (B, C) of the targets in the map [Msun].
    """

    x: Tensor
    condition: Tensor
    beams: Tensor
    ln_mass: Tensor

    def part(self, rows: slice) -> Batch:
        """Some of the maps."""
        return Batch(self.x[rows], self.condition[rows], self.beams[rows], self.ln_mass[rows])


class MapLoader:
    """Batches of one split of a set."""

    def __init__(self, maps: MapSet, split: str, view: View) -> None:
        self.maps, self.split, self.view, self.rows = maps, split, view, maps.rows(split)
        self.beam_widths = beam_widths(maps, view.instruments)
        bytes_of_row = 4 * maps.pixels**2 * (len(view.targets) + len(view.inputs))
        held = len(self.rows) * bytes_of_row <= MEMORY
        self.held = {c: maps.read(c, self.rows) for c in (*view.targets, *view.inputs)} if held else {}

    def __len__(self) -> int:
        return len(self.rows)

    def whole(self) -> MapLoader:
        """The same, with all channels given and without holes."""
        other = copy(self)
        other.view = replace(self.view, drop_channel=0.0, drop_pixels=0.0)
        return other

    def batch(self, size: int, seed: int, step: int) -> tuple[Batch, torch.Generator]:
        """The batch of a step, and the generator that goes on with the randomness of this step."""
        rng = self._random(seed, step)
        return self._made(torch.randint(len(self.rows), (size,), generator=rng).numpy(), rng), rng

    def even(self, size: int, seed: int, step: int) -> Batch:
        """At most `size` maps, spread evenly over the clusters of the split."""
        chosen = np.searchsorted(self.rows, self.maps.few(self.split, size))
        return self._made(chosen, self._random(seed, step))

    def _random(self, seed: int, step: int) -> torch.Generator:
        state = np.random.SeedSequence([seed, step]).generate_state(1)[0]  # torch keeps 32 bits of a seed
        return torch.Generator().manual_seed(int(state))

    def _made(self, chosen: NDArray[np.int64], rng: torch.Generator) -> Batch:
        """The batch of some rows of the split, numbered within it."""
        symmetry = torch.randint(8, (len(chosen),), generator=rng).tolist()
        x, ln_mass = self.targets(chosen)
        images, noise, mask, beams = self._seen(chosen, rng)
        both = torch.cat([x, images, noise, mask], 1)
        both = torch.stack([dihedral(m, s) for m, s in zip(both, symmetry, strict=True)])
        c, k = len(self.view.targets), len(self.view.inputs)
        x, images, noise, mask = both.split([c, k, k, k], 1)
        mask = mask * self._masks(images, rng)
        levels = self._levels(noise) if self.view.noisy else None
        return Batch(x, conditioned(self._scaled(images, noise), mask, levels), beams, ln_mass)

    def targets(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised targets (B, C, Y, X) and ln M (B, C) of some of the rows of the split, numbered within it."""
        v = self.view
        maps = torch.stack([self._maps(name, chosen) for name in v.targets], 1).double()
        ln_mass = (maps.sum((2, 3)) * self.maps.pixel_kpc**2).log()
        x = torch.stack([v.scales[name].forward(maps[:, i]) for i, name in enumerate(v.targets)], 1)
        return x.float(), ln_mass.float()

    def _maps(self, name: str, chosen: NDArray[np.int64]) -> Tensor:
        """Maps (B, Y, X) of a channel in its unit."""
        if self.held:
            return torch.from_numpy(self.held[name][chosen])
        return torch.from_numpy(self.maps.read(name, self.rows[chosen]))

    def _seen(self, chosen: NDArray[np.int64], rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images, noise and masks (B, K, Y, X) in the units of the inputs, and beams (B, K) [pixels]."""
        parts = []
        for name in self.view.inputs:
            images = self._maps(name, chosen)
            noise, mask, beam = torch.zeros_like(images), torch.ones_like(images), torch.zeros(len(chosen))
            if self.view.degrade:
                images, noise, beam = self._degraded(name, images, rng)
            for i, instrument in self._observed(name, len(chosen), rng):
                exposure = self.maps.exposure(instrument, self.rows[chosen[i : i + 1]])
                images[i], noise[i], mask[i] = (torch.as_tensor(np.float32(e[0])) for e in exposure[:3])
                beam[i] = self.beam_widths[instrument]
            parts.append((images, noise, mask, beam))
        images, noise, mask, beams = (torch.stack(part, 1) for part in zip(*parts, strict=True))
        return images, noise, mask, beams

    def _observed(self, name: str, size: int, rng: torch.Generator) -> list[tuple[int, str]]:
        """Which maps of a batch are seen through which instrument."""
        telescopes = self.view.instruments.get(name, ())
        if not telescopes:
            return []
        which = torch.randint(len(telescopes), (size,), generator=rng).tolist()
        seen = (torch.rand(size, generator=rng) >= self.view.clean).tolist()
        return [(i, telescopes[which[i]]) for i in range(size) if seen[i]]

    def _degraded(self, name: str, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, Y, X), some with a beam and white noise; the noise (B, Y, X) and the beams (B,) [pixels]."""
        b = len(images)
        hit = torch.rand(b, generator=rng) < self.view.degrade
        beam, level = (_log_uniform(b, ends, rng) for ends in (BEAM, NOISE))
        white = torch.randn(images.shape, generator=rng)
        beam = torch.where(hit, beam, 0.0)
        noise = torch.where(hit, level * self.view.scales[name].floor, 0.0)[:, None, None].expand_as(images)
        return blurred(images, beam) + noise * white, noise.clone(), beam

    def _scaled(self, images: Tensor, noise: Tensor) -> Tensor:
        """Images as the network sees them, (B, K, Y, X)."""
        scales = [self.view.scales[name] for name in self.view.inputs]
        return torch.stack([s.forward(images[:, i], noise[:, i]) for i, s in enumerate(scales)], 1)

    def _levels(self, noise: Tensor) -> Tensor:
        """Noise as the network is told it, (B, K, Y, X)."""
        scales = [self.view.scales[name] for name in self.view.inputs]
        return torch.stack([s.level(noise[:, i]) for i, s in enumerate(scales)], 1)

    def _masks(self, y: Tensor, rng: torch.Generator) -> Tensor:
        """1 where an input pixel is left, (B, K, Y, X)."""
        v = self.view
        keep = torch.rand(y.shape[:2], generator=rng) >= v.drop_channel
        keep &= (torch.rand(len(y), generator=rng) >= ALL * v.drop_channel)[:, None]
        holes = _disks(y.shape, rng)
        pierced = torch.rand(y.shape[:2], generator=rng) < v.drop_pixels
        field = _fields(y.shape, v.drop_pixels, rng)
        return keep[..., None, None] * (1 - holes * pierced[..., None, None]) * field


def beam_widths(maps: MapSet, instruments: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Instrument -> full width at half maximum of its beam [pixels], of all instruments of the inputs."""
    names = [name for group in instruments.values() for name in group]
    return {name: maps.fwhm_kpc(name) / maps.pixel_kpc for name in names}


def conditioned(y: Tensor, mask: Tensor, levels: Tensor | None = None) -> Tensor:
    """The condition of the network: masked inputs, masks and, if it is told, masked noise, (B, 2K or 3K, Y, X)."""
    mask = mask.to(y.dtype)
    planes = [torch.where(mask > 0, y, torch.zeros_like(y)), mask]
    if levels is not None:
        planes.append(levels.to(y.dtype) * mask)
    return torch.cat(planes, 1)


def brightness(condition: Tensor, inputs: int, power: float) -> Tensor:
    """Weights exp(power v) of pixels, of mean 1 in each map, (B, 1, Y, X); v is the mean of the inputs that are given.

    They depend on what a network is shown alone, so that what it should return does not depend on them.

    Args:
        condition: see `conditioned`, of so many inputs.
    """
    y, mask = condition[:, :inputs], condition[:, inputs : 2 * inputs]
    w = (power * y.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)).exp()
    return w / w.mean((2, 3), keepdim=True)


def blurred(images: Tensor, beam: Tensor) -> Tensor:
    """Images (B, Y, X) through Gaussian beams of full width at half maximum `beam` (B,) [pixels], taken as periodic."""
    ny, nx = images.shape[-2:]
    k2 = torch.fft.fftfreq(ny)[:, None] ** 2 + torch.fft.rfftfreq(nx) ** 2
    sigma = (beam / FWHM)[:, None, None]
    return torch.fft.irfft2(torch.fft.rfft2(images) * torch.exp(-2 * (np.pi * sigma) ** 2 * k2), s=(ny, nx))


def _log_uniform(count: int, ends: Sequence[float], rng: torch.Generator) -> Tensor:
    low, high = np.log(ends)
    return torch.exp(low + (high - low) * torch.rand(count, generator=rng))


def dihedral(maps: Tensor, element: int) -> Tensor:
    """`maps` (..., Y, X) under one of the eight symmetries of the square."""
    turned = torch.rot90(maps, element % 4, (-2, -1))
    return turned.flip(-1) if element >= 4 else turned


def _fields(shape: torch.Size, probability: float, rng: torch.Generator) -> Tensor:
    """1 inside a centred square of a quarter to all of the side, one for all inputs of a cluster, (B, 1, Y, X)."""
    b, _, ny, nx = shape
    narrow = torch.rand(b, generator=rng) < probability
    side = torch.where(narrow, 0.25 + 0.75 * torch.rand(b, generator=rng), torch.ones(b))[:, None]
    y = (torch.arange(ny) + 0.5).div(ny).sub(0.5).abs()[None] <= side / 2
    x = (torch.arange(nx) + 0.5).div(nx).sub(0.5).abs()[None] <= side / 2
    return (y[:, None, :, None] & x[:, None, None, :]).float()


def _disks(shape: torch.Size, rng: torch.Generator, count: int = 4) -> Tensor:
    """1 inside `count` random disks per image, of 1 to 8% of the side in radius, (B, K, Y, X)."""
    b, k, ny, nx = shape
    centre = torch.rand((b, k, count, 2, 1, 1), generator=rng)
    radius = 0.01 + 0.07 * torch.rand((b, k, count, 1, 1), generator=rng)
    y = (torch.arange(ny) / ny)[:, None]
    x = (torch.arange(nx) / nx)[None, :]
    inside = (y - centre[:, :, :, 0]) ** 2 + (x - centre[:, :, :, 1]) ** 2 < radius**2
    return inside.any(2).float()

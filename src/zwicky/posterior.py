"""Samples of the normalised maps of a model, and the correction of their spread, scale by scale.

A sampler starts at sigma_max, where the denoiser gives the posterior mean m of the network. How far samples x lie from
it may be wrong by a factor, which validation maps t tell for each target and band of wavenumbers,

    T(k)^2 = < |t - m|^2_k > / < |x - m|^2_k >,        x -> m + F^-1 T(k) F (x - m),

for each set of inputs that are given: what is right with all of them need not be with one. m, and so a sample, depends
on its own noise alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zwicky.device import autocast
from zwicky.diffusion.sample import SAMPLERS, Noise, Progress
from zwicky.grid import waves
from zwicky.model import ModelConfig, Networks

BANDS = (0.5, 1.5, 2.5, 4.5, 8.5, 16.5, 32.5)  # edges of the bands [waves along a side]; the mean is a band of its own
LARGEST = 3.0  # T lies between this and its inverse


def sample_maps(
    networks: Networks,
    config: ModelConfig,
    condition: Tensor,
    scalars: Tensor,
    noise: Noise,
    sampler: str,
    levels: int,
    device: torch.device,
    tick: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Samples (B, C, P, P) on the CPU, as the sampler leaves them, and the means that they started from.

    Args:
        condition: (B, K', P, P). scalars: (B, Q), masses included. noise: of these samples.
        tick: called after every evaluation of the network.
    """
    condition, scalars = condition.to(device), scalars.to(device)
    first: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        with autocast(device):
            D = networks.denoiser(x, sigma, condition, scalars)
        if not first:
            first.append(D)
        return D

    x = SAMPLERS[sampler](denoise, noise() * config.noise.sigma_max, config.noise.steps(levels), noise, tick)
    return x.float().cpu(), first[0].float().cpu()


def key_of(config: ModelConfig, known: Tensor) -> str:
    """The name of the set of inputs that are given, of masks (K, P, P)."""
    return ",".join(name for name, mask in zip(config.inputs, known, strict=True) if mask.any())


def spread_factors(truth: Tensor, samples: Tensor, means: Tensor) -> list[list[float]]:
    """T of each target in each band, (C, len(BANDS) + 1); 1 where samples have no spread.

    Args:
        truth: (N, C, P, P) normalised. samples, means: (N, S, C, P, P).
    """
    wanted = _band_power(truth[:, None] - means).mean((0, 1))
    found = _band_power(samples - means).mean((0, 1))
    factor = torch.where(found > 0, wanted / found, 1.0).sqrt()
    return factor.clamp(1 / LARGEST, LARGEST).tolist()


def respread(x: Tensor, mean: Tensor, factors: Sequence[Sequence[float]]) -> Tensor:
    """Samples (B, C, P, P) whose distance from their means is multiplied by T, factors (C, bands)."""
    T = torch.tensor(factors)[:, _band(x.shape[-2:])]
    return mean + torch.fft.irfft2(T * torch.fft.rfft2(x - mean), s=x.shape[-2:])


def _band(shape: Sequence[int]) -> Tensor:
    """Number of the band of every mode of a real transform, (Y, X // 2 + 1)."""
    return torch.bucketize(torch.from_numpy(waves(*shape)), torch.tensor(BANDS, dtype=torch.float64))


def _band_power(maps: Tensor) -> Tensor:
    """Mean |modes|^2 of maps (..., Y, X) in each band, (..., bands)."""
    band = _band(maps.shape[-2:]).flatten()
    power = torch.fft.rfft2(maps.double()).abs().square().flatten(-2)
    count = torch.zeros(len(BANDS) + 1, dtype=torch.float64).index_add(0, band, torch.ones(len(band)).double())
    sums = torch.zeros(*power.shape[:-1], len(BANDS) + 1, dtype=torch.float64).index_add(-1, band, power)
    return sums / count.clamp_min(1)

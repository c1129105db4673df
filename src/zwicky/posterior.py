"""Samples of the normalised maps of a model, and the correction of their spread, scale by scale.

A map is the mean of the posterior and what is left of it, in units of how much is left in each pixel,

    x = mu + s rho,        rho from sigma_max z by the sampler, with the denoiser told mu and s.

What is left may be wrong by a factor, which validation maps t tell for each target and band of wavenumbers,

    T(k)^2 = < |(t - mu) / s|^2_k > / < |rho|^2_k >,        rho -> F^-1 T(k) F rho,

for each set of inputs that are given: what is right with all of them need not be with one. Models of Hsu et al. 2025
have no mu, and sample x itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from zwicky.device import autocast
from zwicky.diffusion.sample import SAMPLERS, Noise, Progress, evaluations
from zwicky.grid import waves
from zwicky.model import BANDS, KINDS, ModelConfig, Networks

LARGEST = 3.0  # T lies between this and its inverse
PRIOR_MODES = 3.0  # T is drawn to 1 as by so many modes; the error of ln T from N modes is 1 / sqrt(2 N), 0.4 of 3


def network_calls(config: ModelConfig, sampler: str, levels: int) -> int:
    """How often a sample evaluates a network."""
    mean = KINDS[config.kind].mean
    return 1 if mean and sampler == "mean" else mean + evaluations(sampler, levels)


class Drawn(NamedTuple):
    """Samples, as what is left rho of the mean mu in units of s, (B, C, P, P) each, on the CPU."""

    rho: Tensor
    mu: Tensor
    s: Tensor

    @property
    def x(self) -> Tensor:
        """The normalised maps."""
        return self.mu + self.s * self.rho

    def respread(self, factors: Sequence[Sequence[float]]) -> Drawn:
        """With factors T (C, bands) of what is left."""
        return self._replace(rho=respread(self.rho, factors))


def draw_maps(
    networks: Networks,
    config: ModelConfig,
    condition: Tensor,
    scalars: Tensor,
    noise: Noise,
    sampler: str,
    levels: int,
    device: torch.device,
    tick: Progress | None = None,
) -> Drawn:
    """Samples as the sampler leaves them; where there is no mean they are all that is left of zero.

    Args:
        condition: (B, K', P, P). scalars: (B, Q), masses included. noise: of these samples.
        tick: called after every evaluation of a network.
    """
    condition, scalars, z = condition.to(device), scalars.to(device), noise()
    mu, s = torch.zeros_like(z), torch.ones_like(z)
    if networks.mean is not None:
        with autocast(device):
            mu, s, condition = networks.reference(condition, scalars)
        if tick is not None:
            tick()
        if sampler == "mean":
            return Drawn(torch.zeros_like(mu).cpu(), mu.cpu(), s.cpu())

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        with autocast(device):
            return networks.denoiser(x, sigma, condition, scalars)  # type: ignore[misc]

    start = networks.denoiser.start(z, config.noise.sigma_max, condition)  # type: ignore[union-attr]
    rho = SAMPLERS[sampler](denoise, start, config.noise.steps(levels), noise, tick).float()
    return Drawn(rho.cpu(), mu.cpu(), s.cpu())


def key_of(config: ModelConfig, known: Tensor) -> str:
    """The name of the set of inputs that are given, of masks (K, P, P)."""
    return ",".join(name for name, mask in zip(config.inputs, known, strict=True) if mask.any())


def spread_factors(truth: Tensor, samples: Tensor) -> list[list[float]]:
    """T of each target in each band, (C, len(BANDS) + 1); 1 where samples have no spread.

    Bands of few modes are drawn to 1: ln T is multiplied by N / (N + PRIOR_MODES).

    Args:
        truth, samples: what is left of the means, (N, S, C, P, P).
    """
    wanted, found = (_band_power(left).mean((0, 1)) for left in (truth, samples))
    modes = len(truth) * _modes(truth.shape[-2:])
    factor = torch.where(found > 0, wanted / found, 1.0).sqrt() ** (modes / (modes + PRIOR_MODES))
    return factor.clamp(1 / LARGEST, LARGEST).tolist()


def respread(rho: Tensor, factors: Sequence[Sequence[float]]) -> Tensor:
    """What is left of the means (B, C, P, P), multiplied by T, factors (C, bands)."""
    T = torch.tensor(factors)[:, _band(rho.shape[-2:])]
    return torch.fft.irfft2(T * torch.fft.rfft2(rho), s=rho.shape[-2:])


def _band(shape: Sequence[int]) -> Tensor:
    """Number of the band of every mode of a real transform, (Y, X // 2 + 1)."""
    return torch.bucketize(torch.from_numpy(waves(*shape)), torch.tensor(BANDS, dtype=torch.float64))


def _modes(shape: Sequence[int]) -> Tensor:
    """How many modes of a real transform are in each band, (bands,)."""
    return torch.bincount(_band(shape).flatten(), minlength=len(BANDS) + 1)


def _band_power(maps: Tensor) -> Tensor:
    """Mean |modes|^2 of maps (..., Y, X) in each band, (..., bands)."""
    band = _band(maps.shape[-2:]).flatten()
    power = torch.fft.rfft2(maps.double()).abs().square().flatten(-2)
    sums = torch.zeros(*power.shape[:-1], len(BANDS) + 1, dtype=torch.float64).index_add(-1, band, power)
    return sums / _modes(maps.shape[-2:]).clamp_min(1)

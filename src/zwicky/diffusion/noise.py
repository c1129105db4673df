"""The noise schedule: which noise levels exist, which are trained and which are visited when sampling.

The forward process adds white noise of growing standard deviation sigma to a standardised map x (variance exploding):

    x_sigma = x + sigma z,      z ~ N(0, 1),      sigma_min <= sigma <= sigma_max.

Sampling starts from x = sigma_max z, as if the data had no mean. A sampler without noise of its own then loses a
fraction s / sqrt(s^2 + sigma_max^2) of the mean of every mode of posterior width s, so sigma_max must be large against
the data: 80 for maps of unit variance, not 1.

Training draws ln sigma ~ Normal(P_mean, P_std^2), truncated to the range.

Reference: Karras et al. 2022 (EDM), arXiv 2206.00364, Table 1 and eq. 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["geometric", "karras"]


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise levels, in units of the standard deviation of the data.

    Args:
        sigma_min: smallest level; what is narrower than this is left to the last denoising step.
        sigma_max: largest level, where sampling starts.
        P_mean: mean of ln sigma in training.
        P_std: standard deviation of ln sigma in training.

    Raises:
        ValueError: if not 0 < sigma_min < sigma_max < inf, or P_std <= 0.
    """

    sigma_min: float = 2e-3
    sigma_max: float = 80.0
    P_mean: float = 0.0
    P_std: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"need 0 < sigma_min < sigma_max < inf, got {self.sigma_min} and {self.sigma_max}")
        if not 0 < self.P_std < math.inf or not math.isfinite(self.P_mean):
            raise ValueError(f"need a finite P_mean and P_std > 0, got {self.P_mean} and {self.P_std}")

    def steps(self, n: int, spacing: Spacing = "geometric", rho: float = 7.0) -> Tensor:
        """Return n decreasing levels from sigma_max to sigma_min, (n,) float64.

        "geometric" is uniform in ln sigma; "karras" is uniform in sigma^(1/rho) (EDM eq. 5), finer at small sigma.

        Raises:
            ValueError: if n < 2, or the spacing is unknown.
        """
        if n < 2:
            raise ValueError(f"a schedule needs at least 2 noise levels, got {n}")
        if spacing not in ("geometric", "karras"):
            raise ValueError(f"spacing must be 'geometric' or 'karras', got {spacing!r}")
        u = torch.linspace(0, 1, n, dtype=torch.float64)
        sigma = self._geometric(u) if spacing == "geometric" else self._karras(u, rho)
        sigma[0], sigma[-1] = self.sigma_max, self.sigma_min
        return sigma

    def training_sigmas(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return noise levels to train on, (batch,) float32 on the generator's device.

        ln sigma = P_mean + P_std Phi^-1(u), with u uniform between the Phi of the two ends (inverse CDF).
        """
        low, high = (self._normal_cdf(sigma) for sigma in (self.sigma_min, self.sigma_max))
        u = torch.rand(batch, generator=generator, device=generator.device, dtype=torch.float64)
        ln_sigma = self.P_mean + self.P_std * torch.special.ndtri(low + (high - low) * u)
        return ln_sigma.exp().clamp(self.sigma_min, self.sigma_max).float()

    def _normal_cdf(self, sigma: float) -> float:
        """Return the probability of a smaller level under the untruncated normal of ln sigma."""
        return 0.5 * math.erfc((self.P_mean - math.log(sigma)) / (self.P_std * math.sqrt(2)))

    def _geometric(self, u: Tensor) -> Tensor:
        return self.sigma_max * (self.sigma_min / self.sigma_max) ** u

    def _karras(self, u: Tensor, rho: float) -> Tensor:
        high, low = self.sigma_max ** (1 / rho), self.sigma_min ** (1 / rho)
        return (high + u * (low - high)) ** rho


def add_noise(x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
    """Return x_sigma = x + sigma z, (B, C, H, W), for x and z (B, C, H, W) and sigma (B,)."""
    return x + sigma.to(x.dtype).view(-1, 1, 1, 1) * z

"""Losses that know what maps are, options of a training beside those of the mean and of the denoiser.

The mean, or a denoised map D, and the truth x become surface densities a and t, and four terms compare them,

    mass            < (ln sum a - ln sum t)^2 >                              of every target
    power           < (1 - r) + (b - r)^2 >         over targets and octaves of k,   b^2 = P_aa / P_tt
    gas_fraction    < (ln f of a - ln f of t)^2 >   in cylinders,   f = gas / (gas + dark matter)
    forward         < |W (a - t)|^2 / |W t|^2 >     over inputs, W the linear filter to y and to the root of the X-rays

each weighed by 1 / (1 + sigma^2): far from the truth D is a mean over maps that differ, whose mass or power need not be
theirs. For the same reason b is compared with r and not with one: a posterior mean has b = r. Hsu et al. 2025 name such
losses as future work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from zwicky.dataset.normalize import LogScale
from zwicky.dataset.store import MapSet
from zwicky.grid import waves
from zwicky.observe.sky import distance
from zwicky.wiener import WienerFilter

APERTURES = (1 / 16, 1 / 8, 1 / 4)  # radii, of the side of a map
TINY = 1e-12


@dataclass(frozen=True)
class PhysicsWeights:
    """Weights of the terms, 0 for none."""

    mass: float = 0.0
    power: float = 0.0
    gas_fraction: float = 0.0
    forward: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= weight < float("inf") for weight in self.asked.values()):
            raise ValueError("the weights of physics must be finite and not negative.")

    @property
    def asked(self) -> dict[str, float]:
        """The terms with a weight."""
        weights = {f.name: float(getattr(self, f.name)) for f in fields(self)}
        return {name: weight for name, weight in weights.items() if weight != 0}


@dataclass(frozen=True)
class Physics:
    """The terms of one model.

    Args:
        weights: of the terms. targets: channel names, in the order of the maps. scales: of them.
        filter: (I, C, P, P // 2 + 1), W of each input, for `forward`.
    """

    weights: PhysicsWeights
    targets: tuple[str, ...]
    scales: Mapping[str, LogScale]
    filter: Tensor | None = None

    def __call__(self, D: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The weighted sum of the terms, averaged over maps.

        Args:
            D, x: normalised maps (B, C, P, P). sigma: their noise levels (B,).
        """
        a, t = self._densities(D), self._densities(x)
        total = sum(weight * TERMS[name](a, t, self) for name, weight in self.weights.asked.items())
        return (total / (1 + sigma**2)).mean()

    def _densities(self, v: Tensor) -> Tensor:
        """Surface densities of normalised maps; what is brighter than all of the training is cut."""
        maps = [self._linear(self.scales[name], v[:, i]) for i, name in enumerate(self.targets)]
        return torch.stack(maps, 1)

    @staticmethod
    def _linear(scale: LogScale, v: Tensor) -> Tensor:
        return scale.inverse(v.float().clamp(max=scale.high + 1)).clamp_min(TINY * scale.floor)


def mass(a: Tensor, t: Tensor, about: Physics) -> Tensor:
    """Squared error of the ln of the mass in the map (B,)."""
    return (a.sum((2, 3)).log() - t.sum((2, 3)).log()).square().mean(1)


def power(a: Tensor, t: Tensor, about: Physics) -> Tensor:
    """Loss of correlation, and b against r, in octaves of k (B,)."""
    octave = octaves(a.shape[-1]).to(a.device)
    A, T = (torch.fft.rfft2(m / m.mean((2, 3), keepdim=True)).flatten(2) for m in (a, t))

    def binned(power: Tensor) -> Tensor:
        sums = power.new_zeros(*power.shape[:2], int(octave.max()) + 1).index_add(2, octave, power)
        return sums[:, :, 1:]  # without the mean

    P_aa, P_tt, P_at = (binned((u * v.conj()).real) for u, v in ((A, A), (T, T), (A, T)))
    r, b = P_at / (P_aa * P_tt + TINY).sqrt(), ((P_aa + TINY) / (P_tt + TINY)).sqrt()
    return ((1 - r) + (b - r).square()).mean((1, 2))


@functools.cache
def octaves(pixels: int) -> Tensor:
    """Number of the octave of k of every mode of a real transform, 0 for the mean, flat."""
    k = torch.from_numpy(waves(pixels))
    return (k.clamp_min(0.5).log2().floor() + 1).long().flatten()


def gas_fraction(a: Tensor, t: Tensor, about: Physics) -> Tensor:
    """Squared error of the ln of the gas fraction inside cylinders (B,)."""
    inside = apertures(a.shape[-1]).to(a.device)
    gas, dark = (about.targets.index(name) for name in ("gas", "dark_matter"))

    def ln_fraction(maps: Tensor) -> Tensor:
        masses = torch.einsum("bcyx,ryx->bcr", maps, inside)
        return (masses[:, gas] / (masses[:, gas] + masses[:, dark])).log()

    return (ln_fraction(a) - ln_fraction(t)).square().mean(1)


@functools.cache
def apertures(pixels: int) -> Tensor:
    """1 inside of each of APERTURES, (R, P, P)."""
    r = torch.from_numpy(distance(pixels, 1 / pixels))
    return torch.stack([(r < max(radius, 1 / pixels)).float() for radius in APERTURES])


def forward(a: Tensor, t: Tensor, about: Physics) -> Tensor:
    """Squared error of what the linear filter says that the inputs would show, over their power (B,)."""
    assert about.filter is not None
    W = about.filter.to(a.device)

    def shown(maps: Tensor) -> Tensor:
        modes = torch.fft.rfft2(maps / t.mean((1, 2, 3), keepdim=True))
        return torch.einsum("icyx,bcyx->biyx", W.to(modes.dtype), modes).abs().square().sum((2, 3))

    return (shown(a - t) / (shown(t) + TINY)).mean(1)


Term = Callable[[Tensor, Tensor, Physics], Tensor]
TERMS: dict[str, Term] = {"mass": mass, "power": power, "gas_fraction": gas_fraction, "forward": forward}


def physics_of(
    weights: PhysicsWeights, maps: MapSet, targets: Sequence[str], inputs: Sequence[str], scales: Mapping[str, LogScale]
) -> Physics | None:
    """The terms that are asked for, None for none.

    Raises:
        ValueError: the gas fraction is asked for, of a model without gas or dark matter.
    """
    if not weights.asked:
        return None
    if weights.gas_fraction and not {"gas", "dark_matter"} <= set(targets):
        raise ValueError("the gas fraction of physics needs the targets gas and dark_matter.")
    W = None
    if weights.forward:
        W = torch.from_numpy(WienerFilter.fit(maps, inputs, targets, roots=True).weight).float()
        W = W / W.square().sum((1, 2, 3), keepdim=True).sqrt()  # inputs have units of their own
    return Physics(weights, tuple(targets), scales, W)

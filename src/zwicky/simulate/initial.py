"""Initial conditions: Gaussian modes of the linear power, displaced to second order (2LPT).

    x = q - grad phi1 + (D2 / D^2) grad phi2,   lap phi1 = delta,   lap phi2 = sum_{i<j} phi1,ii phi1,jj - phi1,ij^2
    p = a^2 dx/dt = a^2 E [f1 psi1 + f2 psi2]                                 (Bouchet et al. 1995, Scoccimarro 1998)

Dark matter starts on a cubic lattice and gas on the same lattice moved by half a cell along each axis, both displaced
by the same field, evaluated at their own sites, so that neither species leads the other.

A cluster can be planted: the modes are changed, as little as their statistics allow, so that the density smoothed over
its Lagrangian radius has a given value, and no slope, at the centre of the box (Hoffman & Ribak 1991).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology, top_hat
from zwicky.grid import derivative_wavenumbers, irfft, wavenumbers

SPHERICAL = 1.686  # linear density contrast at which a sphere collapses


def linear_modes(
    cosmology: Cosmology, box: float, n: int, a: float, rng: np.random.Generator, fixed_amplitude: bool = False
) -> torch.Tensor:
    """Modes of the linear density contrast at scale factor a, as given by `grid.rfft`, (n, n, n//2 + 1).

    Args:
        box: comoving side [Mpc].
        rng: source of the white noise.
        fixed_amplitude: give every mode the modulus sqrt(P V) and keep only its phase random (Angulo & Pontzen 2016).
    """
    noise = torch.fft.rfftn(torch.from_numpy(rng.standard_normal((n, n, n))))
    if fixed_amplitude:
        noise = noise / noise.abs().clamp_min(1e-30) * n**1.5
    return noise * torch.sqrt(_power(cosmology, box, n, a)[1] * (n**3 / box**3))


def coarser(modes: torch.Tensor, n: int) -> torch.Tensor:
    """The same field on a mesh of n <= its own points along a side: the longer of its modes."""
    size = modes.shape[0]
    if n == size:
        return modes
    m = torch.fft.fftfreq(n, 1 / n).long()
    kept = modes[m % size][:, m % size][:, :, : n // 2 + 1] * (n / size) ** 3
    if n % 2 == 0:
        for axis in range(3):
            kept.select(axis, n // 2).zero_()  # the Nyquist planes of a coarser mesh hold half a mode
    return kept


def _power(cosmology: Cosmology, box: float, n: int, a: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Wavenumbers |k| and linear power of the modes of a mesh; both are harmless at k = 0."""
    kx, ky, kz = wavenumbers(n, box)
    k = torch.sqrt(kx**2 + ky**2 + kz**2)
    k[0, 0, 0] = 1.0
    power = torch.from_numpy(cosmology.linear_power(k.numpy(), a))
    power[0, 0, 0] = 0.0
    return k, power


def plant_cluster(
    modes: torch.Tensor, cosmology: Cosmology, box: float, a: float, a_end: float, mass: float, height: float = 0.0
) -> torch.Tensor:
    """Modes at scale factor a, constrained to grow a cluster of M200m = mass [Msun] at the centre of the box at a_end.

    The density contrast in a top hat of the radius that holds this mass at the mean density has no gradient and the
    given height at a_end, that of `collapse_threshold` if 0, scaled by linear growth. Every other property of the peak,
    and the rest of the box, is as random as the modes were.
    """
    n = modes.shape[0]
    k, power = _power(cosmology, box, n, a)
    window = torch.from_numpy(top_hat(k.numpy() * cosmology.lagrangian_radius(mass)))
    filters = [window, *(1j * k * window for k in derivative_wavenumbers(n, box))]
    to_centre = _shift_phase(n, n // 2)

    def measured(m: torch.Tensor) -> torch.Tensor:
        return torch.stack([irfft(m * f)[n // 2, n // 2, n // 2] for f in filters])

    responses = [power * torch.conj(f * to_centre) for f in filters]
    wanted = torch.zeros(4, dtype=torch.float64)
    wanted[0] = height or collapse_threshold(cosmology, mass, a_end)
    wanted[0] *= float(cosmology.growth(a) / cosmology.growth(a_end))
    change = torch.linalg.solve(torch.stack([measured(r) for r in responses], 1), wanted - measured(modes))
    return modes + sum(c * r for c, r in zip(change, responses, strict=True))


def collapse_threshold(cosmology: Cosmology, mass: float, a: float) -> float:
    """Linear density contrast at a of what has become a halo of M200m = mass [Msun] by then.

    1.686 (1 + 0.47 (sigma / 1.686)^1.23), because tides hold light halos up (Sheth, Mo & Tormen 2001).
    """
    return SPHERICAL * (1 + 0.47 * (cosmology.sigma(mass, a) / SPHERICAL) ** 1.23)


def smooth_fields(box: float, n: int, length: float, rms: Sequence[float], rng: np.random.Generator) -> torch.Tensor:
    """Gaussian random fields on the sites of the lattice, smoothed over `length`, of the given rms, (n^3, fields).

    The mean of a box is random too: boxes smaller than the length differ as a whole.
    """
    kx, ky, kz = wavenumbers(n, box)
    smooth = torch.exp(-(kx**2 + ky**2 + kz**2) * length**2 / 2)
    noise = torch.fft.rfftn(torch.from_numpy(rng.standard_normal((len(rms), n, n, n))), dim=(1, 2, 3))
    unit = float(irfft(smooth**2)[0, 0, 0]) ** -0.5  # over the rms of the smoothed noise
    fields = torch.fft.irfftn(noise * smooth * unit, s=(n, n, n), dim=(1, 2, 3))
    return (fields.reshape(len(rms), -1).T * torch.tensor(rms, dtype=torch.float64)).float()


def displacements(modes: torch.Tensor, box: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Modes of -grad phi1 and of grad phi2 for density modes at the same time, each (3, n, n, n//2 + 1) [Mpc]."""
    n = modes.shape[0]
    k, k2 = derivative_wavenumbers(n, box), _squared(wavenumbers(n, box))
    phi1 = -modes / k2
    second = {(i, j): irfft(-k[i] * k[j] * phi1) for i in range(3) for j in range(i, 3)}
    source = sum(second[i, i] * second[j, j] - second[i, j] ** 2 for i in range(3) for j in range(i + 1, 3))
    phi2 = -torch.fft.rfftn(source) / k2
    return torch.stack([-1j * c * phi1 for c in k]), torch.stack([1j * c * phi2 for c in k])


def initial_conditions(
    cosmology: Cosmology, box: float, n: int, a: float, modes: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions [Mpc, comoving] and momenta a^2 dx/dt [Mpc H0], each (2 n^3, 3): dark matter first, then gas."""
    psi1, psi2 = displacements(modes, box)
    ratio = float(cosmology.growth2(a) / cosmology.growth(a) ** 2)
    expansion = a**2 * float(cosmology.E(a))
    move = psi1 + ratio * psi2
    speed = expansion * (float(cosmology.growth_rate(a)) * psi1 + float(cosmology.growth_rate2(a)) * ratio * psi2)
    positions, momenta = [], []
    for shift in (0.0, 0.5):
        phase = _shift_phase(n, shift)
        lattice = (np.indices((n, n, n)).reshape(3, -1).T + shift) * (box / n)
        positions.append(lattice + _at_sites(move * phase))
        momenta.append(_at_sites(speed * phase))
    return np.concatenate(positions) % box, np.concatenate(momenta)


def _squared(k: tuple[torch.Tensor, ...]) -> torch.Tensor:
    k2 = k[0] ** 2 + k[1] ** 2 + k[2] ** 2
    k2[k2 == 0] = torch.inf
    return k2


def _shift_phase(n: int, shift: float) -> torch.Tensor:
    """exp(i k . s) for sites moved by `shift` cells along each axis."""
    mx, my, mz = wavenumbers(n, float(n))
    return torch.exp(1j * shift * (mx + my + mz))


def _at_sites(vector_modes: torch.Tensor) -> NDArray[np.float64]:
    return torch.stack([irfft(m) for m in vector_modes]).reshape(3, -1).T.numpy()



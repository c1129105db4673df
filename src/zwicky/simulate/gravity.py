"""P3M gravity: a mesh for the long range and direct pair sums for the short range.

With H0 = 1 and comoving lengths, momenta p = a^2 dx/dt obey

    dp/dt = -(1/a) grad phi,    lap phi = (3/2) Omega_m delta,    so that a mass m pulls with G m / r^2,
    G = (3/2) Omega_m / (4 pi rho_mean).

The force is split by the prolate function (`kernels.split`): a smooth part on the mesh, and a sum over pairs that ends
exactly at r_c. The same split gives the scalar psi that HYPER's pressure map needs (He, Trac & Gnedin 2022,
arXiv 2107.04606),

    psi(x) = G int rho(x') / |x - x'|^2 d^3x'.

Below the softening length h a particle is a sphere with density proportional to (1 - r^2/h^2)^2; its central potential
equals that of a Plummer sphere of epsilon = h / 2.1875. There 1/r^2 of psi becomes (3 - 3 q^2 + q^4) / h^2, q = r / h,
which misses 1 - 3/5 + 1/7 - 1 = -16/35 of the 4 pi G rho h that matter of density rho inside h contributes. That is a
third of psi near the centre of a cluster, and 4% at R500c; `missing_scalar` gives it back.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zwicky.grid import (
    TWO32,
    Cells,
    deposit,
    derivative_wavenumbers,
    gather,
    irfft,
    pcs_window,
    rfft,
    sort_into_cells,
    wavenumbers,
)
from zwicky.kernels import kernels
from zwicky.kernels.split import POTENTIAL, PROLATE_C, prolate, split_table

CUTOFF_CELLS = 3.5  # r_c in mesh cells; 3.5 with c = 9 keeps the pair force to 0.2% rms
LEAST_X = 1e-3  # least k r_c of the table of psi
SOFTENING_PER_EPSILON = 2.1875  # radius of the softening sphere over the Plummer length of equal central potential


@dataclass(frozen=True)
class Gravity:
    """The solver for one box.

    Args:
        box: comoving side [Mpc].
        mesh: mesh points along a side.
        omega_m: matter density parameter; rho_mean: mean comoving matter density [Msun / Mpc^3].
        epsilon: equivalent Plummer softening, comoving [Mpc].
        high_pass: wavelength beyond which psi is filtered out, comoving [Mpc] (psi of an infinite universe diverges,
            and modes longer than a cluster only blur its map).
        device: where the particles are.
    """

    box: float
    mesh: int
    omega_m: float
    rho_mean: float
    epsilon: float
    high_pass: float = 40.0 / 0.7
    device: str = "cpu"

    @property
    def cutoff(self) -> float:
        """r_c [Mpc]."""
        return CUTOFF_CELLS * self.box / self.mesh

    @property
    def newton(self) -> float:
        """G [Mpc^3 H0^2 / Msun]."""
        return 1.5 * self.omega_m / (4 * np.pi * self.rho_mean)

    @property
    def cells(self) -> int:
        """Cells along a side of the neighbour lists: as many as are not narrower than r_c."""
        return int(self.mesh / CUTOFF_CELLS)

    def __post_init__(self) -> None:
        if self.cells < 4:
            raise ValueError(f"a mesh of {self.mesh} is too coarse for the short-range sum; the least is 14.")
        if SOFTENING_PER_EPSILON * self.epsilon >= self.cutoff:
            raise ValueError("the softening length must be smaller than the cutoff of the short-range force.")

    def sort(self, fixed: Tensor) -> Cells:
        """Neighbour lists of fixed-point positions (P, 3)."""
        return sort_into_cells(fixed, self.cells)

    def _pair_units(self) -> tuple[float, float]:
        """One fixed-point unit, and the squared softening radius, in units of r_c."""
        return self.box / TWO32 / self.cutoff, (SOFTENING_PER_EPSILON * self.epsilon / self.cutoff) ** 2

    def fields(self, cells: Cells, mass: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """-grad phi [Mpc H0^2] (P, 3) and psi / G [Msun / Mpc^2], high-passed, (P,) at sorted particles.

        Args:
            mass: (P,) [`mass_unit`]. wanted: (P,) where psi is needed; elsewhere it has its mesh part alone.
        """
        short = kernels(mass.device).gravity(
            cells.position, mass, wanted, cells.start, cells.n, *self._pair_units()
        )
        short *= self.mass_unit / self.cutoff**2
        force, psi = short[:, :3].mul_(self.newton), short[:, 3]
        modes, filters = rfft(deposit(cells, mass, self.mesh)), _mesh_filters(self)
        pull = modes * filters.force
        for axis in range(3):
            force[:, axis] += gather(cells, irfft(pull * filters.ik[axis]))
        if wanted.any():
            psi += gather(cells, irfft(modes.mul_(filters.scalar)))
        return force, psi

    def potential_energy(self, cells: Cells, mass: Tensor) -> float:
        """sum m phi / 2 of sorted particles, each without its own potential [Msun (Mpc H0)^2], comoving: W = this / a.

        Pairs add 4 pi rho r_c^2 int_0^1 V_short s^2 ds to the mean of the potential, which has none.
        """
        potential = kernels(mass.device).potential
        pairs = potential(cells.position, mass, cells.start, cells.n, *self._pair_units()) / self.cutoff
        long = np.polynomial.Polynomial(POTENTIAL)
        own = mass * (long(0.0) / self.cutoff)
        s = np.linspace(0, 1, 2001)
        density = float(mass.double().sum()) / self.box**3
        mean = 4 * np.pi * density * self.cutoff**2 * np.trapezoid(s - s**2 * long(s**2), s)
        modes = rfft(deposit(cells, mass, self.mesh))
        phi = -gather(cells, irfft(modes * _mesh_filters(self).force)).double()
        phi -= self.newton * self.mass_unit * (pairs.double() - own - mean)
        return float(0.5 * self.mass_unit * (mass * phi).sum())

    @property
    def missing_scalar(self) -> float:
        """psi / G that softening removes, over the local density: 4 pi h 16/35 [Mpc]."""
        return 4 * np.pi * SOFTENING_PER_EPSILON * self.epsilon * 16 / 35

    @property
    def mass_unit(self) -> float:
        """rho_mean (box / mesh)^3 [Msun]: masses handed to the kernels are in this unit."""
        return self.rho_mean * (self.box / self.mesh) ** 3


@dataclass(frozen=True)
class _Filters:
    force: Tensor
    ik: tuple[Tensor, Tensor, Tensor]
    scalar: Tensor


@functools.lru_cache(maxsize=2)
def _mesh_filters(gravity: Gravity) -> _Filters:
    """Filters for modes of (1 + delta) deposited by PCS: times ik they give -grad phi, and psi / G.

    Both are divided by the PCS window squared, for deposit and gather. Made of a few planes at a time, in float64.
    """
    n, there = gravity.mesh, torch.device(gravity.device)
    kx, ky, kz = (k.to(there) for k in wavenumbers(n, gravity.box))
    wx, wy, wz = (w.to(there) for w in pcs_window(n))
    x_max = float((kx.abs().max() ** 2 + ky.abs().max() ** 2 + kz.abs().max() ** 2).sqrt()) * gravity.cutoff
    prolates, scalars = (values.to(there) for values in (_prolate_table(), _scalar_table(x_max)))
    force, scalar = (torch.empty(n, n, n // 2 + 1, device=there) for _ in range(2))
    for part in torch.arange(n, device=there).split(16):
        k = torch.sqrt(kx[part] ** 2 + ky**2 + kz**2).clamp_min(1e-30)
        x, window = k * gravity.cutoff, (wx[part] * wy * wz) ** 2
        split = torch.where(x < PROLATE_C, _interpolate(prolates, 0.0, PROLATE_C, x), 0.0)
        force[part] = (1.5 * gravity.omega_m * split / (k**2 * window)).float()
        removed = 2 * np.pi**2 / x * torch.exp(-((k * gravity.high_pass / (2 * np.pi)) ** 2))
        long = _interpolate(scalars, LEAST_X, x_max, x)
        scalar[part] = (gravity.rho_mean * gravity.cutoff * (long - removed) / window).float()
    force[0, 0, 0] = 0.0
    scalar[0, 0, 0] = -gravity.rho_mean * gravity.cutoff * _mean_of_pairs()  # psi has no mean
    ik = tuple((1j * c).to(there, torch.complex64) for c in derivative_wavenumbers(n, gravity.box))
    return _Filters(force, ik, scalar)  # type: ignore[arg-type]


def _interpolate(table: Tensor, first: float, last: float, x: Tensor) -> Tensor:
    """Linear interpolation at x in a table whose entries are at even steps from `first` to `last`."""
    u = ((x - first) * ((len(table) - 1) / (last - first))).clamp(0, len(table) - 1.001)
    i = u.long()
    return torch.lerp(table[i], table[i + 1], u - i)


def _prolate_table() -> Tensor:
    """The prolate function from k = 0 to its end."""
    return torch.from_numpy(prolate(np.linspace(0.0, 1.0, 4097)))


def _mean_of_pairs() -> float:
    """Integral of (1 - Phi^2) / r^2 over the sphere of radius r_c [r_c]: what pairs add to the mean of psi."""
    s, phi, _ = split_table()
    return float(4 * np.pi * np.trapezoid(1 - phi**2, s))


@functools.lru_cache(maxsize=4)
def _scalar_table(x_max: float) -> Tensor:
    """The Fourier transform of Phi^2 / r^2 in units of r_c, at x = k r_c from LEAST_X to x_max.

    It is 2 pi^2 / x - (4 pi / x) int_0^1 sin(x s) (1 - Phi^2) / s ds.
    """
    s, phi, _ = split_table()
    x = np.linspace(LEAST_X, x_max, 8192)
    rest = np.where(s > 0, (1 - phi**2) / np.maximum(s, 1e-12), 0.0)
    weights = np.full(len(s), s[1])
    weights[0] = weights[-1] = s[1] / 2
    integral = np.sin(np.outer(x, s)) @ (rest * weights) + x * weights[0]  # at s = 0 the integrand is x
    return torch.from_numpy(2 * np.pi**2 / x - 4 * np.pi / x * integral)

"""P3M gravity: a mesh for the long range and direct pair sums for the short range.

With H0 = 1 and comoving lengths, momenta p = a^2 dx/dt obey

    dp/dt = -(1/a) grad phi,    lap phi = (3/2) Omega_m delta,    so that a mass m pulls with G m / r^2,
    G = (3/2) Omega_m / (4 pi rho_mean).

The force is split with the prolate spheroidal wave function psi_c of order zero (Liang et al., arXiv 2505.09727),
which among functions that end at r_c has the most compact Fourier transform:

    Phi(r) = int_0^{r/r_c} psi_c / int_0^1 psi_c,
    long range     F = Phi / r^2 - Phi' / r   ->  mesh with the filter psi_c(k r_c / c) / psi_c(0), zero for k > c / r_c
    short range    F = 1 / r^2 - (long range)  for r < r_c, exactly zero beyond.

F_long / r is an even analytic function of r: one polynomial in (r / r_c)^2, so that a pair costs no table look-up.
The same pair loop gives the scalar psi that HYPER's pressure map needs (He, Trac & Gnedin 2022, arXiv 2107.04606),

    psi(x) = G int rho(x') / |x - x'|^2 d^3x',    1/r^2 = Phi^2 / r^2 (mesh) + (1 - Phi^2) / r^2 (pairs).

Below the softening length h a particle is a sphere with density proportional to (1 - r^2/h^2)^2; its central potential
equals that of a Plummer sphere of epsilon = h / 2.1875.

The pair loops are written so that the compiler vectorises them: slices that start at zero (an index that might be
negative would turn loads into gathers) and division without a check for zero (error_model="numpy"). Rows of cells are
handed to the threads one by one, because clusters make some rows far more work than others.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import pro_ang1

from zwicky.grid import TWO32, Cells, deposit, gather, irfft, pcs_window, rfft, sort_into_cells, wavenumbers

PROLATE_C = 9.0
CUTOFF_CELLS = 3.5  # r_c in mesh cells; 3.5 with c = 9 keeps the pair force to 0.2% rms
CELLS_PER_CUTOFF = 2  # cell lists have cells of side r_c / 2
SOFTENING_PER_EPSILON = 2.1875  # radius of the softening sphere over the Plummer length of equal central potential


def _prolate(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """psi_c(x) / psi_c(0) on [0, 1]."""
    return pro_ang1(0, 0, PROLATE_C, np.minimum(x, 1 - 1e-12))[0] / pro_ang1(0, 0, PROLATE_C, 0.0)[0]


@functools.lru_cache(maxsize=1)
def _split_table() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """s = r / r_c, Phi(s) and Phi'(s) on a fine grid of [0, 1]."""
    s = np.linspace(0.0, 1.0, 2049)
    psi = _prolate(s)
    odd = (psi[1:-1:2] * 4 + psi[:-2:2] + psi[2::2]) * (s[1] / 3)  # Simpson over pairs of intervals
    cumulative = np.concatenate([[0.0], np.cumsum(odd)])
    return s[::2], cumulative / cumulative[-1], psi[::2] / cumulative[-1]


def _even_polynomial(s: NDArray[np.float64], f: NDArray[np.float64], degree: int) -> tuple[float, ...]:
    """Coefficients (constant first) of the polynomial in s^2 that fits f, in Chebyshev sense."""
    fit = np.polynomial.Chebyshev.fit(s**2, f, degree, domain=[0, 1])
    return tuple(float(c) for c in fit.convert(kind=np.polynomial.Polynomial).coef)


def _force_polynomial() -> tuple[float, ...]:
    """F_long r_c^2 / s as a polynomial in s^2."""
    s, phi, dphi = _split_table()
    f = (phi[1:] / s[1:] ** 2 - dphi[1:] / s[1:]) / s[1:]
    return _even_polynomial(s[16:], f[15:], 10)


def _scalar_polynomial() -> tuple[float, ...]:
    """Phi^2 / s^2 as a polynomial in s^2."""
    s, phi, _ = _split_table()
    return _even_polynomial(s[1:], (phi[1:] / s[1:]) ** 2, 10)


FORCE = _force_polynomial()
SCALAR = _scalar_polynomial()


@numba.njit(inline="always", fastmath=True)
def _horner(c, x):
    """Polynomial of degree 10 with coefficients c, in float32."""
    f = np.float32
    p = f(c[10])
    p = p * x + f(c[9])
    p = p * x + f(c[8])
    p = p * x + f(c[7])
    p = p * x + f(c[6])
    p = p * x + f(c[5])
    p = p * x + f(c[4])
    p = p * x + f(c[3])
    p = p * x + f(c[2])
    p = p * x + f(c[1])
    return p * x + f(c[0])


@numba.njit(fastmath=True, error_model="numpy")
def _force_run(x, y, z, m, j0, j1, xi, yi, zi, unit, h2):
    """Short-range force of particles j0..j1 on one point, in units of (mass) / r_c^2; h2 = (h / r_c)^2."""
    f = np.float32
    fx = f(0)
    fy = f(0)
    fz = f(0)
    per_h2 = f(1) / h2
    inner = per_h2 * np.sqrt(per_h2)
    x, y, z, m = x[j0:j1], y[j0:j1], z[j0:j1], m[j0:j1]
    for j in range(len(x)):
        dx = f(np.int32(x[j] - xi)) * unit
        dy = f(np.int32(y[j] - yi)) * unit
        dz = f(np.int32(z[j] - zi)) * unit
        r2 = dx * dx + dy * dy + dz * dz
        q2 = r2 * per_h2
        soft = (f(4.375) - f(5.25) * q2 + f(1.875) * q2 * q2) * inner
        per_r = f(1) / np.sqrt(max(r2, h2))
        pull = (soft if r2 < h2 else per_r * per_r * per_r) - _horner(FORCE, r2)
        pull = m[j] * pull if r2 < f(1) else f(0)
        fx += pull * dx
        fy += pull * dy
        fz += pull * dz
    return fx, fy, fz


@numba.njit(fastmath=True, error_model="numpy")
def _scalar_run(x, y, z, m, j0, j1, xi, yi, zi, unit, h2):
    """Short-range sum of m / r^2 of particles j0..j1, themselves left out, in units of (mass) / r_c^2."""
    f = np.float32
    total = f(0)
    per_h2 = f(1) / h2
    x, y, z, m = x[j0:j1], y[j0:j1], z[j0:j1], m[j0:j1]
    for j in range(len(x)):
        dx = f(np.int32(x[j] - xi)) * unit
        dy = f(np.int32(y[j] - yi)) * unit
        dz = f(np.int32(z[j] - zi)) * unit
        r2 = dx * dx + dy * dy + dz * dz
        q2 = r2 * per_h2
        near = (f(3) - f(3) * q2 + q2 * q2) * per_h2
        value = (near if r2 < h2 else f(1) / max(r2, h2)) - _horner(SCALAR, r2)
        total += m[j] * value if (r2 < f(1)) & (r2 > f(0)) else f(0)
    return total


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def pair_force(position, m, start, n, unit, h2):
    """Short-range force (P, 3) on every sorted particle, in units of mass / r_c^2."""
    x, y, z = position[0], position[1], position[2]
    out = np.zeros((len(m), 3), np.float32)
    for column in numba.prange(n * n):
        ix = column // n
        iy = column % n
        for iz in range(n):
            c = column * n + iz
            for i in range(start[c], start[c + 1]):
                fx = np.float32(0)
                fy = np.float32(0)
                fz = np.float32(0)
                for a in range(-2, 3):
                    for b in range(-2, 3):
                        base = (((ix + a) % n) * n + (iy + b) % n) * n
                        lo = max(iz - 2, 0)
                        hi = min(iz + 3, n)
                        g = _force_run(x, y, z, m, start[base + lo], start[base + hi], x[i], y[i], z[i], unit, h2)
                        fx += g[0]
                        fy += g[1]
                        fz += g[2]
                        if iz < 2 or iz > n - 3:
                            lo = n + iz - 2 if iz < 2 else 0
                            hi = n if iz < 2 else iz + 3 - n
                            g = _force_run(x, y, z, m, start[base + lo], start[base + hi], x[i], y[i], z[i], unit, h2)
                            fx += g[0]
                            fy += g[1]
                            fz += g[2]
                out[i, 0] = fx
                out[i, 1] = fy
                out[i, 2] = fz
    return out


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def pair_scalar(position, m, wanted, start, n, unit, h2):
    """Short-range sum of m / r^2 (P,) at the sorted particles that are `wanted`, in units of mass / r_c^2."""
    x, y, z = position[0], position[1], position[2]
    out = np.zeros(len(m), np.float32)
    for column in numba.prange(n * n):
        ix = column // n
        iy = column % n
        for iz in range(n):
            c = column * n + iz
            for i in range(start[c], start[c + 1]):
                if not wanted[i]:
                    continue
                total = np.float32(0)
                for a in range(-2, 3):
                    for b in range(-2, 3):
                        base = (((ix + a) % n) * n + (iy + b) % n) * n
                        lo = max(iz - 2, 0)
                        hi = min(iz + 3, n)
                        total += _scalar_run(
                            x, y, z, m, start[base + lo], start[base + hi], x[i], y[i], z[i], unit, h2
                        )
                        if iz < 2 or iz > n - 3:
                            lo = n + iz - 2 if iz < 2 else 0
                            hi = n if iz < 2 else iz + 3 - n
                            total += _scalar_run(
                                x, y, z, m, start[base + lo], start[base + hi], x[i], y[i], z[i], unit, h2
                            )
                out[i] = total
    return out


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
    """

    box: float
    mesh: int
    omega_m: float
    rho_mean: float
    epsilon: float
    high_pass: float = 40.0 / 0.7

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
        """Cells along a side of the neighbour lists."""
        return int(self.mesh * CELLS_PER_CUTOFF / CUTOFF_CELLS)

    def __post_init__(self) -> None:
        if self.cells < 5:
            raise ValueError(f"a mesh of {self.mesh} is too coarse for the short-range sum; the least is 9.")
        if SOFTENING_PER_EPSILON * self.epsilon >= self.cutoff:
            raise ValueError("the softening length must be smaller than the cutoff of the short-range force.")

    def sort(self, fixed: NDArray[np.int32]) -> Cells:
        """Neighbour lists of fixed-point positions (P, 3)."""
        return sort_into_cells(fixed, self.cells)

    def _pair_units(self) -> tuple[np.float32, np.float32]:
        """One fixed-point unit, and the squared softening radius, in units of r_c."""
        return (
            np.float32(self.box / TWO32 / self.cutoff),
            np.float32((SOFTENING_PER_EPSILON * self.epsilon / self.cutoff) ** 2),
        )

    def acceleration(self, cells: Cells, mass: NDArray[np.float32]) -> NDArray[np.float32]:
        """-grad phi [Mpc H0^2] (P, 3) of sorted particles with masses [rho_mean (box / mesh)^3]."""
        unit, h2 = self._pair_units()
        with numba.parallel_chunksize(cells.n):
            short = pair_force(cells.position, mass, cells.start, cells.n, unit, h2)
        short *= np.float32(self.newton * self.mass_unit / self.cutoff**2)
        modes = rfft(deposit(cells, mass, self.mesh))
        filters = _mesh_filters(self)
        for axis in range(3):
            short[:, axis] += gather(cells.position, irfft(modes * filters.force * filters.ik[axis]))
        return short

    def scalar(self, cells: Cells, mass: NDArray[np.float32], wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
        """psi / G [Msun / Mpc^2] (P,) at the `wanted` sorted particles, high-passed; the others get the mesh part."""
        unit, h2 = self._pair_units()
        with numba.parallel_chunksize(cells.n):
            short = pair_scalar(cells.position, mass, wanted, cells.start, cells.n, unit, h2)
        short *= np.float32(self.mass_unit / self.cutoff**2)
        modes = rfft(deposit(cells, mass, self.mesh))
        return short + gather(cells.position, irfft(modes * _mesh_filters(self).scalar))

    @property
    def mass_unit(self) -> float:
        """rho_mean (box / mesh)^3 [Msun]: masses handed to the kernels are in this unit."""
        return self.rho_mean * (self.box / self.mesh) ** 3


@dataclass(frozen=True)
class _Filters:
    force: torch.Tensor
    ik: tuple[torch.Tensor, torch.Tensor, torch.Tensor]
    scalar: torch.Tensor


@functools.lru_cache(maxsize=2)
def _mesh_filters(gravity: Gravity) -> _Filters:
    """Filters for modes of (1 + delta) deposited by PCS: times ik they give -grad phi, and psi / G.

    Both are divided by the PCS window squared, for deposit and gather.
    """
    n = gravity.mesh
    kx, ky, kz = wavenumbers(n, gravity.box)
    k = torch.sqrt(kx**2 + ky**2 + kz**2)
    k[0, 0, 0] = 1.0
    wx, wy, wz = pcs_window(n)
    window = (wx * wy * wz) ** 2
    x = k.numpy() * gravity.cutoff
    split = torch.from_numpy(np.where(x < PROLATE_C, np.interp(x / PROLATE_C, *_prolate_table()), 0.0))
    force = 1.5 * gravity.omega_m * split / (k**2 * window)
    force[0, 0, 0] = 0.0
    long = torch.from_numpy(np.interp(x, *_scalar_transform(float(x.max()))))
    removed = 2 * np.pi**2 / x * np.exp(-((k.numpy() * gravity.high_pass / (2 * np.pi)) ** 2))
    scalar = gravity.rho_mean * gravity.cutoff * (long - torch.from_numpy(removed)) / window
    scalar[0, 0, 0] = -gravity.rho_mean * gravity.cutoff * _mean_of_pairs()  # psi has no mean
    ik = tuple((1j * _without_nyquist(c, n)).to(torch.complex64) for c in (kx, ky, kz))
    return _Filters(force.float(), ik, scalar.float())  # type: ignore[arg-type]


def _without_nyquist(k: torch.Tensor, n: int) -> torch.Tensor:
    k = k.clone()
    if n % 2 == 0:
        k.view(-1)[n // 2] = 0.0
    return k


def _prolate_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x = np.linspace(0.0, 1.0, 4097)
    return x, _prolate(x)


def _mean_of_pairs() -> float:
    """Integral of (1 - Phi^2) / r^2 over the sphere of radius r_c [r_c]: what pairs add to the mean of psi."""
    s, phi, _ = _split_table()
    return float(4 * np.pi * np.trapezoid(1 - phi**2, s))


@functools.lru_cache(maxsize=4)
def _scalar_transform(x_max: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x = k r_c, and the Fourier transform of Phi^2 / r^2 in units of r_c.

    It is 2 pi^2 / x - (4 pi / x) int_0^1 sin(x s) (1 - Phi^2) / s ds.
    """
    s, phi, _ = _split_table()
    x = np.linspace(1e-3, x_max * 1.001, 8192)
    rest = np.where(s > 0, (1 - phi**2) / np.maximum(s, 1e-12), 0.0)
    weights = np.full(len(s), s[1])
    weights[0] = weights[-1] = s[1] / 2
    integral = np.sin(np.outer(x, s)) @ (rest * weights) + x * weights[0]  # at s = 0 the integrand is x
    return x, 2 * np.pi**2 / x - 4 * np.pi / x * integral

"""Kick-drift-kick in the scale factor, with the pressure kicks of the gas sub-cycled.

    kick   p += -grad phi int dt / a,    p_gas += -(grad P / rho) int dt        drift   x += p int dt / a^2

(Quinn et al. 1997, astro-ph/9710043). One step for all particles, as long as the fastest of them allow (`Steps`); the
gas divides its drift into 1, 2, 4 or 8 so that sound crosses at most COURANT of a support radius in each. Temperatures
are renewed with gravity.

Units: comoving Mpc, H0 = 1, masses in Msun; momenta a^2 dx/dt in Mpc H0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from zwicky.cosmology import Cosmology
from zwicky.grid import TWO32, Cells, from_fixed, sort_into_cells
from zwicky.io import atomic_path
from zwicky.simulate import sph
from zwicky.simulate.gravity import CUTOFF_CELLS, Gravity
from zwicky.simulate.pressure import PressureModel, gas_temperature, igm_temperature, temperature_map
from zwicky.units import G_CGS, K_B, M_PROTON, MPC, MSUN, MU

COURANT = 0.3
MAX_SUBCYCLES = 8
FIRST_ICM = 0.1  # scale factor before which no halo is hot enough to matter
PART = 2**20  # particles whose temperatures are worked out together: arrays that fit in memory already at hand
FASTEST = 0.999  # quantile of the particles that sets the steps
SHOWN = 64  # particles that a support radius of a snapshot holds


@dataclass
class State:
    """Everything that the next step depends on. Dark matter comes first, then gas; N of each.

    Args:
        a: scale factor. step: steps made.
        fixed: (2N, 3) int32 positions. momentum: (2N, 3) float32 [Mpc H0].
        gravity: (2N, 3) float32 -grad phi [Mpc H0^2].
        h: (N,) float32 support radii of the gas, comoving [Mpc]. density: (N,) comoving gas density [Msun / Mpc^3].
        temperature: (N,) [K]. drive: (N,) pressure that drives the gas over the thermal one.
        pressure: (N, 3) -grad P / rho [Mpc H0^2].
        limiter: (N,) of the viscosity. traits: (N, 3) of the gas (`pressure`), or (N, 0).
    """

    a: float
    step: int
    fixed: Tensor
    momentum: Tensor
    gravity: Tensor
    h: Tensor
    density: Tensor
    temperature: Tensor
    drive: Tensor
    pressure: Tensor
    limiter: Tensor
    traits: Tensor

    @property
    def n_gas(self) -> int:
        """Number of gas particles."""
        return len(self.h)


@dataclass(frozen=True)
class Steps:
    """How long a step may be: the least of three, in ln a.

    Args:
        dlna: limit everywhere. da: limit in a.
        eta: of the free-fall time (2 eta a epsilon / |acceleration|)^(1/2) over the softening epsilon (Springel 2005,
            eq. 34), of all but the fastest thousandth of the particles.
    """

    dlna: float
    da: float
    eta: float

    def next(self, universe: Universe, state: State, target: float) -> float:
        """Scale factor of the next step on the way to `target`, evened out so that the last ends there."""
        a, c = state.a, universe.cosmology
        pull = float(_quantile(state.gravity.norm(dim=1))) + 1e-30
        free_fall = a * float(c.E(a)) * math.sqrt(2 * self.eta * universe.solver.epsilon * a / pull)
        longest = min(self.dlna, self.da / a, free_fall)
        left = math.log(target / a)
        steps = math.ceil(left / longest - 1e-9)
        return target if steps <= 1 else a * math.exp(left / steps)


def _quantile(values: Tensor) -> Tensor:
    """The value that FASTEST of them stay below."""
    k = max(1, int(FASTEST * len(values)))
    return values.sort().values[k - 1] if values.is_cuda else values.kthvalue(k).values  # kthvalue is slow there


@dataclass(frozen=True)
class Universe:
    """The fixed side of a run: box, masses, solver and gas model."""

    cosmology: Cosmology
    box: float
    n: int
    solver: Gravity
    model: PressureModel

    @property
    def masses(self) -> tuple[float, float]:
        """Mass of a dark matter and of a gas particle [Msun]."""
        pair = self.cosmology.rho_mean * (self.box / self.n) ** 3
        return pair * (1 - self.cosmology.baryon_fraction), pair * self.cosmology.baryon_fraction

    @property
    def gas_cells(self) -> int:
        """Cells along a side of the neighbour lists of the gas: twice as many as for gravity on a mesh of 2 n."""
        return 2 * int(2 * self.n / CUTOFF_CELLS)

    @property
    def h_limits(self) -> tuple[float, float]:
        """Smallest and largest support radius of the gas [Mpc]: twice the softening, and a cell (0.875 mean spacings).

        The largest holds N_NEIGHBOURS where the gas is about 50 times denser than the mean; the intergalactic gas below
        has fewer neighbours and hardly any pressure. Snapshots carry full support radii (`final_gas`).
        """
        return 2 * self.solver.epsilon, 0.999 * self.box / self.gas_cells

    @property
    def mean_gas_density(self) -> float:
        """[Msun / Mpc^3], comoving."""
        return self.cosmology.rho_mean * self.cosmology.baryon_fraction


def begin(universe: Universe, a: float, positions: Tensor, momentum: Tensor, traits: Tensor | None = None) -> State:
    """The state at the first scale factor, with forces, from positions, momenta and the traits of the gas."""
    n = len(positions) // 2
    positions, momentum = positions.contiguous(), momentum.contiguous()  # as of a checkpoint, for the order of sums
    zero = torch.zeros(n, device=positions.device)
    state = State(
        a, 0, positions, momentum, torch.zeros_like(momentum), zero + universe.h_limits[1],
        zero.clone(), zero.clone(), zero + 1, zero[:, None].repeat(1, 3), zero + 1,
        zero[:, None][:, :0] if traits is None else traits,
    )
    for _ in range(6):
        _update_density(universe, state, _gas_cells(universe, state))
    _update(universe, state, gravity=True)
    return state


def advance(universe: Universe, state: State, a_next: float) -> None:
    """One global step to a_next, in place."""
    factor, a0 = universe.cosmology.kick_drift_factor, state.a
    middle = math.sqrt(a0 * a_next)
    state.momentum.add_(state.gravity, alpha=factor(a0, middle, 1))
    gas = state.momentum[-state.n_gas :]
    for b0, b1 in pairwise([*np.linspace(a0, a_next, _subcycles(universe, state, a_next) + 1)[:-1].tolist(), a_next]):
        half = 0.5 * (b0 + b1)
        gas.add_(state.pressure, alpha=factor(b0, half, 0))
        _drift(universe, state, factor(b0, b1, 2))
        state.a = b1
        _update(universe, state, gravity=b1 == a_next)
        gas.add_(state.pressure, alpha=factor(half, b1, 0))
    state.momentum.add_(state.gravity, alpha=factor(middle, a_next, 1))
    state.step += 1


def final_gas(universe: Universe, state: State, kept: Path | None = None, workers: int = -1) -> tuple[State, Tensor]:
    """The state with support radii that hold SHOWN particles everywhere, and the support radii of the dark matter (N,).

    Density and temperature follow from them; this is what a snapshot shows. Forces want more neighbours than maps do.

    Args:
        kept: a folder where radii found before wait; those of a large box are minutes of work.
    """
    positions, h = from_fixed(state.fixed.cpu().numpy(), universe.box).reshape(2, -1, 3), []
    for name, p in zip(("dark-matter", "gas"), positions, strict=True):
        path = kept / f"support-{name}-{state.step}.npy" if kept else None
        h.append(torch.from_numpy(_support_radii(p, universe.box, workers, path)).to(state.h.device))
    final = replace(state, h=h[1].clamp(2 * universe.solver.epsilon, 0.4 * universe.box))
    _set_density(universe, final, _gas_cells(universe, final))
    if is_hot(universe, state.a):
        _update_temperature(universe, final)
    return final, h[0]


def _support_radii(
    positions: NDArray[np.float64], box: float, workers: int, path: Path | None
) -> NDArray[np.float32]:
    """`_neighbour_distance`, kept in the file `path` if there is to be one, and read from it if it is there."""
    if path and path.exists():
        return np.load(path)
    radii = _neighbour_distance(positions, box, workers)
    if path:
        with atomic_path(path) as part, open(part, "wb") as file:
            np.save(file, radii)
    return radii


def _neighbour_distance(positions: NDArray[np.float64], box: float, workers: int) -> NDArray[np.float32]:
    """Distance to the SHOWN-th particle, itself counted (P,)."""
    k = min(SHOWN, len(positions))
    tree = cKDTree(positions % box, boxsize=box)
    return tree.query(positions % box, k=[k], workers=workers)[0][:, 0].astype(np.float32)


def is_hot(universe: Universe, a: float) -> bool:
    """Whether the gas has pressure yet (after reionization)."""
    return a > 1 / (1 + universe.model.reionization)


def _drift(universe: Universe, state: State, factor: float) -> None:
    """x += p * factor in fixed point; overflow is the periodic wrap."""
    state.fixed += torch.round(state.momentum * (factor * TWO32 / universe.box)).int()


def _subcycles(universe: Universe, state: State, a_next: float) -> int:
    """1, 2, 4 or 8: how finely the gas divides the step so that c_s dt <= COURANT h for 99.9% of it.

    A viscosity above 1 damps faster than sound crosses, and divides it more finely.
    """
    if not is_hot(universe, a_next):
        return 1
    crossing = _specific_pressure(universe, state).sqrt() / (state.h * state.a)
    if universe.model.closure == "viscous":
        crossing *= max(1.0, universe.model.viscosity)
    duration = universe.cosmology.kick_drift_factor(state.a, a_next, 0)
    ratio = float(_quantile(crossing)) * duration / COURANT
    return int(min(MAX_SUBCYCLES, 2 ** max(0, math.ceil(math.log2(max(ratio, 1e-9))))))


def _specific_pressure(universe: Universe, state: State) -> Tensor:
    """P / rho [(Mpc H0)^2] in the equation of motion."""
    unit = K_B / (MU * M_PROTON) * 1e-10 / universe.cosmology.hubble0**2
    return state.temperature * unit * state.drive


def _gas_cells(universe: Universe, state: State) -> Cells:
    """Neighbour lists of the gas, fine or coarse enough for the widest support radius (`sph.longest_support`)."""
    widest = float(state.h.max()) / universe.box
    finest, coarsest = int(4.999 / widest), math.ceil(1 / (0.4999 - widest))
    return sort_into_cells(state.fixed[-state.n_gas :], max(coarsest, min(finest, universe.gas_cells)))


def _set_density(universe: Universe, state: State, cells: Cells) -> None:
    """SPH density of the gas with the present support radii."""
    mass = torch.full_like(state.h, universe.masses[1])
    everyone = torch.ones_like(state.h, dtype=torch.bool)
    state.density = cells.restore(sph.density(cells, mass, state.h[cells.order], everyone, universe.box))


def _update_density(universe: Universe, state: State, cells: Cells) -> None:
    """SPH density of the gas, with the support radii that the last density suggests."""
    if state.density.any():
        state.h = sph.next_support_radius(state.h, state.density, universe.masses[1], *universe.h_limits)
    _set_density(universe, state, cells)


def _update(universe: Universe, state: State, gravity: bool) -> None:
    """Forces at the present positions: pressure, and before it gravity and temperature if so told."""
    cells = _gas_cells(universe, state) if is_hot(universe, state.a) else None
    if cells:
        _update_density(universe, state, cells)
    if gravity:
        state.gravity = _update_temperature(universe, state)
    if cells:
        _update_pressure(universe, state, cells)


def _update_pressure(universe: Universe, state: State, cells: Cells) -> None:
    """-grad P / rho at the present positions, with the temperatures that the gas has."""
    model, order = universe.model, cells.order
    velocity = (state.momentum[-state.n_gas :][order].T / state.a).contiguous()
    alpha = state.limiter[order] * (model.viscosity if model.closure == "viscous" else 0.0)
    acceleration, limiter = sph.pressure_acceleration(
        cells, velocity, universe.masses[1], _specific_pressure(universe, state)[order], state.density[order],
        state.h[order], universe.box, state.a * float(universe.cosmology.E(state.a)), alpha,
    )
    state.pressure = cells.restore(acceleration)
    if model.balsara:
        state.limiter = cells.restore(limiter)


def _update_temperature(universe: Universe, state: State) -> Tensor:
    """T(rho, psi) of the gas from the matter density and psi at its particles; returns -grad phi of all particles."""
    solver, model, hot = universe.solver, universe.model, is_hot(universe, state.a)
    overdensity = state.density / universe.mean_gas_density
    dense = (overdensity > model.blend / 2) & (hot and state.a > FIRST_ICM)
    cells = solver.sort(state.fixed)
    wanted = torch.cat([torch.zeros_like(dense), dense])[cells.order]
    mass = particle_masses(universe, cells)
    acceleration, psi = solver.fields(cells, mass, wanted)
    if hot:
        state.temperature = igm_temperature(model, overdensity.double()).float()  # powers of float32 go by the threads
        state.drive = torch.ones_like(state.h)
    if dense.any():
        rho, psi = _matter_density(universe, state, cells, mass, wanted), cells.restore(psi)[-state.n_gas :]
        icm = temperature_map(model, universe.cosmology, state.a, solver.high_pass, pair=sum(universe.masses))
        for part in dense.nonzero()[:, 0].split(PART):
            rho_part = rho[part].double() * solver.mass_unit
            psi_part = (psi[part].double() + solver.missing_scalar * rho_part) * (G_CGS * MSUN / MPC**2 / state.a**2)
            rho_part *= MSUN / MPC**3 / state.a**3
            traits = state.traits[part].double() if state.traits.shape[1] else None
            temperature, drive = gas_temperature(model, icm, overdensity[part].double(), rho_part, psi_part, traits)
            state.temperature[part], state.drive[part] = temperature.float(), drive.float()
    return cells.restore(acceleration)


def particle_masses(universe: Universe, cells: Cells) -> Tensor:
    """Masses of all particles, sorted, in the unit of the solver (2N,)."""
    dark, gas = (m / universe.solver.mass_unit for m in universe.masses)
    return torch.where(cells.order < len(cells.order) // 2, dark, gas).float()


def _matter_density(universe: Universe, state: State, cells: Cells, mass: Tensor, wanted: Tensor) -> Tensor:
    """Comoving density of all matter [mass unit of the solver / Mpc^3] at the wanted gas, 0 elsewhere (N,)."""
    h = torch.cat([state.h, state.h])[cells.order].clamp_max(sph.longest_support(cells.n, universe.box))
    return cells.restore(sph.density(cells, mass, h, wanted, universe.box))[-state.n_gas :]

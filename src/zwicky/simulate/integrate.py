"""Kick-drift-kick in the scale factor, with the pressure kicks of the gas sub-cycled.

    kick   p += -grad phi int dt / a,    p_gas += -(grad P / rho) int dt        drift   x += p int dt / a^2

(Quinn et al. 1997, astro-ph/9710043). One global step for all particles; the gas divides its drift into 1, 2, 4 or 8 so
that sound crosses at most COURANT of a support radius in each. Temperatures follow the gravity step.

Units: comoving Mpc, H0 = 1, masses in Msun; momenta a^2 dx/dt in Mpc H0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from zwicky.cosmology import Cosmology
from zwicky.grid import TWO32, Cells, from_fixed, sort_into_cells
from zwicky.simulate import sph
from zwicky.simulate.gravity import Gravity
from zwicky.simulate.pressure import PressureModel, gas_temperature, temperature_map
from zwicky.units import G_CGS, K_B, M_PROTON, MPC, MSUN, MU

COURANT = 0.3
MAX_SUBCYCLES = 8
FIRST_ICM = 0.1  # scale factor before which no halo is hot enough to matter


@dataclass
class State:
    """Everything that the next step depends on. Dark matter comes first, then gas; N of each.

    Args:
        a: scale factor. step: steps made.
        fixed: (2N, 3) int32 positions. momentum: (2N, 3) float32 [Mpc H0].
        gravity: (2N, 3) float32 -grad phi [Mpc H0^2].
        h: (N,) float32 support radii of the gas, comoving [Mpc]. density: (N,) comoving gas density [Msun / Mpc^3].
        temperature: (N,) [K]. f_th: (N,) thermal fraction. pressure: (N, 3) -grad P / rho [Mpc H0^2].
    """

    a: float
    step: int
    fixed: NDArray[np.int32]
    momentum: NDArray[np.float32]
    gravity: NDArray[np.float32]
    h: NDArray[np.float32]
    density: NDArray[np.float32]
    temperature: NDArray[np.float32]
    f_th: NDArray[np.float32]
    pressure: NDArray[np.float32]

    @property
    def n_gas(self) -> int:
        """Number of gas particles."""
        return len(self.h)


def schedule(a_start: float, a_end: float, dlna: float, da: float) -> NDArray[np.float64]:
    """Scale factors of the steps: dlna at first, da later, evened out so that the last ends at a_end."""
    change = min(max(da / dlna, a_start), a_end)
    early = np.geomspace(a_start, change, max(1, int(np.ceil(np.log(change / a_start) / dlna))) + 1)
    if change >= a_end:
        return early
    late = np.linspace(change, a_end, int(np.ceil((a_end - change) / da)) + 1)
    return late if change <= a_start else np.concatenate([early, late[1:]])


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
    def h_limits(self) -> tuple[float, float]:
        """Smallest and largest support radius of the gas [Mpc]: twice the softening, and 0.875 mean spacings.

        The largest holds N_NEIGHBOURS where the gas is about 25 times denser than the mean; the intergalactic gas below
        has fewer neighbours and hardly any pressure. Snapshots carry full support radii (`final_gas`).
        """
        two_cells = 2 * self.solver.box / self.solver.cells
        return 2 * self.solver.epsilon, 0.999 * min(two_cells, 0.875 * self.box / self.n)

    @property
    def mean_gas_density(self) -> float:
        """[Msun / Mpc^3], comoving."""
        return self.cosmology.rho_mean * self.cosmology.baryon_fraction


def begin(universe: Universe, a: float, positions: NDArray[np.int32], momentum: NDArray[np.float32]) -> State:
    """The state at the first scale factor, with forces, from positions and momenta."""
    n = len(positions) // 2
    zero = np.zeros(n, np.float32)
    state = State(
        a, 0, positions, momentum, np.zeros_like(momentum), np.full(n, universe.h_limits[1], np.float32),
        zero.copy(), zero.copy(), np.ones(n, np.float32), np.zeros((n, 3), np.float32),
    )
    for _ in range(6):
        _update_density(universe, state, _gas_cells(universe, state))
    _update_forces(universe, state)
    _update_pressure(universe, state)
    return state


def advance(universe: Universe, state: State, a_next: float) -> None:
    """One global step to a_next, in place."""
    c, a0 = universe.cosmology, state.a
    middle = float(np.sqrt(a0 * a_next))
    state.momentum += state.gravity * np.float32(c.kick_drift_factor(a0, middle, 1))
    n_sub = _subcycles(universe, state, a_next)
    edges = np.linspace(a0, a_next, n_sub + 1)
    gas = state.momentum[-state.n_gas :]
    for b0, b1 in pairwise(edges):
        half = 0.5 * (b0 + b1)
        gas += state.pressure * np.float32(c.kick_drift_factor(b0, half, 0))
        _drift(universe, state, c.kick_drift_factor(b0, b1, 2))
        state.a = float(b1)
        _update_pressure(universe, state)
        gas += state.pressure * np.float32(c.kick_drift_factor(half, b1, 0))
    state.a = float(a_next)
    _update_forces(universe, state)
    state.momentum += state.gravity * np.float32(c.kick_drift_factor(middle, a_next, 1))
    state.step += 1


def final_gas(universe: Universe, state: State, workers: int = -1) -> tuple[State, NDArray[np.float32]]:
    """The state with support radii that hold N_NEIGHBOURS everywhere, and the support radii of the dark matter (N,).

    Density and temperature follow from them; this is what a snapshot shows.
    """
    positions = from_fixed(state.fixed, universe.box)
    dark, gas = positions[: -state.n_gas], positions[-state.n_gas :]
    h = [_neighbour_distance(p, universe.box, workers) for p in (dark, gas)]
    h[1] = np.maximum(h[1], np.float32(2 * universe.solver.epsilon))
    final = replace(state, h=h[1])
    coarse = max(5, int(universe.box / (float(h[1].max()) / 2 * 1.001)))
    cells = sort_into_cells(state.fixed[-state.n_gas :], min(coarse, universe.solver.cells))
    _set_density(universe, final, cells)
    if is_hot(universe, state.a):
        _update_temperature(universe, final, *_matter_cells(universe, final))
    return final, h[0]


def _neighbour_distance(positions: NDArray[np.float64], box: float, workers: int) -> NDArray[np.float32]:
    """Distance to the N_NEIGHBOURS-th particle, itself counted (P,)."""
    k = min(sph.N_NEIGHBOURS, len(positions))
    tree = cKDTree(positions % box, boxsize=box)
    return tree.query(positions % box, k=[k], workers=workers)[0][:, 0].astype(np.float32)


def is_hot(universe: Universe, a: float) -> bool:
    """Whether the gas has pressure yet (after reionization)."""
    return a > 1 / (1 + universe.model.reionization)


def _drift(universe: Universe, state: State, factor: float) -> None:
    """x += p * factor in fixed point; overflow is the periodic wrap."""
    moved = np.rint(state.momentum * np.float64(factor * TWO32 / universe.box)).astype(np.int64)
    state.fixed += moved.astype(np.int32)


def _subcycles(universe: Universe, state: State, a_next: float) -> int:
    """1, 2, 4 or 8: how finely the gas divides the step so that c_s dt <= COURANT h for 99.9% of it."""
    if not is_hot(universe, a_next):
        return 1
    crossing = np.sqrt(_specific_pressure(universe, state)) / (state.h * state.a)
    duration = universe.cosmology.kick_drift_factor(state.a, a_next, 0)
    ratio = float(np.quantile(crossing, 0.999)) * duration / COURANT
    return int(min(MAX_SUBCYCLES, 2 ** max(0, int(np.ceil(np.log2(max(ratio, 1e-9)))))))


def _specific_pressure(universe: Universe, state: State) -> NDArray[np.float32]:
    """P / rho [(Mpc H0)^2] in the equation of motion: P_th / f_th with the viscous closure, P_th without."""
    unit = K_B / (MU * M_PROTON) * 1e-10 / universe.cosmology.hubble0**2
    thermal = state.temperature * np.float32(unit)
    return thermal / state.f_th if universe.model.closure == "viscous" else thermal


def _gas_cells(universe: Universe, state: State) -> Cells:
    return universe.solver.sort(state.fixed[-state.n_gas :])


def _set_density(universe: Universe, state: State, cells: Cells) -> None:
    """SPH density of the gas with the present support radii."""
    everyone = np.ones(state.n_gas, bool)
    mass = np.full(state.n_gas, universe.masses[1], np.float32)
    rho = sph.density(cells, mass, state.h[cells.order], everyone, universe.box)
    state.density = cells.restore(rho)


def _update_density(universe: Universe, state: State, cells: Cells) -> None:
    """SPH density of the gas, with the support radii that the last density suggests."""
    if state.density.any():
        state.h = sph.next_support_radius(state.h, state.density, universe.masses[1], *universe.h_limits)
    _set_density(universe, state, cells)


def _update_pressure(universe: Universe, state: State) -> None:
    """-grad P / rho at the present positions, with the temperatures of the last gravity step."""
    if not is_hot(universe, state.a):
        return
    cells = _gas_cells(universe, state)
    _update_density(universe, state, cells)
    order = cells.order
    velocity = np.ascontiguousarray(state.momentum[-state.n_gas :][order].T / np.float32(state.a))
    viscosity = universe.model.viscosity if universe.model.closure == "viscous" else 0.0
    hubble = state.a * float(universe.cosmology.E(state.a))
    acceleration = sph.pressure_acceleration(
        cells, velocity, universe.masses[1], _specific_pressure(universe, state)[order],
        state.density[order], state.h[order], universe.box, hubble, viscosity,
    )
    state.pressure = cells.restore(acceleration)


def _update_forces(universe: Universe, state: State) -> None:
    """Gravity of all particles and, once it matters, the temperature of the gas."""
    cells, mass = _matter_cells(universe, state)
    state.gravity = cells.restore(universe.solver.acceleration(cells, mass))
    if is_hot(universe, state.a):
        _update_temperature(universe, state, cells, mass)


def _matter_cells(universe: Universe, state: State) -> tuple[Cells, NDArray[np.float32]]:
    """All particles sorted into the cells of the solver, and their masses in its unit."""
    cells = universe.solver.sort(state.fixed)
    dark, gas = (np.float32(m / universe.solver.mass_unit) for m in universe.masses)
    return cells, np.where(cells.order < state.n_gas, dark, gas)


def _update_temperature(universe: Universe, state: State, cells: Cells, mass: NDArray[np.float32]) -> None:
    """T(rho, psi) of the gas from the matter density and psi at its particles."""
    solver, model, n = universe.solver, universe.model, state.n_gas
    overdensity = state.density / np.float32(universe.mean_gas_density)
    dense = np.zeros(2 * n, bool)
    dense[n:] = overdensity > model.blend / 2
    if state.a < FIRST_ICM or not dense.any():
        state.temperature = (model.igm_t0 * np.maximum(overdensity, 1e-3) ** (model.igm_gamma - 1)).astype(np.float32)
        state.f_th = np.ones(n, np.float32)
        return
    wanted = dense[cells.order]
    h = np.minimum(np.concatenate([state.h, state.h])[cells.order], np.float32(1.999 * universe.box / cells.n))
    rho = sph.density(cells, mass, h, wanted, universe.box)
    psi = cells.restore(solver.scalar(cells, mass, wanted))[n:]
    rho_cgs = cells.restore(rho)[n:].astype(np.float64) * (solver.mass_unit * MSUN / MPC**3 / state.a**3)
    psi_cgs = psi.astype(np.float64) * (G_CGS * MSUN / MPC**2 / state.a**2)
    icm = temperature_map(model, universe.cosmology, state.a, solver.high_pass)
    temperature, f_th = gas_temperature(model, icm, overdensity.astype(np.float64), rho_cgs, psi_cgs)
    state.temperature = temperature.astype(np.float32)
    state.f_th = f_th.astype(np.float32)

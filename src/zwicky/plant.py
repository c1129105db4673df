"""Clusters of a chosen mass: how high their peak in the initial conditions must be.

The height of a peak fixes the mass of its cluster to a factor of two only; how steeply the density falls around it, and
the tides, decide as well. So the height is found by trial. The same modes are run with few, heavy particles, just
enough to weigh the cluster, and gas without pressure, first with the height of `initial.collapse_threshold`, and the
height is moved until M200m is what was asked for. In a box of four Lagrangian radii a trial takes seconds; its
particles, and the time, grow with the volume of the box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.table import Table
from scipy.fft import next_fast_len
from scipy.spatial import cKDTree
from torch import Tensor

from zwicky.cosmology import Cosmology
from zwicky.halos import find_halos, halo_centres
from zwicky.io import UserError, check_writable, require_writable
from zwicky.simulate.initial import coarser, collapse_threshold
from zwicky.simulate.integrate import Steps, advance
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import (
    SimulationConfig,
    first_modes,
    require_possible,
    state_of_modes,
    stored_settings,
    to_particles,
)
from zwicky.simulate.state import Particles

PARTICLES = 500  # of each species in the cluster of a trial
TRIALS = 8
CLOSE = 0.03  # of log10(mass / asked), good enough
FAR = 0.3  # no longer what was asked for
SLOPE = 0.6  # dlog10(mass) / dheight, for the first steps
LONGEST_MOVE = 0.4  # of the height
LOWEST, HIGHEST = 0.3, 6.0  # of the height
STEPS = Steps(dlna=0.1, da=0.02, eta=0.2)


def smallest_side(cosmology: Cosmology, mass: float, spacing: float) -> int:
    """Particles along a side, `spacing` apart [Mpc/h], of a box of four Lagrangian radii; even and good for the FFT."""
    n = math.ceil(4 * cosmology.lagrangian_radius(mass) * cosmology.h / spacing)
    return 2 * int(next_fast_len(max(n + 1, 16) // 2, real=True))


def planted(
    config: SimulationConfig,
    folder: str | Path,
    progress: Callable[[int, int, str], None] | None = None,
    device: str = "cpu",
) -> SimulationConfig:
    """The configuration with the peak that its cluster needs; unchanged where there is no cluster or a peak is given.

    Where `folder` holds the run already, finished or not, its peak is taken.

    Args:
        progress: called as progress(trials done, most trials, remark).

    Raises:
        UserError: the run is not possible here, the folder cannot be written to, or no peak makes such a cluster.
    """
    if not config.cluster or config.peak:
        return config
    check_writable(folder)
    kept = stored_settings(folder)
    if kept is not None:
        return replace(config, peak=kept.get("peak", 0.0))
    require_possible(config, device)
    require_writable(Path(folder))
    return replace(config, peak=peak_height(config, progress, device))


def peak_height(
    config: SimulationConfig, progress: Callable[[int, int, str], None] | None = None, device: str = "cpu"
) -> float:
    """The height whose cluster is closest to the mass asked for; progress tells by how much it is off.

    Raises:
        UserError: it is off by a factor of two.
    """
    spacing = (config.cluster / config.cosmology.rho_mean / PARTICLES) ** (1 / 3)
    n = min(config.n, max(14, 2 * math.ceil(config.box_mpc / spacing / 2)))
    trial = replace(config, n=n, pressure=PressureModel(reionization=0.0))
    modes = coarser(first_modes(config), n)
    height = collapse_threshold(config.cosmology, config.cluster, config.a_end)
    tried: list[tuple[float, float]] = []
    for k in range(TRIALS):
        mass = cluster_mass(replace(trial, peak=height), modes, device)
        tried.append((height, math.log10(mass / config.cluster) if mass else -1.0))
        if progress:
            progress(k + 1, TRIALS, f"{mass:.2g} Msun with 2 x {n}^3 particles")
        if abs(tried[-1][1]) < CLOSE:
            break
        height = next_height(tried)
    best, error = min(tried, key=lambda t: abs(t[1]))
    if abs(error) > FAR:
        raise UserError(f"no peak makes a cluster of {config.cluster:.2g} Msun of these modes; choose another seed.")
    if progress and abs(error) > CLOSE:
        progress(TRIALS, TRIALS, f"the closest has {10**error:.2f} of the mass asked for")
    return best


def next_height(tried: list[tuple[float, float]]) -> float:
    """Between the closest heights that gave too little and too much, or a step towards the side not yet seen."""
    low = max((t for t in tried if t[1] < 0), default=None)
    high = min((t for t in tried if t[1] >= 0), default=None)
    if low and high:
        share = -low[1] / (high[1] - low[1])
        return low[0] + min(max(share, 0.15), 0.85) * (high[0] - low[0])
    height, error = tried[-1]
    return min(max(height + min(max(-error / SLOPE, -LONGEST_MOVE), LONGEST_MOVE), LOWEST), HIGHEST)


def cluster_mass(config: SimulationConfig, modes: Tensor, device: str = "cpu") -> float:
    """M200m [Msun] of the planted cluster of a run of these modes, 0 if there is none."""
    universe = config.universe(device)
    state, end = state_of_modes(config, universe, modes), config.a_end
    while state.a < end:
        advance(universe, state, STEPS.next(universe, state, end))
    particles = to_particles(config, universe, state)
    halos = find_halos(particles, min_particles=100)
    which = planted_halo(particles, halos, config.cluster)
    return 0.0 if which is None else float(halos["m200m"][which])


def planted_halo(particles: Particles, halos: Table, mass: float) -> int | None:
    """Row of the planted cluster: the halo with most of the dark matter that started inside the Lagrangian radius.

    None if no halo has any. It may have moved from the centre of the box by several Mpc. Dark matter must be in the
    order of the lattice, as runs write it.
    """
    box, n = particles.box, round(len(particles.dark_matter) ** (1 / 3))
    sites = np.indices((n, n, n)).reshape(3, -1).T * (box / n) - box / 2
    started = np.linalg.norm(sites, axis=1) < particles.cosmology.lagrangian_radius(mass)
    tree = cKDTree(particles.dark_matter.positions[started] % box, boxsize=box)
    radii = np.asarray(halos["r200m"]) / particles.scale_factor
    inside = tree.query_ball_point(halo_centres(halos) % box, radii, return_length=True)
    return int(np.argmax(inside)) if np.any(inside) else None

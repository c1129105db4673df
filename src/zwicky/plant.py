"""Clusters of a chosen mass: how high their peak in the initial conditions must be.

The height of a peak fixes the mass of its cluster to a factor of two only; how steeply the density falls around it, and
the tides, decide as well. So the height is found by trial. The same modes are run with few, heavy particles, just
enough to weigh the cluster, and gas without pressure, first with the height of `initial.collapse_threshold`, and the
height is moved until M200m is what was asked for. A trial takes seconds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.fft import next_fast_len

from zwicky.cosmology import Cosmology
from zwicky.halos import find_halos
from zwicky.io import UserError, atomic_path, require_writable
from zwicky.simulate.initial import coarser, collapse_threshold
from zwicky.simulate.integrate import Steps, advance
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, first_modes, identity, state_of_modes, to_particles

PARTICLES = 500  # of each species in the cluster of a trial
TRIALS = 8
CLOSE = 0.03  # of log10(mass / asked), good enough
SLOPE = 0.6  # dlog10(mass) / dheight, for the first steps
LONGEST_MOVE = 0.4  # of the height
STEPS = Steps(dlna=0.1, da=0.02, eta=0.2)


def smallest_side(cosmology: Cosmology, mass: float, spacing: float) -> int:
    """Particles along a side, `spacing` apart [Mpc/h], of a box of four Lagrangian radii; even and good for the FFT."""
    n = math.ceil(4 * cosmology.lagrangian_radius(mass) * cosmology.h / spacing)
    return 2 * int(next_fast_len(max(n + 1, 16) // 2, real=True))


def planted(
    config: SimulationConfig, folder: str | Path, progress: Callable[[int, int, str], None] | None = None
) -> SimulationConfig:
    """The configuration with the peak that its cluster needs; unchanged where there is no cluster or a peak is given.

    The trials are kept in `folder`/peak.json and not repeated.

    Args:
        progress: called as progress(trials done, most trials, remark).

    Raises:
        UserError: the folder is that of another cluster, or cannot be written to.
    """
    if not config.cluster or config.peak:
        return config
    path = require_writable(Path(folder)) / "peak.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["config"] != identity(config):
            raise UserError(f"{path} belongs to a simulation with another configuration; choose another folder.")
    else:
        height, trials = peak_height(config, progress)
        kept = {"config": identity(config), "peak": height, "trials": trials}
        with atomic_path(path) as part:
            part.write_text(json.dumps(kept) + "\n")
    return replace(config, peak=kept["peak"])


def peak_height(
    config: SimulationConfig, progress: Callable[[int, int, str], None] | None = None
) -> tuple[float, list[tuple[float, float]]]:
    """The height closest to right, and all trials as (height, log10 of mass over that asked for)."""
    spacing = (config.cluster / config.cosmology.rho_mean / PARTICLES) ** (1 / 3)
    n = min(config.n, max(14, 2 * math.ceil(config.box_mpc / spacing / 2)))
    trial = replace(config, n=n, pressure=PressureModel(reionization=0.0))
    modes = coarser(first_modes(replace(config, cluster=0.0)), n)
    height = collapse_threshold(config.cosmology, config.cluster, 1 / (1 + config.redshift_end))
    tried: list[tuple[float, float]] = []
    for k in range(TRIALS):
        mass = cluster_mass(replace(trial, peak=height), modes)
        tried.append((height, math.log10(mass / config.cluster) if mass else -1.0))
        if progress:
            progress(k + 1, TRIALS, f"{mass:.2g} Msun")
        if abs(tried[-1][1]) < CLOSE:
            break
        height = next_height(tried)
    return min(tried, key=lambda t: abs(t[1]))[0], tried


def next_height(tried: list[tuple[float, float]]) -> float:
    """Between the closest heights that gave too little and too much, or a step towards the side not yet seen."""
    low = max((t for t in tried if t[1] < 0), default=None)
    high = min((t for t in tried if t[1] >= 0), default=None)
    if low and high and low[0] < high[0]:
        share = -low[1] / (high[1] - low[1])
        return low[0] + min(max(share, 0.15), 0.85) * (high[0] - low[0])
    height, error = tried[-1]
    return height + min(max(-error / SLOPE, -LONGEST_MOVE), LONGEST_MOVE)


def cluster_mass(config: SimulationConfig, modes: torch.Tensor) -> float:
    """M200m [Msun] of the most massive halo within a Lagrangian radius of the centre of the box, 0 if there is none."""
    universe = config.universe()
    state, end = state_of_modes(config, universe, modes), 1 / (1 + config.redshift_end)
    while state.a < end:
        advance(universe, state, STEPS.next(universe, state, end))
    halos = find_halos(to_particles(config, universe, state), min_particles=100)
    place = np.stack([halos[axis] for axis in "xyz"], 1) - config.box_mpc / 2
    near = np.linalg.norm(place, axis=1) < config.cosmology.lagrangian_radius(config.cluster)
    return float(np.max(halos["m200m"][near], initial=0.0))

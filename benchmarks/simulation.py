"""Cost of a step of the simulator at z = 0, in boxes of growing size.

    python benchmarks/simulation.py runs/n64/snapshot.hdf5 [--copies 1 2] [--steps 5] [--peers]

A finished box is repeated side by side along each axis, which keeps its clustering and multiplies its particles.
Prints CPU and wall time, particle updates per CPU second, and peak memory. With --peers, kick-drift-kick steps of jaxpm
(`pip install jaxpm "setuptools<81"`) with the same particles are timed in the same run, on meshes of n and 2 n points
along a side. It has no gas and no force between pairs, so the distance at which the pull of one particle falls to half
of Newton's is printed as well. `taskset -c 0` gives all of them one core.
"""

import argparse
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from zwicky.grid import to_fixed
from zwicky.simulate.integrate import advance, begin
from zwicky.simulate.run import SimulationConfig
from zwicky.snapshots import read_snapshot


def state_of(path, copies):
    """Configuration, universe and state of a snapshot repeated `copies` times along each axis."""
    p = read_snapshot(path)
    n = round(len(p.gas) ** (1 / 3)) * copies
    config = SimulationConfig(n=n, box=p.box * p.cosmology.h * copies, cosmology=p.cosmology)
    shifts = np.indices((copies,) * 3).reshape(3, -1).T * p.box
    x = np.concatenate([s.positions + shift for s in (p.dark_matter, p.gas) for shift in shifts])
    v = np.concatenate([s.velocities for s in (p.dark_matter, p.gas) for _ in shifts])
    momentum = torch.from_numpy(v * np.float32(p.scale_factor / p.cosmology.hubble0))
    universe = config.universe()
    fixed = torch.from_numpy(to_fixed(x, config.box_mpc))
    return config, universe, begin(universe, p.scale_factor, fixed, momentum)


def time_steps(universe, state, config, steps):
    """CPU and wall seconds of a step, after one that compiles."""
    a = state.a
    times = []
    for k in range(steps + 1):
        state.a = a  # the same moment again: the cost is that of z = 0, the particles go on moving
        cpu, wall = time.process_time(), time.perf_counter()
        advance(universe, state, config.steps.next(universe, state, 1.02 * a))
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
        if k == 0:
            times.clear()
    return np.mean(times, axis=0)


def time_jaxpm(universe, state, mesh, steps):
    """CPU and wall seconds of a step of jaxpm with the particles of the state, after one that compiles."""
    import jax
    from peer import mesh_force, on_mesh

    force = mesh_force(mesh)
    cell, moved, weight = (jax.numpy.asarray(v) for v in on_mesh(universe, state, mesh))
    momentum = jax.numpy.asarray(state.momentum.numpy() * (mesh / universe.box))
    pull = jax.block_until_ready(force(cell, moved, weight))
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        momentum += pull * 1e-4
        moved += momentum * 1e-3
        pull = force(cell, moved, weight)
        momentum += pull * 1e-4
    jax.block_until_ready(momentum)
    return (time.process_time() - cpu) / steps, (time.perf_counter() - wall) / steps


def half_of_newton(pull):
    """Distance [cells] at which the pull of a particle, in the mean over places and directions, is half of 1 / r^2.

    Args:
        pull: of the first particle on all (P, 3), as a function of their places (P, 3) in a mesh of 64^3 cells, in
            units of its mass over a cell squared.
    """
    rng, r = np.random.default_rng(0), np.geomspace(0.02, 6, 60)
    shares = []
    for place in rng.uniform(24, 40, (16, 3)):
        away = rng.standard_normal((len(r), 32, 3))
        away /= np.linalg.norm(away, axis=-1, keepdims=True)
        tests = (place + away * r[:, None, None]).reshape(-1, 3)
        found = pull(np.concatenate([place[None], tests]))[1:].reshape(away.shape)
        shares.append(-(found * away).sum(-1).mean(1) * r**2)
    return float(np.interp(0.5, np.mean(shares, axis=0), r))


def zwicky_pull(universe):
    """Argument of `half_of_newton` for the solver of a run."""
    cell = universe.box / universe.solver.mesh
    solver = replace(universe.solver, box=64 * cell, mesh=64)

    def pull(x):
        cells = solver.sort(torch.from_numpy(to_fixed(x * cell, solver.box)))
        mass = (cells.order == 0).float()
        force = solver.fields(cells, mass, torch.zeros(len(x), dtype=torch.bool))[0]
        return cells.restore(force).numpy() * (cell**2 / (solver.newton * solver.mass_unit))

    return pull


def jaxpm_pull():
    """Argument of `half_of_newton` for jaxpm."""
    from peer import mesh_force

    force = mesh_force(64)

    def pull(x):
        cell, weight = np.floor(x).astype(np.int32), np.eye(1, len(x), dtype=np.float32)[0]
        return 4 * np.pi * np.asarray(force(cell, (x - cell).astype(np.float32), weight))

    return pull


def report(name, n, times, half):
    """Print a row; `half` [Mpc/h] is that of `half_of_newton`."""
    (cpu, wall), count = times, 2 * n**3
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    columns = (cpu, 1e6 * cpu / count, count / cpu, wall, memory, half)
    print(f"2 x {n}^3 {name:12}", *(f"{x:13.3g}" for x in columns), flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="time jaxpm as well")
    o = parser.parse_args()
    if o.peers:
        sys.path.append(str(Path(__file__).parents[1] / "validation"))
        jaxpm = half_of_newton(jaxpm_pull())  # fails at once where jaxpm is missing
    names = ("CPU s/step", "us/particle", "updates/CPU s", "wall s/step", "peak GB", "half [Mpc/h]")
    print(f"{'particles':21}", *(f"{name:>13}" for name in names))
    for copies in o.copies:
        config, universe, state = state_of(o.snapshot, copies)
        half = half_of_newton(zwicky_pull(universe)) / universe.solver.mesh
        report("zwicky", config.n, time_steps(universe, state, config, o.steps), half * config.box)
        for mesh in (config.n, 2 * config.n) if o.peers else ():
            report(f"jaxpm {mesh}^3", config.n, time_jaxpm(universe, state, mesh, o.steps), jaxpm / mesh * config.box)


if __name__ == "__main__":
    main()

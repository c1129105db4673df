"""Cost of a step of the simulator at z = 0, in boxes of growing size.

    python benchmarks/simulation.py runs/n64/snapshot.hdf5 [--copies 1 2] [--steps 5]

A finished box is repeated side by side along each axis, which keeps its clustering and multiplies its particles.
Prints CPU and wall time, particle updates per CPU second, and peak memory. Where jaxpm is installed, its particle-mesh
force on as many particles is timed in the same run; it has no gas, no short-range force and a mesh as fine as the
particles.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch

from zwicky.cosmology import Cosmology
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


def jaxpm_rate(n):
    """Particle updates per CPU second of jaxpm's force on n^3 particles, None without jaxpm."""
    try:
        import jax
        from jaxpm.pm import pm_forces
    except ImportError:
        return None
    delta = jax.numpy.zeros((n, n, n)) + 1e-3
    x = jax.random.uniform(jax.random.PRNGKey(0), (n, n, n, 3)) * n
    force = jax.jit(lambda positions: pm_forces(positions, mesh_shape=(n, n, n), paint_absolute_pos=True))
    jax.block_until_ready(force(x + delta[..., None]))
    cpu = time.process_time()
    jax.block_until_ready(force(x))
    return n**3 / (time.process_time() - cpu)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=5)
    o = parser.parse_args()
    Cosmology().linear_power(0.1)
    print("particles    CPU s/step   us/particle   updates per CPU s   wall s/step   peak GB")
    for copies in o.copies:
        config, universe, state = state_of(o.snapshot, copies)
        cpu, wall = time_steps(universe, state, config, o.steps)
        count = 2 * config.n**3
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        columns = (cpu, 1e6 * cpu / count, count / cpu, wall, memory)
        print(f"2 x {config.n}^3 ", *(f"{x:12.3g}" for x in columns))
        rate = jaxpm_rate(config.n)
        if rate:
            print(f"jaxpm {config.n}^3: {rate:.3g} updates per CPU second of its force")


if __name__ == "__main__":
    main()

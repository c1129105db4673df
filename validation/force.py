"""Accelerations of a finished run at z = 0 against a direct Ewald sum over all of its particles, in float64.

    python validation/force.py runs/n64 [--particles 300]

Prints the median and the 99th percentile of |a - a_Ewald| / |a_Ewald| for random particles, the same for those of the
densest tenth, and |sum m a| / sum m |a| over all particles.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from common import config_of, matter
from scipy.special import erfc

from zwicky.grid import to_fixed
from zwicky.simulate.gravity import SOFTENING_PER_EPSILON
from zwicky.simulate.integrate import particle_masses
from zwicky.snapshots import read_snapshot

ALPHA = 9.0  # Ewald's parameter times the side of the box
MODES = 12  # along each axis, either sign


def ewald(x, mass, index, softening):
    """sum_j m_j d / r^3 over all images in a neutral background, at x[index], for a box of side 1 (P, 3)."""
    m = np.arange(-MODES, MODES + 1)
    structure = np.zeros((len(m),) * 3, complex)
    for part in np.array_split(np.arange(len(x)), max(1, len(x) // 20000)):
        ex, ey, ez = (np.exp(-2j * np.pi * np.outer(x[part, axis], m)) for axis in range(3))
        xy = (mass[part, None, None] * ex[:, :, None] * ey[:, None, :]).reshape(len(part), -1)
        structure += (xy.T @ ez).reshape(structure.shape)
    k = 2 * np.pi * np.stack(np.meshgrid(m, m, m, indexing="ij"))
    k2 = (k**2).sum(0)
    k2[MODES, MODES, MODES] = np.inf
    weight = 4 * np.pi / k2 * np.exp(-k2 / (4 * ALPHA**2)) * structure
    force = np.zeros((len(index), 3))
    for row, i in enumerate(index):
        ex, ey, ez = (np.exp(2j * np.pi * x[i, axis] * m) for axis in range(3))
        wave = weight * ex[:, None, None] * ey[:, None] * ez
        force[row] = [-(k[axis] * wave).sum().imag for axis in range(3)]
        d = x - x[i]
        d -= np.round(d)
        r = np.sqrt((d**2).sum(1))
        r[i] = 1.0  # the particle itself: d = 0
        q = np.minimum(r / softening, 1)
        enclosed = (q**3 / 3 - 2 * q**5 / 5 + q**7 / 7) * 105 / 8
        near = enclosed - 1 + erfc(ALPHA * r) + 2 / np.sqrt(np.pi) * ALPHA * r * np.exp(-((ALPHA * r) ** 2))
        force[row] += ((mass * near / r**3)[:, None] * d).sum(0)
    return force


def main():
    """Print the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--particles", type=int, default=300)
    o = parser.parse_args()
    p = read_snapshot(o.folder / "snapshot.hdf5")
    x, mass = matter(p)
    c = p.cosmology
    universe = config_of(o.folder).universe()
    solver = universe.solver
    cells = solver.sort(torch.from_numpy(to_fixed(x, p.box)))
    nothing = torch.zeros(len(x), dtype=torch.bool)
    found = cells.restore(solver.fields(cells, particle_masses(universe, cells), nothing)[0]).double().numpy()
    rng = np.random.default_rng(0)
    support = np.concatenate([p.dark_matter.support_radius, p.gas.support_radius])
    dense = np.flatnonzero(support < np.quantile(support, 0.1))
    for name, choice in (("all", np.arange(len(x))), ("densest tenth", dense)):
        index = rng.choice(choice, o.particles, replace=False)
        newton = 1.5 * c.omega_m / (4 * np.pi * c.rho_mean)
        softening = SOFTENING_PER_EPSILON * solver.epsilon / p.box
        exact = newton / p.box**2 * ewald(x / p.box % 1, mass, index, softening)
        error = np.linalg.norm(found[index] - exact, axis=1) / np.linalg.norm(exact, axis=1)
        print(f"{name}: relative error, median {np.median(error):.2e}, 99% {np.quantile(error, 0.99):.2e}")
    pull = mass[:, None] * found
    print(f"|sum m a| / sum m |a| = {np.linalg.norm(pull.sum(0)) / np.linalg.norm(pull, axis=1).sum():.1e}")


if __name__ == "__main__":
    main()

"""Number of halos in finished runs against Tinker et al. 2008 for 200 times the mean density (by colossus).

    python validation/mass_function.py runs/boxes/simulation-*

Halos of at least 200 particles of each species; boxes of one size and resolution are counted together. The error is
Poisson's for the number expected; modes longer than the box are missing from the simulation and not from theory.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import COLOURS, draw, read_run, require_same
from scipy.integrate import cumulative_trapezoid

from zwicky.prior import abundance


def expected(cosmology, edges, volume, redshift):
    """Halos per bin of M200m [Msun] in `volume` [Mpc^3, comoving]."""
    ln_m = np.linspace(np.log(edges[0]), np.log(edges[-1]), 400)
    total = cumulative_trapezoid(abundance(cosmology, np.exp(ln_m), redshift), ln_m, initial=0)
    return np.diff(np.interp(np.log(edges), ln_m, total)) * volume


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--min-mass", type=float, default=0.0, help="least M200m [Msun], where the finder was told one")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    masses, volume, lowest, runs = [], 0.0, 0.0, []
    for folder in o.folders:
        particles, halos = read_run(folder)
        runs.append((particles.cosmology, particles.redshift, particles.gas.masses[0]))
        require_same(runs, "cosmology, redshift or mass of particles")
        lowest = 200 * (particles.gas.masses[0] + particles.dark_matter.masses[0])
        masses.append(np.asarray(halos["m200m"]))
        volume += particles.box**3
    found = np.concatenate(masses)
    edges = np.geomspace(max(lowest, o.min_mass), found.max() * 1.01, 8)
    theory = expected(particles.cosmology, edges, volume, particles.redshift)
    print("M200m [Msun]           found  Tinker08   ratio  +-")
    counts = np.histogram(found, edges)[0]
    for (low, high), number, n in zip(pairwise(edges), counts, theory, strict=True):
        print(f"{low:9.2e} - {high:9.2e}  {number:6d}  {n:8.1f}  {number / n:6.2f}  {1 / np.sqrt(n):.2f}")
    inside = found >= edges[0]
    print(f"all                    {inside.sum():6d}  {theory.sum():8.1f}  {inside.sum() / theory.sum():6.2f}")

    def ratio(ax):
        middle = np.sqrt(edges[1:] * edges[:-1])
        ax.axhspan(0.9, 1.1, color="0.9", zorder=0)
        ax.errorbar(middle, counts / theory, 1 / np.sqrt(theory), fmt="o", color=COLOURS[0])
        ax.set(xscale="log", xlabel="M200m [Msun]", ylabel="halos, over Tinker et al. 2008", ylim=(0, 2))

    draw(o.figure, [ratio])


if __name__ == "__main__":
    main()

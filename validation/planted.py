"""Clusters planted with a chosen mass: which mass they get.

    python validation/planted.py runs/planted [--masses 12] [--lowest 1e14] [--highest 2e15] [--spacing 0.9765625]

Masses are flat in log (M200m), each in a box of at least four Lagrangian radii and with a
seed of its own. The default spacing is twice that of HYPER: particles eight times as heavy. Prints what was asked and
got, and the mean and rms of log10(got / asked). Runs are kept and resumed.
"""

import argparse
from pathlib import Path

import numpy as np
from common import COLOURS, draw, read_run

from zwicky.plant import planted, planted_halo, smallest_side
from zwicky.simulate.run import SimulationConfig, simulate


def planted_mass(folder, asked):
    """M200m [Msun] of the planted cluster, and its f_gas over cosmic."""
    particles, halos = read_run(folder)
    which = planted_halo(particles, halos, asked)
    if which is None:
        return np.nan, np.nan
    return float(halos["m200m"][which]), float(halos["fgas200m"][which]) / particles.cosmology.baryon_fraction


def main():
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--masses", type=int, default=12)
    parser.add_argument("--lowest", type=float, default=1e14, help="M200m [Msun]")
    parser.add_argument("--highest", type=float, default=2e15, help="M200m [Msun]")
    parser.add_argument("--spacing", type=float, default=2 * 500 / 1024, help="of the particles [Mpc/h]")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    cosmology = SimulationConfig().cosmology
    print("asked [Msun]  n    box [Mpc/h]   got [Msun]   log10(got / asked)   f_gas / cosmic")
    masses, errors = np.geomspace(o.lowest, o.highest, o.masses), []
    for seed, asked in enumerate(masses, 1):
        n = smallest_side(cosmology, asked, o.spacing)
        config = SimulationConfig(n=n, box=n * o.spacing, seed=seed, cluster=float(asked))
        simulate(planted(config, o.folder / f"planted-{seed}"), o.folder / f"planted-{seed}")
        got, gas = planted_mass(o.folder / f"planted-{seed}", asked)
        errors.append(np.log10(got / asked))
        dex = errors[-1]
        print(f"{asked:9.2e}  {n:5d} {config.box:11.1f} {got:13.2e} {dex:+12.3f} {gas:21.2f}", flush=True)
    print(f"{np.isnan(errors).sum()} of {o.masses} clusters were not found")
    print(f"mean {np.nanmean(errors):+.3f}, rms {np.sqrt(np.nanmean(np.square(errors))):.3f} dex")

    def panel(ax):
        ax.loglog(masses, masses, color="0.5", lw=0.8)
        ax.fill_between(masses, masses * 10**-0.15, masses * 10**0.15, color="0.9", lw=0)
        ax.loglog(masses, masses * 10 ** np.array(errors), "o", color=COLOURS[0])
        ax.set(xlabel="M200m asked for [Msun]", ylabel="M200m of the cluster [Msun]")

    draw(o.figure, [panel])


if __name__ == "__main__":
    main()

"""Clusters planted with a chosen mass: which mass they get.

    python validation/planted.py runs/planted [--masses 12] [--spacing 0.9765625]

Masses are flat in log between 1e14 and 2e15 Msun (M200m), each in a box of at least four Lagrangian radii and with a
seed of its own. The default spacing is twice that of HYPER: particles eight times as heavy. Prints what was asked and
got, and the mean and rms of log10(got / asked). Runs are kept and resumed.
"""

import argparse
from pathlib import Path

import numpy as np

from zwicky.halos import find_halos
from zwicky.simulate.run import SimulationConfig, simulate
from zwicky.snapshots import read_snapshot

SIDES = (32, 36, 40, 48, 54, 60, 64, 72, 80, 96, 128, 144)  # particles, good for the FFT


def planted_mass(particles, asked):
    """M200m [Msun] of the most massive halo within a Lagrangian radius of the centre, and its f_gas over cosmic."""
    halos = find_halos(particles, 0.2 * asked)
    place = np.stack([halos[axis] for axis in "xyz"], 1) - particles.box / 2
    near = np.linalg.norm(place, axis=1) < particles.cosmology.lagrangian_radius(asked)
    if not near.any():
        return np.nan, np.nan
    best = halos[near][np.argmax(halos["m200m"][near])]
    return float(best["m200m"]), float(best["fgas200m"]) / particles.cosmology.baryon_fraction


def main():
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--masses", type=int, default=12)
    parser.add_argument("--spacing", type=float, default=2 * 500 / 1024, help="of the particles [Mpc/h]")
    o = parser.parse_args()
    cosmology = SimulationConfig().cosmology
    print("asked [Msun]  n    box [Mpc/h]   got [Msun]   log10(got / asked)   f_gas / cosmic")
    errors = []
    for seed, asked in enumerate(np.geomspace(1e14, 2e15, o.masses), 1):
        radius = cosmology.lagrangian_radius(asked) * cosmology.h
        n = next(side for side in SIDES if side * o.spacing >= 4 * radius)
        config = SimulationConfig(n=n, box=n * o.spacing, seed=seed, cluster=float(asked))
        particles = read_snapshot(simulate(config, o.folder / f"planted-{seed}"))
        got, gas = planted_mass(particles, asked)
        errors.append(np.log10(got / asked))
        dex = errors[-1]
        print(f"{asked:9.2e}  {n:5d} {config.box:11.1f} {got:13.2e} {dex:+12.3f} {gas:21.2f}", flush=True)
    print(f"mean {np.nanmean(errors):+.3f}, rms {np.sqrt(np.nanmean(np.square(errors))):.3f} dex")


if __name__ == "__main__":
    main()

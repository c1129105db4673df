"""Mass profiles of halos against a run whose limits of a step are four times as tight.

    python validation/convergence.py runs/convergence [--n 48] [--eta 0.1]

A box at the mass resolution of HYPER. Halos of the fine run are looked for in the coarse one, and M(<r) of both is
stacked: prints the median ratio at multiples of the softening length with its error by bootstrap over halos, the power
spectra's ratio, and the steps of each.
"""

import argparse
from pathlib import Path

import numpy as np
from common import COLOURS, draw, matter, median_error, read_run
from scipy.spatial import cKDTree

from zwicky.grid import density_contrast, power_spectrum
from zwicky.halos import halo_centres
from zwicky.simulate.run import SimulationConfig, simulate

RADII = np.array([1, 2, 3, 4, 6, 8, 12, 16])  # softening lengths


def enclosed(particles, centres, radii):
    """M(<r) around each centre (H, R) [Msun]."""
    x, m = matter(particles)
    tree = cKDTree(x % particles.box, boxsize=particles.box)
    return np.array([[m[tree.query_ball_point(c, r)].sum() for r in radii] for c in centres])


def main():
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=48)
    parser.add_argument("--eta", type=float, default=SimulationConfig().eta)
    parser.add_argument("--halos", type=int, default=40)
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    limits = SimulationConfig()
    runs = {}
    for name, finer in (("coarse", 1), ("fine", 4)):
        config = SimulationConfig(
            n=o.n, box=o.n * 500 / 1024, seed=1, eta=o.eta / finer**2, da=limits.da / finer, dlna=limits.dlna / finer
        )
        folder = o.folder / f"{name}-{o.eta:g}"
        simulate(config, folder)
        runs[name] = read_run(folder)
        steps = len((folder / "log.jsonl").read_text().splitlines())
        print(f"{name}: {steps} steps, {len(runs[name][1])} halos")
    (coarse, found), (fine, reference) = runs["coarse"], runs["fine"]
    reference = reference[: o.halos]
    distance, index = cKDTree(halo_centres(found), boxsize=coarse.box).query(halo_centres(reference))
    same = (distance < 0.3 * reference["r200m"]) & (np.abs(np.log(found["m200m"][index] / reference["m200m"])) < 0.3)
    radii = RADII * config.softening * config.box_mpc / config.n
    ratio = enclosed(coarse, halo_centres(found[index[same]]), radii)
    ratio /= enclosed(fine, halo_centres(reference[same]), radii)
    print(f"{same.sum()} halos of {len(reference)} are in both")
    print("r / epsilon     ", *(f"{r:6d}" for r in RADII))
    low, median, high = np.percentile(ratio, (16, 50, 84), axis=0)
    print("M(<r) coarse/fine", *(f"{x:6.3f}" for x in median))
    print("            error", *(f"{x:6.3f}" for x in median_error(ratio, np.random.default_rng(0))))
    spectra = [power_spectrum(density_contrast(*_args(p, o.n)), p.box) for p in (coarse, fine)]
    k = spectra[0][0] / config.cosmology.h
    for target in np.geomspace(k[1], k[-1] * 0.7, 6):
        i = int(np.argmin(np.abs(k - target)))
        print(f"P(k = {k[i]:5.2f} h/Mpc) coarse/fine {spectra[0][1][i] / spectra[1][1][i]:.4f}")

    def profile(ax):
        ax.fill_between(RADII, low, high, color=COLOURS[0], alpha=0.2, lw=0)
        ax.semilogx(RADII, median, "o-", color=COLOURS[0])
        ax.axhspan(0.98, 1.02, color="0.9", zorder=0)
        ax.axvline(3, color="0.5", lw=0.8)
        ax.set(xlabel="r / softening length", ylabel="M(<r), over that of 4 times the steps", ylim=(0.85, 1.15))

    draw(o.figure, [profile])


def _args(particles, n):
    x, m = matter(particles)
    return x, particles.box, 4 * n, m


if __name__ == "__main__":
    main()

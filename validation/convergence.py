"""Mass profiles of halos against a run whose limits of a step are four times as tight.

    python validation/convergence.py runs/convergence [--n 48] [--eta 0.15 0.2]

A box at the mass resolution of HYPER. Halos of the fine run, that of the first eta over 16, are looked for in each
coarse one, and M(<r) of both is stacked: prints the median ratio at multiples of the softening length with its error
by bootstrap over halos, the power spectra's ratio, and the steps of each.
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
FINER = 4


def enclosed(particles, centres, radii):
    """M(<r) around each centre (H, R) [Msun]."""
    x, m = matter(particles)
    tree = cKDTree(x % particles.box, boxsize=particles.box)
    return np.array([[m[tree.query_ball_point(c, r)].sum() for r in radii] for c in centres])


def run(folder, n, eta, finer=1):
    """Simulation of which all limits of a step are `finer` times as tight."""
    limits = SimulationConfig()
    config = SimulationConfig(
        n=n, box=n * 500 / 1024, seed=1, eta=eta / finer**2, da=limits.da / finer, dlna=limits.dlna / finer
    )
    folder = folder / f"{'fine' if finer > 1 else 'coarse'}-{eta:g}"
    simulate(config, folder)
    particles, halos = read_run(folder)
    steps = len((folder / "log.jsonl").read_text().splitlines())
    print(f"\n{folder.name}: {steps} steps, {len(halos)} halos")
    return config, particles, halos


def compare(coarse, fine, number):
    """M(<r) of the heaviest halos over that of the fine run (H, R); printed, with the ratio of P(k)."""
    config, particles, found = coarse
    _, truth, reference = fine
    reference = reference[:number]
    distance, index = cKDTree(halo_centres(found), boxsize=particles.box).query(halo_centres(reference))
    same = (distance < 0.3 * reference["r200m"]) & (np.abs(np.log(found["m200m"][index] / reference["m200m"])) < 0.3)
    radii = RADII * config.softening * config.box_mpc / config.n
    ratio = enclosed(particles, halo_centres(found[index[same]]), radii)
    ratio /= enclosed(truth, halo_centres(reference[same]), radii)
    print(f"{same.sum()} halos of {len(reference)} are in both")
    print("r / epsilon     ", *(f"{r:6d}" for r in RADII))
    print("M(<r) coarse/fine", *(f"{x:6.3f}" for x in np.median(ratio, axis=0)))
    print("            error", *(f"{x:6.3f}" for x in median_error(ratio, np.random.default_rng(0))))
    spectra = [power_spectrum(density_contrast(*_args(p, config.n)), p.box) for p in (particles, truth)]
    k = spectra[0][0] / config.cosmology.h
    for target in np.geomspace(k[1], k[-1] * 0.7, 6):
        i = int(np.argmin(np.abs(k - target)))
        print(f"P(k = {k[i]:5.2f} h/Mpc) coarse/fine {spectra[0][1][i] / spectra[1][1][i]:.4f}")
    return ratio


def main():
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=48)
    parser.add_argument("--eta", type=float, nargs="+", default=[SimulationConfig().eta])
    parser.add_argument("--halos", type=int, default=40)
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    coarse = [run(o.folder, o.n, eta) for eta in o.eta]
    fine = run(o.folder, o.n, o.eta[0], FINER)
    ratios = []
    for eta, each in zip(o.eta, coarse, strict=True):
        print(f"\neta = {eta:g}")
        ratios.append(compare(each, fine, o.halos))

    def profile(ax):
        for eta, ratio, colour in zip(o.eta, ratios, COLOURS, strict=False):
            low, median, high = np.percentile(ratio, (16, 50, 84), axis=0)
            ax.fill_between(RADII, low, high, color=colour, alpha=0.2, lw=0)
            ax.semilogx(RADII, median, "o-", color=colour, label=rf"$\eta$ = {eta:g}")
        ax.axhspan(0.98, 1.02, color="0.9", zorder=0)
        ax.axvline(3, color="0.5", lw=0.8)
        ax.set(xlabel="r / softening length", ylabel=f"M(<r), over that of {FINER} times the steps", ylim=(0.85, 1.15))
        ax.legend(frameon=False)

    draw(o.figure, [profile])


def _args(particles, n):
    x, m = matter(particles)
    return x, particles.box, 4 * n, m


if __name__ == "__main__":
    main()

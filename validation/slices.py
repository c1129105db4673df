"""Slices through a snapshot: column density of dark matter and gas over their mean.

    python validation/slices.py runs/boxes/simulation-1/snapshot.hdf5 --figure slices.png [--depth 10] [--pixels 512]

A slice is `--depth` Mpc (comoving) thick, about the middle of the box along z. After figure 1 of Hsu et al. 2025.
"""

import argparse

import numpy as np
from scipy.ndimage import gaussian_filter

from zwicky.evaluate.figures import save, slices_figure
from zwicky.snapshots import read_snapshot


def slice_of(species, box, depth, pixels):
    """Column density of a slice over the mean column of the species in it, index [y, x], (pixels, pixels)."""
    x, y, z = species.positions.T % box
    inside = np.abs(z - 0.5 * box) < 0.5 * depth
    edges = np.linspace(0, box, pixels + 1)
    mass = np.histogram2d(y[inside], x[inside], bins=(edges, edges), weights=species.masses[inside])[0]
    return mass / (species.masses.sum() * depth / box / pixels**2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshot")
    parser.add_argument("--figure", required=True)
    parser.add_argument("--depth", type=float, default=10.0, help="of the slice [Mpc, comoving]")
    parser.add_argument("--pixels", type=int, default=256)
    options = parser.parse_args()
    particles = read_snapshot(options.snapshot)
    found = {"gas": particles.gas, "dark_matter": particles.dark_matter}
    slices = {name: slice_of(species, particles.box, options.depth, options.pixels) for name, species in found.items()}
    smooth = {name: gaussian_filter(image, 1.0, mode="wrap") for name, image in slices.items()}
    save(slices_figure(smooth, particles.box, label="column / mean column"), options.figure)
    print("\n".join(f"{name}: mean {image.mean():.3f}, highest {image.max():.3g}" for name, image in slices.items()))


if __name__ == "__main__":
    main()

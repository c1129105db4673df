"""Growth of the longest modes from z = 49 to 0 against linear theory, in a universe that stays linear (sigma8 = 0.05).

    python validation/growth.py [--n 64]

Prints the amplitude of the modes with |m| below 1.5, 2.5 and 4.5 fundamental wavenumbers at the end, projected on what
they were at the start, over the ratio of the linear growth factors.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch

from zwicky.cosmology import Cosmology
from zwicky.grid import density_contrast, from_fixed, pcs_window, rfft, wavenumbers
from zwicky.simulate.integrate import advance
from zwicky.simulate.run import SimulationConfig, first_state


def long_modes(fixed, box, below, n=64):
    """Complex density modes at 0 < |m| < below fundamental wavenumbers, without the window of the deposit."""
    delta = rfft(torch.from_numpy(density_contrast(from_fixed(fixed.numpy(), box), box, n))).numpy()
    m = [np.asarray(k) * box / (2 * np.pi) for k in wavenumbers(n, box)]
    size = np.sqrt(m[0] ** 2 + m[1] ** 2 + m[2] ** 2)
    wx, wy, wz = (np.asarray(w) for w in pcs_window(n))
    chosen = (size > 0) & (size < below)
    return (delta / (wx * wy * wz))[chosen]


def main():
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=64)
    o = parser.parse_args()
    config = SimulationConfig(n=o.n, box=450.0, seed=3, cosmology=replace(Cosmology(), sigma8=0.05))
    universe = config.universe()
    state = first_state(config, universe)
    start, begun = state.a, state.fixed.clone()
    while state.a < 1:
        advance(universe, state, config.steps.next(universe, state, 1.0))
    growth = float(config.cosmology.growth(1.0) / config.cosmology.growth(start))
    print(f"2 x {o.n}^3 particles, {state.step} steps\n|m| below   growth / linear theory")
    for below in (1.5, 2.5, 4.5):
        first, last = (long_modes(fixed, universe.box, below) for fixed in (begun, state.fixed))
        found = np.real((last * first.conj()).sum()) / (np.abs(first) ** 2).sum()
        print(f"{below:9.1f}   {found / growth:.5f}")


if __name__ == "__main__":
    main()

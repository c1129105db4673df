"""The gas of the most massive halos of finished runs, against the model that was put in.

    python validation/clusters.py runs/laptop/simulation-1 runs/laptop/simulation-2 ...

For each folder (snapshot.hdf5, halos.hdf5): gas fraction inside R200m over the cosmic one, and the median over the most
massive halos of P_th / P500 and of gas over dark matter, in shells of r / R500c, beside the DPP (He et al. 2021).
"""

import argparse
from pathlib import Path

import numpy as np

from zwicky.halos import read_halos
from zwicky.simulate.pressure import PressureModel, pressure_500
from zwicky.snapshots import read_snapshot
from zwicky.units import K_B, M_PROTON, MPC, MSUN, MU

EDGES = np.array([0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5])  # r / R500c


def shells(positions, centre, box, radius):
    """Shell of each particle: -1 inside the first edge, len(EDGES) - 1 and more outside the last."""
    d = positions - centre
    d -= box * np.round(d / box)
    return np.digitize(np.linalg.norm(d, axis=1) / radius, EDGES) - 1


def halo_profiles(particles, halo):
    """P_th / P500 and gas over dark matter (cosmic = 1) in the shells of one halo."""
    c, a = particles.cosmology, particles.scale_factor
    centre, r500c = np.array([halo["x"], halo["y"], halo["z"]]), halo["r500c"] / a
    volume = 4 / 3 * np.pi * np.diff(EDGES**3) * halo["r500c"] ** 3
    p500 = float(pressure_500(np.float64(halo["m500c"]), float(c.E(a)), c.h))
    gas = shells(particles.gas.positions, centre, particles.box, r500c)
    dark = shells(particles.dark_matter.positions, centre, particles.box, r500c)
    pressure, ratio = np.zeros(len(volume)), np.zeros(len(volume))
    for i in range(len(volume)):
        energy = (particles.gas.masses * particles.gas.temperature)[gas == i].sum()
        pressure[i] = energy * MSUN / (volume[i] * MPC**3) * K_B / (MU * M_PROTON) / p500
        cosmic = c.baryon_fraction / (1 - c.baryon_fraction)
        dark_mass = particles.dark_matter.masses[dark == i].sum()
        ratio[i] = particles.gas.masses[gas == i].sum() / dark_mass / cosmic if dark_mass > 0 else np.nan
    return pressure, ratio


def main():
    """Print the tables of the folders given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--halos", type=int, default=3, help="how many of the most massive halos")
    options = parser.parse_args()
    middle = np.sqrt(EDGES[1:] * EDGES[:-1])
    print("r/R500c    ", *(f"{x:6.2f}" for x in middle))
    print("DPP P/P500 ", *(f"{x:6.3f}" for x in PressureModel().universal(middle)))
    for folder in options.folders:
        particles, halos = read_snapshot(folder / "snapshot.hdf5"), read_halos(folder / "halos.hdf5")
        chosen = halos[: options.halos]
        fractions = np.asarray(chosen["fgas200m"]) / particles.cosmology.baryon_fraction
        profiles = np.array([halo_profiles(particles, halo) for halo in chosen])
        pressure, ratio = np.nanmedian(profiles, axis=0)
        print(folder.name, "gas fraction inside R200m over cosmic:", *(f"{f:.2f}" for f in fractions))
        print("    P/P_DPP", *(f"{x:6.2f}" for x in pressure / PressureModel().universal(middle)))
        print("    gas/DM ", *(f"{x:6.2f}" for x in ratio))


if __name__ == "__main__":
    main()

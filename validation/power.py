"""Power spectrum of all matter in finished runs over camb's nonlinear model (HMcode 2020), and of gas over dark matter.

    python validation/power.py runs/boxes/simulation-*

Boxes of one size are averaged. The error is that of the number of modes, which nonlinear modes exceed; the model itself
is good to about 5%. Shot noise of the dark matter and gas lattices is not subtracted.
"""

import argparse
import itertools
from pathlib import Path

import camb
import numpy as np
from common import COLOURS, draw, matter, require_same

from zwicky.cosmology import camb_parameters
from zwicky.grid import density_contrast, power_spectrum
from zwicky.snapshots import read_snapshot


def nonlinear_power(c, k, redshift):
    """HMcode 2020 [Mpc^3] at k [1/Mpc]."""
    parameters = camb_parameters(c)
    parameters.set_matter_power(redshifts=[0.0], kmax=100.0)
    parameters.NonLinear = camb.model.NonLinear_none
    sigma8 = camb.get_results(parameters).get_sigma8_0()
    parameters = camb_parameters(c, 2e-9 * (c.sigma8 / sigma8) ** 2)
    parameters.set_matter_power(redshifts=[redshift], kmax=100.0)
    parameters.NonLinear = camb.model.NonLinear_both
    parameters.NonLinearModel.set_params(halofit_version="mead2020")
    k_h, _, p_h = camb.get_results(parameters).get_matter_power_spectrum(minkh=1e-3, maxkh=50 / c.h, npoints=600)
    return np.exp(np.interp(np.log(k), np.log(k_h * c.h), np.log(p_h[0] / c.h**3)))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--mesh", type=int, default=256)
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    spectra, runs = [], []
    for folder in o.folders:
        p = read_snapshot(folder / "snapshot.hdf5")
        runs.append((p.cosmology, p.redshift, p.box))
        require_same(runs, "cosmology, redshift or box")
        x, m = matter(p)
        meshes = [density_contrast(*v) for v in ((x, p.box, o.mesh, m), (p.dark_matter.positions, p.box, o.mesh),
                                                 (p.gas.positions, p.box, o.mesh))]  # fmt: skip
        spectra.append([power_spectrum(mesh, p.box) for mesh in meshes])
    k, _, modes = spectra[0][0]
    total, dark, gas = np.mean([[s[1] for s in run] for run in spectra], axis=0)
    theory = nonlinear_power(p.cosmology, k, p.redshift)
    edges = np.geomspace(k[0] * 0.99, k[-1] * 0.7, 16)
    rows = []
    print("k [h/Mpc]   P / HMcode    +-    gas / dark matter")
    for low, high in itertools.pairwise(edges):
        inside = (k >= low) & (k < high)
        if inside.any():
            w = modes[inside] * len(o.folders)
            ratio = np.average(total[inside] / theory[inside], weights=w)
            both = np.average(gas[inside] / dark[inside], weights=w)
            middle = np.average(k[inside], weights=w) / p.cosmology.h
            rows.append((middle, ratio, np.sqrt(2 / w.sum())))
            print(f"{middle:8.3f}   {ratio:8.3f}   {rows[-1][2]:6.3f}   {both:8.4f}")

    def panel(ax):
        ax.axhspan(0.97, 1.03, color="0.9", zorder=0)
        ax.errorbar(*np.array(rows).T, fmt="o", color=COLOURS[0])
        ax.set(xscale="log", xlabel="k [h/Mpc]", ylabel="P(k), over HMcode 2020", ylim=(0.7, 1.3))

    draw(o.figure, [panel])


if __name__ == "__main__":
    main()

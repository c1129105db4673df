"""Power spectrum of all matter against that of a particle mesh, jaxpm, which starts from the same particles.

    pip install jaxpm "setuptools<81"
    python validation/peer.py runs/peer [--n 64] [--box 100] [--mesh 128 256 384] [--da 0.01 0.005]

Both carry the 2 n^3 particles of `simulate.initial` from z = 49 to 0, without pressure. The force of a mesh of cells d
wide is too weak by (k d)^2 / 6 and more, so its power spectrum is extrapolated to d = 0 from two meshes,

    P = P_2 + (P_2 - P_1) / (d_1^2 / d_2^2 - 1).

Prints P(k) of Zwicky over that of the finest two, and how much that is to be trusted: the same of the two meshes
before, each mesh, and shorter steps on the first mesh over its longer ones. Finished runs are kept in the folder.

jaxpm's public painter takes as many particles as there are mesh points; `scatter` and `gather`, which are under it,
take any number. The force is that of `jaxpm.pm.pm_forces` with them and with masses:

    p += -grad phi int dt / a,    x += p int dt / a^2,    lap phi = (3/2) Omega_m delta       (cells, H0 = 1)
"""

import argparse
import functools
import itertools
import math
from pathlib import Path

import numpy as np
from common import COLOURS, draw, matter

from zwicky.grid import density_contrast, from_fixed, power_spectrum
from zwicky.simulate.integrate import Universe
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, first_state, simulate
from zwicky.snapshots import read_snapshot

REDSHIFTS = (1.0, 0.0)


def mesh_force(mesh):
    """jaxpm's -grad phi of lap phi = delta [cells], a compiled function of cells, displacements from them and weights.

    Raises:
        SystemExit: jaxpm is not installed.
    """
    try:
        import jax
        from jaxpm.distributed import fft3d, ifft3d
        from jaxpm.kernels import fftk, gradient_kernel, invlaplace_kernel
        from jaxpm.painting_utils import gather, scatter
    except ImportError as error:
        raise SystemExit(f"jaxpm is missing ({error}); pip install jaxpm 'setuptools<81'.") from error

    @jax.jit
    def force(cell, moved, weight):
        density = fft3d(scatter(cell, moved, jax.numpy.zeros((mesh,) * 3), val=weight))
        k = fftk(density)
        potential = density * invlaplace_kernel(k)
        slopes = [gather(cell, moved, ifft3d(-gradient_kernel(k, i) * potential)) for i in range(3)]
        return jax.numpy.stack(slopes, axis=-1)

    return force


def mean_one(universe: Universe, mesh):
    """Weights of the dark matter and gas particles whose density on the mesh has the mean 1, (2 n^3,)."""
    shares = np.array(universe.masses) / sum(universe.masses) * (mesh / universe.n) ** 3
    return np.repeat(shares, universe.n**3).astype(np.float32)


def scale_factors(start, ends, dlna, da):
    """From start to each of the ends in steps of at most dlna in ln a and da in a."""
    a = [start]
    for end in ends:
        while a[-1] < end:
            left = math.ceil(math.log(end / a[-1]) / min(dlna, da / a[-1]) - 1e-9)
            a.append(end if left <= 1 else a[-1] * (end / a[-1]) ** (1 / left))
    return a


def evolve(config, universe, state, mesh, da):
    """Positions [Mpc] of all particles at each of REDSHIFTS, by kick-drift-kick with jaxpm's force and background."""
    import jax_cosmo
    from jax import numpy as jnp

    c = config.cosmology
    densities = {"Omega_c": c.omega_m - c.omega_b, "Omega_b": c.omega_b, "Omega_k": 1 - c.omega_m - c.omega_l}
    background = jax_cosmo.Cosmology(h=c.h, sigma8=c.sigma8, n_s=c.n_s, w0=-1.0, wa=0.0, **densities)

    def factor(a0, a1, power):
        a = np.linspace(a0, a1, 65)
        expansion = np.sqrt(np.asarray(jax_cosmo.background.Esqr(background, jnp.asarray(a))))
        return float(np.trapezoid(1 / (a ** (power + 1) * expansion), a))

    unit = config.box_mpc / mesh
    start = from_fixed(state.fixed.numpy(), config.box_mpc) / unit
    cell = jnp.asarray(np.floor(start).astype(np.int32))
    moved, momentum = jnp.asarray((start % 1).astype(np.float32)), jnp.asarray(state.momentum.numpy() / unit)
    weight = jnp.asarray(mean_one(universe, mesh))
    force, strength, ends = mesh_force(mesh), 1.5 * c.omega_m, [1 / (1 + z) for z in REDSHIFTS]
    pull, found = force(cell, moved, weight), []
    for a, b in itertools.pairwise(scale_factors(state.a, ends, da * 5, da)):
        middle = math.sqrt(a * b)
        momentum += pull * (strength * factor(a, middle, 1))
        moved += momentum * factor(a, b, 2)
        pull = force(cell, moved, weight)
        momentum += pull * (strength * factor(middle, b, 1))
        if b in ends:
            found.append((np.asarray(cell) + np.asarray(moved, dtype=np.float64)) * unit)
    return found


def peer_spectra(config, folder, mesh, da):
    """k and P(k) at each of REDSHIFTS of jaxpm with this mesh and these steps; kept in the folder."""
    path = folder / f"jaxpm-{mesh}-{da:g}.npz"
    if not path.exists():
        universe = config.universe()
        positions = evolve(config, universe, first_state(config, universe), mesh, da)
        masses = np.repeat(universe.masses, config.n**3)
        np.savez(path, spectra=[spectrum(x, masses, config) for x in positions])
    return np.load(path)["spectra"]


def zwicky_spectra(config, folder):
    """The same of Zwicky."""
    simulate(config, folder / "zwicky")
    snapshots = [read_snapshot(folder / "zwicky" / name) for name in config.outputs.values()]
    return np.array([spectrum(*matter(p), config) for p in snapshots])


def spectrum(x, m, config):
    """k [h/Mpc], P [Mpc^3] and number of modes."""
    k, p, modes = power_spectrum(density_contrast(x, config.box_mpc, 4 * config.n, m), config.box_mpc)
    return np.array([k / config.cosmology.h, p, modes])


def binned(spectra, edges):
    """P(k) in bins, weighted by modes, for each redshift."""
    k, _, modes = spectra[0]
    place = np.digitize(k, edges) - 1
    inside = (place >= 0) & (place < len(edges) - 1)
    sums = [np.bincount(place[inside], (modes * s[1])[inside], len(edges) - 1) for s in spectra]
    return np.array(sums) / np.bincount(place[inside], modes[inside], len(edges) - 1)


def limit(coarse, fine, meshes):
    """Power spectra of cells of no width, from those of two meshes."""
    return fine + (fine - coarse) / ((meshes[1] / meshes[0]) ** 2 - 1)


def main():
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--box", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mesh", type=int, nargs="+", default=[128, 256, 384], help="of jaxpm, two or more")
    parser.add_argument("--da", type=float, nargs="+", default=[0.01, 0.005], help="steps of jaxpm")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    cold = PressureModel(reionization=0.0)
    config = SimulationConfig(n=o.n, box=o.box, seed=o.seed, redshifts=REDSHIFTS[:-1], pressure=cold)
    nyquist, mode = np.pi * o.n / o.box, 2 * np.pi / o.box
    edges = mode * np.unique(np.round(np.geomspace(1, 2 * nyquist / mode, 16))) - mode / 2
    o.folder.mkdir(parents=True, exist_ok=True)
    meshes = {m: binned(peer_spectra(config, o.folder, m, o.da[0]), edges) for m in o.mesh}
    limits = [limit(meshes[a], meshes[b], (a, b)) for a, b in itertools.pairwise(o.mesh)]
    ratios = {"zwicky": binned(zwicky_spectra(config, o.folder), edges) / limits[-1]}
    ratios |= {f"{a}, {b}": p / limits[-1] for (a, b), p in zip(itertools.pairwise(o.mesh[:-1]), limits, strict=False)}
    ratios |= {f"{m}": p / limits[-1] for m, p in meshes.items()}
    for da in o.da[1:]:
        ratios[f"da {da:g}"] = binned(peer_spectra(config, o.folder, o.mesh[0], da), edges) / meshes[o.mesh[0]]
    k = (edges[1:] + edges[:-1]) / 2
    print(f"P(k) over jaxpm's with meshes {o.mesh[-2]} and {o.mesh[-1]}; Nyquist of the particles {nyquist:.2f} h/Mpc")
    for i, z in enumerate(REDSHIFTS):
        print(f"z = {z:g}, k [h/Mpc]", *(f"{name:>10}" for name in ratios))
        for j, at in enumerate(k):
            print(f"{at:16.3f}", *(f"{r[i][j]:10.4f}" for r in ratios.values()))

    def panel(ax, i):
        ax.axhspan(0.99, 1.01, color="0.9", zorder=0)
        for name, ratio, colour in zip(ratios, ratios.values(), COLOURS, strict=False):
            ax.semilogx(k, ratio[i], "o-", color=colour, label=name)
        ax.axvline(nyquist, color="0.5", lw=0.8)
        ax.set(xlabel="k [h/Mpc]", ylabel=f"P(k) at z = {REDSHIFTS[i]:g}, over the limit of jaxpm", ylim=(0.8, 1.2))
        ax.legend()

    draw(o.figure, [functools.partial(panel, i=i) for i in range(len(REDSHIFTS))])


if __name__ == "__main__":
    main()

"""Power spectrum of all matter against that of a particle mesh, jaxpm, which starts from the same particles.

    pip install jaxpm "setuptools<81"
    python validation/peer.py runs/peer [--n 64] [--box 100] [--mesh 128 256 384] [--da 0.01 0.005]

Both carry the 2 n^3 particles of `simulate.initial` from z = 49 to 0, without pressure. Prints P(k) of Zwicky over that
of jaxpm with its last, finest mesh, and how far that is to be trusted: its coarser meshes over the finest, and shorter
steps over longer ones with the first mesh. Finished runs are kept in the folder.

A mesh must be several times finer than the lattice that the particles start from: while they are close to it, what a
mode grows by depends on the pull of single neighbours. So the first table compares the forces at the start, the
component along k of the dark matter's, mode by mode. Meshes of even multiples of n have points at the sites of both
species; others pull them unequally.

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

from zwicky.grid import density_contrast, derivative_wavenumbers, from_fixed, power_spectrum
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


def on_mesh(universe, state, mesh):
    """Cells, displacements from them and weights of the particles of a state, for `mesh_force`."""
    start = from_fixed(state.fixed.numpy(), universe.box) * (mesh / universe.box)
    cell = np.floor(start)
    return cell.astype(np.int32), (start - cell).astype(np.float32), mean_one(universe, mesh)


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
    cell, moved, weight = (jnp.asarray(v) for v in on_mesh(universe, state, mesh))
    momentum = jnp.asarray(state.momentum.numpy() / unit)
    force, strength, ends = mesh_force(mesh), 1.5 * c.omega_m, [1 / (1 + z) for z in REDSHIFTS]
    pull, found = force(cell, moved, weight), []
    for a, b in itertools.pairwise(scale_factors(state.a, ends, 5 * da, da)):
        middle = math.sqrt(a * b)
        momentum += pull * (strength * factor(a, middle, 1))
        moved += momentum * factor(a, b, 2)
        pull = force(cell, moved, weight)
        momentum += pull * (strength * factor(middle, b, 1))
        if b in ends:
            found.append((np.asarray(cell) + np.asarray(moved, dtype=np.float64)) * unit)
    return found


def along_k(config, force):
    """Component along k of the modes of the dark matter's force at the start, and |k| [h/Mpc]."""
    k = [np.asarray(c) for c in derivative_wavenumbers(config.n, config.box_mpc)]
    size = np.sqrt(k[0] ** 2 + k[1] ** 2 + k[2] ** 2)
    field = force[: config.n**3].reshape((config.n,) * 3 + (3,))
    modes = sum(np.fft.rfftn(field[..., i]) * k[i] for i in range(3)) / np.maximum(size, 1e-12)
    return modes, size / config.cosmology.h


def first_forces(config, state, meshes, edges):
    """jaxpm's force at the start, projected on Zwicky's, per mesh and bin of k."""
    universe, rows = config.universe(), []
    ours, k = along_k(config, state.gravity.numpy().astype(np.float64))
    place, bins = np.digitize(k.ravel(), edges), slice(1, len(edges))
    for mesh in meshes:
        found = np.asarray(mesh_force(mesh)(*on_mesh(universe, state, mesh)), dtype=np.float64)
        theirs = along_k(config, found * (1.5 * config.cosmology.omega_m * config.box_mpc / mesh))[0]
        common = np.bincount(place, (theirs * ours.conj()).real.ravel())[bins]
        rows.append(common / np.bincount(place, np.abs(ours.ravel()) ** 2)[bins])
    return rows


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


def main():
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--box", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mesh", type=int, nargs="+", default=[128, 256, 384], help="of jaxpm, finest last")
    parser.add_argument("--da", type=float, nargs="+", default=[0.01, 0.005], help="steps of jaxpm")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    cold = PressureModel(reionization=0.0)
    config = SimulationConfig(n=o.n, box=o.box, seed=o.seed, redshifts=REDSHIFTS[:-1], pressure=cold)
    nyquist, mode = np.pi * o.n / o.box, 2 * np.pi / o.box
    edges = mode * np.unique(np.round(np.geomspace(1, 2 * nyquist / mode, 16))) - mode / 2
    o.folder.mkdir(parents=True, exist_ok=True)
    k = (edges[1:] + edges[:-1]) / 2
    below = edges[edges < nyquist]
    forces = first_forces(config, first_state(config, config.universe()), o.mesh, below)
    print(f"Nyquist of the particles {nyquist:.2f} h/Mpc\nforce at the start over Zwicky's, by mesh of jaxpm")
    show(k, {f"{m}": f for m, f in zip(o.mesh, forces, strict=True)})
    meshes = {m: binned(peer_spectra(config, o.folder, m, o.da[0]), edges) for m in o.mesh}
    finest = meshes[o.mesh[-1]]
    ratios = {"zwicky": binned(zwicky_spectra(config, o.folder), edges) / finest}
    ratios |= {f"{m}": meshes[m] / finest for m in o.mesh[:-1]}
    for da in o.da[1:]:
        ratios[f"da {da:g}"] = binned(peer_spectra(config, o.folder, o.mesh[0], da), edges) / meshes[o.mesh[0]]
    for i, z in enumerate(REDSHIFTS):
        print(f"P(k) at z = {z:g} over that of jaxpm with mesh {o.mesh[-1]}")
        show(k, {name: ratio[i] for name, ratio in ratios.items()})

    def panel(ax, i):
        ax.axhspan(0.99, 1.01, color="0.9", zorder=0)
        for name, ratio, colour in zip(ratios, ratios.values(), COLOURS, strict=False):
            ax.semilogx(k, ratio[i], "o-", color=colour, label=name)
        ax.axvline(nyquist, color="0.5", lw=0.8)
        ax.set(xlabel="k [h/Mpc]", ylabel=f"P(k) at z = {REDSHIFTS[i]:g}, over mesh {o.mesh[-1]}", ylim=(0.8, 1.2))
        ax.legend()

    draw(o.figure, [functools.partial(panel, i=i) for i in range(len(REDSHIFTS))])


def show(k, columns):
    """Print a table by k [h/Mpc]."""
    print("k [h/Mpc]", *(f"{name:>10}" for name in columns))
    for at, *values in zip(k, *columns.values(), strict=False):
        print(f"{at:9.3f}", *(f"{v:10.4f}" for v in values))


if __name__ == "__main__":
    main()

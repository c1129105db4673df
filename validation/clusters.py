"""Clusters of finished runs against the model that was put in: gas, pressure, scaling relations, concentration.

    python validation/clusters.py runs/n128 [more runs] [--min-mass 1e14] [--figure clusters.png]
    python validation/clusters.py runs/boxes/simulation-* --against runs/planted/planted-* --min-mass 1e14

Halos above --min-mass (M200m), the most massive of each run with --first. Prints the median and the 16 to 84% range, in
shells of r / R500c, of P_th / P_DPP (mean of the shell, and median of twenty parts of it, which clumps and infalling
groups do not raise), of gas over dark matter and of matter over the NFW profile of the model's c200c;
and of the gas fraction inside R200m and the axis ratios of all matter inside R200c (square roots of the eigenvalues of
the tensor of x_i x_j / r^2). Then slope, scatter and height at the middle mass of

    Y500 - M500c        thermal SZ signal of the sphere R500c, against the DPP (He et al. 2021)
    L_X - M500c         bolometric free-free luminosity of R500c, whole and without the core (0.15 R500c)
    c200c - M200c       NFW fit from three softening lengths (0.05 R200c at least) on, against Diemer & Kravtsov 2015

beside those of model halos (hydrostatic gas in NFW halos) of the same masses. With --against, the medians of both sets
of runs, with errors by bootstrap.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from common import COLOURS, config_of, draw, matter, median_error, read_run, require_same
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree

from zwicky.halos import _offset, halo_centres
from zwicky.observe.emissivity import compton_y_weight, free_free_luminosity
from zwicky.simulate.pressure import _halo_grid, _nfw_mass, concentration_200c, hydrostatic, pressure_500
from zwicky.units import K_B, M_PROTON, MPC, MSUN, MU

EDGES = np.array([0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5])  # r / R500c
FEWEST = 5  # halos for errors by bootstrap
CORE = 0.15  # R500c, left out of the second luminosity
GOLDEN = (1 + 5**0.5) / 2
SIGNS = (-1, 1)
DIRECTIONS = np.array([  # corners of a dodecahedron, about which the sphere falls into parts of equal area
    *product(SIGNS, repeat=3),
    *(np.roll((0, a / GOLDEN, b * GOLDEN), i) for a, b in product(SIGNS, repeat=2) for i in range(3)),
]) / 3**0.5  # fmt: skip
MIDDLE = np.sqrt(EDGES[1:] * EDGES[:-1])
RELATIONS = ("Y500", "L_X", "L_X no core", "c200c")


def measure(particles, halos, softening):
    """Profiles and integrals of every halo, a dictionary of arrays."""
    c, a = particles.cosmology, particles.scale_factor
    (x, m), gas = matter(particles), particles.gas
    tree = cKDTree(x % particles.box, boxsize=particles.box)
    cosmic = c.baryon_fraction / (1 - c.baryon_fraction)
    concentrations = concentration_200c(c, np.asarray(halos["m200c"]), a)
    found = []
    for halo, centre, c200 in zip(halos, halo_centres(halos), concentrations, strict=True):
        r500, r200 = halo["r500c"] / a, halo["r200c"] / a
        everything = np.sort(tree.query_ball_point(centre % particles.box, max(1.5 * r500, r200)))
        d = _offset(x[everything], centre, particles.box)
        r_all, is_gas = np.linalg.norm(d, axis=1), everything >= len(particles.dark_matter)
        near, r = everything[is_gas] - len(particles.dark_matter), r_all[is_gas]
        mass, temperature = gas.masses[near], gas.temperature[near]
        luminosity = free_free_luminosity(mass, gas.density[near] / a**3, temperature)
        part = np.argmax(d[is_gas] @ DIRECTIONS.T, axis=1)
        bins = (EDGES, np.arange(len(DIRECTIONS) + 1))
        thermal = np.histogram2d(r / r500, part, bins, weights=mass * temperature)[0] * MSUN * K_B / (MU * M_PROTON)
        volume = 4 / 3 * np.pi * np.diff(EDGES**3) * (halo["r500c"] * MPC) ** 3
        pressure = thermal / volume[:, None] / float(pressure_500(np.float64(halo["m500c"]), float(c.E(a)), c.h))
        gas_mass = np.histogram(r / r500, EDGES, weights=mass)[0]
        total_mass = np.histogram(r_all / r500, EDGES, weights=m[everything])[0]
        axes = axis_ratios(d[r_all < r200], m[everything][r_all < r200])
        found.append({
            "pressure": pressure.sum(1),
            "smooth": np.median(pressure, axis=1) * len(DIRECTIONS),
            "gas": gas_mass / (total_mass - gas_mass) / cosmic,
            "matter": total_mass / (halo["m200c"] * np.diff(_nfw_mass(c200 * EDGES * r500 / r200)) / _nfw_mass(c200)),
            "f_gas": halo["fgas200m"] / c.baryon_fraction,
            "Y500": compton_y_weight(mass, temperature)[r < r500].sum() / 1e6,
            "L_X": luminosity[r < r500].sum(),
            "L_X no core": luminosity[(r < r500) & (r > CORE * r500)].sum(),
            "c200c": concentration(r_all / r200, m[everything], max(0.05, 3 * softening / r200)),
            "b/a": axes[1],
            "c/a": axes[0],
        })  # fmt: skip
    return {k: np.array([f[k] for f in found]) for k in found[0]}


def axis_ratios(d, mass):
    """c/a and b/a of the ellipsoid of the reduced tensor of inertia."""
    tensor = np.einsum("p,pi,pj->ij", mass / (d**2).sum(1).clip(1e-12), d, d)
    axes = np.sqrt(np.linalg.eigvalsh(tensor))
    return axes[:2] / axes[2]


def concentration(s, mass, inner, bins=12):
    """c of the NFW profile closest in ln rho to the particles at s = r / R200c, in shells from `inner` to 1.

    Shells weigh as the particles in them.
    """
    edges = np.geomspace(inner, 1, bins + 1)
    counts, inside = np.histogram(s, edges)[0], np.histogram(s, edges, weights=mass)[0]
    if counts.min() == 0:
        return np.nan

    def misfit(ln_c):
        c = np.exp(ln_c)
        ratio = np.log(inside / np.diff(_nfw_mass(c * edges)))
        return np.average((ratio - np.average(ratio, weights=counts)) ** 2, weights=counts)

    return np.exp(minimize_scalar(misfit, bounds=np.log((1, 40)), method="bounded").x)


def model_relations(model, cosmology, a):
    """The relations of hydrostatic halos: functions of M500c (M200c for the concentration) [Msun]."""
    halo = _halo_grid(cosmology, a)
    chosen = (halo["m200c"][:, 0] > 1e12).nonzero()[0][::5]
    halo = {k: v[chosen] for k, v in halo.items()}
    s = np.geomspace(1e-3, 1, 400)
    p500 = pressure_500(halo["m500c"], float(cosmology.E(a)), cosmology.h)
    p = hydrostatic(model, s * halo["r500c"], halo["r500c"], p500, halo["rho_s"], halo["r_s"])
    rho = p["rho_gas"] / MSUN * MPC**3
    shell = 4 * np.pi * s**3 * (halo["r500c"] / MPC) ** 3 * rho  # mass per ln r
    light = free_free_luminosity(shell, rho, p["temperature"])
    outside = s > CORE
    totals = {
        "Y500": np.trapezoid(compton_y_weight(shell, p["temperature"]), np.log(s)) / 1e6,
        "L_X": np.trapezoid(light, np.log(s)),
        "L_X no core": np.trapezoid(light[:, outside], np.log(s[outside])),
    }
    mass = np.log(halo["m500c"][:, 0])
    relations = {k: lambda m, v=v: np.exp(np.interp(np.log(m), mass, np.log(v))) for k, v in totals.items()}
    return relations | {"c200c": lambda m: concentration_200c(cosmology, m, a)}


def straight_line(mass, value, rng):
    """Slope with its bootstrap error, scatter [dex] and log10 of the value at the middle mass, of a power law."""
    x, y = np.log10(mass), np.log10(value)
    pivot = np.median(x)
    slope, height = np.polyfit(x - pivot, y, 1)
    picks = rng.integers(0, len(x), (400, len(x)))
    slopes = [np.polyfit(x[i] - pivot, y[i], 1)[0] for i in picks if np.ptp(x[i]) > 0]
    rest = y - slope * (x - pivot) - height
    return slope, np.std(slopes), np.sqrt((rest**2).sum() / (len(x) - 2)), height


def measure_all(folders, o):
    """`measure` of the chosen halos of all runs, their M500c and M200c, and the configuration of the runs."""
    tables, masses, configs = [], [], [config_of(folder) for folder in folders]
    config = configs[0]
    require_same([(c.pressure, c.cosmology, c.redshift_end) for c in configs], "pressure, cosmology or redshift")
    for folder, c in zip(folders, configs, strict=True):
        particles, halos = read_run(folder)
        halos = halos[(halos["m200m"] > o.min_mass) & (halos["m200m"] < o.max_mass)][: o.first]
        if len(halos):
            tables.append(measure(particles, halos, c.softening * c.box_mpc / c.n))
            masses.append(np.stack([np.asarray(halos[m]) for m in ("m500c", "m200c")]))
    if not tables:
        raise SystemExit("no halo lies between the masses.")
    found = {k: np.concatenate([t[k] for t in tables]) for k in tables[0]}
    for name in ("pressure", "smooth"):
        found[name] /= mean_of_shells(config.pressure.universal)
    return found, *np.concatenate(masses, axis=1), config


def mean_of_shells(profile):
    """A profile of r / R500c averaged over the volume of each shell, as particles are."""
    fine = np.geomspace(EDGES[:-1], EDGES[1:], 101)
    return np.trapezoid(profile(fine) * fine**3, np.log(fine), axis=0) / (np.diff(EDGES**3) / 3)


def print_bands(found):
    """16, 50 and 84% of profiles and numbers; returns them."""
    names = ("pressure", "smooth", "gas", "matter", "f_gas", "b/a", "c/a")
    bands = {name: np.percentile(found[name], (16, 50, 84), axis=0) for name in names}
    print("r/R500c          ", *(f"{x:6.2f}" for x in MIDDLE))
    for name, label in (("pressure", "P/P_DPP"), ("smooth", "smooth P"), ("gas", "gas/DM"), ("matter", "rho/NFW")):
        for band, q in zip(bands[name], (16, 50, 84), strict=True):
            print(f"{label:10s} {q:3d}%  ", *(f"{x:6.3f}" for x in band))
    for name, label in (("f_gas", "gas fraction inside R200m over cosmic"), ("b/a", "b/a"), ("c/a", "c/a")):
        print(f"{label}, 16, 50, 84%:", *(f"{x:.3f}" for x in bands[name]))
    return bands


def print_relations(found, m500c, m200c, relations):
    """Slope, scatter and height of every relation beside the model's."""
    rng = np.random.default_rng(0)
    print("relation        slope  +-      scatter [dex]   model's slope   height over model's")
    for name in RELATIONS:
        good = np.isfinite(found[name])
        mass, value = (m200c if name == "c200c" else m500c)[good], found[name][good]
        slope, error, scatter, height = straight_line(mass, value, rng)
        expected = straight_line(mass, relations[name](mass), rng)
        ratio = 10 ** (height - expected[3])
        print(f"{name:14s} {slope:6.3f}  {error:.3f} {scatter:14.3f} {expected[0]:15.3f} {ratio:17.3f}")


def print_comparison(first, second, masses, relations):
    """Medians of two sets of halos; relations over the model's, so that masses need not be the same."""
    rng = np.random.default_rng(0)
    print("median +- error, first runs and those of --against")
    for name in ("pressure", "smooth", "gas", "matter", "f_gas", "b/a", "c/a", *RELATIONS):
        columns = []
        for found, (m500c, m200c) in zip((first, second), masses, strict=True):
            values = found[name]
            if name in relations:
                values = values / relations[name](m200c if name == "c200c" else m500c)
            values = values.reshape(len(values), -1)
            columns.append((np.nanmedian(values, axis=0), median_error(values, rng)))
        for i, label in enumerate(f"{name} at {x:.2f}" for x in MIDDLE) if len(columns[0][0]) > 1 else [(0, name)]:
            (x, dx), (y, dy) = ((m[i], e[i]) for m, e in columns)
            print(f"{label:18s} {x:6.3f} +- {dx:.3f}   {y:6.3f} +- {dy:.3f}   {(y - x) / np.hypot(dx, dy):+5.1f} sigma")


def main():
    """Print the tables of the folders given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--against", type=Path, nargs="+", default=())
    parser.add_argument("--min-mass", type=float, default=1e14, help="least M200m [Msun]")
    parser.add_argument("--max-mass", type=float, default=np.inf)
    parser.add_argument("--first", type=int, help="only so many of the most massive halos of a run")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    found, m500c, m200c, config = measure_all(o.folders, o)
    relations = model_relations(config.pressure, config.cosmology, config.a_end)
    print(f"{len(m500c)} halos, M500c {m500c.min():.2g} to {m500c.max():.2g} Msun")
    bands = print_bands(found)
    if len(m500c) >= FEWEST:
        print_relations(found, m500c, m200c, relations)
    if o.against:
        other, *others, _ = measure_all(o.against, o)
        if min(len(m500c), len(others[0])) < FEWEST:
            raise SystemExit(f"a comparison needs {FEWEST} halos in both sets of runs.")
        print_comparison(found, other, ((m500c, m200c), others), relations)

    def profile(ax):
        for name, label, colour in (("pressure", "P / P(DPP)", COLOURS[0]), ("gas", "gas / dark matter", COLOURS[1])):
            low, median, high = bands[name]
            ax.fill_between(MIDDLE, low, high, color=colour, alpha=0.2, lw=0)
            ax.semilogx(MIDDLE, median, "o-", color=colour, label=label)
        ax.axhline(1, color="0.5", lw=0.8)
        ax.set(xlabel="r / R500c", ylabel="over the model", ylim=(0, 2))
        ax.legend()

    def relation(name, unit, mass, kind):
        def panel(ax):
            line = np.geomspace(mass.min(), mass.max(), 30)
            ax.loglog(mass / 1e14, found[name], "o", color=COLOURS[0], ms=4, label="simulated")
            ax.loglog(line / 1e14, relations[name](line), color="0.3", label="model")
            ax.set(xlabel=f"{kind} [$10^{{14}}$ Msun]", ylabel=f"{name} [{unit}]" if unit else name)
            ax.legend()

        return panel

    draw(o.figure, [profile, relation("Y500", "Mpc$^2$", m500c, "M500c"), relation("L_X", "erg/s", m500c, "M500c"),
                    relation("c200c", "", m200c, "M200c")])  # fmt: skip


if __name__ == "__main__":
    main()

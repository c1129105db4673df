"""Galaxies painted on the halos of a simulation that formed none, and galaxies of a catalogue.

    central      log10 m = log10(eps M_1) + f(x) - f(0) + 0.2 N(0, 1),   x = log10(M200c / M_1)
                 f(x) = -log10(10^(alpha x) + 1) + delta [log10(1 + e^x)]^gamma / (1 + e^(10^-x))
    satellites   <N(>m | M)> = N_c(>m | M) (M / M_sat) e^(-M_cut / M),   M = M200m; Poisson numbers
                 M_sat = B_sat M_1e12 (M_c(m) / M_1e12)^beta_sat,   M_cut likewise,   M_1e12 = 1e12 Msun/h
                 M_c(m) = M_h (m / m_0)^beta 10^((m / m_0)^delta / (1 + (m / m_0)^-gamma) - 1/2)
                 N_c(>m | M) = erfc(ln(m / M_c^-1(M)) / (sqrt(2) sigma)) / 2
    size         r_half = 0.015 R200c, of the halo that a central of this mass has

They are painted, not simulated: the gas of the simulation still holds the mass that became stars. Satellites stand on
dark-matter particles inside R200m, drawn at random, with their velocities: so they share the shape and the substructure
of the halo, and its profile, to which that of SDSS satellites is close (concentration 0.86 +- 0.14 times that of dark
matter in the same fit). All relations are those of z < 0.3 and are used at any redshift.

References: central Kravtsov, Vikhlinin & Meshcheryakov 2018 (arXiv 1401.7329), eqs. A3 and A4, table 3 (M200c, with
scatter), form of Behroozi, Wechsler & Conroy 2013, eq. 3; satellites Zu & Mandelbaum 2015 (arXiv 1505.02781), table 2;
size Kravtsov 2013 (arXiv 1212.2980).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from astropy import units as u
from astropy.table import Row, Table
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.spatial import cKDTree
from scipy.special import erfc

from zwicky.cosmology import Cosmology
from zwicky.grid import wrapped
from zwicky.halos import column_in, halo_centres
from zwicky.simulate.state import Particles, Species

LEAST_MASS = 10**9.5  # stellar mass of the faintest galaxy painted [Msun]
CENTRAL_SCATTER = 0.2  # of log10 m at fixed M200c
LOG_M1, LOG_EPS, ALPHA, DELTA, GAMMA = 11.35, -1.642, -1.779, 4.394, 0.547  # Kravtsov et al. 2018, table 3
LOG_HALO, LOG_STARS, BETA, DELTA_H, GAMMA_H = 12.10, 10.31, 0.33, 0.42, 1.21  # [Msun/h, Msun/h^2]; Zu & Mandelbaum 2015
SIGMA_LN, SIGMA_SLOPE = 0.50, -0.04  # scatter of ln m below M_h, and its change per dex of M above
B_SAT, BETA_SAT, B_CUT, BETA_CUT = 8.98, 0.90, 0.86, 0.41
SIZE = 0.015  # half-mass radius over R200c
NEEDED = ("x", "y", "z", "m200m", "m200c", "r200m", "r200c", "fgas200m")
_LOG_STARS = np.linspace(7.0, 12.8, 581)  # [Msun/h^2]
_LOG_M200C = np.linspace(9.0, 16.5, 751)  # [Msun]


def paint_galaxies(
    particles: Particles, halos: Table, rng: np.random.Generator, least_mass: float = LEAST_MASS
) -> Species:
    """Galaxies of all halos of a table: a central each, and satellites on its dark matter.

    Positions are comoving [Mpc], masses stellar [Msun], velocities [km/s], support radii comoving [Mpc] such that half
    of the kernel's mass is inside the half-mass radius. Each row of the table has its own stream of random numbers:
    what is painted on a halo depends on rng, on its row and on its own dark matter alone. A halo of which the snapshot
    holds a part only has the satellites of that part, and one of which it holds nothing has no galaxy.

    Args:
        particles: the snapshot, or a region of it.
        halos: of `find_halos`; rows without M200c are left out.
        rng: of which one stream is spawned per row.
        least_mass: stellar mass below which nothing is painted [Msun].

    Raises:
        ValueError: the table lacks a column, or the least mass is not positive.
    """
    missing = [name for name in NEEDED if name not in halos.colnames]
    if missing:
        raise ValueError(f"galaxies are painted on a table of find_halos; this one has no {missing[0]}.")
    if not 0 < least_mass < np.inf:
        raise ValueError(f"the least stellar mass of a galaxy must be positive, not {least_mass:g} Msun.")
    dark, a = particles.dark_matter, particles.scale_factor
    tree = cKDTree(wrapped(dark.positions, particles.box), boxsize=particles.box)
    centres, reach = wrapped(halo_centres(halos), particles.box), np.asarray(halos["r200m"]) / a
    painted = []
    for row, stream in enumerate(rng.spawn(len(halos))):
        inside = np.sort(np.asarray(tree.query_ball_point(centres[row], reach[row]), dtype=np.intp))
        if len(inside) and np.isfinite(halos["m200c"][row]):
            painted.append(_paint_halo(halos[row], centres[row], dark.take(inside), particles, least_mass, stream))
    return _joined(painted, dark.velocities is not None)


def galaxies_of_table(table: Table, particles: Particles) -> Species:
    """Galaxies of a catalogue, for `Particles.galaxies`.

    Args:
        table: columns x, y, z [comoving Mpc unless the unit is given], stellar_mass [Msun] and, if known, vx, vy, vz
            [km/s].
        particles: the snapshot that it belongs to, whose cosmology and redshift give the sizes.

    Raises:
        ValueError: a column is missing, or a mass is not positive.
    """
    missing = [name for name in ("x", "y", "z", "stellar_mass") if name not in table.colnames]
    if missing:
        raise ValueError(f"the table of galaxies has no column {missing[0]}.")
    masses = column_in(table, "stellar_mass", u.Msun)
    positions = np.stack([column_in(table, axis, u.Mpc) for axis in "xyz"], axis=1)
    if not (np.isfinite(positions).all() and np.isfinite(masses).all() and (masses > 0).all()):
        raise ValueError("galaxies must have finite places and positive masses.")
    known = all(f"v{axis}" in table.colnames for axis in "xyz")
    velocities = np.stack([column_in(table, f"v{axis}", u.km / u.s) for axis in "xyz"], 1) if known else None
    return Species(
        positions, None if velocities is None else velocities.astype(np.float32), masses,
        support_radius(half_mass_radius(masses, particles.cosmology, particles.scale_factor), particles.scale_factor),
    )  # fmt: skip


def central_mass(m200c: ArrayLike) -> NDArray[np.float64]:
    """Stellar mass of the central galaxy of a halo of M200c [Msun], without scatter, any shape [Msun]."""
    x = np.log10(np.asarray(m200c, dtype=float)) - LOG_M1
    return 10 ** (LOG_EPS + LOG_M1 + _behroozi(x) - _behroozi(np.zeros(())))


def mean_satellites(stellar_mass: ArrayLike, m200m: float, h: float) -> NDArray[np.float64]:
    """Mean number of satellites above a stellar mass [Msun] in a halo of M200m [Msun], shape of stellar_mass."""
    log_m, M = np.log10(np.asarray(stellar_mass, dtype=float) * h**2), m200m * h
    mean = np.interp(np.log10(M), _log_host(_LOG_STARS), _LOG_STARS)
    sigma = SIGMA_LN + SIGMA_SLOPE * max(0.0, np.log10(M) - LOG_HALO)
    host = 10 ** (_log_host(log_m) - 12)
    m_sat, m_cut = 1e12 * B_SAT * host**BETA_SAT, 1e12 * B_CUT * host**BETA_CUT
    centrals = 0.5 * erfc(np.log(10) * (log_m - mean) / (np.sqrt(2) * sigma))
    return centrals * M / m_sat * np.exp(-m_cut / M)


def half_mass_radius(
    stellar_mass: NDArray[np.float64], cosmology: Cosmology, scale_factor: float
) -> NDArray[np.float64]:
    """Half-mass radius of galaxies by their stellar mass [Msun], (P,) proper [Mpc].

    R200c is that of the halo whose central has this mass: for a satellite, of the halo that it once had.
    """
    m200c = 10 ** np.interp(np.log10(stellar_mass), np.log10(central_mass(10**_LOG_M200C)), _LOG_M200C)
    return SIZE * np.cbrt(3 * m200c / (800 * np.pi * cosmology.rho_crit(scale_factor)))


def support_radius(half_mass: NDArray[np.float64], scale_factor: float) -> NDArray[np.float64]:
    """Comoving support radius [Mpc] of Wendland C2 kernels of this proper half-mass radius [Mpc]."""
    return half_mass / (_half_mass_of_kernel() * scale_factor)


def whole_halos_beyond(halos: Table, scale_factor: float) -> float:
    """How much farther than a map the dark matter of halos that reach into it can be, comoving [Mpc]."""
    return 2 * float(np.max(halos["r200m"], initial=0.0)) / scale_factor


def _paint_halo(
    halo: Row, centre: NDArray[np.float64], dark: Species, particles: Particles,
    least_mass: float, rng: np.random.Generator,
) -> Species:
    """The central of one halo and the satellites on `dark`, its dark matter."""
    a, c = particles.scale_factor, particles.cosmology
    central = float(central_mass(halo["m200c"])) * 10 ** (CENTRAL_SCATTER * rng.standard_normal())
    part = min(1.0, float(dark.masses.sum()) / (halo["m200m"] * (1 - halo["fgas200m"])))
    masses = _satellite_masses(float(halo["m200m"]), c.h, part, least_mass, rng)
    index = rng.choice(len(dark), len(masses), replace=len(masses) > len(dark))
    own = half_mass_radius(masses, c, a)
    kept = slice(0 if central >= least_mass else 1, None)
    half = np.append(SIZE * float(halo["r200c"]), own)
    velocities = None
    if dark.velocities is not None:
        velocities = np.concatenate([dark.velocities.mean(axis=0, dtype=float)[None], dark.velocities[index]])[kept]
    return Species(
        np.concatenate([centre[None], dark.positions[index]])[kept],
        None if velocities is None else velocities.astype(np.float32),
        np.append(central, masses)[kept], support_radius(half, a)[kept],
    )  # fmt: skip


def _satellite_masses(
    m200m: float, h: float, part: float, least_mass: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Stellar masses of the satellites of `part` of a halo, by the inverse of <N(>m)>."""
    log_m = np.linspace(np.log10(least_mass), max(12.8, np.log10(least_mass) + 1), 400)
    above = mean_satellites(10**log_m, m200m, h)
    draws = above[0] * rng.uniform(size=rng.poisson(part * above[0]))
    return 10 ** np.interp(draws, above[::-1], log_m[::-1])


def _behroozi(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """f(x) of the module's docstring."""
    steep = DELTA * np.log10(1 + np.exp(x)) ** GAMMA / (1 + np.exp(np.minimum(10.0**-x, 700.0)))
    return -np.log10(10 ** (ALPHA * x) + 1) + steep


def _log_host(log_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """log10 M_c(m) [Msun/h] of log10 m [Msun/h^2]."""
    x = 10 ** (log_m - LOG_STARS)
    return LOG_HALO + BETA * (log_m - LOG_STARS) + x**DELTA_H / (1 + x**-GAMMA_H) - 0.5


@functools.lru_cache(maxsize=1)
def _half_mass_of_kernel() -> float:
    """Radius that holds half of the Wendland C2 kernel of unit support radius."""

    def inside(q: float) -> float:  # 42 int_0^q x^2 (1 - x)^4 (1 + 4 x) dx
        return 14 * q**3 - 84 * q**5 + 140 * q**6 - 90 * q**7 + 21 * q**8

    return float(brentq(lambda q: inside(q) - 0.5, 0.0, 1.0))


def _joined(painted: list[Species], moving: bool) -> Species:
    """All galaxies in one; without any, empty columns."""
    nothing = Species(np.zeros((0, 3)), np.zeros((0, 3), np.float32) if moving else None, np.zeros(0), np.zeros(0))
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(s, name) for s in (nothing, *painted)])
        for name in ("positions", "velocities", "masses", "support_radius") if getattr(nothing, name) is not None
    }  # fmt: skip
    return Species(**{"velocities": None} | columns)

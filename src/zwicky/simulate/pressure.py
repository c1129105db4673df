"""The pressure of the gas as a model: HYPER's temperature map (He, Trac & Gnedin 2022, arXiv 2107.04606).

A halo of mass M200c and concentration c200c has, as functions of radius r,

    rho = NFW,    psi = 4 pi G rho_s r_s ln(x) / (x^2 - 1),   x = r / r_s          (psi = G int rho / |x - x'|^2 d^3x')
    P_th / P500 = P0 / [(c s)^gamma (1 + (c s)^alpha)^((beta - gamma) / alpha)],   s = r / R500c
    f_th = P_th / P_tot = 0.913 exp[-(0.244 s)^1.244]                              (Nelson et al. 2014)
    rho_gas = |d(P_th / f_th)/dr| / (G M(<r) / r^2),    T = P_th mu m_p / (k rho_gas).

The pairs (rho, psi) of all halos and radii determine (M, r), so T and f_th become functions of local rho and psi. The
gas of the model is less concentrated than NFW, and so is the sum of both in a simulation, by 10% at 0.1 R500c: HYPER's
map, which takes all matter for NFW, makes the gas there 5% too hot. Here rho and psi are those of NFW dark matter and
of gas in equilibrium with the mass of both. A gas particle looks T and f_th up; then P_th = rho_gas k T / (mu m_p) with
its own SPH density. Coefficients of the debiased pressure profile (DPP) are from He et al. 2021 (arXiv 2008.04334).
Outside halos the intergalactic medium follows T = T0 Delta_b^(gamma - 1); the two are blended geometrically in gas
overdensity.

With the temperature prescribed, gas in static equilibrium under P_th alone would be over-concentrated, because part of
the support is random motion. The closure says who supplies it: `inviscid` leaves it all to the motion that the
simulation has; `viscous` dissipates part of the motion and puts a share of P_tot - P_th back into the equation of
motion: P_th [1 + share (1 / f_th - 1)] drives the gas. The more particles a halo has, the more of the motion it
resolves, and the smaller is its share. SZ and X-ray always use P_th.

Halos differ. Each gas particle may carry three numbers, its traits, that move ln T, beta and ln(thermal_scale) away
from the model; they come from a random field over the initial positions that is smoother than the patch a cluster forms
from (`initial.smooth_fields`), so that a cluster has about one value of each. T and f_th follow to first order in them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from colossus.halo import concentration
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.ndimage import distance_transform_edt
from scipy.optimize import brentq
from scipy.special import dawsn
from torch import Tensor

from zwicky.cosmology import Cosmology, colossus_of
from zwicky.units import G_CGS, K_B, KEV, M_PROTON, MPC, MSUN, MU, MU_E

Array = NDArray[np.float64]
Profiles = dict[str, Array]
CLOSURES = ("viscous", "inviscid")
MATTER = ("sum", "nfw")
HYPER_PAIR = 1.38e10  # Msun, of a dark matter and a gas particle of HYPER
OUTERMOST = 6.5  # R500c, no less than where the halos of the map end
STEP = 0.1  # of beta and of ln(thermal_scale), for the derivatives by them


@dataclass(frozen=True)
class PressureModel:
    """Parameters of the pressure model; the defaults are the DPP.

    Args:
        p0, c500, alpha, beta, gamma: GNFW pressure profile.
        thermal_0, thermal_scale, thermal_slope: f_th(s) = thermal_0 exp[-(thermal_scale s)^thermal_slope].
        igm_t0 [K], igm_gamma: T = igm_t0 Delta_b^(igm_gamma - 1).
        blend: gas overdensity at the middle of the blend, which runs from half to twice this value.
        reionization: redshift before which the gas is cold (no pressure).
        matter: of the halos that make the map: `nfw` for all of it, as in HYPER, or `sum` of NFW dark matter and gas.
        temperature: multiplies the temperatures of the map. Halos that form lie around the relation of rho and psi that
            the model's have, and gas hotter than the model's spreads: a few per cent less bring its profile back.
        closure: `viscous` or `inviscid`. viscosity: alpha of the artificial viscosity of the viscous closure.
        support, support_slope: the share of P_tot - P_th that drives the gas in the viscous closure, of halos of 1000
            pairs of particles, and how much smaller it is for those of ten times as many. Gas at rest needs 1 and 0.
        balsara: weaken the viscosity where gas turns more than it is squeezed.
        scatter: rms between halos of ln T, beta and ln(thermal_scale).
        scatter_length: Gaussian smoothing of the initial positions over which they are drawn [Mpc]. The wider, the more
            of the scatter lies between clusters and the less inside of one, but the fewer values a box holds.
    """

    p0: float = 5.048
    c500: float = 1.217
    alpha: float = 1.192
    beta: float = 5.490
    gamma: float = 0.433
    thermal_0: float = 0.913
    thermal_scale: float = 0.244
    thermal_slope: float = 1.244
    igm_t0: float = 1e4
    igm_gamma: float = 1.6
    blend: float = 30.0
    reionization: float = 8.0
    matter: str = "sum"
    temperature: float = 0.92
    closure: str = "viscous"
    viscosity: float = 1.0
    support: float = 0.85
    support_slope: float = 0.3
    balsara: bool = True
    scatter: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scatter_length: float = 25.0

    def __post_init__(self) -> None:
        if self.closure not in CLOSURES:
            raise ValueError(f"closure must be one of {', '.join(CLOSURES)}, not {self.closure!r}.")
        if self.matter not in MATTER:
            raise ValueError(f"matter must be one of {', '.join(MATTER)}, not {self.matter!r}.")
        for f in fields(self):
            if f.type == "float" and not 0 <= getattr(self, f.name) < np.inf:
                raise ValueError(f"{f.name} of the pressure model must not be negative or infinite.")
        positive = ("p0", "c500", "alpha", "thermal_0", "temperature", "blend", "igm_t0")
        if not all(getattr(self, name) > 0 for name in positive):
            raise ValueError(f"{', '.join(positive[:-1])} and {positive[-1]} of the pressure model must be positive.")
        if self.support > 1:
            raise ValueError("support of the pressure model must be from 0 to 1.")
        if self.thermal_0 > 1 or self.beta <= self.gamma:
            raise ValueError(f"the pressure model needs thermal_0 <= 1 and beta > gamma (with scatter, by {STEP}).")
        if len(self.scatter) != 3 or not all(0 <= s < 1 for s in self.scatter) or self.scatter_length == 0:
            raise ValueError("scatter takes three numbers from 0 to 1, and scatter_length must be positive.")
        if not (self.total_slope(np.geomspace(1e-2, OUTERMOST, 100)) < 0).all():
            raise ValueError("the total pressure of the pressure model must fall with radius; lower thermal_scale.")
        if any(self.scatter):
            _ = self.varied  # which must be models as well

    @property
    def varied(self) -> tuple[tuple[PressureModel, PressureModel], ...]:
        """Models without scatter, with beta and with ln(thermal_scale) higher and lower by STEP."""
        plain = replace(self, scatter=(0.0, 0.0, 0.0))
        scale = self.thermal_scale
        return (
            (replace(plain, beta=self.beta + STEP), replace(plain, beta=self.beta - STEP)),
            (replace(plain, thermal_scale=scale * np.exp(STEP)), replace(plain, thermal_scale=scale * np.exp(-STEP))),
        )

    def thermal_fraction(self, s: Array) -> Array:
        """f_th = P_th / P_tot at s = r / R500c."""
        return self.thermal_0 * np.exp(-((self.thermal_scale * s) ** self.thermal_slope))

    def share(self, pairs: Array) -> Array:
        """Share of P_tot - P_th in the equation of motion of the gas of a halo with so many pairs of particles."""
        share = np.clip(self.support - self.support_slope * np.log10(pairs / 1000), 0, 1)
        return share if self.closure == "viscous" else np.zeros_like(share)

    def universal(self, s: Array) -> Array:
        """P_th / P500 at s = r / R500c."""
        y = self.c500 * s
        return self.p0 / (y**self.gamma * (1 + y**self.alpha) ** ((self.beta - self.gamma) / self.alpha))

    def total_slope(self, s: Array) -> Array:
        """dln(P_th / f_th) / dln r at s = r / R500c."""
        y = (self.c500 * s) ** self.alpha
        thermal = -self.gamma - (self.beta - self.gamma) * y / (1 + y)
        return thermal + self.thermal_slope * (self.thermal_scale * s) ** self.thermal_slope


def pressure_500(m500c: Array, efunc: float, h: float) -> Array:
    """P500 [erg cm^-3], total gas pressure, of a halo of m500c [Msun].

    1.65e-3 keV cm^-3 (mu_e / mu) E(z)^(8/3) [M500 / (3e14 h70^-1 Msun)]^(2/3) h70^2 (Arnaud et al. 2010, for all of
    the gas: times mu_e / mu).
    """
    h70 = h / 0.7
    return 1.65e-3 * KEV * (MU_E / MU) * efunc ** (8 / 3) * (m500c * h70 / 3e14) ** (2 / 3) * h70**2


def hydrostatic(
    model: PressureModel,
    r: Array,
    r500c: Array,
    p500: Array,
    rho_s: Array,
    r_s: Array,
) -> Profiles:
    """Profiles of a halo in hydrostatic equilibrium, all in CGS: rho, psi, p_th, f_th, rho_gas, temperature."""
    x, s = r / r_s, r / r500c
    gravity = 4 * np.pi * G_CGS * rho_s * r_s**3 * (np.log1p(x) - x / (1 + x)) / r**2
    p_th, f_th = p500 * model.universal(s), model.thermal_fraction(s)
    rho_gas = -(p_th / f_th) * model.total_slope(s) / r / gravity
    return {
        "rho": rho_s / (x * (1 + x) ** 2),
        "psi": 4 * np.pi * G_CGS * rho_s * r_s * _log_ratio(x),
        "p_th": p_th,
        "f_th": f_th,
        "rho_gas": rho_gas,
        "temperature": p_th * MU * M_PROTON / (K_B * rho_gas),
    }


def _log_ratio(x: Array) -> Array:
    """ln(x) / (x^2 - 1), which is 1/2 - (x - 1)/2 near x = 1."""
    near = np.abs(x - 1) < 1e-4
    safe = np.where(near, 2.0, x)
    return np.where(near, 0.5 - 0.5 * (x - 1), np.log(safe) / (safe**2 - 1))


@dataclass(frozen=True)
class TemperatureMap:
    """T and what drives the gas on a regular grid of log10 rho [g cm^-3] and log10 psi [cm s^-2], both proper.

    `shape` holds ln(T rho / psi^2), which varies slowly (T = psi^2 / rho F by dimensions), so that interpolation is
    accurate; `f_th` the thermal fraction; `share` that of `PressureModel`. `responses` are the derivatives of the first
    two by beta and by ln(thermal_scale).
    """

    log_rho0: float
    log_psi0: float
    step: float
    shape: Array
    f_th: Array
    share: Array
    responses: tuple[tuple[Array, Array], ...] = ()

    def __call__(self, rho: Tensor, psi: Tensor, traits: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Temperature [K] and driving over thermal pressure, (P,).

        Args:
            rho, psi: matter density [g cm^-3] and psi [cm s^-2], proper, (P,) float64.
            traits: (P, 3) changes of ln T, beta and ln(thermal_scale).
        """
        u = ((rho.log10() - self.log_rho0) / self.step).clamp(0, self.shape.shape[0] - 1.001)
        v = ((psi.log10() - self.log_psi0) / self.step).clamp(0, self.shape.shape[1] - 1.001)
        i, j = u.long(), v.long()
        du, dv = u - i, v - j

        def bilinear(values: Array) -> Tensor:
            table = torch.from_numpy(values).to(rho.device)
            return (1 - du) * ((1 - dv) * table[i, j] + dv * table[i, j + 1]) + du * (
                (1 - dv) * table[i + 1, j] + dv * table[i + 1, j + 1]
            )

        shape, f_th = bilinear(self.shape), bilinear(self.f_th)
        if traits is not None:
            shape += traits[:, 0]
            for change, (d_shape, d_f_th) in zip(traits.T[1:], self.responses, strict=True):
                shape += change * bilinear(d_shape)
                f_th += change * bilinear(d_f_th)
        return shape.exp() * psi**2 / rho, 1 + bilinear(self.share) * (1 / f_th.clamp(0.1, 1.0) - 1)


def temperature_map(
    model: PressureModel,
    cosmology: Cosmology,
    a: float,
    high_pass: float = np.inf,
    step: float = 0.05,
    pair: float = HYPER_PAIR,
) -> TemperatureMap:
    """The map T(rho, psi) at scale factor a, from halos of 10^10 to 10^16 Msun at 0.01 to 4 R200c.

    Args:
        high_pass: comoving wavelength lambda [Mpc] of the filter 1 - exp(-(k lambda / 2 pi)^2) that psi went through in
            the simulation; the psi of the model halos goes through the same.
        pair: mass of a dark matter and a gas particle together [Msun].
    """
    halo = _halo_grid(cosmology, a)
    p500 = pressure_500(halo["m500c"], float(cosmology.E(a)), cosmology.h)
    long = _long_psi(halo, 2 * np.pi / (high_pass * a * MPC))

    def profiles(m: PressureModel) -> Profiles:
        p = hydrostatic(m, halo["r"], halo["r500c"], p500, halo["rho_s"], halo["r_s"])
        return _with_gas(p, halo, cosmology.baryon_fraction) if m.matter == "sum" else p

    p = profiles(model)
    psi = p["psi"] - long
    kept = psi > 0.1 * p["psi"]
    log_rho, log_psi = np.log10(p["rho"][kept]), np.log10(psi[kept])
    low_rho, low_psi = step * np.floor(log_rho.min() / step), step * np.floor(log_psi.min() / step)

    def responses(up: PressureModel, down: PressureModel) -> tuple[Array, Array]:
        """Derivatives of ln T and f_th, at the rho and psi of the halos as they are."""
        high, low = profiles(up), profiles(down)
        changes = np.log(high["temperature"] / low["temperature"]), high["f_th"] - low["f_th"]
        return changes[0] / (2 * STEP), changes[1] / (2 * STEP)

    ln_shape = np.log(p["temperature"] * p["rho"] / np.where(kept, psi, np.nan) ** 2)
    tables = [ln_shape, p["f_th"], model.share(halo["m200c"] / pair)]
    if any(model.scatter):
        for up, down in model.varied:
            tables += responses(up, down)
    chosen = tuple(np.broadcast_to(table, psi.shape)[kept] for table in tables)
    places = (log_rho - low_rho) / step, (log_psi - low_psi) / step
    shape, f_th, share, *rest = _grid_average(*places, chosen)
    return TemperatureMap(low_rho, low_psi, step, shape, f_th, share, tuple(zip(rest[::2], rest[1::2], strict=True)))


def _with_gas(p: Profiles, halo: Profiles, baryons: float) -> Profiles:
    """Profiles of halos (`matter = "sum"`) from those of NFW halos, on the grid of `_halo_grid`.

    Dark matter is 1 - baryons of NFW; the gas has the pressure of p and is in equilibrium with the mass of both,

        rho_gas = |dP_tot/dr| r^2 / (G M),    M(<r) = (1 - baryons) M_NFW(<r) + M_gas(<r).
    """
    r = halo["r"]
    ln_r = np.log(r[0])
    m_nfw = 4 * np.pi * halo["rho_s"] * halo["r_s"] ** 3 * _nfw_mass(r / halo["r_s"])
    held = p["rho_gas"] * m_nfw
    rho_gas = p["rho_gas"]
    for _ in range(8):  # each brings rho_gas closer by the share of gas in M, 0.1 or less
        shells = 4 * np.pi * r**3 * rho_gas
        m_gas = shells[:, :1] / 3 + cumulative_trapezoid(shells, ln_r, axis=1, initial=0)
        rho_gas = held / ((1 - baryons) * m_nfw + m_gas)
    change = rho_gas - baryons * p["rho"]
    temperature = p["p_th"] * MU * M_PROTON / (K_B * rho_gas)
    psi = p["psi"] + change @ _psi_of_shells(r[0] / r[0, 0]).T * r[:, :1]
    return p | {"rho": p["rho"] + change, "psi": psi, "rho_gas": rho_gas, "temperature": temperature}


def _psi_of_shells(x: Array) -> Array:
    """K of psi(x_i) = sum_j K_ij rho(x_j), at radii x that are even in ln x: G (2 pi / x_i) int rho x' L dx',

    L = ln[(x_i + x') / |x_i - x'|], whose mean over the shell of x_i itself is ln 2 + 1 - ln(dlnx / 2).
    """
    dlnx = np.log(x[1] / x[0])
    apart = np.abs(x[:, None] - x)
    np.fill_diagonal(apart, x * dlnx / (2 * np.e))
    return 2 * np.pi * G_CGS * x**2 / x[:, None] * np.log((x[:, None] + x) / apart) * dlnx


def _long_psi(halo: Profiles, k0: float) -> Array:
    """The part exp(-(k / k0)^2) of psi of a halo, all of it within 4 R200c taken as a point: G M k0 D(k0 r / 2) / r.

    D is Dawson's integral; k0 [cm^-1] proper.
    """
    mass = halo["m200c"] * MSUN * _nfw_mass(4 * halo["r200c"] / halo["r_s"]) / _nfw_mass(halo["r200c"] / halo["r_s"])
    return G_CGS * mass * k0 * dawsn(k0 * halo["r"] / 2) / halo["r"]


def _grid_average(u: Array, v: Array, values: tuple[Array, ...]) -> list[Array]:
    """Cloud-in-cell averages of scattered values on integer nodes; empty nodes copy the nearest filled one."""
    size = (int(u.max()) + 2, int(v.max()) + 2)
    weight, sums = np.zeros(size), [np.zeros(size) for _ in values]
    i, j = u.astype(int), v.astype(int)
    for di in (0, 1):
        for dj in (0, 1):
            w = np.abs(1 - di - (u - i)) * np.abs(1 - dj - (v - j))
            np.add.at(weight, (i + di, j + dj), w)
            for total, value in zip(sums, values, strict=True):
                np.add.at(total, (i + di, j + dj), w * value)
    empty = weight < 1e-3
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return [(total / np.where(empty, 1, weight))[tuple(nearest)] for total in sums]


def _halo_grid(cosmology: Cosmology, a: float) -> Profiles:
    """NFW halos (mass along axis 0, radius along axis 1), CGS but for masses [Msun]."""
    m200c = 10 ** np.arange(10.0, 16.0, 0.02)
    c200c = concentration_200c(cosmology, m200c, a)
    rho_crit = cosmology.rho_crit(a) * MSUN / MPC**3
    r200c = np.cbrt(m200c * MSUN / (4 / 3 * np.pi * 200 * rho_crit))
    r_s = r200c / c200c
    rho_s = m200c * MSUN / (4 * np.pi * r_s**3 * _nfw_mass(c200c))
    x500 = overdensity_radius(c200c, 200.0, 500.0)
    grid = {"m200c": m200c, "r200c": r200c, "r_s": r_s, "rho_s": rho_s, "r500c": x500 * r_s}
    grid["m500c"] = m200c * _nfw_mass(x500) / _nfw_mass(c200c)
    grid = {k: v[:, None] for k, v in grid.items()}
    grid["r"] = grid["r200c"] * 10 ** np.arange(-2.0, np.log10(4.0) + 0.005, 0.01)
    return grid


def concentration_200c(cosmology: Cosmology, m200c: Array, a: float) -> Array:
    """c200c of Diemer & Kravtsov 2015 with the constants of Diemer & Joyce 2019, by colossus; m200c [Msun]."""
    with colossus_of(cosmology):
        return concentration.concentration(m200c * cosmology.h, "200c", 1 / a - 1, model="diemer15")


def _nfw_mass(x: ArrayLike) -> Array:
    x = np.asarray(x, dtype=float)
    return np.log1p(x) - x / (1 + x)


def overdensity_radius(c: Array, delta: float, wanted: float) -> Array:
    """r / r_s where an NFW halo, of concentration c at overdensity `delta`, reaches the overdensity `wanted`."""

    def solve(ci: float) -> float:
        target = wanted / delta * float(_nfw_mass(ci)) / ci**3
        return float(brentq(lambda x: float(_nfw_mass(x)) / x**3 - target, 1e-3 * ci, 10 * ci))

    return np.array([solve(float(ci)) for ci in c])


def gas_temperature(
    model: PressureModel,
    icm: TemperatureMap,
    overdensity: Tensor,
    rho_matter: Tensor,
    psi: Tensor,
    traits: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Temperature [K] and driving over thermal pressure: IGM below blend / 2, ICM above 2 blend, geometric between.

    Args:
        overdensity: gas density over its mean. rho_matter: proper [g cm^-3]. psi: proper [cm s^-2]. All (P,) float64.
        traits: (P, 3), see `TemperatureMap`.
    """
    igm = igm_temperature(model, overdensity)
    halo, drive = icm(rho_matter.clamp_min(1e-40), psi.clamp_min(1e-20), traits)
    x = (((overdensity.clamp_min(1e-3) / model.blend).log2() + 1) / 2).clamp(0, 1)
    return torch.maximum(model.temperature * halo, igm) ** x * igm ** (1 - x), drive**x


def igm_temperature(model: PressureModel, overdensity: Tensor) -> Tensor:
    """T = T0 Delta_b^(gamma - 1) [K] of the intergalactic medium."""
    return model.igm_t0 * overdensity.clamp_min(1e-3) ** (model.igm_gamma - 1)

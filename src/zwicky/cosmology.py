"""Background, growth and linear power of a flat-ish LCDM universe of cold matter and a cosmological constant.

    E(a)^2 = Omega_m a^-3 + Omega_k a^-2 + Omega_L,    H = H0 E                          (radiation is neglected)
    D'' + (3/a + dlnE/da) D' = (3/2) Omega_m D / (a^5 E^2),   D = a deep in matter domination
    D2 = -(3/7) D^2 Omega_m(a)^(-1/143)                                                  (Bouchet et al. 1995)

The growth function solves its differential equation; the linear matter power comes from camb (Lewis, Challinor &
Lasenby 2000) at z = 0, scaled to the requested sigma8, and is carried to other times by D(a)^2.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from colossus.cosmology import cosmology as _colossus
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import cumulative_simpson, quad, solve_ivp

from zwicky.units import G_MPC, GYR_KM_S_MPC


@dataclass(frozen=True)
class Cosmology:
    """Cosmological parameters; the defaults are those of Hsu et al. 2025 (HYPER).

    Args:
        omega_m, omega_l, omega_b: density parameters today of all matter, the cosmological constant, baryons.
        h: Hubble constant in 100 km/s/Mpc.
        sigma8: rms of the linear density in spheres of 8 Mpc/h today.
        n_s: spectral index.
    """

    omega_m: float = 0.3
    omega_l: float = 0.7
    omega_b: float = 0.045
    h: float = 0.7
    sigma8: float = 0.8
    n_s: float = 0.96

    def __post_init__(self) -> None:
        positive = 0 < self.omega_b < self.omega_m <= 1.5 and self.h > 0 and self.sigma8 > 0
        if not (positive and np.isfinite([self.omega_l, self.h, self.sigma8, self.n_s]).all()):
            raise ValueError(f"not a cosmology: {self}; need 0 < omega_b < omega_m, h > 0 and sigma8 > 0, all finite.")

    @property
    def hubble0(self) -> float:
        """H0 [km/s/Mpc]."""
        return 100.0 * self.h

    @property
    def rho_crit0(self) -> float:
        """Critical density today [Msun / Mpc^3]."""
        return 3.0 * self.hubble0**2 / (8.0 * np.pi * G_MPC)

    @property
    def rho_mean(self) -> float:
        """Mean matter density, comoving [Msun / Mpc^3]."""
        return self.omega_m * self.rho_crit0

    @property
    def baryon_fraction(self) -> float:
        """Omega_b / Omega_m."""
        return self.omega_b / self.omega_m

    def as_dict(self) -> dict[str, float]:
        """The parameters as plain numbers, for headers."""
        return asdict(self)

    def E(self, a: ArrayLike) -> NDArray[np.float64]:
        """H(a) / H0 at scale factor a."""
        a = np.asarray(a, dtype=float)
        omega_k = 1.0 - self.omega_m - self.omega_l
        return np.sqrt(self.omega_m / a**3 + omega_k / a**2 + self.omega_l)

    def omega_m_of(self, a: ArrayLike) -> NDArray[np.float64]:
        """Omega_m(a)."""
        return self.omega_m / (np.asarray(a, dtype=float) ** 3 * self.E(a) ** 2)

    def lagrangian_radius(self, mass: float) -> float:
        """Comoving radius [Mpc] of the sphere that holds `mass` [Msun] at the mean density."""
        return float((3 * mass / (4 * np.pi * self.rho_mean)) ** (1 / 3))

    def rho_crit(self, a: float) -> float:
        """Critical density at a, proper [Msun / Mpc^3]."""
        return self.rho_crit0 * float(self.E(a)) ** 2

    def growth(self, a: ArrayLike) -> NDArray[np.float64]:
        """Linear growth D(a), normalised to D = a deep in matter domination."""
        return np.asarray(_growth_solution(self)(np.log(a))[0])

    def growth_rate(self, a: ArrayLike) -> NDArray[np.float64]:
        """f = dlnD / dlna."""
        d, d_prime = _growth_solution(self)(np.log(a))
        return d_prime / d

    def growth2(self, a: ArrayLike) -> NDArray[np.float64]:
        """Second-order growth D2 = -(3/7) D^2 Omega_m(a)^(-1/143) (Bouchet et al. 1995)."""
        return -3.0 / 7.0 * self.growth(a) ** 2 * self.omega_m_of(a) ** (-1.0 / 143.0)

    def growth_rate2(self, a: ArrayLike) -> NDArray[np.float64]:
        """dlnD2 / dlna = 2 Omega_m(a)^(6/11) (Bouchet et al. 1995)."""
        return 2.0 * self.omega_m_of(a) ** (6.0 / 11.0)

    def kick_drift_factor(self, a0: float, a1: float, power: int) -> float:
        """Integral of H0 dt / a^power = da / (a^(power+1) E) from a0 to a1.

        power = 2 turns the momentum a^2 dx/dt into a comoving displacement, power = 1 integrates gravity, power = 0 the
        pressure force (Quinn et al. 1997, astro-ph/9710043).
        """
        return float(quad(lambda a: 1.0 / (a ** (power + 1) * float(self.E(a))), a0, a1, epsrel=1e-11)[0])

    def age(self, a: ArrayLike) -> NDArray[np.float64]:
        """Time since the beginning, t = int_0^a da / (a H) [Gyr], between 0 and a = 1.1."""
        x, t = _ages(self)
        return np.interp(np.asarray(a, dtype=float) ** 1.5, x, t)

    def linear_power(self, k: ArrayLike, a: float = 1.0) -> NDArray[np.float64]:
        """Linear matter power [Mpc^3] at wavenumber k [1/Mpc] and scale factor a."""
        ln_k, ln_p = _camb_table(self)
        ln = np.log(np.asarray(k, dtype=float))
        inside = np.interp(ln, ln_k, ln_p)
        slope = (ln_p[-1] - ln_p[-2]) / (ln_k[-1] - ln_k[-2])
        power = np.exp(inside + slope * np.maximum(ln - ln_k[-1], 0.0) + self.n_s * np.minimum(ln - ln_k[0], 0.0))
        return power * float(self.growth(a) / self.growth(1.0)) ** 2

    def sigma(self, mass: float, a: float = 1.0) -> float:
        """Rms of the linear density contrast at a in spheres that hold `mass` [Msun] at the mean density."""
        ln_k = np.linspace(np.log(1e-5), np.log(1e2), 4000)
        k = np.exp(ln_k)
        window = top_hat(k * self.lagrangian_radius(mass))
        return float(np.sqrt(np.trapezoid(self.linear_power(k, a) * window**2 * k**3, ln_k) / (2 * np.pi**2)))


def top_hat(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fourier transform of a sphere of unit weight, at x = wavenumber times radius."""
    x = np.maximum(x, 1e-3)  # below, it is 1 - x^2 / 10
    return 3 * (np.sin(x) - x * np.cos(x)) / x**3


@functools.lru_cache(maxsize=16)
def _growth_solution(cosmology: Cosmology):
    """Dense solution (D, dD/dlna) in ln a from a = 1e-3 to 2."""
    c = cosmology

    def derivative(ln_a: float, y: NDArray[np.float64]) -> list[float]:
        a = np.exp(ln_a)
        step = 1e-5
        dlnE = float(np.log(c.E(np.exp(ln_a + step)) / c.E(np.exp(ln_a - step)))) / (2 * step)
        return [y[1], -(2.0 + dlnE) * y[1] + 1.5 * float(c.omega_m_of(a)) * y[0]]

    start = np.log(1e-3)
    return solve_ivp(derivative, (start, np.log(2.0)), [1e-3, 1e-3], rtol=1e-9, atol=1e-14, dense_output=True).sol


@functools.lru_cache(maxsize=16)
def _ages(cosmology: Cosmology) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x = a^(3/2) and the time [Gyr] = (2/3) int dx / (x H), whose integrand is smooth from the beginning on."""
    x = np.linspace(0, 1.1**1.5, 4001)
    a = np.maximum(x, 1e-6) ** (2 / 3)
    t = cumulative_simpson(1 / (np.maximum(x, 1e-6) * cosmology.E(a)), x=x, initial=0)
    return x, t * (2 / 3) / cosmology.hubble0 * GYR_KM_S_MPC


@functools.lru_cache(maxsize=16)
def _camb_table(cosmology: Cosmology) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln k [1/Mpc] and ln P [Mpc^3] of camb's linear power at z = 0, scaled to sigma8."""
    import camb

    h, parameters = cosmology.h, camb_parameters(cosmology)
    parameters.set_matter_power(redshifts=[0.0], kmax=200.0)
    parameters.NonLinear = camb.model.NonLinear_none
    results = camb.get_results(parameters)
    k_h, _, p_h = results.get_matter_power_spectrum(minkh=1e-4, maxkh=150.0 / h, npoints=800)
    scale = (cosmology.sigma8 / float(results.get_sigma8_0())) ** 2
    return np.log(k_h * h), np.log(p_h[0] * scale / h**3)


def camb_parameters(cosmology: Cosmology, amplitude: float = 2e-9) -> Any:
    """The cosmology as camb has it, with an `amplitude` of the primordial power, As, in the place of sigma8."""
    import camb

    c = cosmology
    return camb.set_params(
        H0=c.hubble0, ombh2=c.omega_b * c.h**2, omch2=(c.omega_m - c.omega_b) * c.h**2,
        omk=1.0 - c.omega_m - c.omega_l, mnu=0.0, ns=c.n_s, As=amplitude, WantTransfer=True,
    )  # fmt: skip


@contextmanager
def colossus_of(cosmology: Cosmology) -> Iterator[None]:
    """The cosmology of colossus is this one inside the block, and what it was before afterwards."""
    previous = _colossus.current_cosmo
    try:
        _colossus.setCurrent(_in_colossus(cosmology))
        yield
    finally:
        _colossus.current_cosmo = previous


@functools.lru_cache(maxsize=8)
def _in_colossus(c: Cosmology) -> _colossus.Cosmology:
    """The cosmology as colossus has it, kept for the tables that it makes as they are asked for."""
    parameters = {"flat": abs(c.omega_m + c.omega_l - 1) < 1e-12, "H0": c.hubble0, "Om0": c.omega_m, "Ode0": c.omega_l,
                  "Ob0": c.omega_b, "sigma8": c.sigma8, "ns": c.n_s, "relspecies": False}  # fmt: skip
    if parameters["flat"]:
        del parameters["Ode0"]
    return _colossus.Cosmology(name="zwicky", persistence="", **parameters)

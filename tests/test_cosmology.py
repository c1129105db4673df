"""Background, growth and power against closed forms."""

import numpy as np
import pytest
from astropy.cosmology import LambdaCDM
from scipy.integrate import quad

from zwicky.cosmology import Cosmology

EDS = Cosmology(omega_m=1.0, omega_l=0.0, omega_b=0.05)


def growth_integral(c, a):
    """D = (5/2) Omega_m E(a) int_0^a da' / (a' E)^3, the growing mode for matter and Lambda (Heath 1977)."""
    return 2.5 * c.omega_m * float(c.E(a)) * quad(lambda x: (x * float(c.E(x))) ** -3, 1e-8, a, epsrel=1e-10)[0]


@pytest.mark.parametrize("a", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("omega_m", [0.2, 0.3, 0.5])
def test_growth_is_the_analytic_integral_of_flat_lcdm(a, omega_m):
    c = Cosmology(omega_m=omega_m, omega_l=1 - omega_m)
    assert float(c.growth(a)) == pytest.approx(growth_integral(c, a), rel=1e-4)


def test_growth_equals_the_scale_factor_in_einstein_de_sitter():
    a = np.geomspace(2e-3, 1.0, 20)
    np.testing.assert_allclose(EDS.growth(a), a, rtol=1e-6)
    np.testing.assert_allclose(EDS.growth_rate(a), 1.0, rtol=1e-5)
    np.testing.assert_allclose(EDS.growth2(a), -3 / 7 * a**2, rtol=1e-6)


def test_growth_rate_is_the_slope_of_the_growth_and_near_omega_m_to_the_power_0_55():
    c = Cosmology()
    a, step = np.array([0.05, 0.3, 0.7, 1.0]), 1e-3
    slope = (np.log(c.growth(a * np.exp(step))) - np.log(c.growth(a * np.exp(-step)))) / (2 * step)
    np.testing.assert_allclose(c.growth_rate(a), slope, rtol=1e-5)
    np.testing.assert_allclose(c.growth_rate(a), c.omega_m_of(a) ** 0.55, rtol=7e-3)


def test_second_order_growth_solves_its_differential_equation():
    """D2'' + (2 + dlnE/dlna) D2' = 1.5 Omega_m(a) (D2 - D^2), ' = d/dlna: Bouchet's fit obeys it to 1%."""
    c, step = Cosmology(), 1e-3
    for ln_a in np.log([0.1, 0.4, 1.0]):
        d2 = np.array([float(c.growth2(np.exp(ln_a + i * step))) for i in (-1, 0, 1)])
        a = np.exp(ln_a)
        dlnE = float(np.log(c.E(np.exp(ln_a + step)) / c.E(np.exp(ln_a - step)))) / (2 * step)
        left = (d2[2] - 2 * d2[1] + d2[0]) / step**2 + (2 + dlnE) * (d2[2] - d2[0]) / (2 * step)
        source = 1.5 * float(c.omega_m_of(a)) * float(c.growth(a)) ** 2
        assert left == pytest.approx(source * (d2[1] / float(c.growth(a)) ** 2 - 1), abs=0.01 * source)


def test_linear_power_has_sigma8():
    """int dk k^2 P W(8 Mpc/h k)^2 / (2 pi^2) = sigma8^2."""
    c = Cosmology()
    k = np.geomspace(1e-4, 50, 20000)
    x = k * 8 / c.h
    window = 3 * (np.sin(x) - x * np.cos(x)) / x**3
    variance = np.trapezoid(k**3 * c.linear_power(k) * window**2 / (2 * np.pi**2), np.log(k))
    assert np.sqrt(variance) == pytest.approx(0.8, rel=5e-3)
    assert c.sigma(4 / 3 * np.pi * (8 / c.h) ** 3 * c.rho_mean) == pytest.approx(0.8, rel=5e-4)


def test_sigma_of_mass_is_that_of_colossus_and_grows_with_time():
    """Eisenstein & Hu 1998 there, camb here, one sigma8."""
    c = Cosmology()
    colossus = pytest.importorskip("colossus.cosmology.cosmology")
    peer = colossus.Cosmology("peer", flat=True, H0=70, Om0=0.3, Ob0=0.045, sigma8=0.8, ns=0.96, relspecies=False)
    for mass in (1e13, 1e14, 1e15):
        assert c.sigma(mass) == pytest.approx(float(peer.sigma(c.lagrangian_radius(mass) * c.h)), rel=0.01)
    assert c.sigma(1e14, 0.5) / c.sigma(1e14) == pytest.approx(float(c.growth(0.5) / c.growth(1.0)), rel=1e-9)


def test_linear_power_grows_as_the_growth_squared_and_tends_to_the_primordial_slope():
    c = Cosmology()
    k = np.array([1e-3, 0.1, 5.0])
    np.testing.assert_allclose(
        c.linear_power(k, 0.3) / c.linear_power(k), (growth_integral(c, 0.3) / growth_integral(c, 1.0)) ** 2, rtol=2e-4
    )
    low = c.linear_power(np.array([1e-6, 1e-5]))
    assert np.log10(low[1] / low[0]) == pytest.approx(c.n_s, abs=1e-6)


@pytest.mark.parametrize(("power", "exponent"), [(2, -0.5), (1, 0.5), (0, 1.5)])
def test_kick_and_drift_factors_have_their_closed_forms_in_einstein_de_sitter(power, exponent):
    """int dt / a^p with a = (3t/2)^(2/3): int a^(1/2 - p) da."""
    closed = (0.7**exponent - 0.1**exponent) / exponent
    assert EDS.kick_drift_factor(0.1, 0.7, power) == pytest.approx(closed, rel=1e-9)


def test_drift_and_kick_of_adjoining_intervals_add_up():
    c = Cosmology()
    parts = c.kick_drift_factor(0.2, 0.3, 2) + c.kick_drift_factor(0.3, 0.9, 2)
    assert parts == pytest.approx(c.kick_drift_factor(0.2, 0.9, 2), rel=1e-10)


def test_critical_density_is_the_published_number():
    """rho_crit = 2.775e11 h^2 Msun / Mpc^3."""
    for h in (0.5, 0.7, 1.0):
        c = Cosmology(h=h)
        assert c.rho_crit0 == pytest.approx(2.775e11 * h**2, rel=5e-4)
        assert c.rho_mean == pytest.approx(0.3 * c.rho_crit0, rel=1e-14)


def test_age_of_the_universe_is_the_closed_form_of_flat_lcdm():
    """H0 t0 = 2 / (3 sqrt(Omega_L)) asinh sqrt(Omega_L / Omega_m)."""
    c = Cosmology()
    age = 2 / (3 * np.sqrt(0.7)) * np.arcsinh(np.sqrt(0.7 / 0.3))
    assert c.kick_drift_factor(1e-9, 1.0, 0) == pytest.approx(age, rel=1e-8)


def test_critical_density_and_omega_m_of_a_agree():
    c = Cosmology()
    for a in (0.2, 0.5, 1.0):
        assert c.rho_crit(a) * float(c.omega_m_of(a)) == pytest.approx(c.rho_mean / a**3, rel=1e-12)


@pytest.mark.parametrize(
    "wrong", [{"omega_b": 0.4}, {"omega_b": 0.0}, {"omega_m": -0.1}, {"omega_m": 2.0}, {"h": 0.0}, {"sigma8": -1.0},
              {"h": float("nan")}, {"omega_l": float("nan")}, {"n_s": float("inf")}]
)
def test_what_is_not_a_cosmology_is_refused(wrong):
    with pytest.raises(ValueError, match="not a cosmology"):
        Cosmology(**wrong)


@pytest.mark.parametrize("c", [Cosmology(), Cosmology(omega_l=0.6), Cosmology(omega_m=1.0, omega_l=0.0)])
def test_age_is_that_of_astropy(c):
    a = np.array([0.05, 0.3, 0.7, 1.0])
    expected = LambdaCDM(H0=c.hubble0, Om0=c.omega_m, Ode0=c.omega_l).age(1 / a - 1).to_value("Gyr")
    np.testing.assert_allclose(c.age(a), expected, rtol=1e-6)
    assert float(c.age(0.0)) == 0

"""The pressure model: published numbers, closed forms, hydrostatic equilibrium, and the map T(rho, psi)."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from colossus.cosmology import cosmology as colossus_cosmology
from scipy.integrate import cumulative_simpson, quad
from scipy.interpolate import CubicSpline

from zwicky.cosmology import Cosmology
from zwicky.simulate.pressure import (
    MATTER,
    PressureModel,
    _halo_grid,
    _with_gas,
    concentration_200c,
    gas_temperature,
    hydrostatic,
    overdensity_radius,
    pressure_500,
    temperature_map,
)
from zwicky.units import G_CGS, K_B, KEV, M_PROTON, MPC, MSUN, MU

COSMOLOGY = Cosmology()
NFW = PressureModel(matter="nfw")
DRIVEN = replace(NFW, support=1.0, support_slope=0.0)  # all of the non-thermal pressure drives the gas
UPP = PressureModel(p0=8.403, c500=1.177, alpha=1.0510, beta=5.4905, gamma=0.3081)

# One halo at z = 5 as printed by the Fortran code HYPER (He, Trac & Gnedin 2022), CGS.
M500C, R500C, R_S, RHO_S, S = 2.298221906926749e47, 5.742142494e23, 9.81342e22, 1.80793e-23, 0.01472694
P500, P_TH, RHO_GAS, PSI, TEMPERATURE = 6.770158665e-10, 1.852071282e-08, 1.3664360e-24, 3.6741608e-06, 96566999.0
G_HYPER = 6.67259e-8  # [cm^3 g^-1 s^-2], CODATA 1986


def look_up(function, *arrays):
    """A function of tensors, of arrays."""
    return [t.numpy() for t in function(*(torch.from_numpy(np.asarray(a, float)) for a in arrays))]


def hyper_profiles():
    """Our profiles of that halo at that radius, with HYPER's P500."""
    return hydrostatic(UPP, np.array(S * R500C), np.array(R500C), np.array(P500), np.array(RHO_S), np.array(R_S))


def test_p500_is_that_of_hyper():
    """E^2 with their radiation, 8.5e-5 a^-4; constants of nature differ in the fourth digit."""
    E = np.sqrt(0.3075 * 6**3 + 0.6925 + 8.5e-5 * 6**4)
    assert float(pressure_500(np.array(M500C / MSUN), E, 0.6774)) == pytest.approx(P500, rel=1e-3)


def test_thermal_pressure_is_that_of_hyper():
    assert float(hyper_profiles()["p_th"]) == pytest.approx(P_TH, rel=1e-5)


def test_psi_of_nfw_is_that_of_hyper():
    """To 3e-4, because HYPER has the G of 1986; with that to the digits of r_s and rho_s."""
    psi = float(hyper_profiles()["psi"])
    assert psi == pytest.approx(PSI, rel=3e-4)
    assert psi * G_HYPER / G_CGS == pytest.approx(PSI, rel=5e-6)


def test_gas_density_and_temperature_are_those_of_hyper():
    """To 6e-4: HYPER has the G of 1986 (rho_gas goes as 1 / G, T as G) and an m_p / k that is 2.4e-4 below CODATA's."""
    profiles = hyper_profiles()
    assert float(profiles["rho_gas"]) == pytest.approx(RHO_GAS, rel=6e-4)
    assert float(profiles["temperature"]) == pytest.approx(TEMPERATURE, rel=6e-4)
    assert float(profiles["rho_gas"]) * G_CGS / G_HYPER == pytest.approx(RHO_GAS, rel=1e-5)
    assert float(profiles["temperature"]) * G_HYPER / G_CGS == pytest.approx(TEMPERATURE, rel=3e-4)


def halo(m200c_h, a=1.0, radii=None):
    """Profiles and scales of a halo of m200c [Msun/h] at r / R200c."""
    c, m = COSMOLOGY, np.array([m200c_h / COSMOLOGY.h])
    conc = concentration_200c(c, m, a)
    r200c = np.cbrt(m * MSUN / (4 / 3 * np.pi * 200 * c.rho_crit(a) * MSUN / MPC**3))
    r_s = r200c / conc
    mass = np.log1p(conc) - conc / (1 + conc)
    x500 = overdensity_radius(conc, 200.0, 500.0)
    m500 = m * (np.log1p(x500) - x500 / (1 + x500)) / mass
    rho_s = m * MSUN / (4 * np.pi * r_s**3 * mass)
    p500 = pressure_500(m500, float(c.E(a)), c.h)
    scales = {"r200c": r200c[0], "r500c": (x500 * r_s)[0], "m500c": m500[0] * MSUN, "r_s": r_s[0], "rho_s": rho_s[0]}
    r = r200c[0] * (np.geomspace(1e-3, 3, 3000) if radii is None else radii)
    return r, hydrostatic(PressureModel(), r, x500 * r_s, p500, rho_s, r_s), scales


@pytest.mark.parametrize("x", [0.1, 0.999, 1.0, 1.0005, 5.0])
def test_psi_of_nfw_is_the_integral_of_density_over_distance_squared(x):
    """G int rho / |x - x'|^2 d^3x' = (2 pi G / r) int rho(s) s ln[(r + s) / |r - s|] ds."""

    def integrand(s):
        return 1 / (1 + s) ** 2 * np.log((x + s) / abs(x - s))

    parts = [quad(integrand, *limits, limit=200)[0] for limits in ((0, x), (x, 2 * x + 1), (2 * x + 1, np.inf))]
    one = np.array(1.0)
    psi = float(hydrostatic(UPP, np.array(x), one, one, one, one)["psi"])
    assert psi == pytest.approx(2 * np.pi * G_CGS / x * sum(parts), rel=1e-6)


@pytest.mark.parametrize("m200c", [1e14, 1e15])
def test_gas_is_in_hydrostatic_equilibrium_under_thermal_and_random_pressure(m200c):
    """d(P_th / f_th)/dr = -rho_gas G M(<r) / r^2, by finite differences and by the integrated mass."""
    r, p, scales = halo(m200c)
    slope = np.gradient(np.log(p["p_th"] / p["f_th"]), np.log(r)) * p["p_th"] / p["f_th"] / r
    shells = 4 * np.pi * r**2 * p["rho"]
    x0 = r[0] / scales["r_s"]
    inner = 4 * np.pi * scales["rho_s"] * scales["r_s"] ** 3 * (np.log1p(x0) - x0 / (1 + x0))
    mass = inner + np.concatenate([[0], np.cumsum(0.5 * (shells[1:] + shells[:-1]) * np.diff(r))])
    gravity = p["rho_gas"] * G_CGS * mass / r**2
    np.testing.assert_allclose(-slope[1:-1], gravity[1:-1], rtol=1e-4)


@pytest.mark.parametrize(("m200c", "kev"), [(1e14, 0.94), (3e14, 1.94), (1e15, 4.30)])
def test_gas_fraction_and_temperature_of_clusters_are_those_of_the_debiased_profile(m200c, kev):
    """f_gas(<R500c) of 0.126 to 0.136 and T(R500c) within 5%."""
    r, p, scales = halo(m200c)
    inside = r < scales["r500c"]
    gas = np.trapezoid((4 * np.pi * r**2 * p["rho_gas"])[inside], r[inside])
    assert 0.125 < gas / scales["m500c"] < 0.137
    assert np.interp(scales["r500c"], r, p["temperature"]) * K_B / KEV == pytest.approx(kev, rel=0.05)


def test_pressure_is_that_of_the_ideal_gas():
    _, p, _ = halo(3e14)
    np.testing.assert_allclose(p["rho_gas"] * K_B * p["temperature"] / (MU * M_PROTON), p["p_th"], rtol=1e-12)


def test_debiased_profile_is_the_published_gnfw():
    """[P0, c500, alpha, beta, gamma] = [5.048, 1.217, 1.192, 5.490, 0.433] at s = 1 (He et al. 2021)."""
    y = 1.217
    expected = 5.048 / (y**0.433 * (1 + y**1.192) ** ((5.490 - 0.433) / 1.192))
    assert PressureModel().universal(np.array(1.0)) == pytest.approx(expected, rel=1e-12)
    s = np.geomspace(0.01, 3, 50)
    step = 1e-4
    total = [np.log(PressureModel().universal(s * f) / PressureModel().thermal_fraction(s * f))
             for f in (np.exp(-step), np.exp(step))]
    np.testing.assert_allclose(PressureModel().total_slope(s), (total[1] - total[0]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("a", [1.0, 0.5])
def test_temperature_map_returns_the_temperature_of_cluster_halos(a):
    """Halos of masses and radii that are not nodes of the map, 0.05 to 2 R200c: 1% rms in T, 0.01 in f_th."""
    icm = temperature_map(DRIVEN, COSMOLOGY, a)
    radii = np.geomspace(0.0503, 1.97, 60)
    t_error, f_error = [], []
    for m200c in (0.7e14, 1.31e14, 3.33e14, 8.7e14):
        _, p, _ = halo(m200c, a, radii)
        t, drive = look_up(icm, p["rho"], p["psi"])
        t_error.append(t / p["temperature"] - 1)
        f_error.append(1 / drive - p["f_th"])
    assert np.sqrt(np.mean(np.square(t_error))) < 0.01
    assert np.abs(f_error).max() < 0.01


@pytest.fixture(scope="module")
def halos_with_gas():
    """NFW halos, and those of NFW dark matter and gas, on the grid of the map."""
    halos = _halo_grid(COSMOLOGY, 1.0)
    p500 = pressure_500(halos["m500c"], 1.0, COSMOLOGY.h)
    p = hydrostatic(PressureModel(), halos["r"], halos["r500c"], p500, halos["rho_s"], halos["r_s"])
    return halos, p, _with_gas(p, halos, COSMOLOGY.baryon_fraction)


def test_gas_is_in_equilibrium_with_its_own_mass_and_that_of_the_dark_matter(halos_with_gas):
    """d(P_th / f_th)/dr = -rho_gas G M(<r) / r^2 with the mass that rho has, and dark matter as NFW without gas."""
    halos, p, q = halos_with_gas
    f, r = COSMOLOGY.baryon_fraction, halos["r"]
    np.testing.assert_allclose(q["rho"] - q["rho_gas"], (1 - f) * p["rho"], rtol=1e-12)
    x0 = (r / halos["r_s"])[:, :1]
    inner = (1 - f) * halos["rho_s"] * halos["r_s"] ** 3 * (np.log1p(x0) - x0 / (1 + x0))
    inner += (r**3 * q["rho_gas"])[:, :1] / 3
    mass = 4 * np.pi * (inner + cumulative_simpson(r**3 * q["rho"], x=np.log(r[0]), axis=1, initial=0))
    push = -np.gradient(np.log(p["p_th"] / p["f_th"]), np.log(r[0]), axis=1) * p["p_th"] / p["f_th"] / r
    expected = q["rho_gas"] * G_CGS * mass / r**2
    np.testing.assert_allclose(push[:, 1:-1], expected[:, 1:-1], rtol=1e-3)
    np.testing.assert_allclose(q["rho_gas"] * K_B * q["temperature"] / (MU * M_PROTON), p["p_th"], rtol=1e-12)


@pytest.mark.parametrize("m200c", [3e13, 5e14])
def test_psi_of_halos_with_gas_is_the_integral_of_density_over_distance_squared(halos_with_gas, m200c):
    """The change of psi by quadrature of the change of density, to 2e-4 of psi."""
    halos, p, q = halos_with_gas
    i = np.argmin(np.abs(halos["m200c"][:, 0] - m200c))
    r, change = halos["r"][i], CubicSpline(np.log(halos["r"][i]), (q["rho"] - p["rho"])[i])

    def integrand(ln_s, x):
        s = np.exp(ln_s)
        return change(ln_s) * s**2 * np.log((x + s) / np.abs(x - s))

    for j in (30, 120, 210):
        ends = np.log([r[0], r[j], r[-1]])
        parts = [quad(integrand, *pair, args=(r[j],), limit=200)[0] for pair in pairwise(ends)]
        expected = 2 * np.pi * G_CGS / r[j] * sum(parts)
        assert (q["psi"] - p["psi"])[i, j] == pytest.approx(expected, abs=2e-4 * p["psi"][i, j])
    assert (q["psi"] / p["psi"])[i, 30] < 0.95


def test_the_map_returns_the_temperature_of_halos_with_gas(halos_with_gas):
    """That of NFW halos would be 5% too hot at 0.14 R500c."""
    halos, _, q = halos_with_gas
    i, cut = np.argmin(np.abs(halos["m200c"][:, 0] - 1e14)), slice(70, 240)
    wanted = q["temperature"][i, cut]
    found, hyper = (look_up(temperature_map(model, COSMOLOGY, 1.0), q["rho"][i, cut], q["psi"][i, cut])[0]
                    for model in (PressureModel(), NFW))  # fmt: skip
    np.testing.assert_allclose(found, wanted, rtol=0.01)
    assert np.interp(0.14, (halos["r"] / halos["r500c"])[i, cut], hyper / wanted) == pytest.approx(1.05, abs=0.015)


def test_a_high_pass_longer_than_everything_is_no_filter():
    model = PressureModel()
    icm, long = temperature_map(model, COSMOLOGY, 1.0), temperature_map(model, COSMOLOGY, 1.0, 1e9)
    _, p, _ = halo(3e14, radii=np.array([0.1, 0.5, 1.0]))
    np.testing.assert_allclose(look_up(long, p["rho"], p["psi"])[0], look_up(icm, p["rho"], p["psi"])[0], rtol=1e-6)


def test_filtered_psi_of_a_halo_gives_back_its_temperature():
    """psi of the halo less the part exp(-(k / k0)^2), by numerical transform of the NFW profile cut at 4 R200c."""
    wavelength = 40 / COSMOLOGY.h
    icm = temperature_map(NFW, COSMOLOGY, 1.0, wavelength)
    r, p, scales = halo(3e14, radii=np.geomspace(0.1, 1.5, 20))
    k0 = 2 * np.pi / (wavelength * MPC)
    s = np.linspace(1e-4, 4, 2000) * scales["r200c"]
    x = s / scales["r_s"]
    shells = 4 * np.pi * s**2 * scales["rho_s"] / (x * (1 + x) ** 2)
    k = np.linspace(1e-3, 5, 400) * k0
    rho_k = np.trapezoid(shells * np.sinc(np.outer(k, s) / np.pi), s, axis=1)
    spectrum = 2 * np.pi**2 * G_CGS * rho_k / k * np.exp(-((k / k0) ** 2))
    long = np.trapezoid(k**2 * spectrum * np.sinc(np.outer(r, k) / np.pi), k, axis=1) / (2 * np.pi**2)
    np.testing.assert_allclose(look_up(icm, p["rho"], p["psi"] - long)[0], p["temperature"], rtol=0.02)


@pytest.mark.parametrize("matter", MATTER)
def test_traits_change_temperature_and_thermal_fraction_as_the_model_would(matter):
    """To first order: a halo with another beta and thermal_scale against the map of that model."""
    _, p, _ = halo(3e14, radii=np.geomspace(0.2, 1.5, 12))
    driven = replace(DRIVEN, matter=matter)
    icm = temperature_map(replace(driven, scatter=(0.1, 0.1, 0.1)), COSMOLOGY, 1.0)
    other = temperature_map(replace(driven, beta=5.49 + 0.3, thermal_scale=0.244 * np.exp(0.2)), COSMOLOGY, 1.0)
    t0, _ = look_up(icm, p["rho"], p["psi"])
    traits = np.tile([0.05, 0.3, 0.2], (len(t0), 1))
    t, drive = look_up(icm, p["rho"], p["psi"], traits)
    expected, drive_expected = look_up(other, p["rho"], p["psi"])
    assert np.abs(expected / t0 - 1).max() > 0.03
    np.testing.assert_allclose(t, expected * np.exp(0.05), rtol=0.015)
    np.testing.assert_allclose(1 / drive, 1 / drive_expected, atol=0.01)
    np.testing.assert_allclose(look_up(icm, p["rho"], p["psi"], 0 * traits)[0], t0, rtol=1e-12)


@pytest.mark.parametrize("matter", MATTER)
def test_responses_to_traits_are_smooth_and_leave_what_does_not_depend_on_them(matter):
    """Of beta: f_th stays, ln T falls; nothing in the map, its edges included, is beyond what halos themselves do."""
    icm = temperature_map(replace(DRIVEN, matter=matter, scatter=(0.1, 0.1, 0.1)), COSMOLOGY, 1.0, 40 / COSMOLOGY.h)
    (ln_t_by_beta, f_th_by_beta), (ln_t_by_scale, f_th_by_scale) = icm.responses
    assert np.abs(f_th_by_beta).max() < 1e-12
    assert -0.6 < ln_t_by_beta.min() < ln_t_by_beta.max() < 0
    assert -1.5 < ln_t_by_scale.min() < ln_t_by_scale.max() < 0.05
    assert -0.5 < f_th_by_scale.min() < f_th_by_scale.max() < 0


@pytest.mark.parametrize(("beta", "thermal_scale"), [(5.49, 0.41), (4.7, 0.35), (0.583, 0.0)])
def test_models_that_may_scatter_have_a_map(beta, thermal_scale):
    """Near the limits: what is accepted makes a map."""
    model = PressureModel(beta=beta, thermal_scale=thermal_scale, scatter=(0.1, 0.1, 0.1))
    icm = temperature_map(model, COSMOLOGY, 1.0, step=0.2)
    assert all(np.isfinite(values).all() for pair in icm.responses for values in pair)


def test_blend_is_igm_below_icm_above_and_geometric_between():
    model = PressureModel(igm_t0=1e4, igm_gamma=1.6, blend=30.0, temperature=0.9)
    icm = temperature_map(model, COSMOLOGY, 1.0)
    _, p, _ = halo(3e14, radii=np.array([0.5]))
    density = np.array([0.0, 1.0, 15.0, 30.0, 60.0, 1e4])
    hot, driven = (v[0] for v in look_up(icm, p["rho"], p["psi"]))
    hot = 0.9 * hot  # the map of the halos, by the factor of the model
    t, drive = look_up(partial(gas_temperature, model, icm), density, np.full(6, p["rho"][0]), np.full(6, p["psi"][0]))
    igm = 1e4 * np.maximum(density, 1e-3) ** 0.6
    assert hot > 1e7
    np.testing.assert_allclose(t[:3], igm[:3], rtol=1e-12)
    np.testing.assert_allclose(t[4:], hot, rtol=1e-12)
    assert t[3] == pytest.approx(np.sqrt(hot * igm[3]), rel=1e-12)
    assert driven > 1
    np.testing.assert_allclose(drive, [1, 1, 1, driven**0.5, driven, driven], rtol=1e-12)


def test_halos_of_more_particles_are_driven_by_less_of_their_random_motion():
    """The share is `support` for 1000 pairs and 0.3 less for ten times as many, from 0 to 1, none without viscosity."""
    pairs, model = np.array([1.0, 1e3, 1e4, 1e6]), PressureModel(support=0.5)
    np.testing.assert_allclose(model.share(pairs), [1, 0.5, 0.2, 0], rtol=1e-12)
    np.testing.assert_array_equal(PressureModel(closure="inviscid").share(pairs), 0)
    for mass, pair, share in ((3e14, 3e11, 0.5), (3e14, 3e10, 0.2), (3e13, 3e9, 0.2), (3e14, 3e8, 0.0)):
        _, p, _ = halo(mass * COSMOLOGY.h, radii=np.array([0.3, 1.0]))
        _, drive = look_up(temperature_map(model, COSMOLOGY, 1.0, pair=pair), p["rho"], p["psi"])
        np.testing.assert_allclose((drive - 1) / (1 / p["f_th"] - 1), share, atol=0.02)


def test_gas_in_halos_is_never_colder_than_the_intergalactic_medium():
    model = PressureModel()
    icm = temperature_map(model, COSMOLOGY, 1.0)
    t, _ = look_up(partial(gas_temperature, model, icm), [100.0, 100.0], [1e-28, 0.0], [1e-14, -1e-9])
    np.testing.assert_allclose(t, 1e4 * 100**0.6, rtol=1e-12)


def test_concentration_is_that_of_diemer_and_joyce_and_leaves_colossus_as_it_was():
    """Of order 5 for clusters, falling with mass and redshift; the cosmology set by others stays set."""
    before = colossus_cosmology.current_cosmo
    c = concentration_200c(COSMOLOGY, np.array([1e13, 1e14, 1e15]) / COSMOLOGY.h, 1.0)
    assert 3 < c[2] < c[1] < c[0] < 8
    assert (concentration_200c(COSMOLOGY, np.array([1e14]), 0.5) < c[1]).all()
    assert colossus_cosmology.current_cosmo is before


def test_overdensity_radius_encloses_the_overdensity_wanted():
    c = np.array([3.0, 6.0, 10.0])
    x = overdensity_radius(c, 200.0, 500.0)

    def mean(y):
        return (np.log1p(y) - y / (1 + y)) / y**3

    np.testing.assert_allclose(mean(x) / mean(c), 2.5, rtol=1e-9)
    np.testing.assert_allclose(overdensity_radius(c, 200.0, 200.0), c, rtol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [{"closure": "warm"}, {"matter": "gas"}, {"p0": -1.0}, {"viscosity": float("nan")}, {"alpha": 0.0},
     {"temperature": 0.0}, {"temperature": float("nan")},
     {"p0": float("inf")}, {"support": 1.5}, {"thermal_scale": 1.0}, {"thermal_0": 2.0}, {"scatter": (0.1, -0.1, 0.0)},
     {"scatter": (0.1,)}, {"scatter_length": 0.0}, {"beta": 0.5, "scatter": (0.0, 0.1, 0.0)},
     {"thermal_scale": 0.47, "scatter": (0.0, 0.0, 0.1)},
     {"beta": 4.5, "thermal_scale": 0.4, "scatter": (0.0, 0.1, 0.0)}],
)
def test_what_is_not_a_pressure_model_is_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|must not be negative|scatter takes|needs thermal_0|must fall"):
        PressureModel(**wrong)

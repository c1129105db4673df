"""Electron number, Compton y and bremsstrahlung against exact constants, published values and limits."""

import numpy as np
import pytest
from astropy import constants as const
from astropy import units as u

from zwicky.observe.emissivity import (
    C_FREE_FREE,
    RYDBERG,
    compton_y_weight,
    electron_number,
    free_free_luminosity,
    gaunt_factor,
)
from zwicky.units import K_B, KEV, KEV_IN_K, M_PROTON, MPC, MSUN, X_HYDROGEN


def test_electron_number_of_pure_counting():
    nucleons = (1 * u.Msun / const.m_p).cgs.value
    assert electron_number(1.0) == pytest.approx(nucleons * (0.76 + 0.24 / 2), rel=1e-12)


def test_compton_y_of_ten_billion_suns_at_five_kev_on_a_square_kiloparsec():
    assert compton_y_weight(1e10, 5 * KEV_IN_K) == pytest.approx(7.15191e-3, rel=1e-5)


def test_compton_y_is_linear_in_mass_and_temperature():
    assert compton_y_weight(6.0, 10.0) == pytest.approx(60 * compton_y_weight(1.0, 1.0))


@pytest.mark.parametrize(
    ("kT", "g"), [(0.5, 1.2769), (1, 1.2332), (2, 1.1982), (5, 1.1647), (10, 1.1473), (15, 1.1394)]
)
def test_gaunt_factor_of_hydrogen(kT, g):
    assert gaunt_factor(RYDBERG / (kT * KEV)) == pytest.approx(g, rel=1e-3)


@pytest.mark.parametrize("gamma2", [1e-4, 3e-4])
def test_gaunt_factor_tends_to_born_and_elwert(gamma2):
    """2 sqrt(3)/pi + (4 ln 2 - 2) sqrt(3) Gamma(3/2) gamma: the Born limit and Elwert's first correction to it."""
    elwert = 2 * np.sqrt(3) / np.pi + (4 * np.log(2) - 2) * np.sqrt(3 * np.pi) / 2 * np.sqrt(gamma2)
    assert gaunt_factor(gamma2) == pytest.approx(elwert, rel=3e-4)


def test_gaunt_factor_is_held_outside_its_table_and_peaks_near_one():
    gamma2 = np.logspace(-6, 5, 200)
    g = gaunt_factor(gamma2)
    assert g.min() > 1.1
    assert 0.3 < gamma2[g.argmax()] < 1.2
    assert g[0] == gaunt_factor(1e-12)
    assert gaunt_factor(np.inf) == g[-1]


def test_free_free_constant():
    e, h, m, c, k = (x.value for x in (const.e.gauss, const.h.cgs, const.m_e.cgs, const.c.cgs, const.k_B.cgs))
    exact = 2**5 * np.pi * e**6 / (3 * h * m * c**3) * np.sqrt(2 * np.pi * k / (3 * m))
    assert pytest.approx(exact, rel=1e-5) == C_FREE_FREE


@pytest.mark.parametrize(("kT", "Lambda"), [(1, 7.88e-24), (5, 1.664e-23), (10, 2.318e-23)])
def test_cooling_function_of_hydrogen_and_helium(kT, Lambda):
    """Per n_e n_H; the reference takes the hydrogen Gaunt factor for helium too, which is a few per cent lower."""
    mass, density = 1e8, 1e14
    n_H = X_HYDROGEN * density * MSUN / MPC**3 / M_PROTON
    L = free_free_luminosity(mass, density, kT * KEV_IN_K) / (electron_number(mass) * n_H)
    assert 1.0 < L / Lambda < 1.04
    g, g_helium = gaunt_factor(RYDBERG / kT / KEV), gaunt_factor(4 * RYDBERG / kT / KEV)
    assert L * g / (0.76 * g + 0.24 * g_helium) == pytest.approx(Lambda, rel=1.2e-3)


def test_luminosity_goes_as_mass_and_density_and_nearly_the_root_of_temperature():
    L = free_free_luminosity(1e8, 1e14, 1e8)
    assert free_free_luminosity(3e8, 2e14, 1e8) == pytest.approx(6 * L, rel=1e-12)
    slope = np.log2(free_free_luminosity(1e8, 1e14, 2e8) / L)
    assert 0.45 < slope < 0.5  # the Gaunt factor falls with temperature


def test_arrays_and_cold_gas():
    L = free_free_luminosity(np.ones(3), np.ones(3), np.array([0.0, 1e4, 1e8]))
    assert L.shape == (3,)
    assert L[0] == 0
    assert np.isfinite(L).all()


def test_rydberg():
    assert pytest.approx(157887.5, rel=1e-5) == RYDBERG / K_B  # [K]

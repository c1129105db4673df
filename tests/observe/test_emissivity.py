"""Electron number, Compton y and bremsstrahlung against exact constants, published values and limits."""

import itertools

import numpy as np
import pytest
from astropy import constants as const
from astropy import units as u
from scipy.integrate import quad

from zwicky.observe.emissivity import (
    C_FREE_FREE,
    RYDBERG,
    band_luminosity,
    compton_y_weight,
    electron_number,
    free_free_luminosity,
    gaunt_factor,
    photoelectric_cross_section,
    spectral_gaunt_factor,
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


@pytest.mark.parametrize(
    ("kT", "values"), [(0.5, (1.9141, 1.0439, 0.7218)), (1, (1.8962, 0.9896, 0.6656)), (2, (1.8772, 0.9476, 0.6249)),
                       (5, (1.8554, 0.9088, 0.5888)), (10, (1.8428, 0.8889, 0.5708)), (15, (1.8368, 0.8801, 0.5630))]
)  # fmt: skip
def test_gaunt_factor_of_the_spectrum_of_hydrogen(kT, values):
    """At u = 0.1, 1 and 3, against another evaluation of the hypergeometric functions."""
    u_values = np.array([0.1, 1, 3])
    np.testing.assert_allclose(spectral_gaunt_factor(u_values, np.full(3, RYDBERG / (kT * KEV))), values, rtol=1.5e-3)


@pytest.mark.parametrize("gamma2", [1e-4, 3e-3, 0.03, 0.3])
def test_both_gaunt_factors_agree(gamma2):
    """int g e^-u du is the average over frequency."""
    v = np.geomspace(10**-3.5, 50, 4000)
    spectrum = spectral_gaunt_factor(v, np.full(len(v), gamma2)) * np.exp(-v)
    below = v[0] * spectrum[0] * 1.07  # g goes as -ln u there
    assert np.trapezoid(spectrum * v, np.log(v)) + below == pytest.approx(float(gaunt_factor(gamma2)), rel=3e-4)


@pytest.mark.parametrize("kT", [1.0, 3.0, 8.0])
def test_bands_add_up_to_the_whole(kT):
    """From 0.05 to 20 keV in three bands, and above and below by the exponential and the Gaunt factor."""
    gas = 1e10, 1e13, kT * KEV_IN_K
    bands = [float(band_luminosity(*gas, b)) for b in ((0.05, 0.5), (0.5, 2.0), (2.0, 20.0))]
    whole = float(free_free_luminosity(*gas))
    assert sum(bands) == pytest.approx(float(band_luminosity(*gas, (0.05, 20.0))), rel=1e-4)
    below = 0.05 / kT * float(spectral_gaunt_factor(0.03 / kT, 1e-3 * 13.6 / kT))
    above = np.exp(-20 / kT) * 0.4
    assert sum(bands) / whole == pytest.approx(1 - below / float(gaunt_factor(13.6e-3 / kT)) - above, abs=0.02)


def test_a_band_of_a_receding_cluster_is_emitted_at_higher_energies():
    gas = 1e10, 1e13, 4 * KEV_IN_K
    assert band_luminosity(*gas, (0.5, 2.0), 0.5) == pytest.approx(band_luminosity(*gas, (0.75, 3.0)), rel=1e-9)


def spectrum(E, kT, mass, density):
    """dL/dE [erg s^-1 erg^-1] at E [keV], term by term: 2^5 pi e^6 / (3 h m c^3) and so on, times g e^-u / kT."""
    n = density * MSUN / MPC**3 / M_PROTON
    N_e = electron_number(mass)
    total = 0.0
    for Z, abundance in ((1, X_HYDROGEN), (2, (1 - X_HYDROGEN) / 4)):
        g = float(spectral_gaunt_factor(E / kT, Z**2 * RYDBERG / KEV / kT))
        total += Z**2 * abundance * g * np.exp(-E / kT)
    return C_FREE_FREE * np.sqrt(kT * KEV_IN_K) * N_e * n * total / (kT * KEV)


@pytest.mark.parametrize("column", [0.0, 3e20])
@pytest.mark.parametrize("z", [0.0, 0.5])
@pytest.mark.parametrize("kT", [1.0, 6.0])
def test_power_and_photons_of_a_band_are_integrals_of_the_spectrum(kT, z, column):
    """int dL/dE dE and int dL/dE / E dE by adaptive quadrature, between the edges of absorption."""
    edges = np.array([0.5, 0.532, 0.707, 0.867, 1.303, 1.84, 2.0]) * (1 + z)

    def seen(E, power):
        passed = np.exp(-column * float(photoelectric_cross_section(E / (1 + z))))
        return spectrum(E, kT, 1e10, 1e13) * KEV * passed / (E * KEV) ** power

    for photons in (False, True):
        parts = [quad(seen, *pair, args=(int(photons),), epsrel=1e-8)[0] for pair in itertools.pairwise(edges)]
        found = band_luminosity(1e10, 1e13, kT * KEV_IN_K, (0.5, 2.0), z, column, photons)
        assert found == pytest.approx(sum(parts), rel=1e-3 if column else 1e-4)  # Simpson does not see edges


def test_photons_of_a_narrow_band_have_its_energy_at_the_source():
    """At 2 keV seen from redshift 0.25 a photon was emitted with 2.5 keV."""
    gas, band = (1e10, 1e13, 4 * KEV_IN_K), (1.999, 2.001)
    power, rate = (band_luminosity(*gas, band, 0.25, 1e21, photons) for photons in (False, True))
    assert power / rate == pytest.approx(2.5 * KEV, rel=1e-6)


def test_photons_of_bands_add_up_and_lie_between_the_energies():
    gas = 1e10, 1e13, 4 * KEV_IN_K
    rates = [band_luminosity(*gas, band, photons=True) for band in ((0.5, 1.0), (1.0, 2.0), (0.5, 2.0))]
    assert rates[0] + rates[1] == pytest.approx(rates[2], rel=1e-6)
    assert 0.5 * KEV < band_luminosity(*gas, (0.5, 2.0)) / rates[2] < 1.25 * KEV  # falls with energy


def test_absorption_takes_the_share_of_the_cross_section():
    """A narrow band at 1 keV behind 1e21 hydrogen atoms per cm^2; sigma(1 keV) = 2.42e-22 cm^2."""
    gas = 1e10, 1e13, 4 * KEV_IN_K
    assert photoelectric_cross_section(1.0) == pytest.approx(2.422e-22, rel=1e-6)
    clear, dimmed = (band_luminosity(*gas, (0.999, 1.001), 0.0, column) for column in (0.0, 1e21))
    assert dimmed / clear == pytest.approx(np.exp(-0.2422), rel=1e-3)


def test_cross_section_jumps_up_at_the_edges_of_carbon_nitrogen_oxygen_and_iron():
    edges = np.array([0.284, 0.4, 0.532, 7.111])
    assert (photoelectric_cross_section(edges * 1.001) > 1.03 * photoelectric_cross_section(edges * 0.999)).all()
    between = np.geomspace(0.54, 0.7, 20)
    assert (np.diff(photoelectric_cross_section(between)) < 0).all()


def test_cold_gas_does_not_shine_in_a_band():
    assert band_luminosity(1e10, 1e13, 0.0, (0.5, 2.0)) == 0
    assert band_luminosity(1e10, 1e13, 1e5, (0.5, 2.0)) == 0

"""The SZ spectrum against its limits and against numbers of an independent calculation."""

import numpy as np
import pytest

from zwicky.observe.sz_spectrum import relativistic_spectrum, scattering, thermal_spectrum

FREQUENCIES = (90.0, 150.0, 260.0, 353.0)


def ratio(frequency, kev):
    return relativistic_spectrum(frequency, kev) / thermal_spectrum(frequency)


@pytest.mark.parametrize("p", [0.02, 0.1, 0.5, 2.0])
def test_a_photon_leaves_with_some_frequency_and_more_energy_on_average(p):
    """int P dt = 1 and int t P dt = 1 + 4 p^2 / 3 (Ensslin & Kaiser 2000), over both sides of the kink."""
    node, weight = np.polynomial.legendre.leggauss(200)
    half = np.arcsinh(p)
    t = np.exp(half * np.concatenate([node - 1, node + 1]))
    share = half * np.tile(weight, 2) * t * scattering(t, p)
    assert (scattering(t, p) > -1e-5).all()
    assert share.sum() == pytest.approx(1, abs=1e-7)
    assert (t * share).sum() == pytest.approx(1 + 4 * p**2 / 3, abs=1e-6)
    assert scattering(np.exp(2 * half), p) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("frequency", FREQUENCIES)
def test_cold_electrons_have_the_spectrum_of_kompaneets(frequency):
    """The correction goes with temperature: a tenth at 0.1 keV of what it is at 1 keV."""
    cold, warm = ratio(frequency, [0.1, 1.0])
    assert cold == pytest.approx(1, abs=0.004)
    assert (1 - cold) / (1 - warm) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    ("kev", "expected"),
    [(5.0, (0.971, 0.966, 0.866, 0.924)), (10.0, (0.943, 0.936, 0.754, 0.856)), (15.0, (0.917, 0.910, 0.658, 0.796))],
)
def test_hot_electrons_have_the_spectrum_of_an_independent_calculation(kev, expected):
    """Three digits of the redistribution function integrated by other code."""
    found = [ratio(frequency, kev)[0] for frequency in FREQUENCIES]
    np.testing.assert_allclose(found, expected, rtol=2e-3)


def test_first_order_correction_is_that_of_itoh():
    """Itoh, Kohyama & Nozawa 1998: Y1 / Y0 at low frequency is -17/10, so that dI / y is 1 - 17/10 theta."""
    theta = 2.0 / 510.99895
    assert ratio(2.0, 2.0)[0] == pytest.approx(1 - 1.7 * theta, abs=3 * theta**2)


def test_the_null_of_cold_electrons_is_at_217_ghz_and_moves_up():
    low, high = thermal_spectrum([217.0, 218.0])
    assert low < 0 < high
    assert relativistic_spectrum(217.5, 10.0)[0] < thermal_spectrum(217.5)


@pytest.mark.parametrize("kev", [0.0, -1.0, 200.0, float("nan")])
def test_temperatures_out_of_range_are_refused(kev):
    with pytest.raises(ValueError, match=r"0\.1 to 100 keV"):
        relativistic_spectrum(150.0, [kev])

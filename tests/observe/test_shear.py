"""Reduced shear against lenses whose shear is known: its size, its sign, its axes, and what must not matter."""

import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.observe.channels.lensing import critical_surface_density
from zwicky.observe.channels.shear import reduced, shear
from zwicky.observe.render import cut_cube, observe, render
from zwicky.observe.scene import Scene
from zwicky.simulate.state import Particles, Species

BOX, CENTRE, LENS, SOURCE = 40.0, np.array([39.5, 20.0, 0.3]), 0.3, 1.0
NAMES = (f"shear1_z{SOURCE}", f"shear2_z{SOURCE}", f"convergence_z{SOURCE}")


def polar(n, x=0.0, y=0.0):
    """Distance [pixels] and azimuth of each pixel from a point relative to the centre."""
    c = np.arange(n) - (n - 1) / 2
    X, Y = np.meshgrid(c - x, c - y)
    return np.hypot(X, Y), np.arctan2(Y, X)


def tangential(g, phi):
    """Tangential shear, and what is left, turned by 45 degrees."""
    turned = -g * np.exp(-2j * phi)
    return turned.real, turned.imag


def lump(offsets, masses, H=0.5):
    """A snapshot of a few particles of dark matter [Mpc, Msun], each a lens as large as its kernel."""
    offsets = np.atleast_2d(offsets).astype(float)
    dark = Species((CENTRE + offsets) % BOX, None, np.asarray(masses, float), np.full(len(offsets), H))
    return Particles(BOX, 0.0, Cosmology(), dark, dark.take(np.zeros(0, int)))


def seen(particles, pixels=64, pixel_kpc=100.0, R=None):
    maps = observe(particles, CENTRE, NAMES, R, pixels, pixel_kpc, redshift=LENS)
    return maps[NAMES[0]].value + 1j * maps[NAMES[1]].value, maps[NAMES[2]].value


@pytest.mark.parametrize("place", [(0.0, 0.0), (11.3, -7.8)])
def test_shear_is_that_of_a_round_lens(place):
    """gamma_t = mean kappa inside - kappa, for kappa = k0 / (1 + r^2 / s^2)^2, to 2% in the inner half of the map."""
    n, s, k0 = 256, 12.0, 0.3
    r, phi = polar(n, *place)
    kappa, inside = k0 / (1 + (r / s) ** 2) ** 2, k0 / (1 + (r / s) ** 2)
    gamma_t, cross = tangential(shear(kappa), phi)
    middle, expected = (slice(n // 4, -n // 4),) * 2, inside - kappa
    np.testing.assert_allclose(gamma_t[middle], expected[middle], rtol=0.02, atol=2e-3 * expected.max())
    assert np.abs(cross[middle]).max() < 2e-3 * expected.max()


def test_shear_of_a_compact_lens_as_observed():
    """Outside a mass M gamma_t = M / (pi R^2 Sigma_crit) and kappa = 0, to 1% up to the corners of the map."""
    mass, pixels, pixel = 4e14, 64, 100.0
    g, kappa = seen(lump([0, 0, 0], [mass]))
    r, phi = polar(pixels)
    assert kappa.sum() * pixel**2 == pytest.approx(
        mass / critical_surface_density(Scene.of(lump([0, 0, 0], [1.0]), LENS), SOURCE), rel=1e-9
    )
    outside = r > 7
    expected = kappa.sum() / (np.pi * r**2)
    gamma_t, cross = tangential(g, phi)
    np.testing.assert_allclose(gamma_t[outside], expected[outside], rtol=0.01)
    assert (np.abs(cross) < 0.01 * expected)[outside].all()
    assert (gamma_t[outside] > 0).all()


def test_signs_and_axes():
    """Right of and above the lens images stand upright along y and along x; up the diagonal they cross it."""
    g, _ = seen(lump([0, 0, 0], [4e14]))
    assert g[32, 52].real < 0 < g[52, 32].real
    assert abs(g[32, 52].imag) < 0.1 * abs(g[32, 52].real)
    assert g[48, 48].imag < 0 < g[48, 15].imag
    assert abs(g[48, 48].real) < 0.1 * abs(g[48, 48].imag)


def test_a_quarter_turn_changes_the_sign_of_both_components():
    particles = lump([[0, 0, 0], [1.1, 0.4, 0.2], [-0.5, 2.0, 0]], [4e14, 1e14, 2e14])
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    (g, kappa), (turned, kappa_turned) = seen(particles), seen(particles, R=quarter)
    np.testing.assert_allclose(kappa_turned, np.rot90(kappa, -1), atol=1e-9)
    np.testing.assert_allclose(turned, -np.rot90(g, -1), atol=1e-9)
    mirrored, _ = seen(particles, R=np.diag([-1.0, 1, -1]))
    np.testing.assert_allclose(mirrored, np.conj(g[:, ::-1]), atol=1e-9)


@pytest.mark.parametrize("pixels", [32, 25])
def test_noise_that_is_mirrored_or_turned_has_mirrored_or_turned_shear(pixels):
    """To rounding, at all scales down to the pixel, where modes are their own opposites."""
    kappa = np.random.default_rng(0).normal(size=(pixels, pixels))
    gamma = shear(kappa)
    np.testing.assert_allclose(shear(kappa[:, ::-1]), np.conj(gamma[:, ::-1]), atol=1e-12)
    np.testing.assert_allclose(shear(np.rot90(kappa)), -np.rot90(gamma), atol=1e-12)
    np.testing.assert_allclose(shear(kappa.T), -np.conj(gamma.T), atol=1e-12)


def test_an_eighth_turn_changes_the_components_into_each_other():
    eighth = np.array([[1, -1, 0], [1, 1, 0], [0, 0, np.sqrt(2)]]) / np.sqrt(2)
    g, _ = seen(lump([1.55, 0, 0], [4e14]))
    turned, _ = seen(lump([1.55, 0, 0], [4e14]), R=eighth)
    centre = (slice(31, 33),) * 2
    np.testing.assert_allclose(turned[centre].mean() / g[centre].mean(), np.exp(0.5j * np.pi), atol=0.02)


def test_shear_has_no_b_mode():
    """The inverse relation gives the convergence back, real; shear turned by 45 degrees gives an imaginary one."""
    rng = np.random.default_rng(0)
    n = 128
    r, _ = polar(n)
    kappa = np.zeros((n, n))
    for _ in range(30):
        kappa += 0.02 * np.exp(-(polar(n, *rng.uniform(-30, 30, 2))[0] ** 2) / rng.uniform(8, 60))
    kappa *= np.clip((60 - r) / 8, 0, 1)
    wide = np.zeros((2 * n, 2 * n))
    wide[n // 2 : -n // 2, n // 2 : -n // 2] = kappa
    gamma = shear(wide)
    k1, k2 = np.meshgrid(np.fft.fftfreq(2 * n), np.fft.fftfreq(2 * n))
    inverse = np.conj(k1 + 1j * k2) ** 2 / np.maximum(k1**2 + k2**2, 1e-12)
    e_mode = np.fft.ifft2(inverse * np.fft.fft2(gamma))[n // 2 : -n // 2, n // 2 : -n // 2]
    b_mode = np.fft.ifft2(inverse * np.fft.fft2(1j * gamma))[n // 2 : -n // 2, n // 2 : -n // 2]
    assert np.abs(e_mode.imag).max() < 0.01 * kappa.max()
    np.testing.assert_allclose(e_mode.real - e_mode.real.mean(), kappa - kappa.mean(), atol=0.03 * kappa.max())
    assert np.abs(b_mode.real).max() < 0.01 * kappa.max() < np.abs(b_mode.imag).max()


def test_a_sheet_of_mass_does_not_shear_but_changes_the_reduced_shear():
    r, _ = polar(96)
    kappa = 0.4 / (1 + (r / 8) ** 2) ** 2
    gamma = shear(kappa)
    np.testing.assert_allclose(shear(kappa + 0.2), gamma, atol=1e-12)
    np.testing.assert_allclose(reduced(gamma, kappa + 0.2), gamma / (0.8 - kappa), atol=1e-12)
    assert np.abs(shear(np.full((32, 32), 0.3))).max() < 1e-12


def test_strong_lensing_is_bounded():
    gamma, kappa = np.array([0.5, 0.5, 0.5j, 0, 0]), np.array([0.0, 0.9, 1.0, 1.0, 0.5])
    np.testing.assert_allclose(reduced(gamma.astype(complex), kappa), [0.5, 0.2, 0, 0, 0], atol=1e-12)


def test_what_lies_beside_the_map_shears_it():
    """A lens outside the map, inside the margin; a map that fills its cube knows nothing of it."""
    particles = lump([4.0, 0, 0], [1e15])
    g, kappa = seen(particles)
    assert kappa.max() == 0
    expected = -1e15 / (np.pi * 4000.0**2) / critical_surface_density(Scene.of(particles, LENS), SOURCE)
    assert g[31:33, 31:33].mean().real == pytest.approx(expected, rel=0.02)
    tight = render(cut_cube(particles, CENTRE, 6400.0, scene=Scene.of(particles, LENS)), NAMES, None, 64, 100.0)
    assert np.abs(tight[NAMES[0]]).max() < 0.01 * abs(expected)


def test_a_map_as_wide_as_the_box_can_be_made():
    g, kappa = seen(lump([0, 0, 0], [4e15], H=3.0), pixels=40, pixel_kpc=1000.0)
    gamma_t, _ = tangential(g, polar(40)[1])
    ring = (polar(40)[0] > 5) & (polar(40)[0] < 10)
    expected = kappa.sum() / (np.pi * polar(40)[0] ** 2)
    np.testing.assert_allclose(gamma_t[ring], expected[ring], rtol=0.05)

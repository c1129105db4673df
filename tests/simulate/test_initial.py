"""Initial conditions: the power asked for, and the displacements of Lagrangian perturbation theory."""

import numpy as np
import pytest
import torch

from zwicky.cosmology import Cosmology
from zwicky.grid import irfft, power_spectrum, wavenumbers
from zwicky.simulate.initial import (
    collapse_threshold,
    displacements,
    initial_conditions,
    linear_modes,
    plant_cluster,
    smooth_fields,
)

COSMOLOGY = Cosmology()
N, BOX = 16, 60.0


def random_modes(a=0.02, n=N, fixed=False, seed=0):
    """Modes of a Gaussian field."""
    return linear_modes(COSMOLOGY, BOX, n, a, np.random.default_rng(seed), fixed)


def without_nyquist(modes):
    """The modes with the Nyquist planes, whose gradient has no sign, set to zero."""
    n = modes.shape[0]
    modes = modes.clone()
    modes[n // 2], modes[:, n // 2], modes[:, :, n // 2] = 0, 0, 0
    return modes


def plane_wave(amplitude, times, phase=0.3, n=N):
    """Modes of delta = amplitude cos(k . x + phase), k = times * 2 pi / BOX."""
    argument = phase + 2 * np.pi / n * np.tensordot(times, np.indices((n, n, n)), 1)
    return torch.fft.rfftn(torch.from_numpy(amplitude * np.cos(argument)))


def lattices(n=N):
    """Undisplaced sites of dark matter and of gas."""
    sites = np.indices((n, n, n)).reshape(3, -1).T * (BOX / n)
    return np.concatenate([sites, sites + 0.5 * BOX / n])


def displaced(modes, a):
    """Displacement of every particle from its site, and its momentum."""
    positions, momenta = initial_conditions(COSMOLOGY, BOX, modes.shape[0], a, modes)
    move = positions - lattices(modes.shape[0])
    return move - BOX * np.round(move / BOX), momenta


@pytest.mark.parametrize("a", [0.02, 1.0])
def test_every_mode_of_fixed_amplitude_has_the_power_of_theory(a):
    n = 32
    modes = random_modes(a, n, fixed=True)
    k = torch.sqrt(sum(c**2 for c in wavenumbers(n, BOX))).numpy().ravel()[1:]
    power = (modes.abs() ** 2 * BOX**3 / n**6).numpy().ravel()[1:]
    np.testing.assert_allclose(power, COSMOLOGY.linear_power(k, a), rtol=1e-6)
    assert modes[0, 0, 0] == 0


def test_binned_power_of_fixed_amplitude_is_theory_to_half_the_nyquist_wavenumber():
    n = 32
    delta = irfft(random_modes(n=n, fixed=True).to(torch.complex64))
    k, p, _ = power_spectrum(delta, BOX, pcs=False)
    low = k < np.pi * n / BOX / 2
    m = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 3, indexing="ij"))
    shell = np.sqrt((m**2).sum(axis=0))
    expected = [
        COSMOLOGY.linear_power(2 * np.pi / BOX * shell[np.rint(shell) == b], 0.02).mean() for b in range(1, n // 2 + 1)
    ]
    np.testing.assert_allclose(p[low], np.array(expected)[low], rtol=5e-3)


def test_gaussian_modes_have_the_power_of_theory_within_sample_variance():
    n = 32
    k, p, modes = power_spectrum(irfft(random_modes(n=n).to(torch.complex64)), BOX, pcs=False)
    theory = COSMOLOGY.linear_power(k, 0.02)
    assert np.abs((p / theory - 1) / np.sqrt(2 / modes))[1:].max() < 4  # the first bin is too wide for its mean k


MASS = 3e14  # Lagrangian radius 12.1 Mpc, a fifth of BOX


def planted(seed, a=0.02, n=N, mass=MASS):
    return plant_cluster(random_modes(a, n, seed=seed), COSMOLOGY, BOX, a, 1.0, mass)


def smoothed(modes, n=N):
    """Density contrast in a top hat of the Lagrangian radius, around every mesh point."""
    x = torch.sqrt(sum(c**2 for c in wavenumbers(n, BOX))) * np.cbrt(3 * MASS / (4 * np.pi * COSMOLOGY.rho_mean))
    x[0, 0, 0] = 1.0
    return torch.fft.irfftn(modes * 3 * (torch.sin(x) - x * torch.cos(x)) / x**3, s=(n, n, n))


@pytest.mark.parametrize("n", [N, 17])
def test_a_planted_peak_has_its_height_and_no_slope_at_the_centre(n):
    a, c = 0.02, n // 2
    growth = float(COSMOLOGY.growth(a) / COSMOLOGY.growth(1.0))
    modes = planted(1, n=n) / (collapse_threshold(COSMOLOGY, MASS, 1.0) * growth)
    field = smoothed(modes, n)
    assert float(field[c, c, c]) == pytest.approx(1.0, rel=1e-9)
    for axis, k in enumerate(wavenumbers(n, BOX)):
        derivative = 1j * k
        if n % 2 == 0:
            derivative.view(-1)[c] = 0  # the Nyquist mode has no slope
        slope = smoothed(modes * derivative, n)
        assert abs(float(slope[c, c, c])) < 1e-6 * float(slope.std()), axis


def test_collapse_threshold_is_that_of_sheth_mo_and_tormen():
    """Their barrier with nu = delta_c / sigma: beta = 0.47, gamma = 0.615; spherical collapse for the rarest."""
    for mass, a in ((1e14, 1.0), (1e15, 0.5)):
        nu = 1.686 / COSMOLOGY.sigma(mass, a)
        assert collapse_threshold(COSMOLOGY, mass, a) == pytest.approx(1.686 * (1 + 0.47 * nu ** (-2 * 0.615)))
    assert collapse_threshold(COSMOLOGY, 1e17, 0.1) == pytest.approx(1.686, rel=0.01)


def test_planting_what_is_there_changes_nothing():
    once = planted(2)
    again = plant_cluster(once, COSMOLOGY, BOX, 0.02, 1.0, MASS)
    assert float((again - once).abs().max()) < 1e-9 * float(once.abs().max())


def test_planted_fields_have_the_conditional_mean_and_variance():
    """Over seeds, of the smoothed field: mean xi(r) / xi(0) of the peak, variance that falls to zero at the centre."""
    free = torch.stack([smoothed(random_modes(seed=s)) for s in range(60)])
    bound = torch.stack([smoothed(planted(s)) for s in range(60)])
    peak, c = float(bound[0, N // 2, N // 2, N // 2]), N // 2
    variance = float(free.var())
    assert float(bound.mean(0)[c, c, c + 1]) == pytest.approx(peak * float(xi_of(1)) / float(xi_of(0)), rel=0.05)
    assert float(bound.var(0)[c, c, c]) < 1e-12 * variance
    far = bound[:, 0, 0, 0]
    assert float(far.var()) == pytest.approx(variance, rel=0.6)


def xi_of(shift):
    """Correlation of the smoothed field at `shift` mesh points along z: the transform of its power."""
    x = torch.sqrt(sum(c**2 for c in wavenumbers(N, BOX)))
    x[0, 0, 0] = 1.0
    power = torch.from_numpy(COSMOLOGY.linear_power(x.numpy(), 0.02))
    power[0, 0, 0] = 0.0
    x = x * np.cbrt(3 * MASS / (4 * np.pi * COSMOLOGY.rho_mean))
    window = 3 * (torch.sin(x) - x * torch.cos(x)) / x**3
    return torch.fft.irfftn(power * window**2, s=(N, N, N))[0, 0, shift]


@pytest.mark.parametrize("box", [30.0, 400.0])
def test_smooth_fields_have_their_rms_and_length(box):
    """Over seeds; the correlation at a distance r of noise smoothed over l is exp(-r^2 / 4 l^2)."""
    n, length = 16, 14.0
    seeds = 200 if box < 100 else 20
    draws = torch.stack([smooth_fields(box, n, length, (0.1, 0.3), np.random.default_rng(s)) for s in range(seeds)])
    field = draws.view(seeds, n, n, n, 2).double()
    np.testing.assert_allclose(field.square().mean((0, 1, 2, 3)).sqrt(), [0.1, 0.3], rtol=0.15)
    step = box / n
    found = (field * field.roll(1, 1)).mean((0, 1, 2, 3)) / field.square().mean((0, 1, 2, 3))
    np.testing.assert_allclose(found, np.exp(-(step**2) / (4 * length**2)), atol=0.1)


def test_the_seed_alone_decides_the_modes():
    assert torch.equal(random_modes(seed=1), random_modes(seed=1))
    assert not torch.equal(random_modes(seed=1), random_modes(seed=2))


@pytest.mark.parametrize("times", [(1, 0, 0), (0, 2, 0), (1, -2, 1)])
def test_a_plane_wave_displaces_both_lattices_as_zeldovich_says(times):
    """delta = A cos(k x + phi) moves every site by -A k / k^2 sin(k x + phi), evaluated at its own place."""
    amplitude, phase = 0.05, 0.3
    move, _ = displaced(plane_wave(amplitude, times, phase), 0.02)
    k = 2 * np.pi / BOX * np.array(times)
    expected = -amplitude * np.outer(np.sin(lattices() @ k + phase), k / (k @ k))
    np.testing.assert_allclose(move, expected, atol=1e-10 * BOX)


def test_second_order_displacement_vanishes_for_a_plane_wave():
    psi1, psi2 = displacements(plane_wave(0.05, (1, -2, 1)), BOX)
    assert psi2.abs().max() < 1e-12 * psi1.abs().max()


def test_second_order_displacement_of_two_crossed_waves_is_the_analytic_one():
    """phi1 = f(x) + g(y), f'' = A cos(kx), g'' = B cos(ly): lap phi2 = A B cos(kx) cos(ly)."""
    A, B, k, m = 0.05, 0.08, 2 * np.pi / BOX, 2
    modes = plane_wave(A, (1, 0, 0), 0.0) + plane_wave(B, (0, m, 0), 0.0)
    _, psi2 = displacements(modes, BOX)
    x, y, _ = np.indices((N, N, N)) * (BOX / N)
    phi2 = -A * B / (k**2 * (1 + m**2))  # times cos(kx) cos(mky)
    expected = [-k * phi2 * np.sin(k * x) * np.cos(m * k * y), -m * k * phi2 * np.cos(k * x) * np.sin(m * k * y)]
    for got, want in zip(psi2, expected, strict=False):
        np.testing.assert_allclose(torch.fft.irfftn(got, s=(N, N, N)).numpy(), want, atol=1e-10)
    assert psi2[2].abs().max() < 1e-10


def test_divergence_of_the_first_order_displacement_is_minus_delta():
    modes = without_nyquist(random_modes())
    psi1, _ = displacements(modes, BOX)
    divergence = sum(1j * k * p for k, p in zip(wavenumbers(N, BOX), psi1, strict=True))
    np.testing.assert_allclose(divergence.numpy(), -modes.numpy(), atol=1e-12 * float(modes.abs().max()))


def test_modes_of_the_nyquist_plane_move_particles_along_the_plane_by_their_own_wavelength():
    """delta = A cos(k_N x) cos(k y): psi_y = -A k sin(k y) cos(k_N x) / (k_N^2 + k^2), nothing along x."""
    x, y, _ = np.indices((N, N, N)) * (2 * np.pi / N)
    wave = 0.05 * np.cos(N // 2 * x) * np.cos(y)
    psi, _ = displacements(torch.fft.rfftn(torch.from_numpy(wave)), BOX)
    k = 2 * np.pi / BOX
    expected = -0.05 * np.sin(y) * np.cos(N // 2 * x) / k / (1 + (N // 2) ** 2)
    np.testing.assert_allclose(torch.fft.irfftn(psi[1], s=(N, N, N)).numpy(), expected, atol=1e-12)
    assert max(psi[0].abs().max(), psi[2].abs().max()) < 1e-9 * psi[1].abs().max()


def test_displacement_is_a_gradient():
    """curl psi = 0 at both orders."""
    k = wavenumbers(N, BOX)
    for psi in displacements(without_nyquist(random_modes()), BOX):
        inside = without_nyquist(psi[0]), without_nyquist(psi[1])
        curl = k[0] * inside[1] - k[1] * inside[0]
        assert curl.abs().max() < 1e-11 * (k[0] * inside[0]).abs().max()


def test_gas_and_dark_matter_carry_the_same_field():
    """Shifted back by half a cell in Fourier space, the displacements of the gas are those of the dark matter."""
    n = N
    modes = without_nyquist(random_modes())
    psi = displacements(modes, BOX)[0]
    modes_of_move = without_nyquist(psi[0])
    move, _ = displaced(plane_wave(0.0, (1, 0, 0)) + torch.zeros_like(modes), 0.02)
    np.testing.assert_allclose(move, 0, atol=1e-12)
    move = displaced(modes, 1e-2)[0]
    dark, gas = (torch.fft.rfftn(torch.from_numpy(m[:, 0].reshape(n, n, n).copy())) for m in np.split(move, 2))
    back = torch.exp(-0.5j * sum(wavenumbers(n, float(n))))
    scale = float(modes_of_move.abs().max())
    np.testing.assert_allclose(without_nyquist(gas * back).numpy(), without_nyquist(dark).numpy(), atol=1e-9 * scale)


def test_momentum_is_the_rate_of_change_of_the_displacement():
    """p = a^2 dx/dt = a^3 E dx/da, for both orders, by central differences between a - da and a + da."""
    a, step = 0.05, 1e-3
    modes = random_modes(a)
    _, momenta = displaced(modes, a)
    growth = [float(COSMOLOGY.growth(a * (1 + s)) / COSMOLOGY.growth(a)) for s in (-step, step)]
    before, after = (displaced(modes * g, a * (1 + s))[0] for g, s in zip(growth, (-step, step), strict=True))
    rate = a**3 * float(COSMOLOGY.E(a)) * (after - before) / (2 * step * a)
    rms = np.sqrt((momenta**2).mean())
    assert np.sqrt(((rate - momenta) ** 2).mean()) < 1e-3 * rms


def test_second_order_momentum_grows_at_its_own_rate():
    """What is left of the momentum after the first order is f2 times what is left of the displacement."""
    a = 0.05
    modes = random_modes(a)
    move, momenta = displaced(modes, a)
    psi1 = displacements(modes, BOX)[0]
    first = torch.stack([torch.fft.irfftn(p, s=(N, N, N)) for p in psi1]).reshape(3, -1).T.numpy()
    rate = a**2 * float(COSMOLOGY.E(a))
    move2 = move[: N**3] - first
    momenta2 = momenta[: N**3] / rate - float(COSMOLOGY.growth_rate(a)) * first
    assert np.sqrt((move2**2).mean()) > 1e-3 * np.sqrt((first**2).mean())
    np.testing.assert_allclose(momenta2, 2 * move2, rtol=5e-3, atol=1e-3 * np.abs(move2).max())

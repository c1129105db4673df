"""Fixed-point positions, cell lists, PCS deposit and gather, and power spectra."""

import numpy as np
import pytest
import torch

from zwicky.grid import (
    density_contrast,
    deposit,
    from_fixed,
    gather,
    irfft,
    power_spectrum,
    rfft,
    sort_into_cells,
    to_fixed,
    wavenumbers,
)

BOX = 10.0


def fixed_tensor(x):
    """Fixed-point positions."""
    return torch.from_numpy(to_fixed(x, BOX))


def float32(values):
    """A tensor of float32."""
    return torch.from_numpy(np.asarray(values, np.float32))


def particles(count, seed=0):
    """Uniform random positions in [0, BOX) and weights in [1, 2)."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, BOX, (count, 3)), rng.uniform(1, 2, count)


def pcs_weights(x, n):
    """(P, n) weights of the PCS on a periodic axis of n points, from the definition of the spline."""
    s = np.abs((x[:, None] * n / BOX - np.arange(n) + n / 2) % n - n / 2)
    return np.where(s < 1, (4 - 6 * s**2 + 3 * s**3) / 6, np.where(s < 2, (2 - s) ** 3 / 6, 0))


def slow_deposit(positions, weight, n):
    """PCS deposit by sums over everything, float64."""
    wx, wy, wz = (pcs_weights(positions[:, axis], n) for axis in range(3))
    return np.einsum("p,px,py,pz->xyz", weight, wx, wy, wz, optimize=True)


def test_fixed_point_keeps_positions_to_one_part_in_two_to_the_32():
    x, _ = particles(1000)
    back = from_fixed(to_fixed(x, BOX), BOX)
    assert np.abs(back - x).max() <= BOX / 2**32
    assert back.min() >= 0
    assert back.max() < BOX


def test_fixed_point_wraps_every_position_into_the_box():
    x, _ = particles(200)
    for turns in (-3.0, -1.0, 1.0, 2.0):
        shift = to_fixed(x + turns * BOX, BOX) - to_fixed(x, BOX)
        assert np.abs(shift).max() <= 1
    edges = from_fixed(to_fixed(np.array([[0.0, BOX, -1e-20]]), BOX), BOX)
    np.testing.assert_array_equal(edges, 0.0)


def test_difference_of_fixed_points_is_the_nearest_image():
    a, b = particles(500)[0], particles(500, seed=1)[0]
    with np.errstate(over="ignore"):
        d = (to_fixed(b, BOX) - to_fixed(a, BOX)).astype(float) * BOX / 2**32
    nearest = b - a - BOX * np.round((b - a) / BOX)
    np.testing.assert_allclose(d, nearest, atol=2 * BOX / 2**32)


def test_counting_sort_is_stable_and_puts_every_particle_into_its_cell():
    x, _ = particles(3000)
    x[:50] = x[0]
    x[-1] = BOX * (1 - 1e-12)
    for n in (1, 5, 7, 16):
        fixed = to_fixed(x, BOX)
        cells = sort_into_cells(torch.from_numpy(fixed), n)
        i, j, k = np.floor(from_fixed(fixed, BOX) * n / BOX).astype(int).T
        key = (i * n + j) * n + k
        np.testing.assert_array_equal(cells.order, np.argsort(key, kind="stable"))
        np.testing.assert_array_equal(cells.start, np.searchsorted(np.sort(key), np.arange(n**3 + 1)))
        np.testing.assert_array_equal(cells.position, fixed[cells.order].T)
        np.testing.assert_array_equal(cells.restore(torch.from_numpy(fixed)[cells.order]), fixed)


@pytest.mark.parametrize(
    ("n", "n_cells"),
    [(16, 8), (16, 9), (11, 6), (32, 18), (16, 4), (14, 4), (35, 10), (9, 5), (4, 3), (12, 1)],
)
def test_deposit_equals_the_definition_and_keeps_mass(n, n_cells):
    x, weight = particles(2000)
    cells = sort_into_cells(fixed_tensor(x), n_cells)
    mesh = deposit(cells, float32(weight)[cells.order], n).numpy()
    reference = slow_deposit(x, weight, n)
    np.testing.assert_allclose(mesh, reference, atol=5e-6 * reference.max())
    assert mesh.sum(dtype=np.float64) == pytest.approx(weight.sum(), rel=1e-6)


def test_gather_is_the_adjoint_of_deposit():
    """sum_mesh deposit(w) f = sum_particles w gather(f)."""
    x, weight = particles(3000)
    cells = sort_into_cells(fixed_tensor(x), 9)
    w = float32(weight)[cells.order]
    field = float32(np.random.default_rng(3).standard_normal((16, 16, 16)))
    on_mesh = float((deposit(cells, w, 16).double() * field).sum())
    at_particles = float((w.double() * gather(cells, field)).sum())
    assert on_mesh == pytest.approx(at_particles, abs=1e-5 * float(w.double().norm()))


def test_gather_of_a_linear_function_is_that_function():
    """Splines of order four reproduce polynomials of degree one; away from the periodic seam."""
    x, _ = particles(500)
    x = x[((x > 2) & (x < 8)).all(axis=1)]
    cells = sort_into_cells(fixed_tensor(x), 8)
    i, j, k = np.indices((16, 16, 16))
    field = float32(1.0 + 2 * i - j + 0.5 * k)
    X, Y, Z = x[cells.order].T * 16 / BOX
    np.testing.assert_allclose(gather(cells, field), 1 + 2 * X - Y + 0.5 * Z, atol=2e-5)


def test_deposit_and_gather_repeat_to_the_bit_on_any_number_of_threads():
    x, weight = particles(20000)
    cells = sort_into_cells(fixed_tensor(x), 18)
    w = float32(weight)[cells.order]
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        mesh = deposit(cells, w, 32)
        results.append((mesh, gather(cells, mesh)))
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_inverse_transform_returns_the_mesh_and_wavenumbers_differentiate():
    n = 16
    i, j, k = np.indices((n, n, n)) * (2 * np.pi / n)
    wave = float32(np.sin(2 * i - 3 * j + k))
    np.testing.assert_allclose(irfft(rfft(wave)), wave, atol=1e-6)
    slope = [irfft(rfft(wave) * (1j * c).to(torch.complex64)) for c in wavenumbers(n, BOX)]
    for axis, times in enumerate((2, -3, 1)):
        expected = times * 2 * np.pi / BOX * np.cos(2 * i - 3 * j + k)
        np.testing.assert_allclose(slope[axis], expected, atol=1e-5)


def test_power_of_a_plane_wave_is_its_amplitude():
    """A cos(k x) has P = A^2 V / 4 in each of its two modes and zero elsewhere."""
    n, amplitude = 16, 0.3
    i, j, k = np.indices((n, n, n)) * (2 * np.pi / n)
    for phase in (i * 3, j * 3, k * 3):
        mean_k, p, modes = power_spectrum((amplitude * np.cos(phase)).astype(np.float32), BOX, pcs=False)
        assert (p * modes)[2] == pytest.approx(2 * amplitude**2 * BOX**3 / 4, rel=1e-5)
        assert np.delete(p * modes, 2).max() < 1e-9
        assert mean_k[2] == pytest.approx(3 * 2 * np.pi / BOX, rel=0.05)


def test_number_of_modes_is_that_of_the_full_transform():
    n = 12
    m = np.stack(np.meshgrid(*[np.fft.fftfreq(n, 1 / n)] * 3, indexing="ij"))
    bins = np.bincount(np.rint(np.sqrt((m**2).sum(axis=0))).astype(int).ravel())[1 : n // 2 + 1]
    np.testing.assert_array_equal(power_spectrum(np.ones((n, n, n), np.float32), BOX)[2], bins)


def test_white_noise_has_flat_power_of_its_variance():
    """P = sigma^2 V / n^3, and independent noises have no cross-power."""
    n, sigma = 32, 0.7
    rng = np.random.default_rng(5)
    a, b = (sigma * rng.standard_normal((2, n, n, n))).astype(np.float32)
    _, p, modes = power_spectrum(a, BOX, pcs=False)
    expected = sigma**2 * BOX**3 / n**3
    error = np.sqrt(2 / modes) * expected  # half of the modes are independent
    assert np.abs((p - expected) / error).max() < 4
    _, cross, _ = power_spectrum(a, BOX, b, pcs=False)
    assert np.abs(cross / (error / np.sqrt(2))).max() < 4


def test_poisson_particles_have_the_shot_noise_volume_over_number():
    count, n = 40000, 32
    rng = np.random.default_rng(7)
    delta = density_contrast(rng.uniform(0, BOX, (count, 3)), BOX, n)
    assert abs(delta.mean(dtype=float)) < 1e-6
    _, p, modes = power_spectrum(delta, BOX)
    low = slice(0, n // 4)  # aliases of the shot noise are below a thousandth here
    shot = BOX**3 / count
    assert np.abs((p / shot - 1) / np.sqrt(2 / modes))[low].max() < 4
    assert np.average(p[low], weights=modes[low]) == pytest.approx(shot, rel=0.05)


def test_density_contrast_weighs_particles_by_mass():
    x, weight = particles(4000)
    delta = density_contrast(x, BOX, 16, weight)
    np.testing.assert_allclose(1 + delta, slow_deposit(x, weight, 16) * 16**3 / weight.sum(), atol=1e-4)

"""Force and psi against Ewald sums in float64, the closed forms of the softening, and symmetry."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import erfc

from zwicky.grid import to_fixed
from zwicky.kernels.split import FORCE, PROLATE_C, SCALAR, prolate, split_table
from zwicky.simulate.gravity import SOFTENING_PER_EPSILON, Gravity

BOX = 32.0  # as many units as mesh points: one unit is a cell
OMEGA_M, RHO = 0.3, 2.0


def solver(epsilon=0.02, mesh=32, high_pass=np.inf):
    """A solver whose mesh cell is 32 / mesh units wide."""
    return Gravity(BOX, mesh, OMEGA_M, RHO, epsilon, high_pass)


def solve(gravity, x, mass, wanted=None):
    """Acceleration and psi / G of particles at x (P, 3) with masses in the unit of RHO, in the order of x."""
    cells = gravity.sort(torch.from_numpy(to_fixed(x, BOX)))
    m = torch.from_numpy(np.asarray(mass) / gravity.mass_unit).float()[cells.order]
    wanted = torch.from_numpy(np.ones(len(x), bool) if wanted is None else wanted)
    force, psi = gravity.fields(cells, m, wanted[cells.order])
    return cells.restore(force).double().numpy(), cells.restore(psi).double().numpy()


def separations(x, y):
    """Nearest-image vectors from every x to every y, (P, Q, 3)."""
    d = y[None] - x[:, None]
    return d - BOX * np.round(d / BOX)


def images():
    """The 27 nearest shifts of the box."""
    return BOX * np.array(list(itertools.product((-1, 0, 1), repeat=3)))


def lattice_wavevectors(limit=8):
    """Wavevectors with |m| <= limit but zero."""
    m = np.array(list(itertools.product(range(-limit, limit + 1), repeat=3)))
    m = m[((m**2).sum(axis=1) <= limit**2) & (m != 0).any(axis=1)]
    return 2 * np.pi / BOX * m


ALPHA = 5.0 / BOX  # erfc(5) and exp(-(8 pi / 5)^2) are below 1e-10


def ewald_force(x, mass, h):
    """sum_j m_j r / r^3 over all images in a neutral background, softened inside h: (P, 3)."""
    d = separations(x, x)
    force = np.zeros_like(x)
    for shift in images():
        v = d + shift
        r = np.linalg.norm(v, axis=2)
        self_image = r < 1e-9
        r = np.where(self_image, 1.0, r)
        pull = erfc(ALPHA * r) / r**3 + 2 * ALPHA / np.sqrt(np.pi) * np.exp(-((ALPHA * r) ** 2)) / r**2
        force += np.einsum("pq,pqi,q->pi", np.where(self_image, 0, pull), v, mass)
    r = np.linalg.norm(d, axis=2)
    inside = (r < h) & (r > 1e-9)
    safe = np.where(inside, r, h)
    missing = np.where(inside, (enclosed_mass(safe / h) - 1) / safe**3, 0)
    force += np.einsum("pq,pqi,q->pi", missing, d, mass)
    k = lattice_wavevectors()
    k2 = (k**2).sum(axis=1)
    phase = np.exp(1j * x @ k.T)
    structure = (mass[:, None] * phase.conj()).sum(axis=0)
    weight = 4 * np.pi / BOX**3 * np.exp(-k2 / (4 * ALPHA**2)) / k2
    return force + np.real((1j * phase * structure * weight) @ k)


def enclosed_mass(q):
    """Mass fraction of the sphere (1 - q^2)^2 inside q <= 1: int q^2 (1 - q^2)^2 / int_0^1."""
    return (q**3 / 3 - 2 * q**5 / 5 + q**7 / 7) / (1 / 3 - 2 / 5 + 1 / 7)


def ewald_scalar(x, mass, high_pass=np.inf):
    """sum_j m_j / r^2 over all images, the particle itself left out, less its mean, times 1 - exp(-(k l / 2 pi)^2)."""
    d = separations(x, x)
    total = np.full(len(x), -mass.sum() * 2 * np.pi**1.5 / ALPHA / BOX**3)
    for shift in images():
        r2 = ((d + shift) ** 2).sum(axis=2)
        self_image = r2 < 1e-18
        r2 = np.where(self_image, 1.0, r2)
        total += np.where(self_image, 0, np.exp(-(ALPHA**2) * r2) / r2) @ mass
    k = lattice_wavevectors()
    size = np.sqrt((k**2).sum(axis=1))
    phase = np.exp(1j * x @ k.T)
    structure = (mass[:, None] * phase.conj()).sum(axis=0)
    passed = np.exp(-((size * high_pass / (2 * np.pi)) ** 2)) if np.isfinite(high_pass) else np.zeros_like(size)
    long = 2 * np.pi**2 / size * (erfc(size / (2 * ALPHA)) - passed) / BOX**3
    own = mass * ALPHA**2  # 1/r^2 = exp(-a^2 r^2)/r^2 + a smooth part, which is a^2 at r = 0
    return total + np.real((phase * structure) @ long) - own


def clustered(count=700, seed=1):
    """Clumps of several sizes and some particles between them, with masses of two species."""
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(0, BOX, (count // 4, 3))]
    for width, share in ((0.3, 4), (1.0, 4), (3.0, 4)):
        parts.append(rng.uniform(0, BOX, 3) + width * rng.standard_normal((count // share, 3)))
    x = np.concatenate(parts) % BOX
    return x, np.where(rng.uniform(size=len(x)) < 0.5, 0.85, 0.15)


@pytest.fixture(scope="module")
def cluster():
    """x, mass, acceleration, psi / G and the Ewald force of a clustered set."""
    x, mass = clustered()
    gravity = solver(epsilon=0.02)
    force, psi = solve(gravity, x, mass)
    return x, mass, force, psi, gravity.newton * ewald_force(x, mass, SOFTENING_PER_EPSILON * 0.02)


def test_the_reference_sum_does_not_depend_on_the_ewald_parameter(monkeypatch):
    x, mass = clustered(60)
    force, psi = ewald_force(x, mass, 0.05), ewald_scalar(x, mass)
    monkeypatch.setattr(f"{__name__}.ALPHA", 4.4 / BOX)
    np.testing.assert_allclose(ewald_force(x, mass, 0.05), force, atol=1e-6 * np.abs(force).max())
    np.testing.assert_allclose(ewald_scalar(x, mass), psi, atol=1e-6 * np.abs(psi).max())


def test_newton_is_the_constant_of_the_poisson_equation():
    """lap phi = (3/2) Omega_m delta is lap phi = 4 pi G (rho - mean)."""
    assert 4 * np.pi * solver().newton * RHO == pytest.approx(1.5 * OMEGA_M, rel=1e-12)


@pytest.mark.parametrize("r", [0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 3.45, 3.6, 4.5, 6.0, 8.0])
def test_force_of_a_pair_is_newtonian_to_three_parts_in_a_thousand(r):
    """The rms over random places and directions of the error of the pull between two particles, over 1 / r^2."""
    rng = np.random.default_rng(int(10 * r))
    gravity, errors = solver(), []
    for _ in range(12):
        direction = rng.standard_normal(3)
        a = rng.uniform(0, BOX, 3)
        x = np.stack([a, a + r * direction / np.linalg.norm(direction)]) % BOX
        mass = np.array([1.0, 1.0])
        force = solve(gravity, x, mass, np.zeros(2, bool))[0] / gravity.newton
        errors.append((force - ewald_force(x, mass, 1e-3))[0] * r**2)
    assert np.sqrt((np.square(errors).sum(axis=1)).mean()) < 3e-3


def test_softened_force_is_that_of_the_mass_enclosed_in_the_softening_sphere():
    gravity = solver(epsilon=0.4)
    h = SOFTENING_PER_EPSILON * 0.4
    rng = np.random.default_rng(4)
    for q in (0.05, 0.3, 0.6, 0.9, 0.999, 1.2):
        r = q * h
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        x = np.stack([np.full(3, 16.3), 16.3 + r * direction])
        pull = solve(gravity, x, np.ones(2), np.zeros(2, bool))[0][0] @ direction / gravity.newton
        assert pull == pytest.approx(enclosed_mass(min(q, 1)) / r**2, abs=3e-3 / max(r, h) ** 2)


def test_softening_sphere_has_the_central_potential_of_its_plummer_sphere():
    """int_0^h 4 pi rho r dr = 1 / epsilon for rho ~ (1 - r^2/h^2)^2 of unit mass."""
    q = np.linspace(0, 1, 20001)
    norm = np.trapezoid(4 * np.pi * q**2 * (1 - q**2) ** 2, q)
    central = np.trapezoid(4 * np.pi * q * (1 - q**2) ** 2, q) / norm
    assert central == pytest.approx(SOFTENING_PER_EPSILON, rel=1e-6)


def test_force_on_a_clustered_set_equals_the_ewald_sum(cluster):
    _, _, force, _, reference = cluster
    error = np.linalg.norm(force - reference, axis=1) / np.linalg.norm(reference, axis=1)
    assert np.median(error) <= 5e-4
    assert np.quantile(error, 0.99) <= 3e-3


def test_momentum_is_conserved(cluster):
    _, mass, force, _, _ = cluster
    total = (mass[:, None] * force).sum(axis=0)
    assert np.linalg.norm(total) < 1e-6 * (mass * np.linalg.norm(force, axis=1)).sum()


def test_force_and_psi_repeat_to_the_bit_on_any_number_of_threads(cluster):
    x, mass, _, _, _ = cluster
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(solve(solver(), x, mass))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


def test_force_moves_with_the_particles_across_the_edge(cluster):
    """Moved by whole mesh cells through the edge of the box, the particles feel the same."""
    x, mass, force, psi, _ = cluster
    moved, moved_psi = solve(solver(), (x + np.array([5.0, 17.0, 31.0])) % BOX, mass)
    np.testing.assert_allclose(moved, force, atol=2e-5 * np.abs(force).max())
    np.testing.assert_allclose(moved_psi, psi, atol=2e-5 * np.abs(psi).max())


def test_a_uniform_lattice_feels_no_force():
    """16^3 particles; a single one of them pulls its neighbour with G m / spacing^2."""
    x = (np.indices((16, 16, 16)).reshape(3, -1).T + 0.25) * 2.0
    gravity = solver()
    force, _ = solve(gravity, x, np.ones(len(x)))
    assert np.abs(force).max() < 1e-3 * gravity.newton / 2.0**2


def test_unwanted_particles_still_pull_those_that_are_wanted(cluster):
    x, mass, _, psi, _ = cluster
    wanted = np.arange(len(x)) % 3 == 0
    np.testing.assert_array_equal(solve(solver(), x, mass, wanted)[1][wanted], psi[wanted])


@pytest.mark.parametrize("r", [0.5, 1.0, 2.0, 3.2, 4.0, 7.0])
def test_psi_of_one_particle_is_its_mass_over_distance_squared(r):
    """Seen by massless particles all around; the images are in the reference."""
    rng = np.random.default_rng(int(10 * r))
    direction = rng.standard_normal((24, 3))
    probes = 11.4 + r * direction / np.linalg.norm(direction, axis=1)[:, None]
    x, mass = np.concatenate([[np.full(3, 11.4)], probes]), np.r_[1.0, np.zeros(24)]
    error = (solve(solver(), x, mass)[1] - ewald_scalar(x, mass))[1:] * r**2
    assert np.sqrt((error**2).mean()) < 3e-3


@pytest.fixture(scope="module")
def sphere():
    """600 particles with M(<r) ~ r / (r + 4) inside 4, rho ~ 1 / (r (r + 4))^2."""
    rng = np.random.default_rng(9)
    u = rng.uniform(size=600)
    direction = rng.standard_normal((600, 3))
    r = 4 * u / (2 - u)
    return (20 + r[:, None] * direction / np.linalg.norm(direction, axis=1)[:, None]) % BOX, np.full(600, 0.5)


def psi_error(sphere, high_pass):
    """Relative error of psi; the mesh part of psi contains m Phi'(0)^2 / r_c^2 of the particle itself."""
    x, mass = sphere
    gravity = solver(epsilon=0.002, high_pass=high_pass)
    psi = solve(gravity, x, mass)[1] - mass * SCALAR[0] / gravity.cutoff**2
    reference = ewald_scalar(x, mass, high_pass)
    return np.abs(psi - reference) / reference


@pytest.mark.parametrize("high_pass", [np.inf, 16.0])
def test_psi_is_filtered_as_a_whole(sphere, high_pass):
    """1 - exp(-(k l / 2 pi)^2) of all of psi, so that its mean over the box is zero whatever the mesh."""
    error = psi_error(sphere, high_pass)
    assert np.median(error) < 5e-4
    assert np.quantile(error, 0.99) < 3e-3


def test_psi_of_a_particle_inside_the_softening_is_finite_and_continuous():
    gravity = solver(epsilon=0.2)
    h = SOFTENING_PER_EPSILON * 0.2
    probes = np.full((4, 3), 16.2)
    probes[:, 0] += h * np.array([0.0, 0.02, 0.9999, 1.0001])
    _, psi = solve(gravity, np.concatenate([[[16.2, 16.2, 16.2]], probes[1:]]), np.r_[1.0, np.zeros(3)])
    assert psi[1] * h**2 == pytest.approx(3.0, rel=0.02)
    assert psi[2] == pytest.approx(psi[3], rel=1e-3)
    assert psi[3] * h**2 == pytest.approx(1.0, rel=0.02)


def energy(gravity, x, mass):
    """Potential energy."""
    cells = gravity.sort(torch.from_numpy(to_fixed(x, BOX)))
    return gravity.potential_energy(cells, torch.from_numpy(np.asarray(mass) / gravity.mass_unit).float()[cells.order])


def ewald_energy(x, mass, h):
    """-G / 2 sum m_i m_j / r over all images of others in a neutral background, softened inside h."""
    d = separations(x, x)
    total = np.full(len(x), -np.pi / ALPHA**2 / BOX**3 * mass.sum())
    for shift in images():
        r = np.linalg.norm(d + shift, axis=2)
        own = r < 1e-9
        total += np.where(own, 0, erfc(ALPHA * np.where(own, 1, r)) / np.where(own, 1, r)) @ mass
    r = np.linalg.norm(d, axis=2)
    inside = (r < h) & (r > 1e-9)
    q = np.where(inside, r / h, 1)
    total += np.where(inside, (2.1875 - 2.1875 * q**2 + 1.3125 * q**4 - 0.3125 * q**6 - 1 / q) / h, 0) @ mass
    k = lattice_wavevectors()
    k2 = (k**2).sum(axis=1)
    phase = np.exp(1j * x @ k.T)
    structure = (mass[:, None] * phase.conj()).sum(axis=0)
    weight = 4 * np.pi / BOX**3 * np.exp(-k2 / (4 * ALPHA**2)) / k2
    total += np.real((phase * structure) @ weight) - mass * 2 * ALPHA / np.sqrt(np.pi)
    return -0.5 * (mass * total).sum()


def test_potential_energy_of_a_clustered_set_equals_the_ewald_sum(cluster):
    x, mass, *_ = cluster
    gravity = solver(epsilon=0.02)
    expected = gravity.newton * ewald_energy(x, mass, SOFTENING_PER_EPSILON * 0.02)
    assert energy(gravity, x, mass) == pytest.approx(expected, rel=5e-4)


def test_force_is_the_slope_of_the_energy(cluster):
    """Moved a little along the force, the particles lose the work done."""
    x, mass, force, *_ = cluster
    gravity, step = solver(epsilon=0.02), 1e-3
    move = step * force / np.abs(force).max()
    work = (mass[:, None] * force * move).sum()
    change = energy(gravity, (x + move) % BOX, mass) - energy(gravity, (x - move) % BOX, mass)
    assert -change / 2 == pytest.approx(work, rel=0.02)


def horner(coefficients, s):
    """Polynomial in s^2."""
    return np.polynomial.polynomial.polyval(s**2, coefficients)


def test_split_polynomials_equal_the_table():
    """F_long r_c^2 / s and Phi^2 / s^2 on [0, 1], which are 1 at the end."""
    s, phi, dphi = (t[16:] for t in split_table())
    force = (phi / s**2 - dphi / s) / s
    assert np.abs(horner(FORCE, s) - force).max() < 2e-6
    scalar = (phi / s) ** 2
    assert np.abs(horner(SCALAR, s) - scalar).max() < 2e-5


def test_split_table_is_the_integral_of_the_prolate_function():
    """Independent Gauss-Legendre quadrature; short-range force and its slope end at the cutoff."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    s, phi, dphi = split_table()
    whole = (weights * prolate((nodes + 1) / 2)).sum() / 2
    for i in (100, 512, 900):
        part = (weights * prolate(s[i] * (nodes + 1) / 2)).sum() * s[i] / 2
        assert phi[i] == pytest.approx(part / whole, abs=1e-9)
    assert phi[-1] == 1
    assert 0 < dphi[-1] < 3.5e-3  # the step of the short-range force at r_c, over 1 / r_c^2
    assert np.polynomial.polynomial.polyval(1.0, FORCE) == pytest.approx(1.0 - dphi[-1], abs=1e-6)


def test_mesh_filter_is_the_fourier_transform_of_the_prolate_function():
    """int_{-1}^{1} psi(s) cos(k s) ds ~ psi(k / c): the function is its own transform, band-limited to k < c."""
    nodes, weights = np.polynomial.legendre.leggauss(96)
    values = prolate(np.abs(nodes))
    zero = (weights * values).sum()
    for x in (0.1, 0.4, 0.7, 0.95):
        transform = (weights * values * np.cos(PROLATE_C * x * nodes)).sum() / zero
        assert transform == pytest.approx(float(prolate(np.array(x))), abs=1e-8)


def test_a_mesh_too_coarse_and_a_softening_too_long_are_refused():
    with pytest.raises(ValueError, match="too coarse"):
        solver(mesh=13)
    with pytest.raises(ValueError, match="softening"):
        solver(epsilon=2.0)

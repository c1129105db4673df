"""Density and pressure force against slow sums in float64, and the properties of SPH."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from zwicky.grid import sort_into_cells, to_fixed
from zwicky.simulate import sph

BOX, CELLS = 10.0, 10  # a cell of the lists is one unit wide


def density(x, mass, h, wanted=None, n=CELLS):
    """`sph.density` in the order of x."""
    cells = sph_cells(x, n)
    wanted = torch.from_numpy(np.ones(len(x), bool) if wanted is None else wanted)
    m, support = (float32(v)[cells.order] for v in (mass, h))
    return cells.restore(sph.density(cells, m, support, wanted[cells.order], BOX)).numpy()


def float32(values):
    """A tensor of float32."""
    return torch.from_numpy(np.array(values, np.float32))


def sph_cells(x, n=CELLS):
    """Neighbour lists."""
    return sort_into_cells(torch.from_numpy(to_fixed(x, BOX)), n)


def acceleration(x, velocity, mass, specific, rho, h, hubble=0.0, alpha=0.0, n=CELLS // 2):
    """The acceleration of `sph.pressure_acceleration` in the order of x; alpha for all or (P,)."""
    return both(x, velocity, mass, specific, rho, h, hubble, alpha, n)[0]


def both(x, velocity, mass, specific, rho, h, hubble=0.0, alpha=0.0, n=CELLS // 2):
    """`sph.pressure_acceleration` in the order of x."""
    cells = sph_cells(x, n)
    c, r, s, a = (float32(np.broadcast_to(v, len(x)))[cells.order] for v in (specific, rho, h, alpha))
    v = float32(velocity)[cells.order].T
    out = sph.pressure_acceleration(cells, v, mass, c, r, s, BOX, hubble, a)
    return [cells.restore(o).double().numpy() for o in out]


def separations(x):
    """Nearest-image vectors x_i - x_j and their lengths."""
    d = x[:, None] - x[None]
    d -= BOX * np.round(d / BOX)
    return d, np.linalg.norm(d, axis=2)


def wendland(r, h):
    """W(r, h)."""
    q = np.minimum(r / h, 1)
    return 21 / (2 * np.pi * h**3) * (1 - q) ** 4 * (1 + 4 * q)


def wendland_slope(r, h):
    """dW/dr."""
    q = np.minimum(r / h, 1)
    return -20 * 21 / (2 * np.pi * h**4) * q * (1 - q) ** 3


def slow_density(x, mass, h):
    """sum_j m_j W(r_ij, h_i)."""
    return wendland(separations(x)[1], h[:, None]) @ mass


def slow_acceleration(x, velocity, mass, specific, rho, h, hubble, alpha):
    """The sum of the module's docstring."""
    d, r = separations(x)
    safe = np.where(r > 0, r, 1)
    slope = 0.5 * (wendland_slope(r, h[:, None]) + wendland_slope(r, h[None]))
    w = np.minimum(((velocity[:, None] - velocity[None]) * d).sum(axis=2) / safe + hubble * r, 0)
    signal = np.sqrt(specific)[:, None] + np.sqrt(specific)[None] - 3 * w
    a = np.broadcast_to(alpha, len(x))
    viscous = -(a[:, None] + a[None]) / 4 * signal * w / (0.5 * (rho[:, None] + rho[None]))
    pair = (specific / rho)[:, None] + (specific / rho)[None] + viscous
    return -mass * ((pair * slope / safe)[:, :, None] * d).sum(axis=1)


def clustered(seed=0, count=400):
    """A clump on the corner of the box in a background, support radii from 0.1 to 1.99 cells side by side."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([0.5 * rng.standard_normal((count // 2, 3)), rng.uniform(0, BOX, (count // 2, 3))]) % BOX
    return x, np.exp(rng.uniform(np.log(0.1), np.log(1.99), count)), rng


def lattice(n=20):
    """Sites of a cubic lattice in the box."""
    return (np.indices((n, n, n)).reshape(3, -1).T + 0.5) * (BOX / n)


def test_density_equals_the_direct_sum_with_long_and_short_support_side_by_side():
    x, h, rng = clustered()
    mass = rng.uniform(0, 2, len(x))
    np.testing.assert_allclose(density(x, mass, h), slow_density(x, mass, h), rtol=2e-5)


def test_density_of_the_coarsest_lists_equals_the_direct_sum():
    """Five cells along a side: supports of up to one and a half of them see no particle twice."""
    x, h, rng = clustered(1)
    mass = rng.uniform(0, 2, len(x))
    np.testing.assert_allclose(density(x, mass, 1.5 * h, n=5), slow_density(x, mass, 1.5 * h), rtol=2e-5)
    with pytest.raises(ValueError, match="too long"):
        density(x, mass, 2 * h, n=5)


def test_the_kernel_of_a_pair_is_normalised():
    """4 pi int r^2 W dr = 1, with W from the density that one particle has at massless ones."""
    h = 0.8

    def kernel(r):
        x = np.array([[3.0, 3.0, 3.0], [3.0 + r, 3.0, 3.0]])
        return float(density(x, [1.0, 0.0], [h, h])[1])

    assert quad(lambda r: 4 * np.pi * r**2 * kernel(r), 0, h, epsrel=1e-4, limit=20)[0] == pytest.approx(1, abs=1e-4)
    assert kernel(1.001 * h) == 0


def test_density_of_a_uniform_lattice_is_its_density():
    x = lattice()
    h = np.cbrt(sph.N_NEIGHBOURS / (4 / 3 * np.pi)) * BOX / 20
    rho = density(x, np.full(len(x), 2.0), np.full(len(x), h), n=8)
    np.testing.assert_allclose(rho, 2.0 * 20**3 / BOX**3, rtol=0.02)


def test_particles_without_mass_and_those_not_wanted_are_left_out():
    x, h, _ = clustered(2)
    half = np.arange(len(x)) % 2 == 0
    rho = density(x, half.astype(float), h, wanted=half)
    np.testing.assert_allclose(rho[half], slow_density(x[half], np.ones(half.sum()), h[half]), rtol=2e-5)
    assert (rho[~half] == 0).all()


@pytest.mark.parametrize(("alpha", "hubble"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.7)])
def test_pressure_force_equals_the_direct_sum_and_keeps_momentum(alpha, hubble):
    x, h, rng = clustered(3)
    velocity, specific, rho = rng.normal(size=(len(x), 3)), rng.uniform(0.1, 3, len(x)), rng.uniform(0.5, 5, len(x))
    got = acceleration(x, velocity, 0.3, specific, rho, h, hubble, alpha)
    expected = slow_acceleration(x, velocity, 0.3, specific, rho, h, hubble, alpha)
    np.testing.assert_allclose(got, expected, atol=8e-6 * np.abs(expected).max())
    assert np.linalg.norm(got.sum(axis=0)) < 1e-6 * np.linalg.norm(got, axis=1).sum()


def test_a_wide_particle_pushes_narrow_ones_a_cell_away():
    """The support of the neighbour counts: only one of the two has a kernel that reaches."""
    x = np.array([[5.05, 5.5, 5.5], [6.95, 5.5, 5.5]])  # in neighbouring cells, 1.9 units apart
    args = (np.zeros((2, 3)), 1.0, np.ones(2), np.ones(2), np.array([0.2, 1.99]))
    got, expected = acceleration(x, *args), slow_acceleration(x, *args, 0.0, 0.0)
    assert expected[0, 0] < 0 < expected[1, 0]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-8)
    assert density(x, np.ones(2), args[-1])[1] > wendland(0.0, 1.99)


def test_a_linear_pressure_on_a_lattice_pushes_with_its_gradient():
    """P = 1 + x/5 - y/10 at uniform density: the acceleration is -grad P / rho within 3%, away from the seam."""
    x = lattice()
    rho = 20**3 / BOX**3
    h = np.full(len(x), np.cbrt(sph.N_NEIGHBOURS / (4 / 3 * np.pi)) * BOX / 20)
    specific = (1 + x[:, 0] / 5 + (BOX - x[:, 1]) / 10) / rho
    got = acceleration(x, np.zeros_like(x), 1.0, specific, np.full(len(x), rho), h, n=8)
    inside = ((x[:, :2] > 1.5) & (x[:, :2] < BOX - 1.5)).all(axis=1)
    np.testing.assert_allclose(got[inside] * rho, np.tile([-0.2, 0.1, 0.0], (inside.sum(), 1)), atol=0.006)


def pair(velocity, alpha=1.0, hubble=0.0):
    """Acceleration along x of two cold particles 0.5 apart; `velocity` is of the right one relative to the left."""
    x = np.array([[3.0, 3.0, 3.0], [3.5, 3.0, 3.0]])
    v = np.array([[0.0, 0, 0], [velocity, 0, 0]])
    return acceleration(x, v, 1.0, np.full(2, 1e-12), np.ones(2), np.ones(2), hubble, alpha)[:, 0]


def test_viscosity_opposes_approach_and_lets_go_of_recession():
    left, right = pair(-1.0)
    assert left < 0 < right
    assert left == pytest.approx(-right, rel=1e-6)
    np.testing.assert_allclose(pair(1.0), 0, atol=1e-8)
    np.testing.assert_allclose(pair(-1.0, alpha=0.0), 0, atol=1e-8)


def test_viscosity_feels_the_hubble_flow():
    """Peculiar approach slower than the expansion between the particles, a H r = 1.5, is recession."""
    np.testing.assert_allclose(pair(-1.0, hubble=3.0), 0, atol=1e-8)
    assert pair(-2.0, hubble=3.0)[1] == pytest.approx(pair(-0.5)[1], rel=1e-5)


def test_viscosity_dissipates():
    """The work of the viscous force on random motion is negative, and sums of angular momentum stay."""
    x, h, rng = clustered(4)
    x = 0.2 * (x - BOX / 2) + BOX / 2  # away from the edge, so that angular momentum is defined
    velocity = rng.normal(size=(len(x), 3))
    rho = np.full(len(x), 2.0)
    force = acceleration(x, velocity, 1.0, np.full(len(x), 1e-10), rho, h, 0.0, 1.0)
    assert (force * velocity).sum() < -0.1 * (np.linalg.norm(force, axis=1) * np.linalg.norm(velocity, axis=1)).sum()
    torque = np.cross(x - BOX / 2, force)
    assert np.linalg.norm(torque.sum(axis=0)) < 1e-5 * np.linalg.norm(torque, axis=1).sum()


@pytest.mark.parametrize(("motion", "limiter"), [("squeeze", 1.0), ("turn", 0.0), ("shear", 0.0), ("both", 0.6)])
def test_viscosity_is_weak_where_gas_turns_more_than_it_is_squeezed(motion, limiter):
    """v = -(x, y, z) has div -3; v = (-y, x, 0) has curl 2; a shear of the first kind has curl 1 and no div."""
    x = lattice()
    d = x - BOX / 2
    turn = np.stack([-d[:, 1], d[:, 0], 0 * d[:, 0]], 1)
    shear = np.stack([d[:, 1], 0 * d[:, 0], 0 * d[:, 0]], 1)
    v = {"squeeze": -d, "turn": turn, "shear": shear, "both": turn - d}[motion]
    h = np.full(len(x), np.cbrt(sph.N_NEIGHBOURS / (4 / 3 * np.pi)) * BOX / 20)
    found = both(x, v, 1.0, np.full(len(x), 1e-4), np.full(len(x), 20**3 / BOX**3), h, n=8)[1]
    inside = (np.abs(d) < BOX / 2 - 1.5).all(axis=1)
    np.testing.assert_allclose(found[inside], limiter, atol=0.02)


def test_support_radius_settles_where_it_holds_the_number_of_neighbours():
    x = lattice()
    mass, rho0 = 2.0, 2.0 * 20**3 / BOX**3
    h = np.full(len(x), 0.6, np.float32)
    for _ in range(6):
        rho = float32(density(x, np.full(len(x), mass), h, n=8))
        h = sph.next_support_radius(float32(h), rho, mass, 0.1, 2.0).numpy()
    np.testing.assert_allclose(4 / 3 * np.pi * h**3 * rho0 / mass, sph.N_NEIGHBOURS, rtol=0.1)
    clipped = sph.next_support_radius(torch.ones(2), torch.tensor([1e-9, 1e9]), mass, 0.1, 2.0)
    np.testing.assert_allclose(clipped, [2.0, 0.1], rtol=1e-6)


def test_density_and_force_repeat_to_the_bit_on_any_number_of_threads():
    x, h, rng = clustered(5)
    velocity = rng.normal(size=(len(x), 3))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rho = density(x, np.ones(len(x)), h)
            results.append((rho, acceleration(x, velocity, 1.0, np.ones(len(x)), rho, h, 0.1, 1.0)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)

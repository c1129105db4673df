"""The projector: exact mass, the right kernel, the right place, the same bits on any number of threads."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from zwicky.observe.project import column_kernel, cumulative_kernel, project


def wendland(q):
    """W(q) of unit support radius, 21/(2 pi) (1-q)^4 (1+4q)."""
    return 21 / (2 * np.pi) * np.clip(1 - q, 0, None) ** 4 * (1 + 4 * q)


def cubic(q):
    """W(q) of unit support radius: 8/pi (1 - 6 q^2 + 6 q^3) to q = 1/2, then 16/pi (1-q)^3."""
    return 8 / np.pi * np.where(q < 0.5, 1 - 6 * q**2 + 6 * q**3, 2 * np.clip(1 - q, 0, None) ** 3)


KERNELS = {"wendland": wendland, "cubic": cubic}
every_kernel = pytest.mark.parametrize("kernel", KERNELS)


def scene(P=400, H=1.0, width=1.0, seed=0):
    """Random particles whose kernels of support radius H lie inside a map of this width."""
    rng = np.random.default_rng(seed)
    reach = 0.5 * width - H
    return rng.uniform(-reach, reach, (P, 3)), np.full(P, H), rng.uniform(1, 2, P)


@every_kernel
def test_column_kernel_is_the_integrated_kernel(kernel):
    for q in (0.0, 1e-3, 0.2, 0.49, 0.5, 0.51, 0.9, 1.0):
        Z = np.sqrt(1 - q**2)
        bend = [np.sqrt(0.25 - q**2)] if q < 0.5 else None
        direct = 2 * quad(lambda z, q=q: KERNELS[kernel](np.hypot(q, z)), 0, Z, points=bend)[0]
        assert column_kernel(q, kernel) == pytest.approx(direct, abs=1e-10)
    whole = quad(lambda q: 2 * np.pi * q * column_kernel(q, kernel), 0, 1, points=[0.5])[0]
    assert whole == pytest.approx(1, abs=1e-10)


def test_another_kernel_is_refused():
    with pytest.raises(ValueError, match="one of wendland, cubic, not 'gauss'"):
        project([[0, 0, 0]], [1], [1], 1, 1, kernel="gauss")


@every_kernel
def test_cumulative_kernel_is_symmetric_and_a_quarter_at_the_corner(kernel):
    G = cumulative_kernel(kernel)
    assert G[-1, -1] == pytest.approx(0.25, abs=1e-15)
    np.testing.assert_allclose(G, G.T, atol=1e-15)
    assert (np.diff(G, axis=0) >= 0).all()


@every_kernel
@pytest.mark.parametrize("ratio", [1e-3, 1e-2, 0.1, 0.3, 0.5, 1, 1.5, 2, 3, 10, 30, 100])
def test_mass_is_exact_for_every_ratio_of_kernel_to_pixel(ratio, kernel):
    pixels = 256
    positions, H, mass = scene(H=ratio, width=float(pixels))
    image = project(positions, H, mass, pixels, pixels, kernel=kernel)
    assert image.sum() == pytest.approx(mass.sum(), rel=1e-12)
    assert image.min() >= 0


def test_pixel_area_is_divided_out():
    positions, H, mass = scene(H=50.0, width=1000.0)
    assert project(positions, H, mass, 1000.0, 20).sum() * 50.0**2 == pytest.approx(mass.sum(), rel=1e-12)


def test_mass_outside_is_lost_and_accounted_for():
    rng = np.random.default_rng(1)
    positions, H, mass = rng.uniform(-10, 10, (500, 3)), rng.uniform(0, 3, 500), rng.uniform(1, 2, 500)
    small = project(positions, H, mass, 8.0, 16)
    whole = project(positions, H, mass, 32.0, 64)
    np.testing.assert_allclose(small, whole[24:40, 24:40], rtol=1e-10, atol=1e-13)
    assert whole.sum() * 0.25 == pytest.approx(mass.sum(), rel=1e-12)
    assert small.sum() < 0.5 * whole.sum()


def test_half_a_particle_on_the_border_stays():
    image = project([[4.0, 0.3, 0.0]], [1.5], [1.0], 8.0, 8)
    assert image.sum() == pytest.approx(0.5, abs=1e-12)


def test_point_masses_are_a_histogram():
    positions, _, mass = scene(H=0.0, width=16.0)
    expected, _, _ = np.histogram2d(positions[:, 1], positions[:, 0], bins=16, range=[[-8, 8]] * 2, weights=mass)
    np.testing.assert_allclose(project(positions, np.zeros(len(mass)), mass, 16.0, 16), expected, rtol=1e-13)


@pytest.mark.parametrize("H", [0.0, 0.05, 0.4, 1.0, 2.7, 8.0])
def test_centroid(H):
    """Of one kernel of some pixels; of smaller ones on average over where in its pixel the particle sits."""
    phase = (np.arange(64) + 0.5) / 64
    x, y = phase.repeat(64), np.tile(phase, 64) - 2
    if H > 2:
        x, y = x[-1:], y[-1:]
    image = project(np.stack([x, y, x], 1), np.full(len(x), H), np.full(len(x), 1 / len(x)), 24.0, 24)
    centres = np.arange(24) - 11.5
    assert image.sum(0) @ centres == pytest.approx(x.mean(), abs=1e-3)
    assert image.sum(1) @ centres == pytest.approx(y.mean(), abs=1e-3)


@every_kernel
@pytest.mark.parametrize("H", [0.6, 1.7, 3.1])
def test_pixels_are_integrals_of_the_three_dimensional_kernel(H, kernel):
    x, y = 0.23, -0.41
    image = project([[x, y, 0.0]], [H], [1.0], 8.0, 8, kernel=kernel)

    z, weight = np.polynomial.legendre.leggauss(24)
    t, area = (np.arange(150) + 0.5) / 150, 1 / 150**2  # midpoints in a pixel
    for j, i in ((3, 4), (4, 4), (3, 3), (2, 5)):
        s = np.minimum(np.hypot(i - 4 + t - x, (j - 4 + t - y)[:, None]) / H, 1.0)[..., None]
        Z = np.sqrt(1 - s**2)
        direct = (Z * KERNELS[kernel](np.minimum(np.hypot(s, Z * z), 1.0)) @ weight[:, None]).sum() * area / H**2
        assert image[j, i] == pytest.approx(direct, abs=2e-4 * image.max())


def test_axis_order_is_y_x():
    image = project([[3.5, -2.5, 0.0]], [0.1], [1.0], 8.0, 8)
    assert np.argwhere(image > 0).tolist() == [[1, 7]]


def test_turning_the_particles_turns_the_map():
    positions, H, mass = scene(H=1.3, width=16.0)
    turned = positions @ np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]]).T  # x to y, anticlockwise
    np.testing.assert_allclose(
        project(turned, H, mass, 16.0, 16), np.rot90(project(positions, H, mass, 16.0, 16), -1), atol=1e-11
    )  # rot90(-1) turns the array from axis 1 to axis 0, which is x to y with y upwards


def test_the_line_of_sight_does_not_matter():
    positions, H, mass = scene(H=1.3, width=16.0)
    np.testing.assert_array_equal(
        project(positions, H, mass, 16.0, 16), project(positions * [1, 1, 7], H, mass, 16.0, 16)
    )


def test_channels_in_one_pass_equal_channels_apart():
    positions, H, mass = scene(H=1.3, width=16.0)
    both = project(positions, H, np.stack([mass, mass**2], 1), 16.0, 16)
    assert both.shape == (2, 16, 16)
    for image, weight in zip(both, (mass, mass**2), strict=True):
        np.testing.assert_allclose(image, project(positions, H, weight, 16.0, 16), rtol=1e-13)


def test_bits_do_not_depend_on_threads():
    rng = np.random.default_rng(3)
    positions, H, mass = rng.normal(size=(5000, 3)), rng.uniform(0, 1, 5000), rng.uniform(size=(5000, 3))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = project(positions, H, mass, 4.0, 32)
        torch.set_num_threads(2)
        two = project(positions, H, mass, 4.0, 32)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one, two)


def test_nothing_is_negative_and_no_particles_is_an_empty_map():
    positions, H, mass = scene(H=5.0, width=16.0)
    assert project(positions, H, mass, 16.0, 64).min() >= 0
    assert (project(np.empty((0, 3)), [], np.empty((0, 2)), 1.0, 4) == np.zeros((2, 4, 4))).all()


def test_far_and_huge_particles_are_harmless():
    positions = [[1e300, 0, 0], [-1e30, 1e30, 0], [0, 0, 0]]
    image = project(positions, [1.0, 1.0, 1e200], [1.0, 1.0, 1.0], 8.0, 8)
    assert image.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0, 0]], [1], [1], 1, 1), "positions"),
        (([[0, 0, 0]], [1, 2], [1], 1, 1), "support_radius"),
        (([[0, 0, 0]], [1], [1, 2], 1, 1), "weights"),
        (([[0, np.nan, 0]], [1], [1], 1, 1), "finite"),
        (([[0, 0, 0]], [np.inf], [1], 1, 1), "finite"),
        (([[0, 0, 0]], [-1], [1], 1, 1), "negative"),
        (([[0, 0, 0]], [1], [1], 0, 1), "width"),
        (([[0, 0, 0]], [1], [1], 1, 0), "pixels"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        project(*arguments)

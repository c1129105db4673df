"""Coarser grids for large kernels: nothing lost, nothing negative, the order that is claimed, the same map."""

import numpy as np
import pytest
import torch

from zwicky.observe import levels
from zwicky.observe.levels import GHOST, LIMIT, THRESHOLD, choose_levels, refine
from zwicky.observe.project import project

LARGE = 1e300


def cluster(P=300, pixels=256, largest=120.0, seed=0):
    """Positions in and around a map of a pixel a unit, support radii of all levels, masses."""
    rng = np.random.default_rng(seed)
    H = np.geomspace(0.1, largest, P)
    return rng.uniform(-0.7 * pixels, 0.7 * pixels, (P, 3)), H, rng.uniform(1, 2, P)


def powers(cells, degree):
    """Means over cells of unit width of t^degree, whose middle is 0."""
    edges = np.arange(cells + 1.0) - cells / 2
    return np.diff(edges ** (degree + 1)) / (degree + 1)


def halves(v):
    """`refine` in one direction, of sums (n,) that are the same along the other."""
    fine = refine(torch.from_numpy(np.repeat(v[:, None, None], 6, axis=1)), torch.tensor([True]))
    return 2 * fine[:, 0, 0].numpy()  # two rows of half the sum


@pytest.mark.parametrize("degree", range(6))
def test_refinement_is_exact_to_degree_four(degree):
    v = powers(12, degree)
    error = np.abs(halves(v) - np.diff((np.arange(17) / 2 - 4) ** (degree + 1)) / (degree + 1)).max()
    assert error < 1e-11 if degree < 5 else error > 1e-3


def test_refinement_converges_in_fifth_order():
    def error(cells):
        edges = np.linspace(0, 1, cells + 1)
        step = 1 / cells
        fine = np.linspace(2 * step, 1 - 2 * step, 2 * (cells - 4) + 1)
        return np.abs(halves(np.diff(np.sin(5 * edges)))[: len(fine) - 1] - np.diff(np.sin(5 * fine))).max() * cells

    order = np.log2(error(32) / error(64))
    assert 4.7 < order < 5.3, order


@pytest.mark.parametrize("mixed", [False, True])
def test_every_cell_keeps_its_sum(mixed):
    v = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 9, 1)))
    fine = refine(v, torch.tensor([mixed])).reshape(5, 2, 5, 2, 1).sum((1, 3))
    np.testing.assert_allclose(fine, v[2:-2, 2:-2], rtol=1e-13)


def test_the_limit_keeps_a_steep_edge_positive():
    v = torch.zeros((10, 10, 1), dtype=torch.float64)
    v[5, 5] = 1.0
    v[4, 4] = 1e-3
    limited, free = (refine(v, torch.tensor([mixed])) for mixed in (False, True))
    assert limited.min() == 0 > free.min()
    assert limited.sum() == pytest.approx(float(v.sum()), rel=1e-14)
    assert (limited[4:6, 4:6] >= 1e-3 * ((1 - LIMIT) / 2) ** 2).all()


def test_levels_are_chosen_by_cells_in_the_kernel():
    H = np.array([0.0, THRESHOLD, 1.01 * THRESHOLD, 2 * THRESHOLD, 2.01 * THRESHOLD, 8.01 * THRESHOLD, LARGE])
    middle = np.full((len(H), 3), 2.0**19)
    np.testing.assert_array_equal(choose_levels(middle, H, 2**20)[:-1], [0, 0, 1, 1, 2, 4])
    assert choose_levels(middle, H, 2**20)[-1] <= 21
    tensors = choose_levels(torch.from_numpy(middle), torch.from_numpy(H), 2**20)
    np.testing.assert_array_equal(tensors, choose_levels(middle, H, 2**20))


def test_what_ends_in_a_cell_that_the_border_cuts_stays_below():
    H = np.full(3, 40.0)
    places = np.array([[126.5 - 40, 60, 0], [60, 126.5 - 40, 0], [60, 60, 126.5 - 40]])
    np.testing.assert_array_equal(choose_levels(places, H, 127), [0, 0, 2])
    np.testing.assert_array_equal(choose_levels(places, H, 128), [2, 2, 2])


@pytest.mark.parametrize(("pixels", "kernel"), [(256, "wendland"), (255, "wendland"), (301, "cubic")])
def test_map_is_that_of_one_level(pixels, kernel, monkeypatch):
    found = project(*cluster(pixels=pixels), pixels, pixels, kernel=kernel)
    monkeypatch.setattr(levels, "THRESHOLD", LARGE)
    expected = project(*cluster(pixels=pixels), pixels, pixels, kernel=kernel)
    assert not np.array_equal(found, expected)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 1e-4 * expected.max()
    bright = expected > 0.01 * expected.max()
    assert np.sqrt(np.mean((found[bright] / expected[bright] - 1) ** 2)) < 2e-3  # of which the table's steps are most


@pytest.mark.parametrize(("pixels", "kernel"), [(64, "cubic"), (127, "wendland"), (250, "cubic"), (333, "wendland")])
def test_mass_of_large_kernels_inside_is_exact(pixels, kernel):
    """Anywhere, and with the kernel up against each corner of the map."""
    rng = np.random.default_rng(0)
    for H in np.geomspace(THRESHOLD, 0.49 * pixels, 6):
        reach = pixels / 2 - H
        corners = [[x, y, 0.0] for x in (-reach, reach) for y in (-reach, reach)]
        for place in [*rng.uniform(-reach, reach, (4, 3)), *np.multiply(corners, 1 - 1e-9)]:
            assert project([place], [H], [1.0], pixels, pixels, kernel=kernel).sum() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize(("border", "tolerance"), [(128, 1e-13), (65, 1e-4)])
def test_mass_outside_is_lost_as_from_a_larger_map(border, tolerance):
    """To rounding where the cells of both are the same, else as well as cells of another phase agree."""
    small = project(*cluster(pixels=128), 128, 128)
    inner = slice(border, border + 128)
    whole = project(*cluster(pixels=128), 128 + 2 * border, 128 + 2 * border)[inner, inner]
    assert np.abs(small - whole).max() < tolerance * whole.max()


def test_edges_of_large_kernels_are_not_negative_and_vanish_outside():
    positions, H, mass = cluster(P=12, pixels=400, largest=150.0)
    image = project(0.3 * positions, H, mass, 400.0, 400)
    assert image.min() >= 0
    alone = project([[0.0, 0.0, 0.0]], [100.0], [1.0], 400.0, 400)
    y, x = np.indices((400, 400)) - 199.5
    assert alone[np.hypot(x, y) > 100 + 16].max() < 1e-14 * alone.max()  # two cells of the coarsest level


def test_mean_of_two_temperatures_stays_between_them():
    """But for the outermost edge, which is a thousandth of the brightest pixel and less here."""
    rng = np.random.default_rng(0)
    positions, H, mass = rng.normal(0, 40, (3000, 3)), rng.uniform(20, 60, 3000), rng.uniform(1, 2, 3000)
    T = np.where(np.arange(len(H)) % 2, 1.0, 10.0)
    weighted, weight = project(positions, H, np.stack([mass * T, mass], 1), 256.0, 256)
    bright = weight > 1e-3 * weight.max()
    mean = weighted[bright] / weight[bright]
    assert bright.mean() > 0.5
    assert 1 - 1e-2 < mean.min() < mean.max() < 10 + 1e-1


def test_weights_of_both_signs_are_the_difference_of_both():
    positions, H, mass = cluster()
    sign = np.where(np.arange(len(H)) % 2, -1.0, 1.0)
    weights = np.stack([mass * sign, mass * (sign > 0), mass * (sign < 0)], 1)
    both, plus, minus = project(positions, H, weights, 256, 256)
    assert both.min() < 0 < both.max()
    assert np.abs(both - (plus - minus)).max() < 1e-4 * plus.max()  # where the limits of these are reached
    negative = project(positions, H, -mass, 256, 256)
    np.testing.assert_array_equal(negative, -project(positions, H, mass, 256, 256))


def test_bits_of_large_kernels_do_not_depend_on_threads():
    before = torch.get_num_threads()
    maps = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            maps.append(project(*cluster(P=3000), 256, 256))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_ghosts_hold_the_stencil_of_every_level():
    for pixels in range(1, 200):
        for step in range(1, pixels.bit_length() + 1):
            fine, coarse = -(-pixels >> step - 1), -(-pixels >> step)
            ghost = GHOST if step > 1 else 0
            assert 2 * coarse + GHOST >= fine + ghost  # refined cells reach from -GHOST to there

"""Maps from a mesh: what is linear is that of the particles, what is not loses what is smaller than a cell."""

import numpy as np
import pytest
import torch

from zwicky.cosmology import Cosmology
from zwicky.observe.mesh import on_mesh
from zwicky.observe.render import cut_cube, observe, render
from zwicky.simulate.state import Particles, Species

BOX, CENTRE = 40.0, np.array([20.0, 20.0, 20.0])  # comoving [Mpc]
PIXELS, PIXEL = 16, 500.0  # [kpc]
AREA = PIXEL**2


def species(offsets, H, temperature=None, seed=7):
    """Particles at these offsets [Mpc] from the centre; with a temperature they are gas."""
    rng = np.random.default_rng(seed)
    P = len(offsets)
    masses, H = rng.uniform(1e9, 2e9, P), np.broadcast_to(H, P).astype(float)
    density = None if temperature is None else 64 * masses / (4 / 3 * np.pi * H**3)
    velocities = rng.normal(0, 300, (P, 3)).astype(np.float32)
    return Species((CENTRE + offsets) % BOX, velocities, masses, H, density, temperature)


def snapshot(spread=1.0, H=0.6, P=1500):
    """Balls of gas, dark matter and stars within 3 Mpc of the centre."""
    rng = np.random.default_rng(0)
    balls = [np.clip(rng.normal(0, spread, (P, 3)), -2.4, 2.4) for _ in range(3)]
    dark, stars = (species(ball, rng.uniform(0.2, 1, P) * H, seed=k) for k, ball in enumerate(balls[:2]))
    gas = species(balls[2], rng.uniform(0.2, 1, P) * H, rng.uniform(1e7, 1e8, P))
    return Particles(BOX, 0.0, Cosmology(), dark, gas, stars=stars)


def both(particles, channels, rotation=None, **options):
    """Maps from the particles and from the mesh."""
    cube = cut_cube(particles, CENTRE, PIXELS * PIXEL, **options)
    return [render(cube, channels, rotation, PIXELS, PIXEL, mesh=mesh) for mesh in (False, True)]


def test_linear_channels_keep_their_sums():
    found, meshed = both(snapshot(), ("gas", "dark_matter", "stars", "total", "compton_y", "ksz"))
    for name, image in found.items():
        assert not np.array_equal(meshed[name], image)
        tolerance = 1e-6 if name == "ksz" else 1e-12  # velocities are float32
        assert meshed[name].sum() == pytest.approx(image.sum(), rel=tolerance)


def test_map_of_dark_matter_is_close_to_that_of_the_particles():
    found, meshed = (maps["dark_matter"] for maps in both(snapshot(H=2.0), ("dark_matter",)))
    bright = found > 0.05 * found.max()
    assert bright.sum() > 20
    assert np.sqrt(np.mean((meshed[bright] / found[bright] - 1) ** 2)) < 0.02


def test_uniform_gas_of_one_temperature_shines_the_same():
    grid = (np.stack(np.meshgrid(*[np.arange(40.0)] * 3), -1).reshape(-1, 3) + 0.5) * BOX / 40 - CENTRE
    particles = snapshot()
    particles.gas = species(grid, 2.5, np.full(len(grid), 5e7))
    particles.gas.masses[:] = 1e10
    particles.gas.density[:] = 1e10  # in a cubic Mpc
    found, meshed = both(particles, ("xray", "gas", "temperature"))
    for name in ("xray", "gas"):
        inner = slice(4, -4)
        assert meshed[name][inner, inner] == pytest.approx(found[name][inner, inner].mean(), rel=0.02)
    assert meshed["temperature"] == pytest.approx(found["temperature"], rel=1e-9)


def test_clumps_smaller_than_a_cell_are_lost_to_x_rays():
    rng = np.random.default_rng(1)
    clumps = rng.uniform(-2, 2, (20, 1, 3)) + 0.05 * rng.normal(size=(20, 80, 3))
    particles = snapshot()
    particles.gas = species(clumps.reshape(-1, 3), 0.1, np.full(1600, 5e7))
    found, meshed = both(particles, ("gas", "xray"))
    assert meshed["gas"].sum() == pytest.approx(found["gas"].sum(), rel=1e-12)
    assert 0 < meshed["xray"].sum() < 0.3 * found["xray"].sum()


def test_a_kernel_within_a_cell_is_that_cell():
    mass = np.array([3e9, 5e9])
    places = np.array([[750.0, -1750, 2250], [-100, -100, -100]])  # in the middle of a cell, and near a corner
    cells = on_mesh(Species(places, None, mass, np.full(2, 240.0)), 8000.0, 8000.0, 16)
    place = np.flatnonzero((cells.positions == places[0]).all(1))
    assert cells.masses[place].tolist() == [mass[0]]
    assert len(cells) == 9
    assert cells.masses.sum() == pytest.approx(mass.sum(), rel=1e-14)
    assert cells.density[place] == pytest.approx(mass[0] / 0.5**3)
    assert not cells.support_radius.any()


@pytest.mark.parametrize("H", [0.4, 0.8, 2.6])
def test_cells_hold_the_kernel(H):
    """Of one particle, in cells of unit width: sums by far finer points."""
    r = np.array([0.2, -0.35, 0.1])
    particle = Species(r[None], None, np.ones(1), np.full(1, H))
    cells = on_mesh(particle, 8.0, 8.0, 8)
    t = (np.arange(8 * 24) + 0.5) / 24 - 4
    z, y, x = np.meshgrid(t, t, t, indexing="ij", sparse=True)
    q = np.minimum(np.sqrt((x - r[0]) ** 2 + (y - r[1]) ** 2 + (z - r[2]) ** 2) / H, 1)
    fine = ((1 - q) ** 4 * (1 + 4 * q)).reshape(8, 24, 8, 24, 8, 24).sum((1, 3, 5))
    found = np.zeros((8, 8, 8))
    found[tuple((cells.positions[:, ::-1] + 3.5).astype(int).T)] = cells.masses
    assert np.abs(found - fine / fine.sum()).max() < 0.05 * found.max()
    assert found.sum() == pytest.approx(1, rel=1e-14)


def test_means_are_weighted_by_mass():
    """Two point masses in one cell."""
    two = Species(
        np.array([[0.2, 0.3, 0.4], [0.6, 0.6, 0.6]]), np.array([[30, 0, -60], [0, 60, 0]], np.float32),
        np.array([1.0, 2.0]), np.zeros(2), None, np.array([3e7, 6e7]),
    )  # fmt: skip
    cells = on_mesh(two, 4.0, 4.0, 4)
    assert len(cells) == 1
    assert cells.temperature == pytest.approx(5e7)
    assert cells.velocities == pytest.approx(np.array([[10, 40, -20]]))
    np.testing.assert_array_equal(cells.positions, [[0.5, 0.5, 0.5]])


def test_depth_is_a_whole_number_of_cells_and_what_is_outside_is_lost():
    z = np.array([0.0, 0.9, 1.6, -2.4, 2.6])
    points = Species(np.stack([0 * z, 0 * z, z], 1), None, 2.0 ** np.arange(5), np.zeros(5))
    for depth, mass in ((2.0, 3.0), (3.5, 7.0), (5.0, 15.0), (40.0, 31.0)):
        assert on_mesh(points, 16.0, depth, 16).masses.sum() == mass
    half = Species(np.array([[8.0, 0.3, 0.1]]), None, np.ones(1), np.full(1, 3.0))
    assert on_mesh(half, 16.0, 16.0, 16).masses.sum() == pytest.approx(0.5, abs=1e-12)


def test_the_mesh_turns_with_the_view():
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    particles = snapshot()
    upright, turned = (both(particles, ("xray", "ksz"), R)[1] for R in (None, quarter))
    for name in upright:
        assert turned[name] == pytest.approx(np.rot90(upright[name], -1), rel=1e-5, abs=1e-9 * upright[name].max())
    along_x = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    found, meshed = both(particles, ("ksz",), along_x)
    assert meshed["ksz"].sum() == pytest.approx(found["ksz"].sum(), rel=1e-5)


def test_observe_takes_mesh():
    particles = snapshot()
    image = observe(particles, CENTRE, ("xray",), pixels=PIXELS, pixel_kpc=PIXEL, mesh=True)["xray"]
    np.testing.assert_array_equal(image.value, both(particles, ("xray",))[1]["xray"])


def test_bits_do_not_depend_on_threads():
    before, gas = torch.get_num_threads(), snapshot().gas
    gas.positions -= CENTRE
    meshes = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            meshes.append(on_mesh(gas, 8.0, 8.0, 16))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(meshes[0].masses, meshes[1].masses)
    np.testing.assert_array_equal(meshes[0].temperature, meshes[1].temperature)

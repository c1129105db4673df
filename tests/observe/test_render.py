"""From snapshot to maps: nothing lost, the right units, the right way round."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from zwicky.cosmology import Cosmology
from zwicky.observe.channels import CHANNELS, Channel, Derived
from zwicky.observe.project import column_kernel
from zwicky.observe.render import cut_cube, neighbour_radius, observe, render
from zwicky.observe.sightlines import cardinal_rotations, random_rotations
from zwicky.simulate.state import Particles, Species
from zwicky.units import KEV_IN_K

BOX = 40.0  # comoving [Mpc]
CENTRE = np.array([39.5, 20.0, 0.3])  # near two faces


def species(offsets, gas, H=0.3):
    """Particles at these comoving offsets [Mpc] from the centre."""
    rng = np.random.default_rng(7)
    P = len(offsets)
    extra = {
        "support_radius": np.full(P, H), "density": rng.uniform(1e13, 1e14, P), "temperature": rng.uniform(1e7, 1e8, P),
    }  # fmt: skip
    return Species(
        positions=(CENTRE + offsets) % BOX, velocities=np.zeros((P, 3), np.float32), masses=rng.uniform(1e9, 2e9, P),
        **(extra if gas else {}),
    )  # fmt: skip


def snapshot(redshift=0.0, P=800, spread=2.0, seed=0):
    """A ball of gas, of dark matter, of stars and of galaxies around the centre, within 3.5 Mpc comoving."""
    rng = np.random.default_rng(seed)
    balls = [np.clip(rng.normal(0, spread, (P, 3)) * [1, 0.6, 0.3], -2, 2) for _ in range(4)]
    dark, gas, stars, galaxies = (species(ball, gas=i == 1) for i, ball in enumerate(balls))
    galaxies.support_radius = np.full(P, 0.3)
    return Particles(BOX, redshift, Cosmology(), dark, gas, stars=stars, galaxies=galaxies)


def test_units_and_shapes():
    maps = observe(snapshot(), CENTRE, tuple(CHANNELS), pixels=16, pixel_kpc=500.0)
    assert list(maps) == list(CHANNELS)
    for name, image in maps.items():
        assert image.shape == (16, 16)
        assert image.unit == u.Unit(CHANNELS[name].unit)
        assert np.isfinite(image.value).all()
        assert image.value.min() >= 0 or name == "ksz"


@pytest.mark.parametrize("redshift", [0.0, 1.0])
def test_mass_y_and_luminosity_are_conserved(redshift):
    particles = snapshot(redshift)
    pixel = 1000.0 / (1 + redshift)
    maps = observe(particles, CENTRE, tuple(CHANNELS), random_rotations(1, np.random.default_rng(2))[0], 16, pixel)
    cube = cut_cube(particles, CENTRE, 16 * pixel)
    assert len(cube.gas) == len(particles.gas)
    for name in ("gas", "compton_y", "xray"):
        total = CHANNELS[name].weight(cube.gas, cube.scene).sum()
        assert maps[name].value.sum() * pixel**2 == pytest.approx(total, rel=1e-10)
    assert maps["gas"].value.sum() * pixel**2 == pytest.approx(particles.gas.masses.sum(), rel=1e-10)
    assert maps["dark_matter"].value.sum() * pixel**2 == pytest.approx(particles.dark_matter.masses.sum(), rel=1e-10)
    np.testing.assert_allclose(maps["total"], maps["gas"] + maps["dark_matter"] + maps["stars"], rtol=1e-12)


def test_galaxies_are_counted_where_they_are_and_their_mass_is_spread():
    """One galaxy of a kernel of many pixels: its mass is in many, its number in one; it is not in the total."""
    particles = snapshot()
    particles.galaxies = species(np.array([[0.6, -1.1, 0.0], [0.1, 0.1, 0.0]]), gas=True, H=1.2)
    particles.galaxies.masses[:] = [3e11, 1e10]
    bare = replace(particles, galaxies=None)
    names = ("galaxies", "members_11", "galaxy_light_r", "total", "convergence_z1.0")
    maps = observe(particles, CENTRE, names, None, 16, 500.0, redshift=0.3)
    assert np.argwhere(maps["members_11"].value > 0).tolist() == [[5, 9]]
    assert (maps["members_11"].sum() * (500 * u.kpc) ** 2).to_value("") == pytest.approx(1)
    assert (maps["galaxies"].value > 0).sum() > 20
    assert maps["galaxies"].value.sum() * 500.0**2 == pytest.approx(3.1e11)
    assert maps["galaxy_light_r"].unit == u.Unit("Lsun / kpc2")
    for name in names[3:]:
        np.testing.assert_array_equal(maps[name], observe(bare, CENTRE, names[3:], None, 16, 500.0, redshift=0.3)[name])


def halos_of(*centres):
    """A catalogue of halos of 5e14 Msun at these places."""
    table = Table({axis: np.array(x) for axis, x in zip("xyz", np.transpose(centres), strict=True)})
    for name, mass, radius in (("200m", 6e14, 2.2), ("200c", 5e14, 1.6)):
        table[f"m{name}"], table[f"r{name}"] = mass, radius
    table["fgas200m"] = 1 - 800 * 1.5e9 / 6e14  # so that the dark matter of the ball is all there is
    return table


def test_galaxies_are_painted_where_a_channel_needs_them():
    """On the halo and on its neighbour; the same from every side and for every halo; others by another seed."""
    particles, pixel = snapshot(), 470.0
    particles.galaxies = None
    halos = halos_of(CENTRE, (CENTRE + np.array([3e-3 * pixel, 0, 0])) % BOX, (CENTRE + 15) % BOX)

    def count(halo, R=None, **options):
        return observe(particles, halo, ("members_9",), R, 17, pixel, **options)["members_9"].value

    seen = count(halos[0], seed=3)
    assert seen[8, 11] > 0  # the central of the neighbour
    assert particles.galaxies is None
    np.testing.assert_array_equal(count(halos[0], np.diag([-1, 1, -1]), seed=3), seen[:, ::-1])
    np.testing.assert_array_equal(count(CENTRE, halos=halos, seed=3), seen)
    np.testing.assert_array_equal(count(halos[1], seed=3)[:, 2:10], seen[:, 5:13])
    assert not np.array_equal(count(halos[0], seed=4), seen)
    with pytest.raises(ValueError, match="channel galaxies needs galaxies, which this snapshot does not have"):
        observe(particles, CENTRE, ("galaxies",))


def rim(margin_kpc, of=("gas",)):
    """A channel that is the sum of the map of gas, in every pixel, of all that it was given."""

    def make(maps, scene, pixel_kpc):
        (image,) = maps.values()
        return np.full_like(image, image.sum() * pixel_kpc**2)

    return Channel("rim", "Msun", "R", (), None, derived=Derived(of, make, lambda width, scene: margin_kpc))


@pytest.mark.parametrize(("margin", "inside"), [(0.0, 2), (1000.0, 3), (1400.0, 3), (1e9, 4)])
def test_a_derived_channel_gets_wider_maps_as_far_as_the_box_allows(monkeypatch, margin, inside):
    """Matter beside the map is in the wide one up to its margin; matter behind the map's depth never is."""
    monkeypatch.setitem(CHANNELS, "rim", rim(margin))
    particles = snapshot()
    offsets = [[3.0, 0, 0], [4.5, 0, 0], [0, 15.0, 0], [0, 0, 3.9], [4.9, 0, 4.5]]
    particles.gas = species(np.array(offsets), gas=True, H=0.05)
    particles.gas.masses[:] = 1e9
    maps = observe(particles, CENTRE, ("gas", "rim"), None, 16, 500.0)
    assert maps["rim"].shape == (16, 16)
    assert maps["gas"].value.sum() * 500.0**2 == pytest.approx(2e9)
    np.testing.assert_allclose(maps["rim"].value, inside * 1e9)


def test_a_derived_channel_is_as_deep_as_its_map_whatever_its_margin(monkeypatch):
    """Of a cube without a depth of its own; the map is 4 Mpc wide, the one it is made of 8."""
    monkeypatch.setitem(CHANNELS, "rim", rim(2000.0))
    particles = snapshot()
    particles.gas = species(np.array([[0, 0, 1.5], [0, 0, 3.0], [3.0, 0, 1.5]]), gas=True, H=0.05)
    particles.gas.masses[:] = 1e9
    maps = render(cut_cube(particles, CENTRE, 8000.0), ("rim",), None, 8, 500.0)
    np.testing.assert_allclose(maps["rim"], 2e9)


def test_derived_channels_do_not_change_the_others_and_may_be_nested(monkeypatch):
    monkeypatch.setitem(CHANNELS, "rim", rim(1000.0))
    nested = replace(rim(1000.0, of=("rim",)), name="nested")
    monkeypatch.setitem(CHANNELS, "nested", nested)
    particles = snapshot()
    particles.gas = species(np.array([[3.0, 0, 0], [5.5, 0, 0]]), gas=True, H=0.05)
    particles.gas.masses[:] = 1e9
    maps = observe(particles, CENTRE, ("nested", "gas"), None, 16, 500.0)
    assert list(maps) == ["nested", "gas"]
    np.testing.assert_array_equal(maps["gas"], observe(particles, CENTRE, ("gas",), None, 16, 500.0)["gas"])
    np.testing.assert_allclose(maps["nested"].value, 2e9 * (20 * 500.0) ** 2)  # 5.5 Mpc is beyond one margin, not two


def test_the_total_is_of_what_there_is():
    particles = snapshot()
    particles.stars, particles.gas = None, particles.gas.take(np.zeros(0, int))
    maps = observe(particles, CENTRE, ("total", "dark_matter"), pixels=16, pixel_kpc=500.0)
    np.testing.assert_array_equal(maps["total"], maps["dark_matter"])


def test_gas_without_temperature_adds_mass_alone():
    particles = snapshot()
    particles.gas.temperature[:] = 0.0
    maps = observe(particles, CENTRE, ("gas", "compton_y", "xray"), pixels=16, pixel_kpc=500.0)
    assert maps["gas"].value.max() > 0
    assert maps["compton_y"].value.max() == maps["xray"].value.max() == 0


def test_cube_is_proper_and_periodic():
    near, far = cut_cube(snapshot(0.0), CENTRE, 8000.0), cut_cube(snapshot(1.0), CENTRE, 4000.0)
    np.testing.assert_allclose(far.gas.positions, 0.5 * near.gas.positions, atol=1e-9)
    np.testing.assert_allclose(far.gas.support_radius, 150.0)
    np.testing.assert_allclose(far.dark_matter.support_radius, 0.5 * near.dark_matter.support_radius)
    np.testing.assert_allclose(far.gas.density, 8 * near.gas.density)
    assert np.linalg.norm(near.gas.positions, axis=1).max() < 4000.0


def test_axis_order_is_y_x_and_centred():
    particles = snapshot()
    particles.gas = species(np.array([[1.75, -2.75, 0.1]]), gas=True, H=0.01)
    image = observe(particles, {"x": CENTRE[0], "y": CENTRE[1], "z": CENTRE[2]}, ("gas",), None, 16, 500.0)["gas"]
    assert np.argwhere(image.value > 0).tolist() == [[2, 11]]


def test_rotations_of_the_map_and_of_the_view_agree():
    cube = cut_cube(snapshot(), CENTRE, 8000.0)
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    upright = render(cube, ("gas", "xray"), None, 16, 500.0)
    turned = render(cube, ("gas", "xray"), quarter, 16, 500.0)
    for name in upright:
        np.testing.assert_allclose(turned[name], np.rot90(upright[name], -1), rtol=1e-9, atol=1e-9)


def test_particles_have_the_kernel_that_is_asked_for_and_galaxies_their_own():
    """The cubic spline of the same support radius is wider: its centre has 0.857 of the column."""
    particles = snapshot()
    particles.gas, particles.galaxies = (species(np.zeros((1, 3)), gas=True, H=3.0) for _ in range(2))
    wendland, cubic = (
        observe(particles, CENTRE, ("gas", "galaxies"), None, 64, 125.0, kernel=name)
        for name in ("wendland", "cubic")
    )  # fmt: skip
    for maps in (wendland, cubic):
        assert maps["gas"].value.sum() * 125.0**2 == pytest.approx(particles.gas.masses.sum(), rel=1e-12)
    ratio = float(column_kernel(0.0, "cubic") / column_kernel(0.0))
    assert (cubic["gas"].max() / wendland["gas"].max()).value == pytest.approx(ratio, rel=0.01)
    np.testing.assert_array_equal(cubic["galaxies"], wendland["galaxies"])
    with pytest.raises(ValueError, match="a mesh is made with the wendland kernel, not with 'cubic'"):
        observe(particles, CENTRE, ("gas",), pixels=16, pixel_kpc=500.0, mesh=True, kernel="cubic")


def test_line_of_sight_of_cardinal_rotations():
    """A flattened ball is narrowest in z: seen along x it is narrow from left to right or up and down."""
    cube = cut_cube(snapshot(), CENTRE, 8000.0)
    c = np.arange(16) - 7.5
    widths = []
    for R in cardinal_rotations():
        image = render(cube, ("gas",), R, 16, 500.0)["gas"]
        widths.append([(image.sum(axis) @ c**2) / image.sum() for axis in (0, 1)])  # along x', along y'
    (x, y), (y_again, z), (z_again, x_again) = widths
    assert x > y > z
    np.testing.assert_allclose([x, y, z], [x_again, y_again, z_again], rtol=0.02)


def test_depth_is_the_width():
    particles = snapshot()
    particles.gas = species(np.array([[0, 0, 3.9], [0, 0, 4.1], [3.0, 0, 0], [4.1, 0, 0]]), gas=True, H=0.05)
    image = observe(particles, CENTRE, ("gas",), None, 16, 500.0)["gas"]
    assert image.value.sum() * 500.0**2 == pytest.approx(particles.gas.masses[[0, 2]].sum(), rel=1e-12)


def test_corners_of_a_turned_cube_are_filled():
    """A uniform box has a uniform map from every side, even where the sphere around the cube passes its faces."""
    grid = (np.stack(np.meshgrid(*[np.arange(20.0)] * 3), -1).reshape(-1, 3) + 0.5) * BOX / 20 - CENTRE
    particles = snapshot()
    particles.gas = species(grid, gas=True, H=6.0)
    particles.gas.masses[:] = 1e9
    R = random_rotations(1, np.random.default_rng(0))[0]
    maps = render(cut_cube(particles, CENTRE, 39900.0), ("gas",), R, 8, 4987.5)
    assert maps["gas"] == pytest.approx(1e9 / 8e9 * 39900, rel=0.05)


def test_one_cube_serves_smaller_maps():
    cube = cut_cube(snapshot(), CENTRE, 8000.0)
    wide, small = (render(cube, ("dark_matter",), None, n, 500.0)["dark_matter"] for n in (16, 12))
    np.testing.assert_allclose(small, wide[2:14, 2:14], rtol=1e-9)  # all of it lies within both depths


def test_missing_kernels_come_from_neighbours():
    lattice = np.stack(np.meshgrid(*[np.arange(9.0)] * 3), -1).reshape(-1, 3)
    centre = np.flatnonzero((lattice == 4).all(1))
    assert neighbour_radius(lattice, 100.0, k=6)[centre] == 1
    assert neighbour_radius(lattice, 100.0, k=7)[centre] == pytest.approx(np.sqrt(2))
    assert neighbour_radius(lattice, 0.5, k=7).max() == 0.5
    assert (neighbour_radius(lattice[:5], 3.0) == 3.0).all()
    cube = cut_cube(snapshot(), CENTRE, 8000.0)
    assert np.isfinite(cube.dark_matter.support_radius).all()


def test_halo_may_be_a_row_of_a_table():
    particles = snapshot()
    expected = observe(particles, CENTRE, ("gas",), None, 16, 500.0)["gas"]
    row = Table({"id": [1], **dict(zip("xyz", CENTRE[:, None], strict=True))}, units={a: "Mpc" for a in "xyz"})[0]
    np.testing.assert_array_equal(observe(particles, row, ("gas",), None, 16, 500.0)["gas"], expected)


def test_snapshot_is_left_alone():
    particles = snapshot(1.0)
    before = particles.gas.positions.copy(), particles.gas.density.copy()
    observe(particles, CENTRE, pixels=8, pixel_kpc=500.0)
    np.testing.assert_array_equal(before[0], particles.gas.positions)
    np.testing.assert_array_equal(before[1], particles.gas.density)
    assert particles.dark_matter.support_radius is None


def test_temperature_of_gas_of_one_temperature_is_that_temperature():
    particles = snapshot()
    particles.gas.temperature[:] = 5 * KEV_IN_K
    maps = observe(particles, CENTRE, ("gas", "temperature", "temperature_sl"), pixels=16, pixel_kpc=500.0)
    there = maps["gas"].value > 0
    for name in ("temperature", "temperature_sl"):
        np.testing.assert_allclose(maps[name].value[there], 5.0, rtol=1e-9)
        assert (maps[name].value[~there] == 0).all()
        assert maps[name].unit == u.keV


def test_velocities_turn_with_the_particles():
    """Gas moving along x seen along x approaches; seen from the other side it recedes; from z it does neither."""
    particles = snapshot()
    particles.gas.velocities[:] = [500.0, 0.0, 0.0]
    sums = [observe(particles, CENTRE, ("ksz",), R, 16, 500.0)["ksz"].value.sum()
            for R in (np.eye(3), [[0, 1, 0], [0, 0, 1], [1, 0, 0]], [[0, -1, 0], [0, 0, 1], [-1, 0, 0]])]  # fmt: skip
    assert sums[0] == 0
    assert sums[1] > 0
    assert sums[2] == pytest.approx(-sums[1], rel=1e-9)


def test_a_deeper_line_of_sight_holds_what_is_before_and_behind():
    particles = snapshot()
    particles.gas = species(np.array([[0, 0, z] for z in (0.0, 3.9, -4.1, 9.9, -10.1, 19.9)]), gas=True, H=0.05)
    for depth, inside in ((None, 2), (20000.0, 4), (40000.0, 6)):
        maps = observe(particles, CENTRE, ("gas",), None, 16, 500.0, depth_kpc=depth)
        mass = maps["gas"].value.sum() * 500.0**2
        assert mass == pytest.approx(particles.gas.masses[:inside].sum(), rel=1e-9)
    with pytest.raises(ValueError, match="a cube of 50000 kpc does not fit"):
        observe(particles, CENTRE, ("gas",), None, 16, 500.0, depth_kpc=5e4)


def test_a_band_is_that_of_the_observer():
    """A snapshot of z = 0 placed farther away shines less in a band of high energies, where its own are higher."""
    particles = snapshot()
    bright = [observe(particles, CENTRE, ("xray_2-8keV",), None, 16, 500.0, redshift=z)["xray_2-8keV"].value.sum()
              for z in (0.0, 0.5)]  # fmt: skip
    assert 0 < bright[1] < 0.9 * bright[0]


def test_a_new_channel_is_one_line(monkeypatch):
    monkeypatch.setitem(CHANNELS, "count", Channel("count", "1 / kpc2", "N", ("gas",), lambda s, a: np.ones(len(s))))
    image = observe(snapshot(), CENTRE, ("count",), None, 16, 500.0)["count"]
    assert (image.sum() * (500 * u.kpc) ** 2).to_value("") == pytest.approx(800)


def test_bad_requests_are_refused():
    particles = snapshot()
    with pytest.raises(ValueError, match="does not fit into the box of 40000 kpc"):
        observe(particles, CENTRE, pixels=128, pixel_kpc=400.0)
    with pytest.raises(ValueError, match="unknown channel 'radio'; the known ones are: gas, dark_matter"):
        observe(particles, CENTRE, ("gas", "radio"))
    with pytest.raises(ValueError, match="three finite numbers"):
        observe(particles, [1.0, 2.0])
    with pytest.raises(ValueError, match="orthogonal"):
        observe(particles, CENTRE, ("gas",), np.ones((3, 3)))
    with pytest.raises(ValueError, match="wider than the cube"):
        render(cut_cube(particles, CENTRE, 1000.0), ("gas",), None, 128, 100.0)
    particles.stars = None
    with pytest.raises(ValueError, match="channel stars needs stars, which this snapshot does not have"):
        observe(particles, CENTRE, ("stars",))
    particles.gas.temperature = None
    with pytest.raises(ValueError, match="compton_y needs the temperature"):
        observe(particles, CENTRE, ("compton_y",))

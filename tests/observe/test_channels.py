"""One battery over every channel, and the numbers of the founding equations."""

import numpy as np
import pytest
from astropy import units as u

from zwicky.cosmology import Cosmology
from zwicky.observe.channels import CHANNELS, FAMILIES, channel, kinds_of, mean_column, temperature_decrement
from zwicky.observe.channels.lensing import critical_surface_density
from zwicky.observe.emissivity import compton_y_weight, electron_number, free_free_luminosity
from zwicky.observe.scene import Scene
from zwicky.simulate.state import Species
from zwicky.units import KEV_IN_K

SCENE = Scene(1.0, Cosmology(), 0.1)
EXAMPLES = (  # one of each family
    "xray_0.5-2keV", "xray_photons_0.5-2keV", "sz_150GHz", "convergence_z1.0", "shear1_z1.0", "members_7.5", "light_r",
    "galaxy_light_u",
)  # fmt: skip


def species(P=5):
    rng = np.random.default_rng(0)
    return Species(
        positions=rng.normal(size=(P, 3)), velocities=np.full((P, 3), 9, np.float32), masses=rng.uniform(1e8, 1e9, P),
        support_radius=np.ones(P), density=rng.uniform(1e13, 1e14, P), temperature=rng.uniform(1e7, 1e8, P),
    )  # fmt: skip


@pytest.mark.parametrize("name", [*CHANNELS, *EXAMPLES])
def test_every_channel(name):
    c = channel(name)
    assert c.name == name
    u.Unit(c.unit)
    assert c.label
    assert set(c.species) <= {"gas", "dark_matter", "stars", "galaxies"}
    assert (c.weight is None) == (c.species == ()) == (c.derived is not None)
    for base in c.derived.of if c.derived else ():
        assert channel(base).species
    gas = species()
    for weigh in (c.weight, c.over):
        if weigh:
            weight = weigh(gas, SCENE)
            assert weight.shape == (5,)
            assert (weight != 0).all()
            np.testing.assert_allclose(weigh(gas.take(np.array([3, 1])), SCENE), weight[[3, 1]])


def test_there_is_an_example_of_each_family():
    assert len(EXAMPLES) == len(FAMILIES)
    for name in (
        "xray", "xray_2-0.5keV", "xray_photons_2-0.5keV", "sz_GHz", "xray_0.5-2kev", "light_y", "shear3_z1", "members_",
    ):  # fmt: skip
        if name not in CHANNELS:
            with pytest.raises(ValueError, match=r"unknown channel|must be between"):
                channel(name)


def test_kinetic_effect_has_the_sign_of_the_approach():
    """sigma_T N_e v / c: gas that comes nearer, along positive z, heats the background."""
    gas = species()
    gas.velocities[:, 2] = [300, -300, 0, 1000, 1]
    weight = CHANNELS["ksz"].weight(gas, SCENE)
    assert (np.sign(weight) == [1, -1, 0, 1, 1]).all()
    gas.temperature[1] = 0.0  # neutral
    assert CHANNELS["ksz"].weight(gas, SCENE)[1] == 0
    sigma = (6.6524587e-25 * u.cm**2).to_value(u.kpc**2)
    np.testing.assert_allclose(weight[0], sigma * electron_number(gas.masses[0]) * 300 / 299792.458, rtol=1e-6)


@pytest.mark.parametrize(("ghz", "f"), [(90, -1.5979), (150, -0.9533), (260, 0.6733)])
def test_thermal_effect_at_a_frequency_is_f_times_y_of_cold_gas(ghz, f):
    gas = species()
    gas.temperature[:] = 1e-3 * KEV_IN_K
    y = CHANNELS["compton_y"].weight(gas, SCENE)
    np.testing.assert_allclose(channel(f"sz_{ghz}GHz").weight(gas, SCENE), 2.7255e6 * y * f, rtol=2e-4)


def test_frequencies_of_every_survey_are_possible_and_others_are_refused():
    gas = species()
    for ghz in (30, 217, 545, 857):
        assert np.isfinite(channel(f"sz_{ghz}GHz").weight(gas, SCENE)).all()
    for ghz in (0, 30000):
        with pytest.raises(ValueError, match="at 1 to 2000 GHz"):
            channel(f"sz_{ghz}GHz")


def test_hot_gas_dims_the_decrement_less():
    """Ratios to the non-relativistic effect at 10 keV: 0.943 at 90 GHz, 0.936 at 150 GHz, 0.754 at 260 GHz."""
    gas = species()
    for ghz, ratio in ((90, 0.943), (150, 0.936), (260, 0.754)):
        gas.temperature[:] = 10 * KEV_IN_K
        hot = channel(f"sz_{ghz}GHz").weight(gas, SCENE) / CHANNELS["compton_y"].weight(gas, SCENE)
        gas.temperature[:] = 1e-3 * KEV_IN_K
        cold = channel(f"sz_{ghz}GHz").weight(gas, SCENE) / CHANNELS["compton_y"].weight(gas, SCENE)
        np.testing.assert_allclose(hot / cold, ratio, atol=2e-3)


def test_critical_surface_density_and_what_cannot_be_lensed():
    """Independent: the formula with astropy's units, in a flat universe."""
    from astropy import constants as const
    from astropy.cosmology import FlatLambdaCDM

    d = FlatLambdaCDM(70, 0.3)
    lens, source = d.angular_diameter_distance(0.3), d.angular_diameter_distance(1.0)
    between = (d.comoving_distance(1.0) - d.comoving_distance(0.3)) / 2
    expected = (const.c**2 * source / (4 * np.pi * const.G * lens * between)).to_value("Msun / kpc2")
    assert critical_surface_density(Scene(1.0, Cosmology(), 0.3), 1.0) == pytest.approx(expected, rel=1e-4)
    for z in (0.0, 1.0, 2.0):
        with pytest.raises(ValueError, match="is not lensed by a cluster"):
            critical_surface_density(Scene(1.0, Cosmology(), z), 1.0)


def test_a_scene_that_cannot_be_is_refused():
    for redshift, column in ((-0.1, 0.0), (np.nan, 0.0), (0.1, -1.0), (0.1, np.nan)):
        with pytest.raises(ValueError, match="a cluster is seen at a redshift from 0 to 20"):
            Scene(1.0, Cosmology(), redshift, column)
    for metallicity in (-0.1, np.nan, np.inf):
        with pytest.raises(ValueError, match="metallicity of gas"):
            Scene(1.0, Cosmology(), 0.1, 0.0, None, metallicity)


def test_weights_are_those_of_the_physics():
    gas = species()
    np.testing.assert_array_equal(CHANNELS["gas"].weight(gas, SCENE), gas.masses)
    np.testing.assert_allclose(CHANNELS["compton_y"].weight(gas, SCENE), compton_y_weight(gas.masses, gas.temperature))
    L = free_free_luminosity(gas.masses, gas.density, gas.temperature) * u.erg / u.s
    per_area = (L / u.kpc**2).to_value("erg / (s cm2)")
    np.testing.assert_allclose(CHANNELS["xray"].weight(gas, SCENE), per_area, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "field"),
    [("compton_y", "temperature"), ("xray", "temperature"), ("xray", "density"), ("ksz", "velocities"),
     ("temperature", "temperature"), ("temperature_sl", "density")],
)  # fmt: skip
def test_missing_input_is_named(name, field):
    gas = species()
    setattr(gas, field, None)
    with pytest.raises(ValueError, match=field):
        CHANNELS[name].weight(gas, SCENE)


def test_members_are_those_above_the_mass():
    galaxies = species()
    galaxies.masses[:] = [1e9, 1e10, 10**10.5, 1e11, 1e12]
    np.testing.assert_array_equal(channel("members_10.5").weight(galaxies, SCENE), [0, 0, 0, 1e6, 1e6])
    assert channel("members_10").points


def test_light_is_that_of_old_stars():
    """M/L of a population of 10 Gyr and solar metallicity, Kroupa or Chabrier: 2 to 3 in r (Bell et al. 2003: 2.4).

    Light and the colours of ellipticals agree: L_g / L_r = 10^(-0.4 [(g - r) - (g - r)_sun]), to 10%.
    """
    stars = species()
    L = {b: channel(f"light_{b}").weight(stars, SCENE) for b in "ugriz"}
    np.testing.assert_allclose(stars.masses / L["r"], 10 ** (-0.306 + 1.097 * 0.77 - 0.15))
    for band in "ugriz":
        np.testing.assert_array_equal(channel(f"galaxy_light_{band}").weight(stars, SCENE), L[band])
    for blue, red, colour, sun in (("g", "r", 0.77, 0.46), ("r", "i", 0.39, 0.12), ("u", "g", 1.80, 1.28)):
        np.testing.assert_allclose(L[blue] / L[red], 10 ** (-0.4 * (colour - sun)), rtol=0.1)


def test_kinds_that_channels_need():
    assert kinds_of(("gas", "compton_y")) == {"gas"}
    assert kinds_of(("shear1_z1", "members_10")) == {"gas", "dark_matter", "stars", "galaxies"}
    assert kinds_of(()) == set()


def test_mean_column():
    c = Cosmology()
    assert mean_column("total", c, 12800.0) == pytest.approx(0.3 * 2.775366e11 * 0.49 * 1e-9 * 12800, rel=1e-4)
    parts = mean_column("gas", c, 1.0) + mean_column("dark_matter", c, 1.0)
    assert parts == pytest.approx(mean_column("total", c, 1.0))
    assert mean_column("gas", c, 1.0, scale_factor=0.5) == pytest.approx(8 * mean_column("gas", c, 1.0))
    with pytest.raises(ValueError, match="gas, dark_matter, total"):
        mean_column("xray", c, 1.0)


def test_temperature_decrement():
    np.testing.assert_allclose(temperature_decrement([0.0, 1e-4]), [0.0, 272.55])

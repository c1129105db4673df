"""One battery over every channel, and the numbers of the founding equations."""

import numpy as np
import pytest
from astropy import units as u

from zwicky.cosmology import Cosmology
from zwicky.observe.channels import CHANNELS, mean_column, temperature_decrement
from zwicky.observe.emissivity import compton_y_weight, free_free_luminosity
from zwicky.simulate.state import Species


def species(P=5):
    rng = np.random.default_rng(0)
    return Species(
        positions=rng.normal(size=(P, 3)), velocities=np.zeros((P, 3), np.float32), masses=rng.uniform(1e8, 1e9, P),
        support_radius=np.ones(P), density=rng.uniform(1e13, 1e14, P), temperature=rng.uniform(1e7, 1e8, P),
    )  # fmt: skip


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel(name):
    channel = CHANNELS[name]
    assert channel.name == name
    u.Unit(channel.unit)
    assert channel.label
    assert set(channel.species) <= {"gas", "dark_matter", "stars"}
    gas = species()
    weight = channel.weight(gas, 1.0)
    assert weight.shape == (5,)
    assert (weight > 0).all()
    np.testing.assert_allclose(channel.weight(gas.take(np.array([3, 1])), 1.0), weight[[3, 1]])


def test_weights_are_those_of_the_physics():
    gas = species()
    np.testing.assert_array_equal(CHANNELS["gas"].weight(gas, 1.0), gas.masses)
    np.testing.assert_allclose(CHANNELS["compton_y"].weight(gas, 1.0), compton_y_weight(gas.masses, gas.temperature))
    L = free_free_luminosity(gas.masses, gas.density, gas.temperature) * u.erg / u.s
    per_area = (L / u.kpc**2).to_value("erg / (s cm2)")
    np.testing.assert_allclose(CHANNELS["xray"].weight(gas, 1.0), per_area, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "field"), [("compton_y", "temperature"), ("xray", "temperature"), ("xray", "density")]
)
def test_missing_input_is_named(name, field):
    gas = species()
    setattr(gas, field, None)
    with pytest.raises(ValueError, match=field):
        CHANNELS[name].weight(gas, 1.0)


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

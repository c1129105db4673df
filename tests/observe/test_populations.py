"""Light of stars by age and metals: the table between its points, its file, snapshots with ages, and FSPS."""

import sys
import types

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.io import UserError
from zwicky.observe.channels import channel
from zwicky.observe.populations import (
    SUN,
    PopulationTable,
    populations_from_fsps,
    populations_from_magnitudes,
    read_populations,
    write_populations,
)
from zwicky.observe.render import observe
from zwicky.observe.scene import Scene
from zwicky.simulate.state import Particles, Species
from zwicky.units import Z_SOLAR

ORIGIN = {"initial_mass_function": "none", "software": "a test", "version": "1", "date": "2026-11-21"}
LOG_AGE, Z = np.array([6.0, 8.0, 10.0]), np.array([0.001, 0.01])


def power_law(bands="gr"):
    """l = t^-0.7 Z^-0.2, with t in Gyr, times 1, 2, ... in the bands: linear where the table is."""
    t, metals = 10.0 ** (LOG_AGE[:, None] - 9), Z
    return PopulationTable(LOG_AGE, Z, {b: (i + 1) * t**-0.7 * metals**-0.2 for i, b in enumerate(bands)}, **ORIGIN)


def stars(age=None, metallicity=None, P=50):
    rng = np.random.default_rng(2)
    return Species(
        rng.uniform(9, 11, (P, 3)), None, rng.uniform(1e9, 1e10, P), np.full(P, 0.3), age=age, metallicity=metallicity
    )


def test_between_its_points_light_is_a_power_law_and_beyond_them_it_is_held():
    table = power_law()
    for t, metals in ((0.001, 0.001), (0.004, 0.003), (2.0, 0.0077), (10.0, 0.01)):
        assert float(table.luminosity("r", 3.0, t, metals)) == pytest.approx(6 * t**-0.7 * metals**-0.2, rel=1e-12)
    for t, metals, held in ((0.0, 0.01, (1e-3, 0.01)), (14.0, 0.1, (10.0, 0.01)), (1.0, 0.0, (1.0, 0.001))):
        assert float(table.luminosity("g", 1.0, t, metals)) == float(table.luminosity("g", 1.0, *held))
    np.testing.assert_array_equal(
        table.luminosity("g", [1.0, 2.0], [1.0, 1.0], 0.01), np.array([1, 2]) * table.luminosity("g", 1.0, 1.0, 0.01)
    )
    with pytest.raises(ValueError, match="has no band z; it has g, r"):
        table.luminosity("z", 1.0, 1.0, 0.01)


def test_light_of_stars_goes_by_their_ages_and_that_of_galaxies_does_not():
    age, metals = np.linspace(0.1, 9.0, 50), np.linspace(0.1, 0.7, 50)
    species, scene = stars(age, metals), Scene(1.0, Cosmology(), 0.1, populations=power_law())
    found = channel("light_g").weight(species, scene)
    np.testing.assert_allclose(found, species.masses * age**-0.7 * (metals * Z_SOLAR) ** -0.2, rtol=1e-12)
    old = channel("light_g").weight(species, Scene(1.0, Cosmology(), 0.1))
    np.testing.assert_array_equal(channel("galaxy_light_g").weight(species, scene), old)
    for known in ({"age": age}, {"metallicity": metals}):
        with pytest.raises(ValueError, match="which this snapshot lacks"):
            channel("light_g").weight(stars(**known), scene)


@pytest.mark.parametrize("mesh", [False, True])
def test_maps_hold_the_light_of_the_table(tmp_path, mesh):
    """All stars alike, so that a mesh, which has the means of its cells, shows the same light."""
    write_populations(power_law(), tmp_path / "stars.hdf5")
    nothing = Species(np.zeros((0, 3)), None, np.zeros(0))
    mine = stars(np.full(50, 3.0), np.full(50, 0.5))
    particles = Particles(20.0, 0.0, Cosmology(), nothing, nothing, stars=mine)
    expected = mine.masses.sum() * 3.0**-0.7 * (0.5 * Z_SOLAR) ** -0.2
    for given in (power_law(), tmp_path / "stars.hdf5", str(tmp_path / "stars.hdf5")):
        how = {"pixels": 8, "pixel_kpc": 800.0, "populations": given, "mesh": mesh}
        maps = observe(particles, [10.0, 10.0, 10.0], ["light_g"], **how)
        assert maps["light_g"].value.sum() * 800**2 == pytest.approx(expected, rel=1e-9)


def test_magnitudes_of_what_formed_become_light_of_what_is_left():
    """One Msun that formed, as bright as the Sun, of which 0.6 Msun is left."""
    shape = (3, 2)
    table = populations_from_magnitudes(LOG_AGE, Z, {"r": np.full(shape, SUN["r"])}, np.full(shape, 0.6), **ORIGIN)
    np.testing.assert_allclose(table.light["r"], 1 / 0.6)
    fainter = populations_from_magnitudes(LOG_AGE, Z, {"r": np.full(shape, 7.15)}, np.ones(shape), **ORIGIN)
    np.testing.assert_allclose(fainter.light["r"], 0.1)


class StellarPopulation:
    """The interface of python-fsps 0.4: magnitudes (age, band) of one metallicity, then the mass that is left."""

    zlegend = Z

    def __init__(self, zcontinuous=0, imf_type=2, sfh=0):
        assert (zcontinuous, sfh) == (0, 0)
        self.log_age = LOG_AGE

    def get_mags(self, zmet=None, tage=0.0, redshift=None, bands=None):
        self.stellar_mass = np.array([1.0, 0.8, 0.6]) - 0.01 * zmet
        light = power_law("ugriz").light
        formed = np.stack([light[b.removeprefix("sdss_")][:, zmet - 1] for b in bands], 1) * self.stellar_mass[:, None]
        return np.array([SUN[b.removeprefix("sdss_")] for b in bands]) - 2.5 * np.log10(formed)


def test_fsps_of_known_light_gives_a_table_of_this_light(monkeypatch, tmp_path):
    module = types.SimpleNamespace(StellarPopulation=StellarPopulation, __version__="0.4.7")
    monkeypatch.setitem(sys.modules, "fsps", module)
    table = populations_from_fsps()
    for band, light in power_law("ugriz").light.items():
        np.testing.assert_allclose(table.light[band], light, rtol=1e-12)
    assert (table.initial_mass_function, table.version) == ("Chabrier 2003", "0.4.7")
    write_populations(table, tmp_path / "stars.hdf5")
    back = read_populations(tmp_path / "stars.hdf5")
    assert back.date == table.date
    np.testing.assert_array_equal(back.light["u"], table.light["u"])
    monkeypatch.setitem(sys.modules, "fsps", None)
    with pytest.raises(UserError, match="fsps cannot be imported"):
        populations_from_fsps()


def put(name, value):
    def damage(f):
        unit = f[name].attrs["unit"]
        del f[name]
        f[name] = value
        f[name].attrs["unit"] = unit

    return damage


DAMAGES = {
    "no light": (lambda f: (f.pop("light_g"), f.pop("light_r")), "not of none"),
    "band": (lambda f: f.move("light_g", "light_K"), "not of K"),
    "shape": (put("light_g", np.ones((2, 3))), r"light_g must have the shape \(3, 2\)"),
    "dark": (put("light_g", np.zeros((3, 2))), "light_g must be finite and positive"),
    "NaN": (put("light_r", np.full((3, 2), np.nan)), "light_r must be finite and positive"),
    "years": (put("log_age", np.array([1e6, 1e8, 1e10])), "log10 of years"),
    "falling": (put("log_age", np.array([10.0, 8.0, 6.0])), "log_age must be one or more finite numbers that rise"),
    "no metals": (put("metallicity", np.array([0.0, 0.01])), "metallicity must be a mass fraction, above 0"),
    "solar": (put("metallicity", np.array([0.1, 1.0])), "below 1"),
    "unit": (lambda f: f["light_g"].attrs.update(unit="Msun / Lsun"), "light_g must be in Lsun / Msun"),
    "format": (lambda f: f.attrs.update(format="other"), "its format must be zwicky-populations-1"),
    "origin": (lambda f: f.attrs.pop("software"), "it has no attribute software"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_table_is_refused_in_one_sentence(tmp_path, damage):
    path = tmp_path / "stars.hdf5"
    write_populations(power_law(), path)
    change, said = DAMAGES[damage]
    with h5py.File(path, "r+") as f:
        change(f)
    with pytest.raises(UserError, match=said) as error:
        read_populations(path)
    assert str(error.value).startswith(f"{path} is not a table of stellar populations (")
    assert str(error.value).endswith(").")

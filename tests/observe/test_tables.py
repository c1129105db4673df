"""Tables of emissivities: against our own free-free emission, linear in metals, files that cannot be, and libraries."""

import inspect
import sys
import types
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from zwicky.cosmology import Cosmology
from zwicky.io import UserError
from zwicky.observe.channels import channel
from zwicky.observe.emissivity import (
    C_FREE_FREE,
    LOG_T,
    RYDBERG,
    band_luminosity,
    electron_number,
    photoelectric_cross_section,
    spectral_gaunt_factor,
)  # fmt: skip
from zwicky.observe.render import observe
from zwicky.observe.scene import Scene
from zwicky.observe.tables import EmissivityTable, read_table, table_from_pyatomdb, table_from_soxs, write_table
from zwicky.simulate.state import Particles, Species
from zwicky.units import KEV, KEV_IN_K, M_PROTON, MPC, MSUN, X_HYDROGEN

ORIGIN = {"abundances": "none", "solar_metals": 0.0127, "software": "a test", "version": "1", "date": "2026-11-21"}
T_KEV = np.exp(LOG_T[60:230:2]) / KEV_IN_K  # 0.15 to 40 keV, among the temperatures of `band_luminosity`
MASS, DENSITY = 1e10, 1e13
N_E_N_H = electron_number(MASS) * X_HYDROGEN * DENSITY * MSUN / MPC**3 / M_PROTON  # integral of n_e n_H [cm^-3]


def free_free(E, kT):
    """d Lambda / dE of hydrogen and helium per n_e n_H [erg cm^3 s^-1 keV^-1] at E [keV], shapes alike."""
    ions = ((1, 1.0), (2, (1 - X_HYDROGEN) / (4 * X_HYDROGEN)))
    g = sum(Z**2 * n * spectral_gaunt_factor(E / kT, Z**2 * RYDBERG / KEV / kT) for Z, n in ions)
    return C_FREE_FREE * np.sqrt(kT * KEV_IN_K) * g * np.exp(-E / kT) / kT


def in_bins(edges, kT):
    """Integrals (T, E) of `free_free` over bins, by three Gauss nodes each."""
    x, w = np.polynomial.legendre.leggauss(3)
    width = np.diff(edges)
    E = edges[:-1, None] + width[:, None] * (x + 1) / 2
    E, kT = np.broadcast_arrays(E, np.asarray(kT)[:, None, None])
    return (free_free(E, kT) * w).sum(axis=2) * width / 2


def free_free_table(bins):
    edges = np.geomspace(0.1, 15.0, bins + 1)
    return EmissivityTable(np.log10(T_KEV * KEV_IN_K), [0.3], edges, in_bins(edges, T_KEV)[:, None], **ORIGIN)


def steps(z_values=(0.0, 1.0, 2.0), solar_metals=0.0127):
    """Three temperatures, some metallicities, three bins: 1e-23 (1 + 2 Z) (1 + log T - 7) (1, 2, 3)."""
    log_T, Z = np.array([7.0, 7.5, 8.0]), np.array(z_values)
    value = 1e-23 * (1 + 2 * Z[:, None]) * (log_T[:, None, None] - 6) * np.array([1.0, 2.0, 3.0])
    return EmissivityTable(log_T, Z, np.array([0.5, 1.0, 2.0, 4.0]), value, **ORIGIN | {"solar_metals": solar_metals})


def emissivity(table, T, Z, *seen):
    """Lambda [erg cm^3 s^-1] of one particle, or photons [cm^3 s^-1]."""
    return float(table.luminosity(MASS, DENSITY, T, Z, *seen)) / N_E_N_H


# Against free-free emission


@pytest.mark.parametrize("photons", [False, True])
@pytest.mark.parametrize("column", [0.0, 1e21])
@pytest.mark.parametrize("z", [0.0, 0.5])
def test_a_table_of_free_free_emission_gives_free_free_luminosities(z, column, photons):
    """At temperatures of the table, to the width of its bins squared; absorbed, to what Simpson misses at edges."""
    table, T = free_free_table(400), T_KEV[20:] * KEV_IN_K
    for band in ((0.5, 2.0), (2.0, 7.0), (0.53, 0.61)):
        found = table.luminosity(MASS, DENSITY, T, 0.3, band, z, column, photons)
        expected = band_luminosity(MASS, DENSITY, T, band, z, column, photons)
        np.testing.assert_allclose(found, expected, rtol=3e-3 if column else 1e-3)


@pytest.mark.parametrize("photons", [False, True])
def test_the_error_of_bins_falls_as_their_width_squared(photons):
    """Bands that begin and end inside bins, against the spectrum itself; order of convergence 1.6 to 2.4."""
    T, bands = 2.0, [(0.5 + 0.013 * i, 2.0 + 0.017 * i) for i in range(12)]
    errors = []
    for bins in (100, 400):
        table = free_free_table(bins)
        kT = T_KEV[np.abs(T_KEV - T).argmin()]
        error = []
        for band in bands:
            E = np.geomspace(*band, 2001)
            expected = np.trapezoid(free_free(E, np.full(len(E), kT)) * E / (E * KEV) ** photons, np.log(E))
            error.append(emissivity(table, kT * KEV_IN_K, 0.3, band, 0.0, 0.0, photons) / expected - 1)
        errors.append(np.sqrt(np.mean(np.square(error))))
    order = np.log(errors[0] / errors[1]) / np.log(4)
    assert 1.6 < order < 2.4, (order, errors)


def test_between_temperatures_the_table_is_linear_in_their_logarithm():
    table = steps()
    for log_T in (7.0, 7.2, 7.5, 7.9, 8.0):
        assert emissivity(table, 10**log_T, 0.0, (0.5, 4.0)) == pytest.approx(6e-23 * (log_T - 6), rel=1e-12)
    fine = free_free_table(200)
    between = np.sqrt(T_KEV[20:-1] * T_KEV[21:]) * KEV_IN_K
    found = fine.luminosity(MASS, DENSITY, between, 0.3, (0.5, 2.0))
    np.testing.assert_allclose(found, band_luminosity(MASS, DENSITY, between, (0.5, 2.0)), rtol=2e-3)


# Bins, edges and what lies outside


def test_parts_of_bins_count_by_their_width():
    table = steps()
    assert emissivity(table, 1e7, 0.0, (1.25, 1.75)) == pytest.approx(1e-23 * 2 * 0.5, rel=1e-12)
    assert emissivity(table, 1e7, 0.0, (0.75, 2.5)) == pytest.approx(1e-23 * (0.5 + 2 + 3 * 0.25), rel=1e-12)
    assert emissivity(table, 1e7, 0.0, (0.5, 2.0), 1.0) == pytest.approx(1e-23 * 5, rel=1e-12)  # emitted at 1 to 4 keV


def test_photons_are_power_over_the_energy_at_the_source():
    table = steps()
    rate = emissivity(table, 1e7, 0.0, (0.6, 0.8), 0.5, 0.0, True)  # 0.9 to 1.2 keV
    assert rate == pytest.approx(1e-23 / KEV * (0.2 / 0.95 + 0.4 / 1.1), rel=1e-12)
    power, rate = (emissivity(table, 1e7, 0.0, (1.4999, 1.5001), 0.5, 3e20, photons) for photons in (False, True))
    assert power / rate == pytest.approx(2.25 * KEV, rel=1e-9)


def test_absorption_acts_at_the_energy_of_the_observer():
    table = steps()
    for z in (0.0, 0.5):
        clear, dimmed = (emissivity(table, 1e7, 0.0, (1.1999, 1.2001), z, column) for column in (0.0, 1e22))
        assert dimmed / clear == pytest.approx(np.exp(-1e22 * float(photoelectric_cross_section(1.2))), rel=1e-4)


def test_temperatures_and_metals_outside_of_the_table():
    """Colder gas does not shine; hotter gas, and fewer or more metals, are as at the edges."""
    table = steps((0.5, 1.0))
    assert emissivity(table, 0.999e7, 0.5, (0.5, 4.0)) == 0
    assert emissivity(table, 0.0, 0.5, (0.5, 4.0)) == 0
    hottest = emissivity(table, 1e8, 0.5, (0.5, 4.0))
    assert emissivity(table, 1e9, 0.5, (0.5, 4.0)) == hottest == pytest.approx(2 * 2 * 6e-23)
    for Z, held in ((0.0, 0.5), (7.0, 1.0)):
        assert emissivity(table, 1e7, Z, (0.5, 4.0)) == emissivity(table, 1e7, held, (0.5, 4.0))


def test_luminosities_have_the_shape_of_the_gas_and_one_metallicity_serves_all():
    table, T = steps(), np.array([1e6, 1e7, 3e7, 1e8])
    every = table.luminosity(np.full(4, MASS), np.full(4, DENSITY), T, np.full(4, 0.7), (0.5, 2.0))
    assert every.shape == (4,)
    np.testing.assert_array_equal(every, table.luminosity(MASS, DENSITY, T, 0.7, (0.5, 2.0)))
    single = replace(table, metallicity=[0.3], emissivity=table.emissivity[:, :1])
    np.testing.assert_array_equal(
        single.luminosity(MASS, DENSITY, T, 0.0, (0.5, 2.0)), single.luminosity(MASS, DENSITY, T, 9.0, (0.5, 2.0))
    )


@pytest.mark.parametrize(("band", "z"), [((0.4, 2.0), 0.0), ((0.5, 4.1), 0.0), ((0.5, 3.0), 0.5), ((2.0, 2.0), 0.0)])
def test_a_band_outside_of_the_table_is_refused(band, z):
    with pytest.raises(ValueError, match=r"the table of emissivities reaches from 0.5 to 4\.$"):
        steps().luminosity(MASS, DENSITY, 1e7, 0.3, band, z)


# Maps


def gas(P=40, **columns):
    rng = np.random.default_rng(3)
    return Species(
        positions=rng.uniform(8, 12, (P, 3)), velocities=None, masses=rng.uniform(1e9, 1e10, P),
        support_radius=np.full(P, 0.5), density=rng.uniform(1e13, 1e14, P), temperature=rng.uniform(1e7, 1e8, P),
        **columns,
    )  # fmt: skip


def maps_of(species, **options):
    nothing = Species(np.zeros((0, 3)), None, np.zeros(0))
    particles = Particles(20.0, 0.0, Cosmology(), nothing, species)
    names = ("xray_0.5-2keV", "xray_photons_0.5-2keV", "xray")
    return observe(particles, [10.0, 10.0, 10.0], names, pixels=8, pixel_kpc=800.0, **options)


def test_brightness_is_linear_in_metals_where_the_table_is():
    """Lambda goes as 1 + 2 Z: the map at Z is the one at 0 plus Z times a half of the rest of that at 2."""
    none, some, much = (maps_of(gas(), emissivity=steps(), metallicity=Z) for Z in (0.0, 0.7, 2.0))
    for name in ("xray_0.5-2keV", "xray_photons_0.5-2keV"):
        np.testing.assert_allclose(some[name], none[name] + 0.35 * (much[name] - none[name]), rtol=1e-12)
        np.testing.assert_allclose(some[name], 2.4 * none[name], rtol=1e-12)
        assert none[name].value.sum() > 0
    np.testing.assert_array_equal(some["xray"], none["xray"])  # free-free, whatever the table


def test_gas_that_knows_its_metals_shines_by_these_in_the_solar_unit_of_the_table():
    """Mass fraction 0.0127 is half solar where solar is 0.0254; the option counts in units of the table."""
    known = gas(metallicity=np.full(40, 1.0))
    table = steps(solar_metals=0.0254)
    found = maps_of(known, emissivity=table, metallicity=9.0)
    expected = maps_of(gas(), emissivity=table, metallicity=0.5)
    np.testing.assert_allclose(found["xray_0.5-2keV"], expected["xray_0.5-2keV"], rtol=1e-12)


def test_maps_of_photons_and_power_with_their_units(tmp_path):
    """Sums over the map: luminosity, and photons, over the area in cm^2; a path does as well as a table."""
    species, table = gas(), steps()
    write_table(table, tmp_path / "table.hdf5")
    area = (800 * u.kpc) ** 2
    for given in (table, tmp_path / "table.hdf5", str(tmp_path / "table.hdf5"), None):
        maps = maps_of(species, emissivity=given, redshift=0.1, hydrogen_column=1e20)
        for name, unit, photons in (("xray_0.5-2keV", "erg / s", False), ("xray_photons_0.5-2keV", "1 / s", True)):
            seen = (0.5, 2.0), 0.1, 1e20, photons
            columns = species.masses, species.density, species.temperature
            expected = table.luminosity(*columns, 0.3, *seen) if given else band_luminosity(*columns, *seen)
            assert (maps[name].sum() * area).to_value(unit) == pytest.approx(expected.sum(), rel=1e-6)


def test_the_default_metallicity_is_three_tenths_solar():
    scenes = Scene(1.0, Cosmology(), 0.0, 0.0, steps()), Scene(1.0, Cosmology(), 0.0, 0.0, steps(), 0.3)
    weights = [channel("xray_0.5-2keV").weight(gas(), scene) for scene in scenes]
    np.testing.assert_array_equal(*weights)
    assert (weights[0] < channel("xray_0.5-2keV").weight(gas(), replace(scenes[0], metallicity=0.31))).all()


# Files


@pytest.fixture
def path(tmp_path):
    write_table(steps(), tmp_path / "table.hdf5")
    return tmp_path / "table.hdf5"


def test_a_table_comes_back_from_its_file_with_units_and_origin(path):
    back = read_table(path)
    for name, value in vars(steps()).items():
        np.testing.assert_array_equal(getattr(back, name), value)
    with h5py.File(path) as f:
        units = {name: data.attrs["unit"] for name, data in f.items()}
        assert dict(f.attrs) == ORIGIN | {"format": "zwicky-emissivity-1"}
    assert units == {"log_temperature": "log10 K", "metallicity": "Zsun", "energy": "keV", "emissivity": "erg cm3 / s"}


def test_a_table_is_written_whole_or_not_at_all(tmp_path, path):
    before = path.read_bytes()
    broken = steps()
    object.__setattr__(broken, "software", object())  # h5py cannot store it
    with pytest.raises(TypeError):
        write_table(broken, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def put(name, value):
    """A damage: another data set under this name, with the same unit."""

    def damage(f):
        unit = f[name].attrs["unit"]
        del f[name]
        f[name] = value
        f[name].attrs["unit"] = unit

    return damage


def never_written(f):
    del f["energy"]
    f.create_dataset("energy", (4,), float, chunks=(4,)).attrs["unit"] = "keV"


def group_for_data(f):
    del f["emissivity"]
    f.create_group("emissivity")


NEGATIVE, NOT_A_NUMBER = np.ones((3, 3, 3)), np.ones((3, 3, 3))
NEGATIVE[1, 1, 1], NOT_A_NUMBER[2, 0, 1] = -1e-30, np.nan
DAMAGES = {
    "missing": (lambda f: f.pop("emissivity"), "it has no data set emissivity"),
    "group": (group_for_data, "it has no data set emissivity"),
    "shape": (put("emissivity", np.ones((3, 3, 4))), r"must have the shape \(3, 3, 3\), not \(3, 3, 4\)"),
    "transposed": (put("log_temperature", np.array([7.0, 8.0])), r"must have the shape \(2, 3, 3\)"),
    "NaN": (put("emissivity", NOT_A_NUMBER), "must be finite and not negative"),
    "negative": (put("emissivity", NEGATIVE), "must be finite and not negative"),
    "unsorted": (put("log_temperature", np.array([7.0, 8.0, 7.5])), "log_temperature must be 1 or more"),
    "repeated": (put("energy", np.array([0.5, 1.0, 1.0, 4.0])), "energy must be 2 or more"),
    "metals unsorted": (put("metallicity", np.array([0.0, 2.0, 1.0])), "metallicity must be 1 or more"),
    "metals negative": (put("metallicity", np.array([-1.0, 0.0, 1.0])), "metallicity must not be negative"),
    "no energy": (put("energy", np.array([0.0, 1.0, 2.0, 4.0])), "energy positive"),
    "infinite": (put("energy", np.array([0.5, 1.0, 2.0, np.inf])), "energy must be 2 or more"),
    "kelvin": (put("log_temperature", np.array([1e7, 2e7, 3e7])), "log10 of K"),
    "square": (put("metallicity", np.ones((3, 3))), "metallicity must be 1 or more"),
    "text": (put("energy", "none"), "does not hold numbers"),
    "never written": (never_written, "was never written"),
    "unit": (lambda f: f["emissivity"].attrs.update(unit="W m3"), "emissivity must be in erg cm3 / s, not W m3"),
    "no unit": (lambda f: f["energy"].attrs.pop("unit"), "energy has no attribute unit"),
    "no abundances": (lambda f: f.attrs.pop("abundances"), "it has no attribute abundances"),
    "no origin": (lambda f: f.attrs.pop("software"), "it has no attribute software"),
    "format": (lambda f: f.attrs.update(format="other"), "its format must be zwicky-emissivity-1"),
    "solar": (lambda f: f.attrs.update(solar_metals=1.5), "solar_metals between 0 and 0.1"),
    "solar text": (lambda f: f.attrs.update(solar_metals="much"), "could not convert"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_table_is_refused_in_one_sentence(path, damage):
    change, said = DAMAGES[damage]
    with h5py.File(path, "r+") as f:
        change(f)
    with pytest.raises(UserError, match=said) as error:
        read_table(path)
    text = str(error.value)
    assert text.startswith(str(path))
    assert text.endswith(").")
    assert "\n" not in text


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_table_is_refused(path, keep):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(UserError, match=r"is not a table of emissivities \("):
        read_table(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"the table of emissivities .*none.hdf5 does not exist or is not a file\.$"):
        read_table(tmp_path / "none.hdf5")


# Libraries: stand-ins with the interface of soxs 5.3.0 and pyatomdb 1.2.2

EDGES, LOG_TS, ZS = np.geomspace(0.3, 8.0, 151), np.array([7.0, 7.4, 7.9]), np.array([0.0, 0.5, 2.0])
SUN = np.array([0.0, 1.0, 0.1, *np.zeros(23), 2e-4, *np.zeros(4)])  # numbers of H, He and iron, by atomic number
WEIGHTS = np.array([0.0, 1.0, 4.0, *np.zeros(23), 56.0, *np.zeros(4)])


def power_of(edges, T, Z):
    """Known power per n_e n_H in bins: free-free times 1 + Z."""
    return in_bins(np.asarray(edges), [T / KEV_IN_K])[0] * (1 + Z)


def photons_of(edges, T, Z):
    """Photons per n_e n_H in bins that hold `power_of` if each has the energy of the middle."""
    return power_of(edges, T, Z) / (0.5 * (edges[1:] + edges[:-1]) * KEV)


class ApecGenerator:
    """Photons s^-1 cm^-2 keV^-1 from norm = 1e-14 / (4 pi D_A^2 (1 + z)^2) int n_e n_H dV."""

    def __init__(self, emin, emax, nbins, binscale="linear", var_elem=None, apec_root=None, apec_vers=None,
                 broadening=True, nolines=False, abund_table=None, nei=False, trace_abund=1.0):  # fmt: skip
        if apec_root == "nowhere":
            raise OSError("Cannot find the apec files!\n nowhere")
        space = np.geomspace if binscale == "log" else np.linspace
        self.ebins, self.Tvals, self.model_vers = space(emin, emax, nbins + 1), np.geomspace(8e-4, 86, 51), "3.1.3"
        self.atable = SUN if abund_table == "angr" else None

    def get_spectrum(self, kT, abund, redshift, norm, velocity=0.0, elem_abund=None):
        """Of a cloud at D [cm] with int n_e n_H dV = norm 1e14 4 pi D^2, whose photons spread over 4 pi D^2."""
        D = 1e25
        emission_measure = norm * 1e14 * 4 * np.pi * D**2 * (1 + redshift) ** 2
        rate = emission_measure * photons_of(self.ebins, kT * KEV_IN_K, abund)
        flux = rate / (4 * np.pi * D**2) / np.diff(self.ebins)
        return types.SimpleNamespace(flux=flux * u.photon / (u.cm**2 * u.s * u.keV))


class CIESession:
    """Photons cm^3 s^-1 in bins."""

    def __init__(self, linefile="$ATOMDB/apec_line.fits", cocofile="$ATOMDB/apec_coco.fits", elements=False,
                 abundset="AG89"):  # fmt: skip
        self.spectra, self.abund = types.SimpleNamespace(kTlist=np.geomspace(8e-4, 86, 51)), np.ones(31)
        if abundset != "AG89":
            raise TypeError("'int' object is not subscriptable")

    def set_response(self, rmf, arf=False, raw=False, sparse=False):
        assert raw
        self.edges = rmf

    def set_abund(self, elements, abund):
        self.abund[elements] = abund

    def return_spectrum(self, te, teunit="keV", nearest=False, get_nearest_t=False, log_interp=True):
        assert teunit == "K"
        assert (self.abund[1:3] == 1).all()  # hydrogen and helium stay
        assert (self.abund[3:] == self.abund[3]).all()
        return photons_of(self.edges, te, self.abund[3])


@pytest.fixture
def soxs(monkeypatch):
    constants = types.SimpleNamespace(atomic_weights=WEIGHTS)
    module = types.SimpleNamespace(ApecGenerator=ApecGenerator, __version__="5.3.0", constants=constants)
    monkeypatch.setitem(sys.modules, "soxs", module)
    monkeypatch.setitem(sys.modules, "soxs.constants", constants)


@pytest.fixture
def pyatomdb(monkeypatch, tmp_path):
    (tmp_path / "userdata").touch()
    monkeypatch.setenv("ATOMDB", str(tmp_path))
    module = types.SimpleNamespace(
        __version__="1.2.2", spectrum=types.SimpleNamespace(CIESession=CIESession),
        atomdb=types.SimpleNamespace(get_abundance=lambda abundset: {Z: SUN[Z] for Z in range(1, 31)}),
        atomic=types.SimpleNamespace(Z_to_mass=lambda Z: WEIGHTS[Z]),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pyatomdb", module)


MAKERS = {"soxs": table_from_soxs, "pyatomdb": table_from_pyatomdb}


@pytest.mark.parametrize("name", MAKERS)
def test_a_library_of_known_power_gives_a_table_of_this_power(name, request, tmp_path):
    request.getfixturevalue(name)
    table = MAKERS[name](LOG_TS, ZS, EDGES)
    expected = [[power_of(EDGES, T, Z) for Z in ZS] for T in 10**LOG_TS]
    np.testing.assert_allclose(table.emissivity, expected, rtol=1e-10)
    assert table.solar_metals == pytest.approx(56 * 2e-4 / (1 + 0.4 + 56 * 2e-4))
    assert (table.software, table.abundances) == (name, {"soxs": "angr", "pyatomdb": "AG89"}[name])
    write_table(table, tmp_path / "table.hdf5")
    back = read_table(tmp_path / "table.hdf5")
    assert (back.version, back.date) == (table.version, table.date)
    T = 10 ** LOG_TS[1]
    found = back.luminosity(MASS, DENSITY, T, 0.0, (0.5, 2.0), 0.2, photons=True)
    assert found == pytest.approx(float(band_luminosity(MASS, DENSITY, T, (0.5, 2.0), 0.2, photons=True)), rel=2e-3)


@pytest.mark.parametrize("name", MAKERS)
def test_temperatures_that_a_library_does_not_know_are_refused(name, request):
    request.getfixturevalue(name)
    for wrong in (3.0, 9.5):
        with pytest.raises(ValueError, match=f"{name} has temperatures above"):
            MAKERS[name]([7.0, wrong] if wrong > 7 else [wrong, 7.0], ZS, EDGES)


def test_soxs_with_other_bins_and_without_its_files(soxs):
    with pytest.raises(ValueError, match="equal steps of log E"):
        table_from_soxs(LOG_TS, ZS, np.linspace(0.3, 8.0, 11))
    assert table_from_soxs(LOG_TS, ZS, np.linspace(0.3, 8.0, 11), binscale="linear").emissivity.shape == (3, 3, 10)
    with pytest.raises(UserError, match=r"^soxs cannot use its files \(Cannot find the apec files!\)\.$"):
        table_from_soxs(LOG_TS, ZS, EDGES, apec_root="nowhere")


def test_pyatomdb_without_its_files_or_with_unknown_abundances(pyatomdb, monkeypatch):
    with pytest.raises(UserError, match="pyatomdb cannot use its files"):
        table_from_pyatomdb(LOG_TS, ZS, EDGES, "mine")
    for folder in ("/nowhere", None):
        monkeypatch.setenv("ATOMDB", folder) if folder else monkeypatch.delenv("ATOMDB")
        with pytest.raises(UserError, match=r"pyatomdb needs ATOMDB to name the folder"):
            table_from_pyatomdb(LOG_TS, ZS, EDGES)


@pytest.mark.parametrize("name", MAKERS)
def test_a_library_that_is_not_installed_is_asked_for(name, monkeypatch, tmp_path):
    (tmp_path / "userdata").touch()
    monkeypatch.setenv("ATOMDB", str(tmp_path))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"^{name} cannot be imported \(.*\); install it: pip install {name}\.$"):
        MAKERS[name](LOG_TS, ZS, EDGES)


# The real soxs, where it is installed, on files in the format of AtomDB

LINE_KEV, LINE = 1.2, 3e-17  # of iron [keV], [photons cm^3 s^-1] at solar abundance
KT = np.geomspace(0.5, 10.0, 6)


def table_hdu(**columns):
    """A table with columns name=(format, values)."""
    return fits.BinTableHDU.from_columns([fits.Column(name, form, array=v) for name, (form, v) in columns.items()])


def write_apec(folder):
    """Free-free emission of hydrogen, a fifth of it of iron, and one line."""
    E = np.geomspace(0.02, 30.0, 3000)
    files = {"coco": [], "line": []}
    for kT in KT:
        hydrogen = free_free(E, np.full(len(E), kT)) / (E * KEV)
        files["coco"].append(table_hdu(
            Z=("J", [1, 26]), rmJ=("J", [0, 0]), N_Cont=("J", [len(E)] * 2), E_Cont=(f"{len(E)}E", [E, E]),
            Continuum=(f"{len(E)}E", [hydrogen, 0.2 * hydrogen]), N_Pseudo=("J", [2, 2]),
            E_Pseudo=("2E", [[0.02, 30.0]] * 2), Pseudo=("2E", np.zeros((2, 2))),
        ))  # fmt: skip
        angstrom = (LINE_KEV * u.keV).to_value("angstrom", u.spectral())
        files["line"].append(table_hdu(Element=("J", [26]), Lambda=("E", [angstrom]), Epsilon=("E", [LINE])))
    for kind, tables in files.items():
        whole = fits.HDUList([fits.PrimaryHDU(), table_hdu(kT=("E", KT)), *tables])
        whole.writeto(folder / f"apec_v9.9.9_{kind}.fits")


def test_soxs_itself_gives_the_power_of_its_files(tmp_path):
    """Continuum to the error of its bins, the line to a half of the width of one, both linear in metals."""
    real = pytest.importorskip("soxs")
    for name in ("__init__", "get_spectrum"):
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (ApecGenerator, real.ApecGenerator))
        assert ours == theirs
    write_apec(tmp_path)
    log_T = np.log10(KT[1:5] * 1.000001 * KEV_IN_K)
    table = table_from_soxs(log_T, [0.0, 0.5, 1.0], EDGES, apec_root=str(tmp_path), apec_vers="9.9.9")
    hydrogen = in_bins(EDGES, KT[1:5])
    np.testing.assert_allclose(table.emissivity[:, 0], hydrogen, rtol=2e-3)
    for i, Z in ((1, 0.5), (2, 1.0)):
        metals = table.emissivity[:, i] - table.emissivity[:, 0]
        line = metals.sum(axis=1) / Z - 0.2 * hydrogen.sum(axis=1)
        np.testing.assert_allclose(line, LINE * LINE_KEV * KEV, rtol=0.02)
    assert table.solar_metals == pytest.approx(0.0194, abs=2e-4)  # Anders & Grevesse 1989

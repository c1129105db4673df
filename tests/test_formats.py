"""Snapshots of other codes: small files written as their specifications say, read back to the right numbers.

GADGET-2 user guide (names, units, powers of a and h), GADGET-4 (Springel et al. 2021, section on output), the data
specifications of IllustrisTNG (Nelson et al. 2019), SIMBA's snapshots of GIZMO, and SWIFT's (its unit attributes).
"""

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy import constants as const
from astropy import units as u

from zwicky import observe, project, read_snapshot
from zwicky.halos import find_halos
from zwicky.io import UserError

SHARED = Path(__file__).parents[2] / "shared" / "data"
A, H = 0.5, 0.7  # scale factor and Hubble parameter of every file here
BOX = 20.0  # comoving [Mpc]
P = 12
MSUN = const.M_sun.cgs.value
KPC = u.kpc.to(u.cm)
SWIFT_CGS = "Conversion factor to CGS (not including cosmological corrections)"
UNITS = {  # to CGS, powers of a and of h, in GADGET-like files
    "Coordinates": (KPC, 1, -1), "Velocities": (1e5, 0.5, 0), "Masses": (1e10 * MSUN, 0, -1),
    "Density": (1e10 * MSUN / KPC**3, -3, 2), "InternalEnergy": (1e10, 0, 0), "SmoothingLength": (KPC, 1, -1),
    "SubfindHsml": (KPC, 1, -1),
}  # fmt: skip


def truth(seed=0):
    """What every file holds: proper or peculiar CGS values of P particles of gas, with X and n_e / n_H."""
    rng = np.random.default_rng(seed)
    mpc = 1e3 * KPC
    return {
        "Coordinates": rng.uniform(0, BOX, (P, 3)) * mpc * A, "Velocities": rng.normal(0, 3e7, (P, 3)),
        "Masses": rng.uniform(1e9, 1e10, P) * MSUN, "Density": rng.uniform(1e-29, 1e-26, P),
        "InternalEnergy": rng.uniform(1e13, 1e16, P), "SmoothingLength": rng.uniform(0.1, 0.5, P) * mpc * A,
        "X": rng.uniform(0.7, 0.76, P), "ne": rng.uniform(0.5, 1.2, P),
    }  # fmt: skip


def temperature(t):
    """K, from the definition: u = 3/2 k T / (mu m_p)."""
    mu = 4 / (1 + 3 * t["X"] + 4 * t["X"] * t["ne"])
    return t["InternalEnergy"] * 2 / 3 * mu * const.m_p.cgs.value / const.k_B.cgs.value


def gadget_header(f, counts, **more):
    """The header of GADGET-2 and those after it."""
    counts = np.array(counts)
    f.create_group("Header").attrs.update(
        {"NumPart_ThisFile": counts, "NumPart_Total": counts, "MassTable": np.zeros(6), "Time": A,
         "Redshift": 1 / A - 1, "BoxSize": BOX * 1e3 * H, "NumFilesPerSnapshot": 1, "Omega0": 0.3, "OmegaLambda": 0.7,
         "HubbleParam": H} | more
    )  # fmt: skip


def fill(group, t, names, attributes=None):
    """Data sets of a GADGET-like group, with the attributes that GADGET-4 and AREPO write, if any."""
    for name in names:
        to_cgs, a_power, h_power = UNITS[name]
        group[name] = t[name] / (to_cgs * A**a_power * H**h_power)
        if attributes:
            group[name].attrs.update(to_cgs=to_cgs, a_scaling=a_power, h_scaling=h_power)


GAS = ("Coordinates", "Velocities", "Masses", "Density", "InternalEnergy")


def write_gadget2(path, t):
    """No attributes, primordial gas, dark matter by the MassTable."""
    with h5py.File(path, "w") as f:
        gadget_header(f, [P, 3, 0, 0, 0, 0], MassTable=np.array([0, 5.0, 0, 0, 0, 0]))
        fill(f.create_group("PartType0"), t, (*GAS, "SmoothingLength"))
        fill(f.create_group("PartType1"), {k: v[:3] for k, v in t.items()}, ("Coordinates", "Velocities"))


def write_gadget4(path, t):
    """Attributes; cosmology and units in Parameters, none of them in the header."""
    with h5py.File(path, "w") as f:
        gadget_header(f, [P, 0])
        parameters = f.create_group("Parameters").attrs
        for name in ("Omega0", "OmegaLambda", "HubbleParam"):
            parameters[name] = f["Header"].attrs.pop(name)
        parameters.update(OmegaBaryon=0.045, UnitLength_in_cm=3.085678e21, UnitMass_in_g=1.989e43)
        fill(f.create_group("PartType0"), t, (*GAS, "SmoothingLength"), attributes=True)


def write_tng(path, t):
    """Cells without a kernel, metals, stars and winds in PartType4, tracers without places in PartType3."""
    with h5py.File(path, "w") as f:
        gadget_header(f, [P, 3, 0, 5, 4, 0], OmegaBaryon=0.05, MassTable=np.array([0, 5.0, 0, 0, 0, 0]))
        gas = f.create_group("PartType0")
        fill(gas, t, GAS)
        gas["ElectronAbundance"], gas["GFM_Metals"] = t["ne"], np.stack([t["X"], 1 - t["X"]], axis=1)
        gas["StarFormationRate"] = np.zeros(P)
        few = {k: v[:3] for k, v in t.items()}
        fill(f.create_group("PartType1"), few | {"SubfindHsml": few["SmoothingLength"]}, ("Coordinates", "SubfindHsml"))
        f.create_group("PartType3")["TracerID"] = np.arange(5)
        stars = f.create_group("PartType4")
        fill(stars, {k: v[:4] for k, v in t.items()}, ("Coordinates", "Velocities", "Masses"))
        stars["GFM_StellarFormationTime"] = np.array([0.3, -0.4, 0.4, 0.1])


def write_gizmo(path, t):
    """SIMBA: support radii, metallicities with helium in the second column, winds by DelayTime."""
    with h5py.File(path, "w") as f:
        gadget_header(f, [P, 0, 0, 0, 0, 0])
        gas = f.create_group("PartType0")
        fill(gas, t, (*GAS, "SmoothingLength"))
        metals = np.zeros((P, 11))
        metals[:, 0], metals[:, 1] = 0.01, 0.99 - t["X"]
        gas["Metallicity"], gas["ElectronAbundance"] = metals, t["ne"]
        gas["DelayTime"] = np.r_[0.1, np.zeros(P - 1)]
        gas["StarFormationRate"] = np.r_[0.0, 2.0, np.zeros(P - 2)]


def write_swift(path, t):
    """No h anywhere, Mpc, its own names and attributes, smoothing lengths of 2 sigma."""
    mpc = 1e3 * KPC
    units = {
        "Coordinates": (mpc, 1), "Velocities": (1e5, 0), "Masses": (1e10 * MSUN, 0), "SmoothingLengths": (mpc, 1),
        "Densities": (1e10 * MSUN / mpc**3, -3), "InternalEnergies": (1e10, -2), "Temperatures": (1.0, 0),
    }  # fmt: skip
    values = t | {
        "Densities": t["Density"], "InternalEnergies": t["InternalEnergy"], "Temperatures": temperature(t),
        "SmoothingLengths": t["SmoothingLength"] / 1.936492,
    }  # fmt: skip
    with h5py.File(path, "w") as f:
        f.create_group("Header").attrs.update(
            BoxSize=np.full(3, BOX), NumPart_ThisFile=np.array([P, 0, 0, 0, 0, 0, 0]), MassTable=np.zeros(7),
            NumFilesPerSnapshot=np.array([1]), Time=np.array([0.006]), Redshift=np.array([1 / A - 1]),
        )
        f.create_group("Cosmology").attrs.update({
            "Scale-factor": np.array([A]), "h": np.array([H]), "Omega_m": np.array([0.3]),
            "Omega_lambda": np.array([0.7]), "Omega_b": np.array([0.05]),
        })  # fmt: skip
        f.create_group("HydroScheme").attrs["Kernel function"] = b"Wendland C2"
        gas = f.create_group("PartType0")
        for name, (to_cgs, a_power) in units.items():
            gas[name] = values[name] / (to_cgs * A**a_power)
            gas[name].attrs.update({SWIFT_CGS: to_cgs, "a-scale exponent": a_power, "h-scale exponent": 0.0})


WRITERS = {
    "gadget2": write_gadget2, "gadget4": write_gadget4, "tng": write_tng, "gizmo": write_gizmo, "swift": write_swift
}  # fmt: skip


@pytest.mark.parametrize("code", WRITERS)
def test_every_format_gives_the_same_gas(tmp_path, code):
    """Places, velocities, masses, densities, temperatures and support radii in our units, at z = 1."""
    t = truth()
    WRITERS[code](tmp_path / "snapshot.hdf5", t)
    p = read_snapshot(tmp_path / "snapshot.hdf5", star_forming="keep")
    mpc = 1e3 * KPC
    assert (p.redshift, p.cosmology.h, p.cosmology.omega_m) == pytest.approx((1 / A - 1, H, 0.3))
    assert p.box == pytest.approx(BOX, rel=1e-12)
    if code in ("gadget2", "gadget4"):
        t |= {"X": np.full(P, 0.76), "ne": np.full(P, (1 + 0.76) / (2 * 0.76))}  # hydrogen and helium ionised
    np.testing.assert_allclose(p.gas.positions, t["Coordinates"] / mpc / A, rtol=1e-12)
    np.testing.assert_allclose(p.gas.velocities, t["Velocities"] / 1e5, rtol=3e-7)
    np.testing.assert_allclose(p.gas.masses, t["Masses"] / MSUN, rtol=1e-12)
    np.testing.assert_allclose(p.gas.density, t["Density"] / (MSUN / mpc**3) * A**3, rtol=1e-12)
    np.testing.assert_allclose(p.gas.temperature, temperature(t), rtol=1e-9)
    expected = t["SmoothingLength"] / mpc / A
    if code == "tng":
        expected = 2.5 * np.cbrt(3 * t["Masses"] / t["Density"] / (4 * np.pi)) / mpc / A
    np.testing.assert_allclose(p.gas.support_radius, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("code", "name", "columns"),
    [("tng", "GFM_Metallicity", 0), ("gadget4", "Metallicity", 0), ("swift", "MetalMassFractions", 0),
     ("gizmo", "Metallicity", 11), ("gadget2", "Metallicity", 1)],
)  # fmt: skip
def test_metallicity_is_the_mass_fraction_of_metals_over_the_solar_one(tmp_path, code, name, columns):
    """0.0127 in the Sun; where elements follow, their sum is the first column."""
    t, rng = truth(), np.random.default_rng(4)
    fraction = rng.uniform(0, 0.02, P)
    stored = fraction
    if columns:
        stored = np.zeros((P, columns))
        stored[:, 0] = fraction
        stored[:, 1:2] = 0.24
    WRITERS[code](tmp_path / "snap.hdf5", t)
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["PartType0"].pop(name, None)
        f["PartType0"][name] = stored
        if code == "swift":
            f["PartType0"][name].attrs.update({SWIFT_CGS: 1.0, "a-scale exponent": 0.0, "h-scale exponent": 0.0})
    p = read_snapshot(tmp_path / "snap.hdf5", star_forming="keep")
    np.testing.assert_allclose(p.gas.metallicity, fraction / 0.0127, rtol=1e-12)
    some = np.array([4, 1])
    np.testing.assert_array_equal(p.gas.take(some).metallicity, p.gas.metallicity[some])
    near = read_snapshot(tmp_path / "snap.hdf5", p.gas.positions[3], 1e-6, star_forming="keep").gas
    np.testing.assert_allclose(near.metallicity, fraction[[3]] / 0.0127, rtol=1e-12)


def test_gas_without_metals_in_the_file_has_no_metallicity_and_cut_gas_takes_its_own_along(tmp_path):
    write_gadget4(tmp_path / "a.hdf5", truth())
    assert read_snapshot(tmp_path / "a.hdf5").gas.metallicity is None
    write_gizmo(tmp_path / "b.hdf5", truth())
    assert read_snapshot(tmp_path / "b.hdf5", star_forming="cut").gas.metallicity == pytest.approx(0.01 / 0.0127)


@pytest.mark.parametrize(
    ("value", "said"),
    [(np.full(P, 1.5), "more metals than gas"), (np.full(P, np.nan), "NaN"), (np.full(P, -0.1), "negative"),
     (np.ones((P, 2, 2)), "shape"), (np.ones((P, 0)), "shape"), (np.ones(P - 1), "differ in length")],
)  # fmt: skip
def test_metals_that_cannot_be_are_refused(tmp_path, value, said):
    write_gadget4(tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["PartType0/Metallicity"] = value
    with pytest.raises(UserError, match=said):
        read_snapshot(tmp_path / "snap.hdf5")


def test_dark_matter_takes_its_mass_from_the_header_and_its_kernel_from_subfind(tmp_path):
    write_tng(tmp_path / "snap.hdf5", truth())
    dark = read_snapshot(tmp_path / "snap.hdf5").dark_matter
    np.testing.assert_allclose(dark.masses, 5e10 / H)
    np.testing.assert_allclose(dark.support_radius, truth()["SmoothingLength"][:3] / (1e3 * KPC) / A)
    assert dark.velocities is None


def test_stars_are_read_and_winds_among_them_are_not(tmp_path):
    t = truth()
    write_tng(tmp_path / "snap.hdf5", t)
    stars = read_snapshot(tmp_path / "snap.hdf5").stars
    np.testing.assert_allclose(stars.masses, t["Masses"][[0, 2, 3]] / MSUN)


@pytest.mark.parametrize("name", ["GFM_StellarFormationTime", "StellarFormationTime", "BirthScaleFactors"])
def test_stars_have_ages_and_metals(tmp_path, name):
    """Ages in an Einstein-de Sitter universe, t = 2/3 a^(3/2) / H0; what was there at the start is as old as it."""
    write_tng(tmp_path / "snap.hdf5", truth())
    birth, wind = np.array([0.3, -1.0, 0.4, A]), name.startswith("GFM")
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["Header"].attrs.update(Omega0=1.0, OmegaLambda=0.0)
        del f["PartType4/GFM_StellarFormationTime"]
        f["PartType4"][name], f["PartType4/GFM_Metallicity"] = birth, np.full(4, 0.0254)
    stars = read_snapshot(tmp_path / "snap.hdf5").stars
    age = 2 / 3 * 9.77792 / H * (A**1.5 - np.maximum(birth, 0) ** 1.5)
    np.testing.assert_allclose(stars.age, age[birth > 0] if wind else age, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(stars.metallicity, 2.0)


def test_stars_of_a_file_without_times_of_birth_have_no_age(tmp_path):
    write_tng(tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        del f["PartType4/GFM_StellarFormationTime"]
    stars = read_snapshot(tmp_path / "snap.hdf5").stars
    assert (stars.age, stars.metallicity, len(stars)) == (None, None, 4)


@pytest.mark.parametrize(("rule", "cold", "count"), [("cold", 2, P), ("cut", 0, P - 2), ("keep", 0, P)])
def test_gas_of_subgrid_models_is_treated_as_asked_and_told(tmp_path, rule, cold, count):
    """One particle in a wind, one that forms stars."""
    write_gizmo(tmp_path / "snap.hdf5", truth())
    p = read_snapshot(tmp_path / "snap.hdf5", star_forming=rule)
    assert (len(p.gas), (p.gas.temperature == 0).sum()) == (count, cold)
    assert p.origin.get("star_forming") == (None if rule == "keep" else f"{rule}, 2 particles")


@pytest.mark.parametrize("code", ["tng", "swift"])
def test_a_region_holds_what_is_near_through_the_wrap_of_the_box(tmp_path, code):
    t = truth()
    WRITERS[code](tmp_path / "snap.hdf5", t)
    centre, radius = np.array([0.5, 19.0, 10.0]), 7.0
    p, whole = (read_snapshot(tmp_path / "snap.hdf5", *more) for more in ((centre, radius), ()))
    d = whole.gas.positions - centre
    d -= BOX * np.round(d / BOX)
    near = np.linalg.norm(d, axis=1) <= radius
    assert 0 < near.sum() < P
    for name in ("positions", "masses", "temperature", "support_radius", "velocities"):
        np.testing.assert_array_equal(getattr(p.gas, name), getattr(whole.gas, name)[near])


def split_in_files(folder, t, count=3):
    """A GADGET-2 snapshot in several files, the particles dealt out among them."""
    for i in range(count):
        mine = {k: v[i::count] for k, v in t.items()}
        with h5py.File(folder / f"snap_003.{i}.hdf5", "w") as f:
            counts = np.array([len(mine["X"]), 0, 0, 0, 0, 0])
            gadget_header(f, counts, NumPart_Total=np.array([P, 0, 0, 0, 0, 0]), NumFilesPerSnapshot=count)
            fill(f.create_group("PartType0"), mine, GAS)


@pytest.mark.parametrize("name", ["", "snap_003.0.hdf5", "snap_003.2.hdf5"])
def test_several_files_are_read_as_one_snapshot(tmp_path, name):
    t = truth()
    split_in_files(tmp_path, t)
    p = read_snapshot(tmp_path / name)
    np.testing.assert_allclose(np.sort(p.gas.masses), np.sort(t["Masses"] / MSUN))


def test_files_of_different_snapshots_and_too_few_particles_are_noticed(tmp_path):
    split_in_files(tmp_path, truth())
    with h5py.File(tmp_path / "snap_003.1.hdf5", "r+") as f:
        f["Header"].attrs["NumPart_ThisFile"] = np.array([P // 3 - 1, 0, 0, 0, 0, 0])
        for name, data in list(f["PartType0"].items()):
            values = data[:-1]
            del f["PartType0"][name]
            f["PartType0"][name] = values
    with pytest.raises(UserError, match=f"hold {P - 1} of {P} particles"):
        read_snapshot(tmp_path)
    with h5py.File(tmp_path / "snap_003.1.hdf5", "r+") as f:
        f["Header"].attrs["Time"] = 0.6
    with pytest.raises(UserError, match="files of different snapshots"):
        read_snapshot(tmp_path)


def test_a_cut_out_in_one_file_may_speak_of_several(tmp_path):
    write_tng(tmp_path / "cutout.hdf5", truth())
    with h5py.File(tmp_path / "cutout.hdf5", "r+") as f:
        f["Header"].attrs["NumFilesPerSnapshot"] = 600
    assert len(read_snapshot(tmp_path / "cutout.hdf5").gas) == P


def test_swift_values_stored_as_physical_have_their_power_of_a_already(tmp_path):
    write_swift(tmp_path / "a.hdf5", truth())
    write_swift(tmp_path / "b.hdf5", truth())
    with h5py.File(tmp_path / "b.hdf5", "r+") as f:
        for name, power in (("Coordinates", 1), ("Densities", -3), ("SmoothingLengths", 1)):
            f["PartType0"][name][...] *= A**power
            f["PartType0"][name].attrs["Value stored as physical"] = np.array([1])
    a, b = (read_snapshot(tmp_path / name).gas for name in ("a.hdf5", "b.hdf5"))
    for name in ("positions", "density", "support_radius"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("ElectronAbundance", np.full(P, np.nan), "NaN"), ("ElectronAbundance", np.full(P, -1.0), "negative"),
     ("ElectronAbundance", np.ones((P, 1)), "shape"), ("ElectronAbundance", np.ones(P - 1), "differ in length"),
     ("StarFormationRate", np.full(P, np.nan), "NaN"), ("Metallicity", np.full((P, 11), 2.0), "hydrogen")],
)  # fmt: skip
def test_fields_that_temperatures_come_from_are_checked(tmp_path, name, value, said):
    write_gizmo(tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        del f["PartType0"][name]
        f["PartType0"][name] = value
    with pytest.raises(UserError, match=said):
        read_snapshot(tmp_path / "snap.hdf5")


def test_a_place_just_below_zero_is_in_the_box(tmp_path):
    """The remainder of -1e-17 is the box itself, which trees refuse."""
    write_gadget2(tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["PartType1/Coordinates"][0] = [-1e-17, 5.0, 5.0]
    assert len(find_halos(read_snapshot(tmp_path / "snap.hdf5"))) == 0
    near = read_snapshot(tmp_path / "snap.hdf5", [-1e-17, 0.0, 0.0], 1.0)
    assert len(near.dark_matter) == 1


def test_a_missing_file_of_several_is_named(tmp_path):
    split_in_files(tmp_path, truth())
    (tmp_path / "snap_003.1.hdf5").unlink()
    with pytest.raises(UserError, match=r"snap_003.1.hdf5, one of 3 files, does not exist\.$"):
        read_snapshot(tmp_path)


def test_a_folder_of_several_snapshots_asks_for_one(tmp_path):
    for name in ("snap_001.hdf5", "snap_002.hdf5"):
        write_gadget2(tmp_path / name, truth())
    with pytest.raises(UserError, match="does not hold one HDF5 snapshot"):
        read_snapshot(tmp_path)


def test_a_folder_of_whole_snapshots_with_running_numbers_is_refused(tmp_path):
    for i in range(2):
        write_gadget2(tmp_path / f"out.{i}.hdf5", truth(i))
    with pytest.raises(UserError, match=r"holds out\.0\.hdf5, which is whole in itself, and out\.1\.hdf5; name one\.$"):
        read_snapshot(tmp_path)
    np.testing.assert_allclose(read_snapshot(tmp_path / "out.1.hdf5").gas.masses, truth(1)["Masses"] / MSUN)
    (tmp_path / "out.1.hdf5").unlink()
    assert len(read_snapshot(tmp_path).gas) == P


def test_units_of_gizmo_have_h_in_them(tmp_path):
    """UnitLength_In_CGS is that of the parameter file over h, so nothing else changes if it is named."""
    write_gizmo(tmp_path / "a.hdf5", truth())
    write_gizmo(tmp_path / "b.hdf5", truth())
    with h5py.File(tmp_path / "b.hdf5", "r+") as f:
        f["Header"].attrs.update(
            UnitLength_In_CGS=3.085678e21 / H, UnitMass_In_CGS=1.989e43 / H, UnitVelocity_In_CGS=1e5
        )
        for name in ("Omega0", "OmegaLambda"):
            del f["Header"].attrs[name]
        f["Header"].attrs.update(Omega_Matter=0.3, Omega_Lambda=0.7, Omega_Baryon=0.045)
    a, b = (read_snapshot(tmp_path / name) for name in ("a.hdf5", "b.hdf5"))
    assert (a.box, a.cosmology) == (b.box, b.cosmology)
    for name in ("positions", "masses", "density", "temperature", "support_radius", "velocities"):
        np.testing.assert_array_equal(getattr(a.gas, name), getattr(b.gas, name))
    with h5py.File(tmp_path / "b.hdf5", "r+") as f:
        f["Header"].attrs.update(UnitLength_In_CGS=3.085678e24 / H, BoxSize=BOX * H)
        for name, factor in (("Coordinates", 1e-3), ("SmoothingLength", 1e-3), ("Density", 1e9)):
            f["PartType0"][name][...] *= factor
    mpc = read_snapshot(tmp_path / "b.hdf5").gas
    np.testing.assert_allclose(mpc.positions, a.gas.positions, rtol=1e-4)
    np.testing.assert_allclose(mpc.density, a.gas.density, rtol=1e-3)


@pytest.mark.parametrize("code", ["swift", "gadget2"])
def test_sinks_of_swift_are_no_dark_matter(tmp_path, code):
    """PartType2 is coarse dark matter of both, PartType3 that of GADGET alone."""
    WRITERS[code](tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        before = len(read_snapshot(tmp_path / "snap.hdf5").dark_matter) if code == "gadget2" else 0
        counts = np.array(f["Header"].attrs["NumPart_ThisFile"])
        counts[2], counts[3] = P, P
        f["Header"].attrs["NumPart_ThisFile"] = counts
        for kind in (2, 3):
            for name in ("Coordinates", "Velocities", "Masses"):
                f.copy(f["PartType0"][name], f.require_group(f"PartType{kind}"), name)
    p = read_snapshot(tmp_path / "snap.hdf5")
    assert len(p.dark_matter) - before == (P if code == "swift" else 2 * P)


@pytest.mark.parametrize("name", ["OmegaLambda", "Omega0", "HubbleParam", "Time", "BoxSize"])
def test_numbers_of_the_header_that_are_none_are_refused(tmp_path, name):
    write_gadget2(tmp_path / "snap.hdf5", truth())
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["Header"].attrs[name] = np.nan
    with pytest.raises(UserError, match=r"snap\.hdf5.*\.$") as raised:
        read_snapshot(tmp_path / "snap.hdf5")
    assert "\n" not in str(raised.value)


def test_units_that_cannot_be_are_noticed(tmp_path):
    """A file in Mpc/h that says nothing of it: its box would hold far too much mass."""
    t = truth()
    write_gadget2(tmp_path / "snap.hdf5", t)
    with h5py.File(tmp_path / "snap.hdf5", "r+") as f:
        f["Header"].attrs["BoxSize"] /= 1e3
        f["PartType0/Coordinates"][...] /= 1e3
        f["PartType1/Coordinates"][...] /= 1e3
    with pytest.raises(UserError, match=r"more than a box of .* Mpc has; check its units"):
        read_snapshot(tmp_path / "snap.hdf5")


def test_an_empty_region_and_impossible_requests_are_refused(tmp_path):
    write_gadget4(tmp_path / "snap.hdf5", truth())
    with pytest.raises(UserError, match="no particles within"):
        read_snapshot(tmp_path / "snap.hdf5", [1.0, 1.0, 1.0], 1e-3)
    with pytest.raises(ValueError, match="a centre needs a radius"):
        read_snapshot(tmp_path / "snap.hdf5", [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="three finite numbers"):
        read_snapshot(tmp_path / "snap.hdf5", [1.0, 1.0], 1.0)
    with pytest.raises(ValueError, match="star_forming must be one of"):
        read_snapshot(tmp_path / "snap.hdf5", star_forming="no")


def test_halos_and_maps_count_stars(tmp_path):
    """A ball of dark matter and stars: both are in M200m and in the total."""
    rng = np.random.default_rng(1)
    count, mpc = 400, 1e3 * KPC
    t = {k: np.repeat(v[:1], count, axis=0) for k, v in truth().items()}
    t["Coordinates"] = (10 + 0.3 * rng.standard_normal((count, 3))) * mpc * A
    t["Masses"] = np.full(count, 1e11 * MSUN)
    with h5py.File(tmp_path / "snap.hdf5", "w") as f:
        gadget_header(f, [1, count, 0, 0, count, 0])
        fill(f.create_group("PartType0"), {k: v[:1] for k, v in t.items()}, GAS)
        for kind in (1, 4):
            fill(f.create_group(f"PartType{kind}"), t, ("Coordinates", "Masses"))
    p = read_snapshot(tmp_path / "snap.hdf5")
    halo = find_halos(p)[0]
    assert halo["m200m"] == pytest.approx(8.01e13, rel=0.02)
    maps = observe(p, halo, ("total", "stars", "dark_matter"), pixels=16, pixel_kpc=200.0)
    assert maps["stars"].value.sum() * 200**2 == pytest.approx(4e13, rel=0.02)
    assert maps["total"].value.sum() * 200**2 == pytest.approx(8.01e13, rel=0.02)


def test_the_cluster_of_arepo_keeps_its_mass_in_projection():
    """12,515 real cells: 2.588e14 Msun (PROVENANCE of the file)."""
    path = SHARED / "arepo_zoom_gas" / "reduced_snap_247.hdf5"
    if not path.exists():
        pytest.skip("the shared data are not here")
    gas = read_snapshot(path).gas
    x = (gas.positions - gas.positions.mean(axis=0)) * 1e3
    image = project(x, gas.support_radius * 1e3, gas.masses, 1e4, 64)
    assert image.sum() * (1e4 / 64) ** 2 == pytest.approx(2.588e14, rel=2e-4)

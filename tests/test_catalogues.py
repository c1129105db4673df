"""Halo catalogues of other codes: the same three halos in each of their formats, at z = 1 and h = 0.7."""

import h5py
import numpy as np
import pytest
from astropy import units as u
from astropy.table import Table

from zwicky import catalogues
from zwicky.catalogues import read_catalogue
from zwicky.cosmology import Cosmology
from zwicky.halos import find_halos, write_halos
from zwicky.io import UserError
from zwicky.simulate.output import write_snapshot
from zwicky.simulate.state import Particles, Species

A, H, BOX = 0.5, 0.7, 20.0
PLACES = np.array([[5.0, 5.0, 5.0], [15.0, 4.0, 10.0], [19.95, 12.0, 0.02]])
NUMBERS = np.array([800, 500, 300])
MASS = 5e10  # of a particle [Msun]


@pytest.fixture
def particles():
    """Three balls of dark matter, each with a particle of gas, at z = 1; the last lies over a face of the box."""
    rng = np.random.default_rng(0)
    balls = [c + 0.1 * rng.standard_normal((n, 3)) for c, n in zip(PLACES, NUMBERS, strict=True)]
    x = np.concatenate(balls) % BOX
    dark = Species(x, None, np.full(len(x), MASS))
    return Particles(BOX, 1 / A - 1, Cosmology(h=H), dark, Species(PLACES.copy(), None, np.full(3, MASS)))


def masses():
    """M200m of the balls [Msun]: all of their particles."""
    return (NUMBERS + 1) * MASS


def write_subfind(folder):
    """IllustrisTNG: two files, the second without a group of its own in one of them; ckpc/h and 1e10 Msun/h."""
    (folder / "groups").mkdir()
    for i, rows in enumerate((slice(0, 2), slice(2, 3), slice(3, 3))):
        with h5py.File(folder / "groups" / f"fof_subhalo_tab_050.{i}.hdf5", "w") as f:
            f.create_group("Header").attrs.update(Time=A, HubbleParam=H, NumFiles=3, BoxSize=BOX * 1e3 * H)
            group = f.create_group("Group")
            if i < 2:
                group["GroupPos"] = PLACES[rows] * 1e3 * H
                group["Group_M_Mean200"] = masses()[rows] * H / 1e10
    return folder / "groups"


def write_soap(folder):
    """SWIFT: Mpc without h, its unit attributes."""
    cgs, a_power = "Conversion factor to CGS (not including cosmological corrections)", "a-scale exponent"
    with h5py.File(folder / "soap.hdf5", "w") as f:
        f["InputHalos/HaloCentre"] = PLACES
        f["InputHalos/HaloCentre"].attrs.update({cgs: u.Mpc.to(u.cm), a_power: 1.0, "h-scale exponent": 0.0})
        f["InputHalos/HaloCatalogueIndex"] = np.arange(3)
        f["SO/200_mean/TotalMass"] = masses() / 1e10
        to_grams = 1e10 * u.Msun.to(u.g)
        f["SO/200_mean/TotalMass"].attrs.update({cgs: to_grams, a_power: 0.0, "h-scale exponent": 0.0})
    return folder / "soap.hdf5"


def write_ahf(folder):
    """kpc/h and Msun/h; a subhalo that is to be left out."""
    lines = ["#ID(1)\thostHalo(2)\tnumSubStruct(3)\tMhalo(4)\tnpart(5)\tXc(6)\tYc(7)\tZc(8)"]
    for i, (place, mass) in enumerate(zip(PLACES, masses(), strict=True)):
        lines.append("\t".join(map(str, (i, 0, 1, mass * H, 100, *(place * 1e3 * H)))))
    lines.append("\t".join(map(str, (77, 1, 0, 1e12, 100, 3500.0, 3600.0, 3500.0))))
    (folder / "snap.z1.000.AHF_halos").write_text("\n".join(lines) + "\n")
    return folder / "snap.z1.000.AHF_halos"


def write_rockstar(folder):
    """Mpc/h and Msun/h, comments after the names; a subhalo by PID."""
    lines = ["#ID DescID Mvir Vmax X Y Z M200b PID", "#a = 0.5", "#Om = 0.3; Ol = 0.7; h = 0.7"]
    for i, (place, mass) in enumerate(zip(PLACES, masses(), strict=True)):
        lines.append(" ".join(map(str, (i, -1, mass * H, 500.0, *(place * H), mass * H, -1))))
    lines.append("9 -1 1e12 100 3.5 3.6 3.5 1e12 0")
    (folder / "out_0.list").write_text("\n".join(lines) + "\n")
    return folder / "out_0.list"


def write_trees(folder):
    """consistent-trees: Mpc/h and Msun/h, heads of trees and their number; an earlier halo and a subhalo."""
    head = "#scale(0) id(1) desc_scale(2) desc_id(3) num_prog(4) pid(5) phantom(6) Mvir(7) x(8) y(9) z(10) M200b T/|U|"
    lines = [head, "#Omega_M = 0.3; Omega_L = 0.7; h0 = 0.7", "#Full box size = 14.0 Mpc/h", "3"]
    for i, (place, mass) in enumerate(zip(PLACES, masses(), strict=True)):
        lines.append(f"#tree {i}")
        lines.append(" ".join(map(str, (A, i, 0, -1, 1, -1, 0, mass * H, *(place * H), mass * H, 0.5))))
        lines.append(f"0.4 {10 + i} {A} {i} 0 -1 0 1e13 1.0 1.0 1.0 1e13 0.5")
    lines.append(f"{A} 9 0 -1 1 0 0 1e12 3.5 3.6 3.5 1e12 0.5")
    (folder / "tree_0_0_0.dat").write_text("\n".join(lines) + "\n")
    return folder / "tree_0_0_0.dat"


def write_csv(folder):
    """Our own units, since a CSV has none."""
    Table({"ID": [0, 1, 2], "X": PLACES[:, 0], "Y": PLACES[:, 1], "Z": PLACES[:, 2], "M200m": masses()}).write(
        folder / "halos.csv"
    )
    return folder / "halos.csv"


def write_ecsv(folder):
    """Units in the file: kpc, and a mass of no given kind."""
    table = Table({"id": [0, 1, 2], **{a: PLACES[:, i] * 1e3 * u.kpc for i, a in enumerate("xyz")}})
    table["mvir"] = masses() / 1e10 * (1e10 * u.Msun)
    table.write(folder / "halos.ecsv")
    return folder / "halos.ecsv"


WRITERS = (write_subfind, write_soap, write_ahf, write_rockstar, write_trees, write_csv, write_ecsv)


@pytest.mark.parametrize("write", WRITERS)
def test_every_catalogue_gives_the_same_halos(tmp_path, particles, write):
    found = read_catalogue(write(tmp_path), particles)
    np.testing.assert_array_equal(found["id"], [0, 1, 2])
    np.testing.assert_allclose(np.stack([found[a] for a in "xyz"], axis=1), PLACES, rtol=1e-12)
    name = "m200m" if "m200m" in found.colnames else "mass"
    np.testing.assert_allclose(found[name], masses(), rtol=1e-12)
    assert found[name].unit == u.Msun


@pytest.mark.parametrize("write", WRITERS)
def test_masses_are_measured_around_the_places_and_names_are_kept(tmp_path, particles, write):
    halos = find_halos(particles, catalogue=read_catalogue(write(tmp_path), particles))
    np.testing.assert_array_equal(halos["id"], [0, 1, 2])
    np.testing.assert_allclose(halos["m200m"], masses(), rtol=2e-3)
    np.testing.assert_allclose(np.stack([halos[a] for a in "xyz"], axis=1), PLACES % BOX, rtol=1e-12)


@pytest.mark.parametrize("write", WRITERS)
def test_the_command_measures_the_halos_of_a_catalogue_around_them_alone(tmp_path, particles, write, monkeypatch):
    """With a least mass, of the snapshot only the surroundings of the heaviest are read."""
    write_snapshot(particles, tmp_path / "snapshot.hdf5")
    read = []
    original = catalogues.read_around
    monkeypatch.setattr(catalogues, "read_around", lambda *a: read.append(original(*a)) or read[-1])
    halos = catalogues.halos_of_catalogue(tmp_path / "snapshot.hdf5", write(tmp_path), 3.5e13)
    np.testing.assert_array_equal(halos["id"], [0])
    np.testing.assert_allclose(halos["m200m"], masses()[:1], rtol=2e-3)
    if write not in (write_ahf, write_ecsv):  # whose masses are of no given kind: the margin takes in all three
        assert len(read[0].dark_matter) < len(particles.dark_matter)
    with pytest.raises(UserError, match=r"has no halo of 1e\+16 Msun or more"):
        catalogues.halos_of_catalogue(tmp_path / "snapshot.hdf5", write_again(write, tmp_path), 1e16)


def write_again(write, folder):
    """The same catalogue in another folder."""
    (folder / "again").mkdir()
    return write(folder / "again")


def test_our_own_catalogue_is_read_too(tmp_path, particles):
    halos = find_halos(particles)
    write_halos(halos, tmp_path / "halos.hdf5")
    again = find_halos(particles, catalogue=read_catalogue(tmp_path / "halos.hdf5", particles))
    np.testing.assert_allclose(again["m200m"], halos["m200m"])


def test_masses_with_h_and_places_in_other_units_are_noticed(tmp_path, particles):
    table = Table({**{a: PLACES[:, i] for i, a in enumerate("xyz")}, "m200m": masses() * H})
    table.write(tmp_path / "h.csv")
    with pytest.raises(UserError, match=r"1\.43 times the m200m of the catalogue"):
        find_halos(particles, catalogue=read_catalogue(tmp_path / "h.csv", particles))
    for name, factor, said in (("kpc", 1e3, "outside the box"), ("h", H, "none of the 3 halos")):
        Table({a: PLACES[:, i] * factor for i, a in enumerate("xyz")}).write(tmp_path / f"{name}.csv", overwrite=True)
        with pytest.raises(UserError, match=said):
            find_halos(particles, catalogue=read_catalogue(tmp_path / f"{name}.csv", particles))


BAD = {
    "empty.csv": "", "no_columns.csv": "a,b\n1,2\n", "nan.csv": "x,y,z\n1,nan,2\n",
    "text.csv": "x,y,z\none,two,three\n",
    "hole.csv": "id,x,y,z\n0,1,,2\n1,2,3,4\n", "names.csv": "id,x,y,z\nh0,1,2,3\n",
    "negative.csv": "x,y,z,mass\n1,2,3,-1e14\n", "page.html": "<table><tr><th>x</th></tr></table>",
    "empty.AHF_halos": "#ID(1) hostHalo(2) Mhalo(3) Xc(4) Yc(5) Zc(6)\n",
    "short.AHF_halos": "#ID(1) hostHalo(2) Mhalo(3) Xc(4) Yc(5) Zc(6)\n1 0 1e14\n",
    "words.list": "#ID DescID Mvir X Y Z\n1 2 a b c d\n", "no_halos.csv": "x,y,z\n",
    "no_parents.list": "#ID DescID Mvir X Y Z\n1 -1 1e14 1 2 3\n",
    "other_time.dat": "#scale(0) id(1) desc_scale(2) pid(3) x(4) y(5) z(6)\n1\n#tree 1\n1.0 1 0 -1 5 5 5\n",
    "short.dat": "#scale(0) id(1) desc_scale(2) pid(3) x(4) y(5) z(6)\n0.5 1 0 -1 5 5\n",
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*input contained no data")
@pytest.mark.parametrize("name", BAD)
def test_what_is_no_catalogue_is_refused_in_one_sentence(tmp_path, particles, name):
    (tmp_path / name).write_text(BAD[name])
    with pytest.raises(UserError, match=name) as raised:
        read_catalogue(tmp_path / name, particles)
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")


def test_subhalos_of_soap_and_of_old_ahf_files_are_left_out(tmp_path, particles):
    path = write_soap(tmp_path)
    with h5py.File(path, "r+") as f:
        f["InputHalos/IsCentral"] = np.array([1, 0, 1])
    np.testing.assert_array_equal(read_catalogue(path, particles)["id"], [0, 2])
    (tmp_path / "old.AHF_halos").write_text(
        "#ID(1) hostHalo(2) Mhalo(3) Xc(4) Yc(5) Zc(6)\n0 -1 1e14 10 10 10\n7 0 1e12 11 10 10\n"
    )
    np.testing.assert_array_equal(read_catalogue(tmp_path / "old.AHF_halos", particles)["id"], [0])


def test_ids_in_words_are_said_to_be(tmp_path, particles):
    (tmp_path / "names.csv").write_text("id,x,y,z\nh0,1,2,3\n")
    with pytest.raises(UserError, match="its ids are words, and halos have whole numbers; without a column id"):
        read_catalogue(tmp_path / "names.csv", particles)


def test_subhalos_of_rockstar_without_parents_are_those_within_the_radius_of_a_heavier_halo(tmp_path, particles):
    """The second lies inside the first, over the face of the box; a heavy neighbour and a light one outside stay."""
    rows = ["#ID DescID Mvir Rvir X Y Z", "0 -1 1e14 700 0.1 5 5", "1 -1 1e13 400 13.6 5 5", "2 -1 2e14 300 0.7 5 5",
            "3 -1 1e13 300 1.5 5 5"]  # fmt: skip
    (tmp_path / "out_1.list").write_text("\n".join(rows) + "\n")
    np.testing.assert_array_equal(read_catalogue(tmp_path / "out_1.list", particles)["id"], [0, 2, 3])
    (tmp_path / "out_2.list").write_text("#ID DescID Mvir X Y Z\n1 -1 1e14 1 2 3\n")
    with pytest.raises(UserError, match="neither PID nor Rvir"):
        read_catalogue(tmp_path / "out_2.list", particles)


def test_trees_without_the_moment_of_the_snapshot_say_which_they_have(tmp_path, particles):
    path = write_trees(tmp_path)
    particles.redshift = 0.0
    with pytest.raises(UserError, match=r"no main halos of a = 1; its last are of a = 0\.5"):
        read_catalogue(path, particles)


@pytest.mark.parametrize("write", [write_subfind, write_soap])
def test_a_folder_of_whole_catalogues_is_refused(tmp_path, particles, write):
    """Two files with running numbers, each of which says that it is the only one."""
    (tmp_path / "both").mkdir()
    path = write(tmp_path)
    path = path / "fof_subhalo_tab_050.0.hdf5" if path.is_dir() else path
    with h5py.File(path, "r+") as f:
        if "Header" in f:
            f["Header"].attrs["NumFiles"] = 1
    for i in range(2):
        (tmp_path / "both" / f"halos.{i}.hdf5").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"halos\.0\.hdf5, which is whole in itself, and halos\.1\.hdf5; name one"):
        read_catalogue(tmp_path / "both", particles)
    assert len(read_catalogue(tmp_path / "both" / "halos.1.hdf5", particles)) > 0


def test_long_names_keep_their_digits(tmp_path, particles):
    number = 18446744073709551615
    (tmp_path / "a.AHF_halos").write_text(
        f"#ID(1) hostHalo(2) Mhalo(3) Xc(4) Yc(5) Zc(6)\n{number} 0 1e14 10 10 10\n12345678901234567 0 1e14 1 1 1\n"
    )
    assert [int(i) for i in read_catalogue(tmp_path / "a.AHF_halos", particles)["id"]] == [number, 12345678901234567]


def test_a_mass_too_small_does_not_cut_the_halo(tmp_path, particles):
    """The region that is read goes by the catalogue's mass, and widens where that was too small."""
    write_snapshot(particles, tmp_path / "snapshot.hdf5")
    Table({a: PLACES[:1, i] for i, a in enumerate("xyz")} | {"mass": masses()[:1] / 2.9}).write(tmp_path / "small.csv")
    halos = catalogues.halos_of_catalogue(tmp_path / "snapshot.hdf5", tmp_path / "small.csv")
    np.testing.assert_allclose(halos["m200m"], masses()[:1], rtol=2e-3)
    Table({a: PLACES[:1, i] for i, a in enumerate("xyz")} | {"mass": masses()[:1] / 20}).write(tmp_path / "tiny.csv")
    with pytest.raises(UserError, match="times the mass of the catalogue"):
        catalogues.halos_of_catalogue(tmp_path / "snapshot.hdf5", tmp_path / "tiny.csv")


def test_damaged_and_missing_hdf5_are_refused(tmp_path, particles):
    path = write_soap(tmp_path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="not a halo catalogue that can be read"):
        read_catalogue(path, particles)
    with h5py.File(tmp_path / "other.hdf5", "w") as f:
        f["something"] = 1
    with pytest.raises(UserError, match="not a halo catalogue"):
        read_catalogue(tmp_path / "other.hdf5", particles)
    with pytest.raises(UserError, match="does not exist"):
        read_catalogue(tmp_path / "nothing.hdf5", particles)

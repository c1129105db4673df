"""Images of the sky on a model's grid: brightness, flux and positions kept, and every kind of bad file named."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.cosmology import FlatLambdaCDM
from astropy.io import fits
from astropy.wcs import WCS

from zwicky.cosmology import Cosmology
from zwicky.images import (
    Image,
    overlap,
    pixel_size,
    read_image,
    read_mask,
    regrid,
    regrid_wcs,
    same_grid,
    to_unit,
    write_image,
)
from zwicky.io import UserError

KPC = 100.0
GRIDS = [(32, 100.0), (64, 50.0), (16, 200.0), (43, 77.7), (20, 163.0)]
XRAY = "erg / (s cm2)"


def image(data, unit=None, wcs=None, name="a.fits"):
    return Image(data, np.ones(data.shape, bool), unit, wcs, name)


@pytest.mark.parametrize(("pixels", "kpc"), GRIDS)
def test_uniform_brightness_is_conserved(pixels, kpc):
    data, known = regrid(np.full((40, 40), 5.0), np.ones((40, 40), bool), KPC, pixels, kpc)
    assert data.shape == known.shape == (pixels, pixels)
    np.testing.assert_allclose(data[known], 5.0, rtol=1e-12)
    assert known.all()  # each of these grids lies inside the image of 4 Mpc


@pytest.mark.parametrize(("pixels", "kpc"), GRIDS)
def test_flux_of_a_compact_source_is_conserved(pixels, kpc):
    x = np.arange(40) - 19.5
    source = np.exp(-((x[:, None] - 3) ** 2 + (x + 2) ** 2) / 8)
    data, _ = regrid(source, np.ones((40, 40), bool), KPC, pixels, kpc)
    assert data.sum() * kpc**2 == pytest.approx(source.sum() * KPC**2, rel=1e-3)
    centre = (np.arange(pixels) - (pixels - 1) / 2) * kpc / KPC
    assert [(data * c).sum() / data.sum() for c in (centre[:, None], centre)] == pytest.approx([3, -2], abs=0.01)


def test_overlaps_share_out_each_input_pixel():
    shares = overlap(10, 3.0, 50, 1.7)
    np.testing.assert_allclose(shares.sum(0) * 1.7, 3.0)
    np.testing.assert_allclose(shares.sum(1).max(), 1.0)


def test_outside_the_image_nothing_is_known():
    data, known = regrid(np.ones((8, 12)), np.ones((8, 12), bool), KPC, 16, KPC)
    expected = np.zeros((16, 16), bool)
    expected[4:12, 2:14] = True
    np.testing.assert_array_equal(known, expected)
    np.testing.assert_array_equal(data, expected.astype(float))


@pytest.mark.parametrize(("pixels", "kpc"), [(20, 200.0), (80, 50.0), (40, 100.0)])
def test_what_is_masked_is_not_seen(pixels, kpc):
    mask = np.ones((40, 40), bool)
    mask[10:20, 10:20] = False
    mask[30, 30] = False
    data = np.where(mask, 5.0, 1e9)
    out, known = regrid(data, mask, KPC, pixels, kpc)
    np.testing.assert_allclose(out[known], 5.0, rtol=1e-12)
    lost = slice(int(10 * KPC / kpc), int(20 * KPC / kpc))
    assert not known[lost, lost].any()
    assert (~known).sum() * kpc**2 <= 101 * KPC**2


@pytest.mark.parametrize(("pixels", "kpc"), GRIDS)
def test_sky_positions_follow_the_pixels(write_image, pixels, kpc):
    """A source lands on the pixel that the new coordinates give for its position."""
    data = np.zeros((41, 41))
    data[28, 9] = 1.0
    wcs = read_image(write_image("a.fits", data), "it").wcs
    out, _ = regrid(data, np.ones(data.shape, bool), KPC, pixels, kpc)
    new = regrid_wcs(wcs, data.shape, KPC, pixels, kpc)
    y, x = np.indices(out.shape)
    found = new.pixel_to_world(*((out * i).sum() / out.sum() for i in (x, y)))
    assert wcs.pixel_to_world(9, 28).separation(found).arcsec < 0.51 * 105 * max(1.0, kpc / KPC) + 1e-6
    assert wcs.pixel_to_world(20, 20).separation(new.pixel_to_world((pixels - 1) / 2, (pixels - 1) / 2)).arcsec < 1e-6
    scale = new.proj_plane_pixel_scales()[0].to_value(u.arcsec)
    assert scale == pytest.approx(105 * kpc / KPC, rel=1e-9)


def test_coordinates_by_a_cd_matrix_are_carried_too():
    header = fits.Header({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -30.0, "CRPIX1": 7.0, "CRPIX2": 4.0,
        "CD1_1": -0.01, "CD1_2": 0.002, "CD2_1": 0.002, "CD2_2": 0.01,
    })  # fmt: skip
    old = WCS(header)
    new = regrid_wcs(old, (20, 20), KPC, 10, 2 * KPC)
    for x, y in ((0, 0), (9, 3)):
        same = old.pixel_to_world(2 * x + 0.5, 2 * y + 0.5)
        assert same.separation(new.pixel_to_world(x, y)).arcsec < 1e-6


@pytest.mark.parametrize("redshift", [0.02, 0.3, 1.5])
def test_pixel_size_is_the_angular_diameter_distance(write_image, redshift):
    path = write_image("a.fits", np.ones((10, 10)), arcsec=12.0)
    size = pixel_size(read_image(path, "it"), redshift, Cosmology(omega_m=0.3, omega_l=0.7, h=0.7))
    arcsec = FlatLambdaCDM(70, 0.3).kpc_proper_per_arcmin(redshift).to_value("kpc / arcsec")
    assert size == pytest.approx(12.0 * arcsec, rel=1e-6)


def test_what_has_no_pixel_size(write_image):
    path = write_image("a.fits", np.ones((10, 10)))
    with pytest.raises(UserError, match=r"at redshift 0 .*--pixel-kpc"):
        pixel_size(read_image(path, "it"), 0.0, Cosmology())
    with pytest.raises(UserError, match=r"no sky coordinates .*--pixel-kpc"):
        pixel_size(read_image(write_image("b.fits", np.ones((10, 10)), sky=False), "it"), 0.1, Cosmology())
    with pytest.raises(UserError, match="not square"):
        pixel_size(read_image(write_image("c.fits", np.ones((10, 10)), CDELT1=-0.1), "it"), 0.1, Cosmology())


@pytest.mark.parametrize(
    ("channel", "wanted", "unit", "factor"),
    [
        ("compton_y", "", "", 1.0), ("compton_y", "", "Compton y", 1.0), ("compton_y", "", "1e-6", 1e-6),
        ("xray", XRAY, "erg s-1 cm-2", 1.0), ("xray", XRAY, "W m-2", 1e3),
        ("xray", XRAY, "erg s-1 cm-2 sr-1", 4 * np.pi * 1.5**4),
        ("xray", XRAY, "erg s-1 cm-2 arcmin-2", 4 * np.pi * 1.5**4 * (180 * 60 / np.pi) ** 2),
    ],
)  # fmt: skip
def test_units(channel, wanted, unit, factor):
    data, warning = to_unit(image(np.array([[2.0]]), unit), channel, wanted, 0.5)
    assert data[0, 0] == pytest.approx(2.0 * factor, rel=1e-9)
    assert warning is None


def test_a_missing_unit_is_assumed_aloud():
    data, warning = to_unit(image(np.array([[2.0]])), "compton_y", "", 0.5)
    assert data[0, 0] == 2.0
    assert "no BUNIT" in warning


@pytest.mark.parametrize("unit", ["counts", "K", "Jy / beam", "utter nonsense", "erg s-1 cm-2"])
def test_a_wrong_unit_is_named(unit):
    with pytest.raises(UserError, match=unit):
        to_unit(image(np.ones((2, 2)), unit), "compton_y", "", 0.5)


def test_dimming_is_for_xrays_alone():
    with pytest.raises(UserError, match="cannot be brought"):
        to_unit(image(np.ones((2, 2)), "sr-1"), "compton_y", "", 0.5)


def test_nan_needs_a_mask_that_covers_it(write_image):
    data = np.ones((6, 6))
    data[2, 3] = np.nan
    path = write_image("a.fits", data)
    with pytest.raises(UserError, match="--mask"):
        read_image(path, "it")
    mask = np.ones((6, 6), bool)
    with pytest.raises(UserError, match="does not cover"):
        read_image(path, "it", mask)
    mask[2, 3] = False
    found = read_image(path, "it", mask)
    assert np.isfinite(found.data).all()
    np.testing.assert_array_equal(found.mask, mask)


def test_masks(write_image):
    data = np.array([[1.0, 0.0], [np.nan, -2.0]])
    np.testing.assert_array_equal(read_mask(write_image("m.fits", data)), [[True, False], [False, True]])
    path = write_image("a.fits", np.ones((6, 6)))
    with pytest.raises(UserError, match=r"2 x 2 pixels .* 6 x 6"):
        read_image(path, "it", np.ones((2, 2), bool))
    with pytest.raises(UserError, match="leaves no pixel"):
        read_image(path, "it", np.zeros((6, 6), bool))


def test_images_must_share_their_grid(write_image):
    first = read_image(write_image("a.fits", np.ones((10, 10))), "it")
    near = read_image(write_image("b.fits", np.ones((10, 10)), ra=150.0 + 20 / 3600), "it")
    same_grid([first, near, image(np.ones((10, 10)))])
    with pytest.raises(UserError, match="different parts of the sky"):
        same_grid([first, read_image(write_image("c.fits", np.ones((10, 10)), ra=150.1), "it")])
    with pytest.raises(UserError, match=r"10 x 10 .* 12 x 10"):
        same_grid([first, read_image(write_image("d.fits", np.ones((10, 12))), "it")])


def test_a_mirrored_sky_is_another_grid(write_image):
    first = read_image(write_image("a.fits", np.ones((10, 10))), "it")
    turned = {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0}
    turned |= {"CDELT1": 105 / 3600, "CDELT2": -105 / 3600}
    mirrored = read_image(write_image("b.fits", np.ones((10, 10)), **turned), "it")
    corner = SkyCoord(mirrored.wcs.pixel_to_world(9, 0))
    assert first.wcs.pixel_to_world(9, 0).separation(corner).deg > 0.3
    with pytest.raises(UserError, match="different parts of the sky"):
        same_grid([first, mirrored])


def test_degenerate_axes_are_dropped(write_image):
    data = np.arange(30.0).reshape(5, 6)
    np.testing.assert_array_equal(read_image(write_image("a.fits", data[None, None]), "it").data, data)
    with pytest.raises(UserError, match="no two-dimensional image"):
        read_image(write_image("b.fits", np.ones((3, 5, 6))), "it")


@pytest.mark.parametrize("dtype", ["uint8", ">i2", ">i4", ">f4", ">f8"])
def test_every_pixel_type_is_read(write_image, dtype):
    data = np.arange(30).reshape(5, 6)
    np.testing.assert_array_equal(read_image(write_image("a.fits", data.astype(dtype)), "it").data, data)


def test_scaled_and_blank_integers(tmp_path, write_image):
    path = write_image("a.fits", np.array([[1, 2], [3, -99]], ">i2"))
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(BLANK=-99, BSCALE=0.5, BZERO=10.0)
    mask = np.array([[True, True], [True, False]])
    with pytest.raises(UserError, match="NaN"):
        read_image(path, "it")
    np.testing.assert_array_equal(read_image(path, "it", mask).data, [[10.5, 11.0], [11.5, 0.0]])


def test_compressed_images_are_read(tmp_path, write_image):
    data = np.arange(64.0).reshape(8, 8)
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits.gz")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, quantize_level=0)]).writeto(tmp_path / "b.fits")
    for name in ("a.fits.gz", "b.fits"):
        np.testing.assert_array_equal(read_image(tmp_path / name, "it").data, data)


def test_the_first_image_is_found_behind_an_empty_primary(tmp_path):
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.full((4, 4), 2.0)), fits.ImageHDU(np.ones((4, 4)))]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    assert (read_image(tmp_path / "a.fits", "it").data == 2).all()


def _table(path):
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("a", "E", array=[1.0])])]).writeto(path)


def _cut(path, keep=5000):
    fits.PrimaryHDU(np.ones((100, 100))).writeto(path)
    path.write_bytes(path.read_bytes()[:keep])


NOT_IMAGES = {
    "absent": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "does not exist or is not a file"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable FITS file"),
    "text": (lambda path: path.write_text("a cluster, far away\n" * 300), "not a readable FITS file"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 40), "not a readable FITS file"),
    "header only": (lambda path: fits.PrimaryHDU().writeto(path), "no two-dimensional image"),
    "line": (lambda path: fits.PrimaryHDU(np.ones(9)).writeto(path), "no two-dimensional image"),
    "table": (_table, "no two-dimensional image"),
    "cut off": (_cut, "not a readable FITS file, or is cut off"),
    "cut in the header": (lambda path: _cut(path, 1000), "not a readable FITS file"),
}


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_what_is_not_an_image_is_said_to_be_none(tmp_path, kind):
    make, message = NOT_IMAGES[kind]
    make(tmp_path / "a.fits")
    with pytest.raises(UserError, match=message) as caught:
        read_image(tmp_path / "a.fits", "the SZ image")
    assert str(caught.value).startswith(f"the SZ image {tmp_path / 'a.fits'}")


@pytest.mark.parametrize(("card", "value"), [("NAXIS   =", 999), ("BITPIX  =", 17)])
def test_a_header_that_makes_no_sense(write_image, card, value):
    path = write_image("a.fits", np.ones((8, 8)))
    content = path.read_bytes()
    start = content.index(card.encode())
    path.write_bytes(content[:start] + f"{card}{value:>21}".encode() + content[start + 30 :])
    with pytest.raises(UserError, match="not a readable FITS file"):
        read_image(path, "it")


def test_an_absurd_redshift_is_the_users_to_mend():
    with pytest.raises(UserError, match="redshift"):
        to_unit(image(np.ones((2, 2)), "erg s-1 cm-2 sr-1"), "xray", XRAY, 1e80)


@pytest.mark.parametrize("keep", [0.01, 0.3, 0.9, 0.999])
@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
def test_a_compressed_file_cut_off(tmp_path, keep):
    path = tmp_path / "a.fits.gz"
    fits.PrimaryHDU(np.random.default_rng(0).random((50, 50))).writeto(path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UserError, match="not a readable FITS file"):
        read_image(path, "it")


def mock():
    """An image with noise, a hole and a beam."""
    rng = np.random.default_rng(0)
    mask = np.ones((12, 12), bool)
    mask[3, 4:6] = False
    data = np.where(mask, rng.normal(size=(12, 12)), 0.0)
    return Image(data, mask, "uK", None, "a", rng.uniform(1, 2, (12, 12)), 84.0)


def test_noise_mask_and_beam_survive_a_file(tmp_path):
    before = mock()
    write_image(before, fits.Header({"OBJECT": "A"}), tmp_path / "a.fits")
    after = read_image(tmp_path / "a.fits", "the image")
    for name in ("data", "noise"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-6)
    np.testing.assert_array_equal(after.mask, before.mask)
    assert (after.unit, after.fwhm_arcsec) == ("uK", pytest.approx(84.0))
    half = np.indices((12, 12))[0] < 6
    np.testing.assert_array_equal(read_image(tmp_path / "a.fits", "the image", half).mask, before.mask & half)


def test_only_y_is_called_compton_y(tmp_path):
    for channel, name in (("compton_y", "Compton y"), ("ksz", "")):
        write_image(image(np.ones((8, 8)), ""), fits.Header({"CHANNEL": channel}), tmp_path / f"{channel}.fits")
        assert fits.getheader(tmp_path / f"{channel}.fits")["BUNIT"] == name
    to_unit(read_image(tmp_path / "compton_y.fits", "the image"), "compton_y", "", 0.1)
    with pytest.raises(UserError, match="shows ksz, not compton_y"):
        to_unit(read_image(tmp_path / "ksz.fits", "the image"), "compton_y", "", 0.1)
    with pytest.raises(UserError, match="which FITS does not know"):
        write_image(image(np.ones((8, 8)), "foo"), fits.Header(), tmp_path / "b.fits")


def test_a_clean_image_has_no_extensions(tmp_path):
    write_image(image(np.ones((8, 8)), "Msun / kpc2"), fits.Header(), tmp_path / "a.fits")
    with fits.open(tmp_path / "a.fits") as hdus:
        assert [h.header["BUNIT"] for h in hdus] == ["solMass kpc-2"]
    after = read_image(tmp_path / "a.fits", "the image")
    assert after.noise is None
    assert after.fwhm_arcsec == 0
    assert to_unit(after, "gas", "Msun / kpc2", 0.1)[1] is None


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [("NOISE", np.ones((5, 5)), "as large as the image"), ("NOISE", np.zeros((12, 12)), "positive"),
     ("NOISE", np.full((12, 12), np.nan), "positive"), ("MASK", np.ones((5, 5)), "must match"),
     ("MASK", np.zeros((12, 12)), "no pixel")],
)  # fmt: skip
def test_extensions_that_do_not_fit(tmp_path, name, data, message):
    hdus = fits.HDUList([fits.PrimaryHDU(np.ones((12, 12))), fits.ImageHDU(data, name=name)])
    hdus.writeto(tmp_path / "a.fits")
    with pytest.raises(UserError, match=message):
        read_image(tmp_path / "a.fits", "the image")


@pytest.mark.parametrize("value", ["wide", -0.1])
def test_a_beam_that_makes_no_sense(tmp_path, value):
    fits.PrimaryHDU(np.ones((8, 8)), fits.Header({"BMAJ": value})).writeto(tmp_path / "a.fits")
    with pytest.raises(UserError, match="the beam of"):
        read_image(tmp_path / "a.fits", "the image")

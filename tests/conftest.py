"""What the tests share: the option --slow, synthetic maps, a tiny trained model and FITS images."""

import json
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: idle threads sleep instead of spinning

import h5py
import numpy as np
import pytest
from astropy.io import fits

PIXELS, PIXEL_KPC, REDSHIFT = 16, 200.0, 0.1
UNITS = {"gas": "Msun / kpc2", "dark_matter": "Msun / kpc2", "compton_y": "", "xray": "erg / (s cm2)"}
SPLIT_OF_CLUSTER = (0, 1, 2, 0, 1, 2, 0, 0)  # by mass: what is held out lies inside the training range


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--golden", action="store_true", help="draw the pictures in tests/evaluate/golden anew")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow: give --slow"))


def blobs(rng, mass, pixels=PIXELS):
    """One row of four positive maps of a lumpy round cluster; gas is a sixth of the dark matter."""
    x = np.arange(pixels) - (pixels - 1) / 2
    lumps = np.exp(0.2 * rng.standard_normal((pixels, pixels)))
    profile = mass / 1e14 * lumps / (1 + np.hypot(x[:, None], 1.3 * x) ** 2 / 6)
    scaled = {"gas": 2e6 * profile, "dark_matter": 1.2e7 * profile**1.05}
    return {**scaled, "compton_y": 1e-5 * profile**1.3, "xray": 1e-3 * profile**2}


def write_maps(path, sightlines=3, seed=3):
    """A set of maps of eight clusters: four to train on, two to validate, two to test."""
    from zwicky.cosmology import Cosmology
    from zwicky.dataset.store import MapWriter

    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(8), sightlines)
    mass = np.geomspace(1e14, 6e14, 8)[cluster]
    with h5py.File(path, "w") as file:
        writer = MapWriter(file, len(cluster), PIXELS, UNITS)
        for m in mass:
            writer.append(blobs(rng, m), np.eye(3))
        radius = 1500 * (mass / 1e14) ** (1 / 3)
        halo = {"m200m": mass, "r200m": radius, "r500c": 0.5 * radius}
        columns = {"cluster": cluster, "split": np.array(SPLIT_OF_CLUSTER)[cluster]}
        writer.finish(columns, halo, {
            "pixel_kpc": PIXEL_KPC, "depth_kpc": PIXELS * PIXEL_KPC, "redshift": REDSHIFT,
            "cosmology": json.dumps(Cosmology().as_dict()), "version": "0", "config": json.dumps({"seed": seed}),
        })  # fmt: skip
    return path


@pytest.fixture(scope="session")
def map_file(tmp_path_factory):
    """`maps.h5`: 24 rows of 16 x 16 pixels."""
    return write_maps(tmp_path_factory.mktemp("maps") / "maps.h5")


@pytest.fixture(scope="session")
def more_maps(tmp_path_factory):
    """`maps.h5` of the same clusters from more sides: 40 rows."""
    return write_maps(tmp_path_factory.mktemp("more") / "maps.h5", sightlines=5)


@pytest.fixture(scope="session")
def tiny_config():
    """A training of a few steps of a small network."""
    from zwicky.train import TrainConfig

    return TrainConfig(steps=6, batch=4, warmup=2, widths=(8, 16), blocks=1, patch=2, validate_every=3, spread_maps=0)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, map_file, tiny_config):
    """The folder of a trained model, not to be changed."""
    from zwicky.train import train

    return train(map_file, tmp_path_factory.mktemp("models") / "tiny", tiny_config)


@pytest.fixture(scope="session")
def model(model_folder):
    """The trained model, ready to sample."""
    from zwicky.reconstruct import load_model

    return load_model(model_folder)


@pytest.fixture(scope="session")
def maps(map_file):
    """The opened set of maps."""
    from zwicky.dataset.store import open_maps

    return open_maps(map_file)


@pytest.fixture
def observation(maps):
    """Compton y and X-ray images of a test cluster, {channel: (Y, X)}."""
    row = maps.rows("test")[:1]
    return {c: maps.read(c, row)[0].astype(float) for c in ("compton_y", "xray")}


def sky_header(pixels, arcsec, unit=None, ra=150.0):
    """A header with a tangential projection about (ra, 2) deg."""
    header = fits.Header()
    for axis, (kind, value, step) in enumerate((("RA---TAN", ra, -arcsec), ("DEC--TAN", 2.0, arcsec)), 1):
        header[f"CTYPE{axis}"], header[f"CUNIT{axis}"], header[f"CRVAL{axis}"] = kind, "deg", value
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = (pixels + 1) / 2, step / 3600
    if unit is not None:
        header["BUNIT"] = unit
    return header


@pytest.fixture
def write_image(tmp_path):
    """write_image(name, data, unit=None, arcsec=105, ra=150, sky=True, **cards) -> path of a FITS image."""

    def write(name, data, unit=None, arcsec=105.0, ra=150.0, sky=True, **cards):
        header = sky_header(data.shape[-1], arcsec, unit, ra) if sky else fits.Header({"BUNIT": unit} if unit else {})
        header.update(cards)
        fits.PrimaryHDU(data, header).writeto(tmp_path / name, overwrite=True)
        return tmp_path / name

    return write

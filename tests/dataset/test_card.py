"""The data card says what the set is: counts, masses, statistics and settings, by hand."""

import json
import tracemalloc

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.dataset.card import data_card
from zwicky.dataset.store import MapWriter, open_maps
from zwicky.export import export_rows
from zwicky.observe.instrument import Exposure, instruments

MASSES = np.array([1.1e14, 1.1e14, 3e14, 9e14])


def make(path):
    """Four rows of three clusters, with a channel whose statistics are simple."""
    with h5py.File(path, "w") as file:
        writer = MapWriter(file, 4, 8, {"gas": "Msun / kpc2", "compton_y": ""})
        for row in range(4):
            gas = np.full((8, 8), row + 1.0)
            gas[0] = 0.0
            writer.append({"gas": gas, "compton_y": np.zeros((8, 8))}, np.eye(3))
        columns = {"cluster": np.array([0, 0, 1, 2]), "simulation": np.array([0, 0, 0, 1]), "split": [0, 0, 1, 2]}
        attributes = {
            "pixel_kpc": 50.0, "depth_kpc": 400.0, "redshift": 0.1, "snapshot_redshift": 0.0, "version": "1",
            "cosmology": json.dumps(Cosmology().as_dict()), "config": json.dumps({"seed": 7}),
            "simulations": json.dumps([{"simulation": "2 x 8^3"}, {}]), "failed": json.dumps({"5": "no gas"}),
        }  # fmt: skip
        writer.finish(columns, {"m200m": MASSES}, attributes)
    return open_maps(path)


def test_the_card(tmp_path):
    card = data_card(make(tmp_path / "maps.h5")).splitlines()
    for line in (
        "- 8 x 8 pixels of 50 kpc, line of sight 400 kpc",
        "- seen at redshift 0.1, simulated at 0",
        "- simulation: simulation 2 x 8^3",
        "| train | 2 | 1 | 1 | 1.10e+14 to 1.10e+14 |",
        "| test | 1 | 1 | 1 | 9.00e+14 to 9.00e+14 |",
        "| 14.0 to 14.1 | 2 | 1 |",
        "| gas | Msun / kpc2 | 0 | 2.5 | 2.19 | 4 | 12% |",
        "| compton_y | none | 0 | 0 | 0 | 0 | 1e+02% |",
        "- 5: no gas",
        "| seed | 7 |",
    ):
        assert line in card, line


PIXELS, ROWS, TELESCOPE = 256, 48, "eROSITA-eFEDS"


def write_rows(path, attributes):
    """A set of large maps, written a row at a time."""
    image, rng = np.zeros((PIXELS, PIXELS)), np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        writer = MapWriter(file, ROWS, PIXELS, {"gas": "Msun / kpc2"}, instruments((TELESCOPE,)))
        for _ in range(ROWS):
            seen = Exposure(image, image + 1, image == 0, np.zeros((PIXELS, PIXELS), int))
            writer.append({"gas": rng.random((PIXELS, PIXELS))}, np.eye(3), {TELESCOPE: seen})
        if attributes:
            halo = {f"{kind}{name}": np.ones(ROWS) for kind in "mr" for name in ("200m", "200c", "500c")}
            columns = {"cluster": np.arange(ROWS), "simulation": np.zeros(ROWS, int), "split": np.zeros(ROWS, int)}
            writer.finish(columns, halo, {"cosmology": json.dumps(Cosmology().as_dict()), "config": "{}"} | attributes)
    return path


def gather(path, folder):
    """The rows of a part into another file."""
    with h5py.File(path) as part, h5py.File(folder / "all.h5", "w") as file:
        MapWriter(file, ROWS, PIXELS, {"gas": "Msun / kpc2"}, instruments((TELESCOPE,))).copy(part)


READERS = {
    "card": lambda path, folder: data_card(open_maps(path)), "copy": gather,
    "export": lambda path, folder: export_rows(open_maps(path), range(4), folder, 10.0, 0.0),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_holds_the_maps_of_a_set_in_memory(tmp_path, reader):
    """Peak of what numpy holds, after a first call that fills caches; the set has 53 MB."""
    about = {"pixel_kpc": 50.0, "redshift": 0.1, "version": "1"}
    path = write_rows(tmp_path / "maps.h5", None if reader == "copy" else about)
    READERS[reader](path, tmp_path)
    tracemalloc.start()
    try:
        READERS[reader](path, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < {"card": 30, "copy": 2, "export": 6}[reader] * 2**20

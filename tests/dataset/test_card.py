"""The data card says what the set is: counts, masses, statistics and settings, by hand."""

import json

import h5py
import numpy as np

from zwicky.cosmology import Cosmology
from zwicky.dataset.card import data_card
from zwicky.dataset.store import MapWriter, open_maps

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

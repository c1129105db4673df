"""`maps.h5`: what was written is read, and what is damaged is refused in one sentence."""

import json
import shutil

import h5py
import numpy as np
import pytest

from zwicky.cosmology import Cosmology
from zwicky.dataset.store import SPLITS, MapWriter, open_maps
from zwicky.io import UserError


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    images = [{"gas": rng.random((8, 8)), "compton_y": rng.random((8, 8))} for _ in range(5)]
    turns, cosmology = rng.random((5, 3, 3)), Cosmology(omega_m=0.25)
    with h5py.File(tmp_path / "m.h5", "w") as file:
        writer = MapWriter(file, 5, 8, {"gas": "Msun / kpc2", "compton_y": ""})
        for image, turn in zip(images, turns, strict=True):
            writer.append(image, turn)
        writer.finish(
            {"cluster": np.array([4, 4, 7, 7, 7]), "split": np.array([0, 0, 2, 2, 2])},
            {"m200m": np.arange(5.0), "r200m": np.ones(5), "fgas200m": np.ones(5)},
            {"pixel_kpc": 50.0, "redshift": 0.3, "cosmology": json.dumps(cosmology.as_dict()), "config": "{}"},
        )
    maps = open_maps(tmp_path / "m.h5")
    assert (len(maps), maps.pixels, maps.pixel_kpc, maps.redshift, maps.cosmology) == (5, 8, 50.0, 0.3, cosmology)
    assert maps.units == {"gas": "Msun / kpc2", "compton_y": ""}
    assert [maps.rows(split).tolist() for split in SPLITS] == [[0, 1], [], [2, 3, 4]]
    for channel in maps.units:
        stack = np.stack([image[channel] for image in images]).astype(np.float32)
        np.testing.assert_array_equal(maps.read(channel), stack)
        np.testing.assert_array_equal(maps.read(channel, np.array([3, 0, 3])), stack[[3, 0, 3]])
    with h5py.File(tmp_path / "m.h5") as f:
        np.testing.assert_array_equal(f["rotation"], turns)
        assert [f[f"halo/{k}"].attrs["unit"] for k in ("m200m", "r200m", "fgas200m")] == ["Msun", "kpc", ""]


def test_a_row_left_out_is_noticed(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        writer = MapWriter(file, 2, 8, {"gas": ""})
        writer.append({"gas": np.ones((8, 8))}, np.eye(3))
        with pytest.raises(ValueError, match="1 of 2 rows"):
            writer.finish({}, {}, {})


def test_an_unknown_channel_is_named(maps):
    with pytest.raises(UserError, match=r"no channel 'radio'; it has .*gas"):
        maps.read("radio")


@pytest.mark.parametrize("loss", ["maps", "halo", "cluster", "split"])
def test_a_set_without_a_part_is_refused(tmp_path, map_file, loss):
    shutil.copy(map_file, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as f:
        del f[loss]
    with pytest.raises(UserError, match="not a complete set of maps"):
        open_maps(tmp_path / "m.h5")


@pytest.mark.parametrize("loss", ["pixel_kpc", "redshift", "cosmology", "config"])
def test_a_set_without_an_attribute_is_refused(tmp_path, map_file, loss):
    shutil.copy(map_file, tmp_path / "m.h5")
    with h5py.File(tmp_path / "m.h5", "a") as f:
        del f.attrs[loss]
    with pytest.raises(UserError, match="not a complete set of maps"):
        open_maps(tmp_path / "m.h5")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_off_is_refused(tmp_path, map_file, keep):
    content = map_file.read_bytes()
    (tmp_path / "m.h5").write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match="not a complete set of maps"):
        open_maps(tmp_path / "m.h5")

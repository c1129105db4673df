"""`maps.h5`: a set of map stacks, one row a sightline, with the properties of its halo.

    maps/<channel>    (S, Y, X) float32, attribute `unit`
    halo/<column>     (S,) properties of the cluster: masses [Msun], radii [kpc, proper], gas fraction
    cluster           (S,) running number of the cluster over all simulations;   simulation (S,)
    split             (S,) 0 train, 1 validation, 2 test; all sightlines of one cluster share it
    rotation          (S, 3, 3) from the frame of the simulation to the frame of the map (line of sight = z)
    attributes        pixel_kpc, depth_kpc, redshift, cosmology, version, config (JSON)
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.io import UserError, require_file
from zwicky.observe.sightlines import SPLITS


@dataclass(frozen=True)
class MapSet:
    """A set of maps on disk; rows are read when asked for.

    Args:
        path: the file. pixel_kpc: pixel side, proper [kpc]. pixels: along a side. redshift: of the maps.
        units: unit of each channel.
        halo: columns of halo properties, (S,) each. cluster, split: (S,) integers.
    """

    path: Path
    pixel_kpc: float
    pixels: int
    redshift: float
    cosmology: Cosmology
    units: dict[str, str]
    halo: dict[str, NDArray]
    cluster: NDArray[np.int64]
    split: NDArray[np.int64]
    config: dict[str, Any]

    def __len__(self) -> int:
        return len(self.cluster)

    @property
    def fingerprint(self) -> str:
        """Short hash of what the set shows: configuration, clusters, splits, masses."""
        text = json.dumps([self.config, self.cosmology.as_dict(), self.redshift], sort_keys=True)
        columns = [self.halo[name] for name in sorted(self.halo)] + [self.cluster, self.split]
        return hashlib.sha256(text.encode() + b"".join(c.tobytes() for c in columns)).hexdigest()[:12]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the rows of `train`, `validation` or `test`."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def read(self, channel: str, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Maps (R, Y, X) of a channel, in its unit.

        Raises:
            UserError: the set has no such channel.
        """
        if channel not in self.units:
            raise UserError(f"{self.path} has no channel {channel!r}; it has {', '.join(self.units)}.")
        with h5py.File(self.path) as f:
            data = f["maps"][channel]
            if isinstance(rows, slice):
                return data[rows]
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), *data.shape[1:]), np.float32)
            for position, row in zip(order, rows[order], strict=True):
                out[position] = data[row]
            return out


class MapWriter:
    """Writes rows one after the other into an open file that was sized beforehand."""

    def __init__(self, file: h5py.File, rows: int, pixels: int, units: dict[str, str]) -> None:
        self.file, self.rows, self.next = file, rows, 0
        maps = file.create_group("maps")
        for channel, unit in units.items():
            maps.create_dataset(channel, (rows, pixels, pixels), np.float32).attrs["unit"] = unit
        file.create_dataset("rotation", (rows, 3, 3), np.float64)

    def append(self, maps: dict[str, NDArray], rotation: NDArray[np.float64]) -> None:
        """Write the next row."""
        for channel, image in maps.items():
            self.file["maps"][channel][self.next] = image
        self.file["rotation"][self.next] = rotation
        self.next += 1

    def finish(self, columns: dict[str, NDArray], halo: dict[str, NDArray], attributes: dict[str, Any]) -> None:
        """Write the columns; every row must have been written."""
        if self.next != self.rows:
            raise ValueError(f"{self.next} of {self.rows} rows were written.")
        for name, values in columns.items():
            self.file[name] = values
        for name, values in halo.items():
            data = self.file.create_dataset(f"halo/{name}", data=values)
            data.attrs["unit"] = {"m": "Msun", "r": "kpc"}.get(name[0], "")
        self.file.attrs.update(attributes)


def open_maps(path: str | Path) -> MapSet:
    """Open `maps.h5`.

    Raises:
        UserError: the file is missing, damaged, or not a set of maps.
    """
    path = require_file(path, "the map set")
    try:
        with h5py.File(path) as f:
            lengths = {len(d) for d in (*f["maps"].values(), *f["halo"].values(), f["cluster"], f["split"])}
            if len(lengths) != 1 or not float(f.attrs["pixel_kpc"]) > 0:
                raise ValueError("columns differ in length")
            return MapSet(
                path, float(f.attrs["pixel_kpc"]), int(next(iter(f["maps"].values())).shape[-1]),
                float(f.attrs["redshift"]), Cosmology(**json.loads(f.attrs["cosmology"])),
                {name: str(data.attrs["unit"]) for name, data in f["maps"].items()},
                {name: data[()] for name, data in f["halo"].items()},
                f["cluster"][()], f["split"][()], json.loads(f.attrs["config"]),
            )
    except (OSError, KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a complete set of maps.") from error

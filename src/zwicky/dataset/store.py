"""`maps.h5`: a set of map stacks, one row a sightline, with the properties of its halo.

    maps/<channel>    (S, Y, X) float32, attribute `unit`
    halo/<column>     (S,) properties of the cluster: masses [Msun], radii [kpc, proper], gas fraction
    cluster           (S,) running number of the cluster over all simulations;   simulation (S,)
    split             (S,) 0 train, 1 validation, 2 test; all sightlines of one cluster share it
    rotation          (S, 3, 3) from the frame of the simulation to the frame of the map (line of sight = z)
    observed/<name>/image, noise, mask, counts    (S, Y, X) what an instrument made of a map; attributes `channel`,
                      `unit`, `fwhm_arcsec`, `instrument` (JSON)
    attributes        pixel_kpc, depth_kpc, redshift, snapshot_redshift, cosmology, version, config, simulations, failed
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from zwicky.cosmology import Cosmology
from zwicky.io import UserError, require_file
from zwicky.observe.channels import channel
from zwicky.observe.instrument import Counter, Exposure, Instrument
from zwicky.observe.scene import Scene
from zwicky.observe.sightlines import SPLITS, even_order

CHUNK = 64  # maps read at a time


class Seen(NamedTuple):
    """What an observer has of a sightline: channel -> image (Y, X), and noise, mask and beam of those with noise.

    Noise is the rms in the unit of the channel, masks are true where a pixel is known, fwhm_kpc is proper [kpc].
    """

    images: dict[str, NDArray]
    noise: dict[str, NDArray]
    masks: dict[str, NDArray]
    fwhm_kpc: dict[str, float]


@dataclass(frozen=True)
class MapSet:
    """A set of maps on disk; rows are read when asked for.

    Args:
        path: the file. pixel_kpc: pixel side, proper [kpc]; NaN where it differs between clusters.
        pixels: along a side. redshift: at which the clusters are seen.
        units: unit of each channel.
        halo: columns of halo properties, (S,) each. cluster, simulation, split: (S,) integers; simulations are all 0 in
            sets that do not tell.
        config: the settings of the set. instruments: what is known of their images (the fields of `Exposure`).
        shown: channel -> instrument whose images are read in its place, see `through`.
    """

    path: Path
    pixel_kpc: float
    pixels: int
    redshift: float
    cosmology: Cosmology
    units: dict[str, str]
    halo: dict[str, NDArray]
    cluster: NDArray[np.int64]
    simulation: NDArray[np.int64]
    split: NDArray[np.int64]
    config: dict[str, Any]
    instruments: dict[str, tuple[str, ...]]
    shown: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.cluster)

    @property
    def fingerprint(self) -> str:
        """Short hash of what the set shows: configuration, clusters, splits, masses."""
        about = [self.config, self.cosmology.as_dict(), self.redshift]
        text = json.dumps([*about, self.shown] if self.shown else about, sort_keys=True)
        columns = [self.halo[name] for name in sorted(self.halo)] + [self.cluster, self.split]
        return hashlib.sha256(text.encode() + b"".join(c.tobytes() for c in columns)).hexdigest()[:12]

    @property
    def arcsec_per_kpc(self) -> float:
        """Angle of a proper length at the clusters."""
        return Scene(1.0, self.cosmology, self.redshift).arcsec_per_kpc

    def through(self, instruments: Sequence[str]) -> MapSet:
        """The set with the images of these instruments in the place of the channels that they show.

        Raises:
            UserError: the set has no such instrument, or two show one channel.
        """
        shown: dict[str, str] = {}
        for name in instruments:
            what = self.channel_of(name)
            if what in shown:
                raise UserError(f"{shown[what]} and {name} both show {what}; choose one of them.")
            shown[what] = name
        return replace(self, shown=shown)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the rows of `train`, `validation` or `test`."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def few(self, split: str, count: int) -> NDArray[np.int64]:
        """At most `count` rows of a split: one sightline of every cluster first, then a second of each, and so on.

        Where there are more clusters than rows, those that are taken are spread evenly over the order of masses.
        """
        rows = self.rows(split)
        _, first, which = np.unique(self.cluster[rows], return_index=True, return_inverse=True)
        rank = self.halo["m200m"][rows[first]].argsort().argsort()
        order = even_order(len(first)).argsort()[rank][which]
        turn = np.zeros(len(rows), np.int64)
        for k in range(len(first)):
            turn[which == k] = np.arange((which == k).sum())
        return np.sort(rows[np.lexsort((order, turn))][:count])

    def read(self, channel: str, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        """Maps (R, Y, X) of a channel, in its unit.

        Raises:
            UserError: the set has no such channel.
        """
        if channel not in self.units:
            raise UserError(f"{self.path} has no channel {channel!r}; it has {', '.join(self.units)}.")
        place = f"observed/{self.shown[channel]}/image" if channel in self.shown else f"maps/{channel}"
        return self._rows_of(place, rows)

    def seen(self, row: int, channels: Sequence[str]) -> Seen:
        """What an observer has of a row: images, and noise, mask and beam of those through an instrument."""
        rows = np.array([row])
        seen = Seen({name: self.read(name, rows)[0] for name in channels}, {}, {}, {})
        for name in channels:
            if name in self.shown:
                exposure = self.exposure(self.shown[name], rows)
                seen.noise[name], seen.masks[name] = exposure.noise[0], exposure.mask[0]
                seen.fwhm_kpc[name] = self.fwhm_kpc(self.shown[name])
        return seen

    def exposure(self, instrument: str, rows: NDArray[np.int64] | slice = slice(None)) -> Exposure:
        """Images (R, Y, X) of an instrument with their noise, mask and counts.

        Raises:
            UserError: the set has no such instrument.
        """
        self._require_instrument(instrument)
        fields = self.instruments[instrument]
        return Exposure(**{name: self._rows_of(f"observed/{instrument}/{name}", rows) for name in fields})

    def about(self, instrument: str) -> dict[str, Any]:
        """Attributes of the images of an instrument: channel, unit, fwhm_arcsec, instrument (JSON).

        Raises:
            UserError: the set has no such instrument.
        """
        self._require_instrument(instrument)
        with h5py.File(self.path) as f:
            return dict(f["observed"][instrument].attrs)

    def channel_of(self, instrument: str) -> str:
        """The channel that an instrument shows; errors as of `about`."""
        return str(self.about(instrument)["channel"])

    def fwhm_kpc(self, instrument: str) -> float:
        """Full width at half maximum of the beam of an instrument, proper [kpc]; errors as of `about`."""
        return float(self.about(instrument)["fwhm_arcsec"]) / self.arcsec_per_kpc

    def _require_instrument(self, name: str) -> None:
        if name not in self.instruments:
            raise UserError(f"{self.path} has no images of {name!r}; it has {', '.join(self.instruments) or 'none'}.")

    def _rows_of(self, name: str, rows: NDArray[np.int64] | slice) -> NDArray:
        with h5py.File(self.path) as f:
            data = f[name]
            if isinstance(rows, slice):
                return data[rows]
            order = np.argsort(rows, kind="stable")
            out = np.empty((len(rows), *data.shape[1:]), data.dtype)
            for position, row in zip(order, rows[order], strict=True):
                out[position] = data[row]
            return out


def chunks(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Rows in parts of CHUNK, to be read one after the other."""
    return [rows[i : i + CHUNK] for i in range(0, len(rows), CHUNK)]


class MapWriter:
    """Writes rows one after the other into an open file that was sized beforehand."""

    def __init__(
        self, file: h5py.File, rows: int, pixels: int, units: dict[str, str],
        instruments: Mapping[str, Instrument] | None = None,
    ) -> None:  # fmt: skip
        self.file, self.rows, self.next = file, rows, 0
        shape = (rows, pixels, pixels)
        maps = file.create_group("maps")
        for name, unit in units.items():
            maps.create_dataset(name, shape, np.float32).attrs["unit"] = unit
        for name, instrument in (instruments or {}).items():
            _observed_group(file, name, instrument, shape)
        file.create_dataset("rotation", (rows, 3, 3), np.float64)

    def append(
        self, maps: dict[str, NDArray], rotation: NDArray[np.float64], exposures: Mapping[str, Exposure] | None = None
    ) -> None:
        """Write the next row."""
        for name, image in maps.items():
            self.file["maps"][name][self.next] = image
        for name, exposure in (exposures or {}).items():
            for part, image in exposure._asdict().items():
                if image is not None:
                    self.file["observed"][name][part][self.next] = image
        self.file["rotation"][self.next] = rotation
        self.next += 1

    def copy(self, other: h5py.File) -> None:
        """Write all rows of a file of the same layout, one at a time."""
        count = len(other["rotation"])

        def write(name: str, data: h5py.Dataset | h5py.Group) -> None:
            if isinstance(data, h5py.Dataset):
                for row in range(count):
                    self.file[name][self.next + row] = data[row]

        other.visititems(write)
        self.next += count

    def finish(self, columns: dict[str, NDArray], halo: dict[str, NDArray], attributes: dict[str, Any]) -> None:
        """Write the columns; every row must have been written."""
        if self.next != self.rows:
            raise ValueError(f"{self.next} of {self.rows} rows were written.")
        for name, values in columns.items():
            self.file[name] = values
        for name, values in halo.items():
            data = self.file.create_dataset(f"halo/{name}", data=values)
            data.attrs["unit"] = {"m": "Msun", "r": "kpc", "p": "kpc"}.get(name[0], "")
        self.file.attrs.update(attributes)


def _observed_group(file: h5py.File, name: str, instrument: Instrument, shape: tuple[int, int, int]) -> None:
    """Make the data sets of an instrument; those that are mostly constant are compressed."""
    group = file.create_group(f"observed/{name}")
    packed = {"chunks": (1, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}
    group.create_dataset("image", shape, np.float32)
    group.create_dataset("noise", shape, np.float32, **packed)
    group.create_dataset("mask", shape, np.bool_, **packed)
    if isinstance(instrument, Counter):
        group.create_dataset("counts", shape, np.uint32, **packed)
    unit = channel(instrument.channel).unit
    for part in ("image", "noise"):
        group[part].attrs["unit"] = unit
    group.attrs.update(
        channel=instrument.channel, unit=unit, fwhm_arcsec=instrument.fwhm_arcsec,
        instrument=json.dumps(asdict(instrument)),
    )  # fmt: skip


def open_maps(path: str | Path) -> MapSet:
    """Open `maps.h5`.

    Raises:
        UserError: the file is missing, damaged, or not a set of maps.
    """
    path = require_file(path, "the map set")
    try:
        with h5py.File(path) as f:
            lengths = {len(d) for d in (*f["maps"].values(), *f["halo"].values(), f["cluster"], f["split"])}
            if len(lengths) != 1 or float(f.attrs["pixel_kpc"]) <= 0:
                raise ValueError("columns differ in length")
            return MapSet(
                path, float(f.attrs["pixel_kpc"]), int(next(iter(f["maps"].values())).shape[-1]),
                float(f.attrs["redshift"]), Cosmology(**json.loads(f.attrs["cosmology"])),
                {name: str(data.attrs["unit"]) for name, data in f["maps"].items()},
                {name: data[()] for name, data in f["halo"].items()},
                f["cluster"][()], f["simulation"][()] if "simulation" in f else np.zeros_like(f["cluster"][()]),
                f["split"][()], json.loads(f.attrs["config"]),
                {name: tuple(group) for name, group in f.get("observed", {}).items()},
            )
    except (OSError, KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a complete set of maps.") from error


def failed_clusters(path: str | Path) -> dict[str, str]:
    """Numbers of the clusters that could not be observed, with the reasons."""
    with h5py.File(path) as f:
        return dict(json.loads(f.attrs.get("failed", "{}")))

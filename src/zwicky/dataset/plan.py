"""What to observe: which clusters, from how many sides, in which split.

Clusters of all simulations are put together, sightlines are dealt out flat in log mass, and every cluster goes to one
split whole. The choice depends on the seed alone, not on the order of work.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from zwicky.io import UserError, require_file
from zwicky.observe.channels import known_channels
from zwicky.observe.instrument import instruments
from zwicky.observe.populations import PopulationTable, read_populations
from zwicky.observe.project import KERNELS
from zwicky.observe.scene import Scene
from zwicky.observe.sightlines import (
    SPLITS,
    cardinal_rotations,
    flat_in_log_mass,
    random_rotations,
    split_by_cluster,
    spread_rotations,
)  # fmt: skip
from zwicky.observe.tables import EmissivityTable, read_table
from zwicky.simulate.state import Particles

SPREAD = 29  # lines of sight of a cluster (de Andres et al. 2024)
WIDEST = 30.0  # degrees
DIRECTIONS = ("random", "cardinal", "spread")


@dataclass(frozen=True)
class ObserveConfig:
    """What to observe.

    Args:
        channels: names of `observe.channels.CHANNELS`, or of its FAMILIES.
        pixels: along a side. pixel_kpc: side of a pixel, proper [kpc].
        depth_kpc: of the line of sight, proper [kpc]; 0 for as deep as the map is wide, inf for all of the box.
        redshift: of the clusters, for angles, X-ray bands and lensing; negative for that of the snapshot.
        hydrogen_column: of the Milky Way, which absorbs X-rays of bands [cm^-2].
        emissivity: file of a table with lines and metals for X-ray bands; empty for free-free emission alone.
        metallicity: of gas whose own is not known, in the solar unit of the table.
        kernel: of the particles, `wendland` or `cubic`.
        populations: file of a table of the light of stars by age and metals; empty for that of old stars.
        mesh: see a mesh of cells in place of the particles, as Hsu et al. 2025; X-rays then come out too low.
        min_mass: least M200m [Msun].
        per_bin: sightlines per 0.1 dex of M200m. cap: most sightlines of one cluster.
        fractions: of the clusters (or simulations), for training, validation and test.
        hold_out: `cluster` deals clusters to the splits; `simulation` deals whole simulations, so that no matter around
            a held-out cluster was seen in training (a cluster is in the maps of its neighbours).
        seed: of sightlines, splits, noise, and of galaxies painted on halos where a channel needs them.
        instruments: names of `observe/instruments.toml`, or files like it, whose images are added to the maps.
        pixel_arcsec: side of a pixel as an angle, instead of pixel_kpc; 0 for pixel_kpc.
        directions: `random` rotations, as many as per_bin and cap say; the three `cardinal` axes of every cluster; or
            29 directions `spread` evenly over half of the sphere, the same for every cluster.
        field_r200: width of a map in R200c of its cluster, instead of pixel_kpc; 0 for pixel_kpc. It tells the network
            the mass that it is to find and cannot be had for a real cluster: only to replicate de Andres et al.
    """

    channels: tuple[str, ...] = ("gas", "dark_matter", "compton_y", "xray")
    pixels: int = 128
    pixel_kpc: float = 100.0
    min_mass: float = 1e14
    per_bin: int = 100
    cap: int = 30
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    hold_out: str = "cluster"
    seed: int = 0
    depth_kpc: float = 0.0
    redshift: float = -1.0
    hydrogen_column: float = 0.0
    instruments: tuple[str, ...] = ()
    pixel_arcsec: float = 0.0
    directions: str = "random"
    field_r200: float = 0.0
    emissivity: str = ""
    metallicity: float = 0.3
    mesh: bool = False
    populations: str = ""
    kernel: str = "wendland"

    def __post_init__(self) -> None:
        known_channels(self.channels)
        instruments(self.instruments)
        if self.pixels < 8 or not 0 < self.pixel_kpc < np.inf or self.min_mass < 0 or self.per_bin < 1 or self.cap < 1:
            raise ValueError("need pixels >= 8, a finite pixel_kpc > 0, min_mass >= 0, per_bin >= 1 and cap >= 1.")
        if not (self.depth_kpc >= 0 and self.redshift < 20 and 0 <= self.hydrogen_column < 1e25):
            raise ValueError("need depth_kpc >= 0, redshift < 20 and a hydrogen_column that is not negative.")
        if not 0 <= self.metallicity < 100:
            raise ValueError(f"need a metallicity from 0 to 100 Zsun, not {self.metallicity:g}.")
        if self.emissivity:
            require_file(self.emissivity, "the table of emissivities")
        if self.populations:
            require_file(self.populations, "the table of stellar populations")
        if self.kernel not in KERNELS or (self.mesh and self.kernel != "wendland"):
            raise ValueError(f"the kernel must be one of {', '.join(KERNELS)}, and wendland for a mesh.")
        if self.hold_out not in ("cluster", "simulation"):
            raise ValueError(f"hold_out must be cluster or simulation, not {self.hold_out!r}.")
        if not self.channels or self.seed < 0 or not np.isfinite(self.min_mass) or self.pixels > 4096:
            raise ValueError("need some channels, seed >= 0, a finite min_mass and at most 4096 pixels.")
        if len(self.fractions) != 3 or not abs(sum(self.fractions) - 1) < 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"the fractions of the splits must be three that add up to one, not {self.fractions}.")
        if self.directions not in DIRECTIONS:
            raise ValueError(f"directions must be one of {', '.join(DIRECTIONS)}, not {self.directions!r}.")
        if not (0 <= self.pixel_arcsec < np.inf and 0 <= self.field_r200 < np.inf):
            raise ValueError("pixel_arcsec and field_r200 must be finite and not negative.")
        if self.pixel_arcsec and self.field_r200:
            raise ValueError("give pixel_arcsec or field_r200, not both.")

    @property
    def mapped(self) -> tuple[str, ...]:
        """The channels, and those that the instruments need."""
        needed = (telescope.channel for telescope in instruments(self.instruments).values())
        return tuple(dict.fromkeys([*self.channels, *needed]))

    @property
    def table(self) -> EmissivityTable | None:
        """The table of emissivities, read once.

        Raises:
            UserError: the file is not one.
        """
        return _table(self.emissivity) if self.emissivity else None

    @property
    def stars(self) -> PopulationTable | None:
        """The table of stellar populations, read once.

        Raises:
            UserError: the file is not one.
        """
        return _populations(self.populations) if self.populations else None

    def scene(self, header: Particles) -> Scene:
        """The circumstances in which the clusters of this snapshot are seen."""
        redshift = None if self.redshift < 0 else self.redshift
        return Scene.of(header, redshift, self.hydrogen_column, self.table, self.metallicity, self.stars)

    def pixel_in(self, header: Particles, r200c_mpc: float = np.nan) -> float:
        """Side of a pixel, proper [kpc], for a cluster of this R200c, proper [Mpc].

        Raises:
            ValueError: it needs an angle at redshift 0, or an R200c that is not known.
        """
        if self.field_r200:
            if not r200c_mpc > 0:
                raise ValueError("field_r200 needs the R200c of the cluster, which is not known.")
            return self.field_r200 * 1000 * r200c_mpc / self.pixels
        return self.pixel_arcsec / self.scene(header).arcsec_per_kpc if self.pixel_arcsec else self.pixel_kpc

    def check_angles(self, header: Particles, pixel_kpc: float) -> None:
        """Raise ValueError unless maps of these pixels can be seen by the instruments.

        Raises:
            ValueError: the clusters are at redshift 0, or the maps are too wide for a flat sky.
        """
        if self.instruments:
            degrees = self.pixels * pixel_kpc * self.scene(header).arcsec_per_kpc / 3600
            if degrees > WIDEST:
                raise ValueError(f"maps of {degrees:.3g} degrees are too wide for a flat sky; give a larger redshift.")

    def depth_in(self, header: Particles, pixel_kpc: float) -> float:
        """Depth of the line of sight in this snapshot, proper [kpc]; NaN where the width that it has is not known."""
        return float(np.minimum(self.depth_kpc or self.pixels * pixel_kpc, header.box * 1e3 * header.scale_factor))

    def rotations(self, stream: int, cluster: int, count: int) -> NDArray[np.float64]:
        """(count, 3, 3) rotations of a cluster, which depend on the seed, the simulation's stream and its number."""
        if self.directions == "cardinal":
            return cardinal_rotations()
        if self.directions == "spread":
            return spread_rotations(SPREAD)
        return random_rotations(count, np.random.default_rng([self.seed, stream, cluster]))


@functools.lru_cache(maxsize=2)
def _table(path: str) -> EmissivityTable:
    return read_table(path)


@functools.lru_cache(maxsize=1)
def _populations(path: str) -> PopulationTable:
    return read_populations(path)


@dataclass(frozen=True)
class Plan:
    """One row per cluster: which simulation and row of its catalogue, how many sightlines, which split."""

    simulation: NDArray[np.int64]
    row: NDArray[np.int64]
    sightlines: NDArray[np.int64]
    split: NDArray[np.str_]

    def clusters(self, simulation: int) -> NDArray[np.int64]:
        """Numbers of the clusters of a simulation that are observed."""
        return np.flatnonzero((self.simulation == simulation) & (self.sightlines > 0))


def make_plan(catalogues: Sequence[Table], config: ObserveConfig) -> Plan:
    """The plan for halos of several simulations.

    Raises:
        UserError: no halo is massive enough, or there are too few simulations to hold some out.
    """
    rng = np.random.default_rng(config.seed)
    chosen = [np.flatnonzero(np.asarray(t["m200m"]) >= config.min_mass) for t in catalogues]
    simulation = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(chosen)])
    if len(simulation) == 0:
        raise UserError(f"no halo has M200m above {config.min_mass:.3g} Msun; lower min_mass or simulate a larger box.")
    masses = np.concatenate([np.asarray(t["m200m"])[rows] for t, rows in zip(catalogues, chosen, strict=True)])
    sightlines = flat_in_log_mass(masses, config.per_bin, config.cap, rng=rng)
    if config.directions != "random":
        sightlines = np.full(len(masses), len(config.rotations(0, 0, 0)))
    if config.hold_out == "simulation":
        split = _split_simulations(len(catalogues), config.fractions)[simulation]
    else:
        split = split_by_cluster(masses, config.fractions, rng=rng)
    return Plan(simulation, np.concatenate(chosen), sightlines, split)


def _split_simulations(count: int, fractions: tuple[float, float, float]) -> NDArray[np.str_]:
    """Split of each simulation, in their order: the first for training, the last for test; each split has one or more.

    Raises:
        UserError: there are fewer than three simulations.
    """
    if count < 3:
        raise UserError(f"hold_out = 'simulation' needs at least three simulations, not {count}.")
    validation, test = (max(1, round(f * count)) for f in fractions[1:])
    test = min(test, count - 2)
    validation = min(validation, count - 1 - test)
    return np.array([SPLITS[0]] * (count - validation - test) + [SPLITS[1]] * validation + [SPLITS[2]] * test)

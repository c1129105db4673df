"""From snapshots and halos to `maps.h5`: which clusters, which sightlines, which split; then render and write.

Clusters of all simulations are put together, sightlines are dealt out flat in log mass, and every cluster goes to one
split whole. The choice depends on the seed alone, not on the order of work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
from astropy.table import Row, Table
from numpy.typing import NDArray

from zwicky.dataset.store import MapWriter
from zwicky.halos import MASSES, RADII, halo_centres, read_halos
from zwicky.io import UserError, atomic_path
from zwicky.observe.channels import channel, known_channels
from zwicky.observe.render import cut_cube, halo_centre, reach_of_cube, render
from zwicky.observe.sightlines import SPLITS, flat_in_log_mass, random_rotations, split_by_cluster
from zwicky.simulate.state import Particles
from zwicky.snapshots import read_around, read_header
from zwicky.version import __version__


@dataclass(frozen=True)
class ObserveConfig:
    """What to observe.

    Args:
        channels: names of `observe.channels.CHANNELS`, or of its FAMILIES.
        pixels: along a side. pixel_kpc: side of a pixel, proper [kpc].
        depth_kpc: of the line of sight, proper [kpc]; 0 for as deep as the map is wide, inf for all of the box.
        redshift: at which the clusters are seen, for X-ray bands and lensing; negative for that of the snapshot.
        hydrogen_column: of the Milky Way, which absorbs X-rays of bands [cm^-2].
        min_mass: least M200m [Msun].
        per_bin: sightlines per 0.1 dex of M200m. cap: most sightlines of one cluster.
        fractions: of the clusters (or simulations), for training, validation and test.
        hold_out: `cluster` deals clusters to the splits; `simulation` deals whole simulations, so that no matter around
            a held-out cluster was seen in training (a cluster is in the maps of its neighbours).
        seed: of sightlines and splits.
        mesh: see a mesh of cells in place of the particles, as Hsu et al. 2025; X-rays then come out too low.
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
    mesh: bool = False

    def __post_init__(self) -> None:
        known_channels(self.channels)
        if self.pixels < 8 or not self.pixel_kpc > 0 or self.min_mass < 0 or self.per_bin < 1 or self.cap < 1:
            raise ValueError("need pixels >= 8, pixel_kpc > 0, min_mass >= 0, per_bin >= 1 and cap >= 1.")
        if not (self.depth_kpc >= 0 and self.redshift < 20 and 0 <= self.hydrogen_column < 1e25):
            raise ValueError("need depth_kpc >= 0, redshift < 20 and a hydrogen_column that is not negative.")
        if self.hold_out not in ("cluster", "simulation"):
            raise ValueError(f"hold_out must be cluster or simulation, not {self.hold_out!r}.")
        if not self.channels or self.seed < 0 or not np.isfinite(self.min_mass) or self.pixels > 4096:
            raise ValueError("need some channels, seed >= 0, a finite min_mass and at most 4096 pixels.")
        if len(self.fractions) != 3 or not abs(sum(self.fractions) - 1) < 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"the fractions of the splits must be three that add up to one, not {self.fractions}.")

    def depth_in(self, particles: Particles) -> float:
        """Depth of the line of sight in this snapshot, proper [kpc]."""
        return min(self.depth_kpc or self.pixels * self.pixel_kpc, particles.box * 1e3 * particles.scale_factor)


@dataclass(frozen=True)
class _Plan:
    """One row per cluster: which simulation and row of its catalogue, how many sightlines, which split."""

    simulation: NDArray[np.int64]
    row: NDArray[np.int64]
    sightlines: NDArray[np.int64]
    split: NDArray[np.str_]


def build_maps(
    pairs: Sequence[tuple[str | Path, str | Path]],
    path: str | Path,
    config: ObserveConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a set of maps from (snapshot, halo catalogue) pairs into `path`.

    Args:
        progress: called as progress(maps done, maps in all).

    Raises:
        UserError: a file cannot be used, or no halo is massive enough.
    """
    catalogues = [read_halos(halos) for _, halos in pairs]
    plan = _make_plan(catalogues, config)
    total = int(plan.sightlines.sum())
    units = {name: channel(name).unit for name in config.channels}
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        writer = MapWriter(file, total, config.pixels, units)
        columns: list[dict[str, float]] = []
        attributes: dict[str, object] = {}
        for simulation, (snapshot, _) in enumerate(pairs):
            particles = _read_around(snapshot, catalogues[simulation], plan, simulation, config)
            attributes = _attributes(particles, config, attributes)
            for cluster in np.flatnonzero(plan.simulation == simulation):
                row = catalogues[simulation][int(plan.row[cluster])]
                _observe_cluster(writer, particles, row, int(cluster), plan, config, columns)
                if progress:
                    progress(writer.next, total)
        halo = {name: np.array([c[name] for c in columns]) for name in (*MASSES, *RADII, "fgas200m")}
        integers = {name: np.array([c[name] for c in columns], int) for name in ("cluster", "simulation", "split")}
        writer.finish(integers, halo, attributes)
    return Path(path)


def _read_around(
    snapshot: str | Path, halos: Table, plan: _Plan, simulation: int, config: ObserveConfig
) -> Particles:
    """The snapshot, or what lies around the chosen halos where that is far less."""
    header = read_header(snapshot)
    for name, ours in (("box", header.box), ("redshift", header.redshift)):
        if name in halos.meta and abs(float(halos.meta[name]) - ours) > 1e-3 * max(1.0, ours):
            raise UserError(f"the halos are of a {name} of {float(halos.meta[name]):g}, and {snapshot} of {ours:g}.")
    centres = halo_centres(halos)[plan.row[(plan.simulation == simulation) & (plan.sightlines > 0)]]
    if not len(centres):
        return header
    radius = reach_of_cube(config.pixels * config.pixel_kpc, config.depth_in(header)) / (1e3 * header.scale_factor)
    return read_around(snapshot, header, centres, radius)


def _make_plan(catalogues: Sequence[Table], config: ObserveConfig) -> _Plan:
    rng = np.random.default_rng(config.seed)
    chosen = [np.flatnonzero(np.asarray(t["m200m"]) >= config.min_mass) for t in catalogues]
    simulation = np.concatenate([np.full(len(rows), i) for i, rows in enumerate(chosen)])
    if len(simulation) == 0:
        raise UserError(f"no halo has M200m above {config.min_mass:.3g} Msun; lower min_mass or simulate a larger box.")
    masses = np.concatenate([np.asarray(t["m200m"])[rows] for t, rows in zip(catalogues, chosen, strict=True)])
    sightlines = flat_in_log_mass(masses, config.per_bin, config.cap, rng=rng)
    if config.hold_out == "simulation":
        split = _split_simulations(len(catalogues), config.fractions)[simulation]
    else:
        split = split_by_cluster(masses, config.fractions, rng=rng)
    return _Plan(simulation, np.concatenate(chosen), sightlines, split)


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


def _observe_cluster(
    writer: MapWriter,
    particles: Particles,
    halo: Row,
    cluster: int,
    plan: _Plan,
    config: ObserveConfig,
    columns: list[dict[str, float]],
) -> None:
    """Render all sightlines of one cluster; its rotations depend on (seed, cluster) alone."""
    count = int(plan.sightlines[cluster])
    if count == 0:
        return
    seen = None if config.redshift < 0 else config.redshift
    side, depth = config.pixels * config.pixel_kpc, config.depth_in(particles)
    cube = cut_cube(particles, halo_centre(halo), side, depth, seen, config.hydrogen_column)
    rotations = random_rotations(count, np.random.default_rng([config.seed, cluster]))
    for rotation in rotations:
        writer.append(render(cube, config.channels, rotation, config.pixels, config.pixel_kpc, config.mesh), rotation)
        columns.append(
            {name: float(halo[name]) for name in (*MASSES, "fgas200m")}
            | {name: 1000 * float(halo[name]) for name in RADII}
            | {"cluster": cluster, "simulation": int(plan.simulation[cluster])}
            | {"split": SPLITS.index(str(plan.split[cluster]))}
        )


def _attributes(particles: Particles, config: ObserveConfig, previous: dict[str, object]) -> dict[str, object]:
    """File attributes; simulations of one set must share redshift and cosmology."""
    cosmology = json.dumps(particles.cosmology.as_dict())
    here = {
        "pixel_kpc": config.pixel_kpc, "depth_kpc": config.depth_in(particles), "redshift": particles.redshift,
        "cosmology": cosmology, "version": __version__, "config": json.dumps(asdict(config)),
    }
    numbers = ("redshift", "depth_kpc") if previous else ()
    same = [np.isclose(previous[k], here[k], rtol=1e-3, atol=1e-3) for k in numbers]  # type: ignore[call-overload]
    if previous and (previous["cosmology"] != cosmology or not all(same)):
        raise UserError("the snapshots of one set of maps must share their cosmology, redshift and depth.")
    return previous or here

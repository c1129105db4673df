"""From snapshots and halos to `maps.h5`: render every sightline of every cluster of a plan, then put them together.

    snapshots, halos -> plan -> jobs (clusters of one simulation) -> OUT.parts/cluster-<number>.h5 -> OUT

A job writes the maps of each of its clusters into a file of its own, whole or not at all. What is there is not made
again, so that an interrupted build goes on where it stopped; rotations and noise depend on the seed and the cluster
alone, so that any number of workers, in any order, makes the same maps.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from zwicky.dataset.plan import ObserveConfig, Plan, make_plan
from zwicky.dataset.store import MapWriter
from zwicky.dataset.workers import each
from zwicky.galaxies import whole_halos_beyond
from zwicky.halos import MASSES, RADII, halo_centres, read_halos
from zwicky.io import UserError, atomic_path, require_writable
from zwicky.observe.channels import channel, kinds_of
from zwicky.observe.instrument import Exposure, instruments
from zwicky.observe.render import Cube, cut_cube, reach_of_cube, render, side_of_cube, with_galaxies
from zwicky.observe.sightlines import SPLITS
from zwicky.observe.sky import Sky, cut
from zwicky.simulate.state import Particles
from zwicky.snapshots import read_around, read_header
from zwicky.version import __version__

NUMBERS = ("redshift", "snapshot_redshift", "depth_kpc", "pixel_kpc")  # that simulations of one set share
LOST = "its process was lost"
JOB = 8  # most clusters of a job that goes to another process

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Job:
    """Clusters of one simulation to observe.

    Args:
        snapshot, halos: the files. simulation: its number in the set. stream: of random numbers, by its origin.
        clusters: (K,) their numbers. sightlines: (K,) how many of each.
        centres: (K, 3) comoving [Mpc]. r200c: (K,) proper [Mpc].
        folder: for the parts. config: what to observe.
    """

    snapshot: Path
    halos: Path
    simulation: int
    stream: int
    clusters: NDArray[np.int64]
    sightlines: NDArray[np.int64]
    centres: NDArray[np.float64]
    r200c: NDArray[np.float64]
    folder: Path
    config: ObserveConfig


def build_maps(
    pairs: Sequence[tuple[str | Path, str | Path]],
    path: str | Path,
    config: ObserveConfig,
    progress: Progress | None = None,
    workers: int = 1,
    scheduler: str = "",
) -> Path:
    """Render a set of maps from (snapshot, halo catalogue) pairs into `path`.

    Args:
        progress: called as progress(maps done, maps in all).
        workers: processes of this machine that share the work, by dask; 1 for none but this one.
        scheduler: address of a dask scheduler, whose workers do the work instead; they must see the same files.

    Clusters that could not be observed are left out and named in the attribute `failed`.

    Raises:
        UserError: a file cannot be used, no halo is massive enough, no cluster could be observed, or the parts of an
            interrupted build with other settings are in the way.
    """
    _ = config.table, config.stars  # what is wrong with them is said before anything is read
    catalogues = [read_halos(halos) for _, halos in pairs]
    headers = [_header(snapshot, halos) for (snapshot, _), halos in zip(pairs, catalogues, strict=True)]
    attributes = _attributes(headers, config)
    plan = make_plan(catalogues, config)
    folder = _parts_folder(Path(path), pairs, catalogues, attributes, config)
    streams = [zlib.crc32(json.dumps(header.origin, sort_keys=True).encode()) for header in headers]
    most = JOB if workers > 1 or scheduler else len(plan.row)
    jobs = _jobs(pairs, catalogues, plan, streams, folder, config, most)
    try:
        failed = _run(jobs, int(plan.sightlines.sum()), progress, workers, scheduler)
    finally:
        if not any(folder.glob("cluster-*.h5")):
            shutil.rmtree(folder)
    if len(failed) == np.count_nonzero(plan.sightlines):
        raise UserError(f"no cluster could be observed; of the first: {failed[min(failed)]}")
    _put_together(Path(path), folder, catalogues, plan, failed, attributes, config)
    shutil.rmtree(folder)
    return Path(path)


def _run(jobs: list[Job], total: int, progress: Progress | None, workers: int, scheduler: str) -> dict[int, str]:
    """Do the jobs; return the clusters that failed, with the reasons.

    Clusters of a job whose process was lost are tried again one by one, so that none is lost for another's sake.
    """
    left = {int(c): int(n) for job in jobs for c, n in zip(job.clusters, job.sightlines, strict=True)}
    failed: dict[int, str] = {}
    done = 0

    def run(some: list[Job]) -> list[Job]:
        nonlocal done
        lost = []
        for cluster, reason in each(observe_clusters, some, _lost, workers, scheduler):
            failed.pop(cluster, None)
            if reason:
                failed[cluster] = reason
            lost += _alone(some, cluster) if reason == LOST else []
            done += left.pop(cluster, 0)
            if progress:
                progress(done, total)
        return lost

    run(run(jobs))
    return failed


def _alone(jobs: list[Job], cluster: int) -> list[Job]:
    """A job of this cluster alone, if it shared one with others."""
    job = next(job for job in jobs if cluster in job.clusters)
    k = np.flatnonzero(job.clusters == cluster)
    columns = {name: getattr(job, name)[k] for name in ("clusters", "sightlines", "centres", "r200c")}
    return [replace(job, **columns)] if len(job.clusters) > 1 else []


def observe_clusters(job: Job) -> Iterator[tuple[int, str]]:
    """Write the part of each cluster that has none yet; tell for every cluster why it failed, or ''."""
    made = [_part(job.folder, cluster).exists() for cluster in job.clusters]
    yield from ((int(cluster), "") for cluster, there in zip(job.clusters, made, strict=True) if there)
    left = [k for k, there in enumerate(made) if not there]
    if left:
        particles = _around(job, left)
        yield from (_observe_cluster(job, k, particles) for k in left)


def _lost(job: Job) -> list[tuple[int, str]]:
    """What to tell of a job whose process was lost, again and again."""
    return [(int(c), "" if _part(job.folder, c).exists() else LOST) for c in job.clusters]


def _around(job: Job, left: list[int]) -> Particles:
    """What lies around some of the clusters of a job, with galaxies if a channel needs them."""
    header, config, halos = read_header(job.snapshot), job.config, read_halos(job.halos)
    sizes = [job.r200c[k] for k in left if not config.field_r200 or job.r200c[k] > 0]
    widest = max((config.pixel_in(header, size) for size in sizes), default=config.pixel_kpc)
    side, depth = _side(config, header, widest), config.depth_in(header, widest)
    reach = reach_of_cube(side, depth) / (1e3 * header.scale_factor)
    if "galaxies" in kinds_of(config.mapped):
        reach += whole_halos_beyond(halos, header.scale_factor)
    particles = read_around(job.snapshot, header, job.centres[left], reach)
    return with_galaxies(particles, halos, config.mapped, np.random.default_rng([config.seed, job.simulation]))


class _ClusterError(Exception):
    """A cluster cannot be observed."""


def _observe_cluster(job: Job, k: int, particles: Particles) -> tuple[int, str]:
    """Write the part of one cluster, a sightline at a time."""
    cluster, config = int(job.clusters[k]), job.config
    units = {name: channel(name).unit for name in config.channels}
    rotations = config.rotations(job.stream, cluster, int(job.sightlines[k]))
    try:
        with atomic_path(_part(job.folder, cluster)) as part, h5py.File(part, "w") as file:
            writer = MapWriter(file, len(rotations), config.pixels, units, instruments(config.instruments))
            for rotation, maps, exposures, pixel_kpc in _views(job, k, particles, rotations):
                writer.append(maps, rotation, exposures)
                file.attrs["pixel_kpc"] = pixel_kpc
    except _ClusterError as error:
        return cluster, str(error)
    return cluster, ""


def _views(
    job: Job, k: int, particles: Particles, rotations: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.float64], dict[str, NDArray], dict[str, Exposure], float]]:
    """Rotation, maps and images of a cluster from each side, and the side of a pixel [kpc].

    Raises:
        _ClusterError: the cluster cannot be observed; the message says why.
    """
    config = job.config
    try:
        pixel_kpc = config.pixel_in(particles, job.r200c[k])
        margin = _margin(config, particles, pixel_kpc)
        side, depth = _side(config, particles, pixel_kpc), config.depth_in(particles, pixel_kpc)
        cube = cut_cube(particles, job.centres[k], side, depth, config.scene(particles))
        for i, rotation in enumerate(rotations):
            seed = (config.seed, job.stream, int(job.clusters[k]), i)
            yield rotation, *_view(cube, rotation, margin, pixel_kpc, seed, config), pixel_kpc
    except (ValueError, UserError, ArithmeticError, LookupError) as error:
        raise _ClusterError(str(error)) from error


def _view(
    cube: Cube, rotation: NDArray[np.float64], margin: int, pixel_kpc: float, seed: tuple[int, ...],
    config: ObserveConfig,
) -> tuple[dict[str, NDArray], dict[str, Exposure]]:
    """Maps and images from one side; the sky is the same for all instruments, noise depends on their names."""
    telescopes, pixels = instruments(config.instruments), config.pixels
    wide = render(cube, config.mapped, rotation, pixels + 2 * margin, pixel_kpc, config.mesh, kernel=config.kernel)
    exposures = {}
    if telescopes:
        pixel_arcsec = pixel_kpc * cube.scene.arcsec_per_kpc
        sky = Sky.around(seed, cube.scene.cosmology, pixels, pixel_arcsec)
        for name, telescope in telescopes.items():
            own = min(_pixels(telescope.margin_arcsec, pixel_arcsec), (sky.pixels - pixels) // 2)
            padded = np.pad(wide[telescope.channel], max(0, own - margin))  # beyond the box nothing is known
            clean = cut(padded, pixels + 2 * own)
            rng = np.random.default_rng([*seed, zlib.crc32(name.encode())])
            exposures[name] = telescope.expose(clean, pixels, sky, cube.scene, rng)
    return {name: cut(wide[name], pixels) for name in config.channels}, exposures


def _margin(config: ObserveConfig, header: Particles, pixel_kpc: float) -> int:
    """Pixels on each side of the map that its instruments need, as far as they fit into the box."""
    telescopes = instruments(config.instruments).values()
    if not telescopes:
        return 0
    pixel_arcsec = pixel_kpc * config.scene(header).arcsec_per_kpc
    wanted = max(_pixels(telescope.margin_arcsec, pixel_arcsec) for telescope in telescopes)
    room = int((header.box * 1e3 * header.scale_factor / pixel_kpc - config.pixels) / 2)
    return max(0, min(wanted, room))


def _side(config: ObserveConfig, header: Particles, pixel_kpc: float) -> float:
    """Side of the cube that the maps of a cluster need, proper [kpc]."""
    width = (config.pixels + 2 * _margin(config, header, pixel_kpc)) * pixel_kpc
    return side_of_cube(config.mapped, width, header, config.scene(header))


def _pixels(angle: float, pixel: float) -> int:
    return int(np.ceil(angle / pixel))


def _jobs(
    pairs: Sequence[tuple[str | Path, str | Path]], catalogues: Sequence[Table], plan: Plan, streams: Sequence[int],
    folder: Path, config: ObserveConfig, most: int,
) -> list[Job]:
    """Jobs of at most so many clusters."""
    jobs = []
    for simulation, (pair, halos) in enumerate(zip(pairs, catalogues, strict=True)):
        clusters = plan.clusters(simulation)
        centres, r200c = halo_centres(halos), np.asarray(halos["r200c"], dtype=float)
        for start in range(0, len(clusters), most):
            chosen = clusters[start : start + most]
            rows, files = plan.row[chosen], (Path(pair[0]), Path(pair[1]), simulation, streams[simulation])
            jobs.append(Job(*files, chosen, plan.sightlines[chosen], centres[rows], r200c[rows], folder, config))
    return jobs


def _part(folder: Path, cluster: int) -> Path:
    return folder / f"cluster-{cluster:06d}.h5"


def _parts_folder(
    path: Path, pairs: Sequence[tuple[str | Path, str | Path]], catalogues: Sequence[Table],
    attributes: dict[str, object], config: ObserveConfig,
) -> Path:
    """The folder of the parts, for these settings.

    Raises:
        UserError: it holds parts of other settings, or cannot be made.
    """
    telescopes = {name: asdict(telescope) for name, telescope in instruments(config.instruments).items()}
    digest = hashlib.sha256(json.dumps([attributes, telescopes], sort_keys=True).encode())
    for name in (config.emissivity, config.populations):
        if name:
            digest.update(Path(name).read_bytes())
    for (snapshot, _), halos in zip(pairs, catalogues, strict=True):
        digest.update(f"{Path(snapshot).resolve()} {_age(Path(snapshot))}".encode())
        for name in halos.colnames:
            digest.update(np.ascontiguousarray(halos[name]).tobytes())
    folder = require_writable(path.with_name(path.name + ".parts"))
    kept, now = folder / "settings", digest.hexdigest()
    if not kept.exists():
        with atomic_path(kept) as part:
            part.write_text(now)
    elif kept.read_text() != now:
        raise UserError(f"{folder} holds parts of a set with other settings; delete it, or choose another file.")
    return folder


def _age(snapshot: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files of a snapshot."""
    files = sorted(snapshot.iterdir()) if snapshot.is_dir() else [snapshot]
    return [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()]


def _put_together(
    path: Path, folder: Path, catalogues: Sequence[Table], plan: Plan, failed: dict[int, str],
    attributes: dict[str, object], config: ObserveConfig,
) -> None:
    """Write the set from its parts, a cluster at a time."""
    clusters = [int(c) for c in np.flatnonzero(plan.sightlines) if c not in failed]
    counts = plan.sightlines[clusters]
    units = {name: channel(name).unit for name in config.channels}
    halos = [catalogues[plan.simulation[c]][int(plan.row[c])] for c in clusters]
    halo = {name: np.repeat([float(h[name]) for h in halos], counts) for name in (*MASSES, "fgas200m")}
    halo |= {name: np.repeat([1000 * float(h[name]) for h in halos], counts) for name in RADII}
    columns = {
        "cluster": np.repeat(clusters, counts),
        "simulation": np.repeat(plan.simulation[clusters], counts),
        "split": np.repeat([SPLITS.index(str(s)) for s in plan.split[clusters]], counts),
    }
    with atomic_path(path) as part, h5py.File(part, "w") as file:
        writer = MapWriter(file, int(counts.sum()), config.pixels, units, instruments(config.instruments))
        pixel = []
        for cluster in clusters:
            with h5py.File(_part(folder, cluster)) as one:
                writer.copy(one)
                pixel.append(float(one.attrs["pixel_kpc"]))
        if config.field_r200:
            halo["pixel_kpc"] = np.repeat(pixel, counts)
        named = {str(c): f"{reason}" for c, reason in failed.items()}
        writer.finish(columns, halo, attributes | {"failed": json.dumps(named)})


def _header(snapshot: str | Path, halos: Table) -> Particles:
    """The header of a snapshot.

    Raises:
        UserError: it is not that of the halos.
    """
    header = read_header(snapshot)
    for name, ours in (("box", header.box), ("redshift", header.redshift)):
        if name in halos.meta and abs(float(halos.meta[name]) - ours) > 1e-3 * max(1.0, ours):
            raise UserError(f"the halos are of a {name} of {float(halos.meta[name]):g}, and {snapshot} of {ours:g}.")
    return header


def _attributes(headers: Sequence[Particles], config: ObserveConfig) -> dict[str, object]:
    """File attributes; simulations of one set must share redshift, cosmology and depth."""
    found = [_attributes_of(header, config) for header in headers]
    for other in found[1:]:
        theirs, ours = (np.array([attributes[k] for k in NUMBERS], float) for attributes in (other, found[0]))
        same = np.isclose(theirs, ours, rtol=1e-3, atol=1e-3, equal_nan=True)
        if other["cosmology"] != found[0]["cosmology"] or not same.all():
            raise UserError("the snapshots of one set of maps must share their cosmology, redshift and depth.")
    return found[0] | {"simulations": json.dumps([header.origin for header in headers])}


def _attributes_of(header: Particles, config: ObserveConfig) -> dict[str, object]:
    pixel_kpc = np.nan if config.field_r200 else config.pixel_in(header)
    config.check_angles(header, pixel_kpc)
    return {
        "pixel_kpc": pixel_kpc, "depth_kpc": config.depth_in(header, pixel_kpc),
        "redshift": config.scene(header).redshift, "snapshot_redshift": header.redshift,
        "cosmology": json.dumps(header.cosmology.as_dict()), "version": __version__,
        "config": json.dumps(asdict(config)),
    }  # fmt: skip

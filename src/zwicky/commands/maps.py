"""Commands that make maps: from a simulation to a set of maps, and the images of observers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zwicky.io import UserError
from zwicky.terminal import (
    Device,
    DryRun,
    Out,
    Scheduler,
    Seed,
    Workers,
    bars,
    integers,
    numbers,
    say,
    show,
    user_errors,
    warn,
    words,
)

if TYPE_CHECKING:
    from zwicky.simulate.run import SimulationConfig


def simulate(
    out_folder: Out,
    preset: Annotated[str | None, typer.Option(help="n64 (the default), n128, n256, n512 or n1024.")] = None,
    seed: Seed = 0,
    particles: Annotated[int | None, typer.Option(help="Particles of each species along a side.")] = None,
    box: Annotated[float | None, typer.Option("--box", help="Comoving side [Mpc/h].")] = None,
    redshift: Annotated[float | None, typer.Option("--redshift", help="Redshift of the snapshot, 0 if none.")] = None,
    redshifts: Annotated[str | None, typer.Option("--redshifts", help="Of further snapshots, comma-separated.")] = None,
    cluster: Annotated[float | None, typer.Option("--cluster", help="M200m [Msun] of a cluster to plant.")] = None,
    closure: Annotated[
        str | None, typer.Option("--closure", help="viscous (the default) or inviscid gas.")
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="Settings by its [simulate] and [clusters], the one of --seed.")
    ] = None,
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Simulate dark matter and gas in a box and write OUT/snapshot.hdf5.

    Example: zwicky simulate --preset n64 --seed 1 --out run1
    """
    from zwicky.device import choose_device
    from zwicky.plant import planted
    from zwicky.simulate.run import simulate as run

    options = dict(
        preset=preset, particles=particles, box=box, redshift=redshift, redshifts=redshifts, cluster=cluster,
        closure=closure,
    )  # fmt: skip
    config = _simulation(seed, recipe, {name: value for name, value in options.items() if value is not None})
    if dry_run:
        return show(asdict(config) | {"memory [GB]": round(config.memory / 1e9, 1)})
    place, stage = choose_device(device, particles=True).type, f"simulate, {config.memory / 1e9:.1f} GB"
    with user_errors(), bars() as tell:
        config = planted(config, out_folder, lambda done, most, mass: tell("plant", done, most, mass), place)
        path = run(
            config, out_folder, lambda done, total, z: tell(stage, done, total, f"z = {z:.2f}"), device=place
        )
    say(path)


def _simulation(seed: int, recipe: Path | None, given: dict[str, Any]) -> SimulationConfig:
    """The simulation that a recipe or the options given describe."""
    from zwicky.recipe import simulation_of
    from zwicky.simulate.pressure import PressureModel
    from zwicky.simulate.run import PRESETS, SimulationConfig

    if recipe:
        if given:
            raise UserError(f"--{next(iter(given))} does not go with --recipe; write it into the recipe.")
        return simulation_of(recipe, seed)
    preset = given.get("preset", "n64")
    if preset not in PRESETS:
        raise UserError(f"the preset must be one of {', '.join(PRESETS)}, not {preset!r}.")
    n, side = PRESETS[preset]
    with user_errors():
        return SimulationConfig(
            given.get("particles", n), given.get("box", side), seed, cluster=given.get("cluster", 0.0),
            redshift_end=given.get("redshift", 0.0), redshifts=numbers(given.get("redshifts", ""), "--redshifts"),
            pressure=PressureModel(closure=given.get("closure", PressureModel.closure)),
        )


def halos(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot, one of its files, or their folder.")],
    out_file: Out,
    min_mass: Annotated[float, typer.Option(help="Least M200m [Msun].")] = 0.0,
    min_particles: Annotated[int, typer.Option(help="Least number of particles inside R200m.")] = 200,
    catalogue: Annotated[
        Path | None, typer.Option(help="Halos of SUBFIND, SOAP, AHF, Rockstar or a table: measure these.")
    ] = None,
) -> None:
    """Find halos by spherical overdensity (200m, 200c, 500c), or measure those of a catalogue.

    Example: zwicky halos run1/snapshot.hdf5 --out run1/halos.hdf5
    """
    from zwicky.catalogues import halos_of_catalogue
    from zwicky.halos import find_halos, require_limits, write_halos
    from zwicky.io import check_output
    from zwicky.snapshots import read_snapshot

    check_output(out_file, [snapshot, catalogue])
    with user_errors(), bars() as tell:
        require_limits(min_mass, min_particles)

        def report(done: int, total: int) -> None:
            tell("halos", done, total, "")

        if catalogue:
            table = halos_of_catalogue(snapshot, catalogue, min_mass, min_particles, report)
        else:
            table = find_halos(read_snapshot(snapshot), min_mass, min_particles, report)
    write_halos(table, out_file)
    say(f"{out_file}: {len(table)} halos")


def observe(
    paths: Annotated[list[Path], typer.Argument(metavar="SNAPSHOT HALOS ...", help="Snapshots, each with its halos.")],
    out_file: Out,
    min_mass: Annotated[float, typer.Option(help="Least M200m [Msun].")] = 1e14,
    per_bin: Annotated[int, typer.Option(help="Sightlines per 0.1 dex of mass.")] = 100,
    cap: Annotated[int, typer.Option(help="Most sightlines of one cluster.")] = 30,
    pixels: Annotated[int, typer.Option(help="Pixels along a side.")] = 128,
    pixel_kpc: Annotated[float, typer.Option(help="Side of a pixel, proper [kpc].")] = 100.0,
    channels: Annotated[
        str, typer.Option(help="Comma-separated, as ksz, xray_0.5-2keV, sz_150GHz, shear1_z1, members_10.")
    ] = "gas,dark_matter,compton_y,xray",
    depth_kpc: Annotated[float, typer.Option(help="Of the line of sight, proper [kpc]; 0 for the width.")] = 0.0,
    redshift: Annotated[float, typer.Option(help="Where clusters are seen; negative for the snapshot's.")] = -1.0,
    hydrogen_column: Annotated[float, typer.Option(help="Of the Milky Way, for X-ray bands [cm^-2].")] = 0.0,
    instruments: Annotated[
        str, typer.Option(help="Comma-separated, such as SPT-3G-150, eROSITA-eFEDS, or a TOML file of your own.")
    ] = "",
    pixel_arcsec: Annotated[float, typer.Option(help="Side of a pixel as an angle, instead of --pixel-kpc.")] = 0.0,
    directions: Annotated[str, typer.Option(help="random, cardinal (3 axes) or spread (29 directions).")] = "random",
    emissivity: Annotated[str, typer.Option(metavar="FILE", help="Table with lines and metals for X-ray bands.")] = "",
    metallicity: Annotated[float, typer.Option(help="Of gas whose own is not known [Zsun].")] = 0.3,
    populations: Annotated[str, typer.Option(metavar="FILE", help="Table of light by age and metals of stars.")] = "",
    mesh: Annotated[bool, typer.Option("--mesh", help="See a mesh, as Hsu et al. 2025: X-rays too faint.")] = False,
    kernel: Annotated[str, typer.Option(help="Of the particles: wendland or cubic.")] = "wendland",
    field_r200: Annotated[
        float, typer.Option(help="Width of a map in R200c of its cluster: replicates papers, leaks the mass.")
    ] = 0.0,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    seed: Seed = 0,
    dry_run: DryRun = False,
) -> None:
    """Render mock maps of the halos of one or more snapshots into a set of maps.

    Example: zwicky observe run1/snapshot.hdf5 run1/halos.hdf5 --out run1/maps.h5
    """
    from zwicky.dataset.build import build_maps
    from zwicky.dataset.plan import ObserveConfig
    from zwicky.dataset.store import failed_clusters
    from zwicky.io import check_output

    if len(paths) % 2:
        raise UserError("give every snapshot together with its halo catalogue.")
    pairs = list(zip(paths[::2], paths[1::2], strict=True))
    with user_errors():
        config = ObserveConfig(
            words(channels), pixels, pixel_kpc, min_mass, per_bin, cap, seed=seed, depth_kpc=depth_kpc,
            redshift=redshift, hydrogen_column=hydrogen_column, instruments=words(instruments),
            pixel_arcsec=pixel_arcsec, directions=directions, emissivity=emissivity,
            metallicity=metallicity, mesh=mesh, field_r200=field_r200, populations=populations,
            kernel=kernel,
        )
        if dry_run:
            return show(config)
        files = [name for name in (emissivity, populations, *config.instruments) if Path(name).exists()]
        check_output(out_file, [*paths, *files])
        with bars() as tell:
            build_maps(
                pairs, out_file, config, lambda done, total: tell("observe", done, total, ""), workers, scheduler
            )
    if field_r200:
        warn("maps as wide as their clusters tell the mass; no observer can make them")
    for cluster, reason in failed_clusters(out_file).items():
        warn(f"cluster {cluster} was left out: {reason}")
    say(out_file)


def export(
    maps: Annotated[Path, typer.Argument(help="A set of maps.")],
    out_folder: Out,
    rows: Annotated[str, typer.Option(help="Rows of the set, comma-separated.")] = "0",
    ra: Annotated[float, typer.Option(help="Right ascension of the centre [deg].")] = 0.0,
    dec: Annotated[float, typer.Option(help="Declination of the centre [deg].")] = 0.0,
) -> None:
    """Write rows of a set of maps as FITS images with sky coordinates, one file a channel or instrument.

    Example: zwicky export run1/maps.h5 --rows 0,5 --ra 194.95 --dec 27.98 --out run1/fits
    """
    from zwicky.dataset.store import open_maps
    from zwicky.export import export_rows

    with user_errors():
        for path in export_rows(open_maps(maps), integers(rows, "--rows"), out_folder, ra, dec):
            say(path)


def prepare(
    out_file: Out,
    counts: Annotated[Path, typer.Option("--counts", help="FITS image of X-ray photons.")],
    exposure: Annotated[Path, typer.Option("--exposure", help="FITS image of seconds, with vignetting.")],
    instrument: Annotated[str, typer.Option("--instrument", help="Such as eROSITA-eFEDS, or a TOML file of your own.")],
    redshift: Annotated[float, typer.Option("--redshift", help="Redshift of the cluster.")],
    unvignetted: Annotated[Path | None, typer.Option(help="FITS image of seconds, without vignetting.")] = None,
    background: Annotated[Path | None, typer.Option(help="FITS image of expected counts of the background.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="FITS image, 0 where pixels are to be ignored.")] = None,
) -> None:
    """Turn counts and an exposure map of an archive into an image with noise and mask, as mock images have them.

    Example: zwicky prepare --counts img.fits --exposure exp.fits --instrument eROSITA-eFEDS --redshift 0.3 --out x.fits
    """
    from zwicky.io import check_output
    from zwicky.prepare import prepare_counts

    check_output(out_file, [counts, exposure, unvignetted, background, mask])
    with user_errors():
        image = prepare_counts(
            counts, exposure, instrument, redshift, out_file, unvignetted=unvignetted, background=background, mask=mask
        )
    say(f"{out_file}: {100 * image.mask.mean():.1f}% of the pixels are known")


def card(
    maps: Annotated[Path, typer.Argument(help="A set of maps.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Where to write; else it is printed.")] = None,
) -> None:
    """Describe a set of maps: how it was made, what it holds, its statistics.

    Example: zwicky card run1/maps.h5 --out run1/maps.md
    """
    from zwicky.dataset.card import data_card
    from zwicky.dataset.store import open_maps
    from zwicky.io import atomic_path, check_output

    if out_file is None:
        return say(data_card(open_maps(maps)))
    check_output(out_file, [maps])
    with user_errors():
        text = data_card(open_maps(maps))
    with atomic_path(out_file) as part:
        part.write_text(text)
    say(out_file)

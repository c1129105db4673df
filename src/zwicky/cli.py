"""The command line: one command a stage, each resumed by repeating it.

Whatever the user can mend ends in one sentence on standard error and exit status 2.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: idle threads sleep instead of spinning

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from zwicky.io import UserError
from zwicky.terminal import bars, err, fail, integers, numbers, out, print_masses, remark, show, user_errors, words
from zwicky.version import __version__

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Calibrated posterior maps of the gas and dark matter of galaxy clusters from SZ and X-ray images.",
)  # fmt: skip

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all randomness of the command.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")]


def main() -> None:
    """Entry point: run the command, turn what the user can mend into one sentence and exit status 2."""
    try:
        app(prog_name="zwicky", standalone_mode=False)
    except UserError as error:
        fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        fail("interrupted; repeat the command to continue.", 130)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of click
            fail(error.format_message())
        raise


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        out.print(f"zwicky {__version__}", highlight=False)
        raise typer.Exit()


@app.command()
def simulate(
    out_folder: Out,
    preset: Annotated[str, typer.Option(help="n64, n128, n256, n512 or n1024.")] = "n64",
    seed: Seed = 0,
    particles: Annotated[int | None, typer.Option(help="Particles of each species along a side.")] = None,
    box: Annotated[float | None, typer.Option("--box", help="Comoving side [Mpc/h].")] = None,
    redshift: Annotated[float, typer.Option("--redshift", help="Redshift of the snapshot.")] = 0.0,
    redshifts: Annotated[str, typer.Option("--redshifts", help="Of further snapshots, comma-separated.")] = "",
    cluster: Annotated[float, typer.Option("--cluster", help="M200m [Msun] of a cluster to plant.")] = 0.0,
    closure: Annotated[str, typer.Option("--closure", help="viscous or inviscid gas.")] = "viscous",
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Simulate dark matter and gas in a box and write OUT/snapshot.hdf5.

    Example: zwicky simulate --preset n64 --seed 1 --out run1
    """
    from zwicky.device import choose_device
    from zwicky.plant import planted
    from zwicky.simulate.pressure import PressureModel
    from zwicky.simulate.run import PRESETS, SimulationConfig
    from zwicky.simulate.run import simulate as run

    if preset not in PRESETS:
        raise UserError(f"the preset must be one of {', '.join(PRESETS)}, not {preset!r}.")
    n, side = PRESETS[preset]
    with user_errors():
        config = SimulationConfig(
            particles if particles is not None else n, box if box is not None else side, seed,
            cluster=cluster, redshift_end=redshift, redshifts=numbers(redshifts, "--redshifts"),
            pressure=PressureModel(closure=closure),
        )
    if dry_run:
        return show(asdict(config) | {"memory [GB]": round(config.memory / 1e9, 1)})
    place, stage = choose_device(device).type, f"simulate, {config.memory / 1e9:.1f} GB"
    with user_errors(), bars() as tell:
        config = planted(config, out_folder, lambda done, most, mass: tell("plant", done, most, mass), place)
        path = run(
            config, out_folder, lambda done, total, z: tell(stage, done, total, f"z = {z:.2f}"), device=place
        )
    out.print(f"{path}", highlight=False)


@app.command()
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
    out.print(f"{out_file}: {len(table)} halos", highlight=False)


@app.command()
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
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the work (needs dask).")] = 1,
    scheduler: Annotated[str, typer.Option(help="Address of a dask scheduler whose workers serve instead.")] = "",
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
        out.print("warning: maps as wide as their clusters tell the mass; no observer can make them", highlight=False)
    for cluster, reason in failed_clusters(out_file).items():
        out.print(f"warning: cluster {cluster} was left out: {reason}", highlight=False)
    out.print(f"{out_file}", highlight=False)


@app.command()
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
            out.print(f"{path}", highlight=False)


@app.command()
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
    out.print(f"{out_file}: {100 * image.mask.mean():.1f}% of the pixels are known", highlight=False)


@app.command()
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
        return out.print(data_card(open_maps(maps)), highlight=False, markup=False, soft_wrap=True)
    check_output(out_file, [maps])
    with user_errors():
        text = data_card(open_maps(maps))
    with atomic_path(out_file) as part:
        part.write_text(text)
    out.print(f"{out_file}", highlight=False)


@app.command()
def train(
    maps: Annotated[Path, typer.Argument(help="A set of maps.")],
    out_folder: Out,
    baseline: Annotated[str, typer.Option(help="A published method: unet, h25, h25_unet, deandres_sz, ...")] = "",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps (4000).")] = None,
    batch: Annotated[int | None, typer.Option(help="Maps a step (16).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate (1e-3).")] = None,
    widths: Annotated[str | None, typer.Option(help="Widths of the levels (32,64,128,192).")] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks a level (1).")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of the pixel blocks folded into channels (2).")] = None,
    inputs: Annotated[str | None, typer.Option(help="Channels to condition on (compton_y,xray).")] = None,
    targets: Annotated[str | None, typer.Option(help="Channels to predict (gas,dark_matter).")] = None,
    kind: Annotated[str | None, typer.Option(help="score, regression (a plain U-Net) or h25.")] = None,
    network: Annotated[str | None, typer.Option(help="unet or ncsnpp.")] = None,
    mass: Annotated[bool, typer.Option("--mass", help="Predict the masses apart from the shapes.")] = False,
    instruments: Annotated[str | None, typer.Option(help="Instruments of the set whose images are shown.")] = None,
    degrade: Annotated[float | None, typer.Option(help="Share of clean images given a beam and noise (0).")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a batch is worked through in (1).")] = None,
    patience: Annotated[int | None, typer.Option(help="Validations without a lower CRPS before an early end.")] = None,
    time_budget: Annotated[float, typer.Option(help="Minutes that the training may take; 0 for all steps.")] = 0.0,
    start: Annotated[str | None, typer.Option("--from", help="A model to go on from.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder for the program tensorboard.")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Train a model on a set of maps. `torchrun --nproc-per-node 4 -m zwicky train ...` takes four processes.

    Example: zwicky train run1/maps.h5 --out run1/model
    """
    from zwicky.reconstruct import add_reference
    from zwicky.train import train as run
    from zwicky.train_config import BASELINES, TrainConfig

    given = {
        "targets": words(targets), "inputs": words(inputs), "steps": steps, "batch": batch, "blocks": blocks,
        "learning_rate": learning_rate, "widths": integers(widths, "--widths"), "patch": patch, "seed": seed,
        "kind": kind, "network": network, "mass": mass or None, "instruments": words(instruments), "degrade": degrade,
        "accumulate": accumulate, "patience": patience,
    }  # fmt: skip
    if baseline and baseline not in BASELINES:
        raise UserError(f"the baseline must be one of {', '.join(BASELINES)}, not {baseline!r}.")
    with user_errors():
        chosen = {name: value for name, value in given.items() if value not in (None, ())}
        config = TrainConfig(**{**BASELINES.get(baseline, {}), **chosen})
    if not 0 <= time_budget < float("inf"):
        raise UserError("the time budget must not be negative.")
    if dry_run:
        return show(config)
    with user_errors(), bars() as tell:
        run(
            maps, out_folder, config, device, lambda done, total, s: tell("train", done, total, remark(s)),
            start=start, time_budget=60 * time_budget, tensorboard=tensorboard,
        )
        add_reference(out_folder, maps, device, lambda done, total: tell("outliers", done, total, ""))
    out.print(f"{out_folder}", highlight=False)


@app.command()
def models(
    names: Annotated[list[str] | None, typer.Argument(help="Shipped models or folders; else all shipped.")] = None,
) -> None:
    """List models: what they expect, what they were trained on, and how well they did on held-out clusters.

    Example: zwicky models laptop
    """
    from zwicky.model import shipped
    from zwicky.model_card import model_card

    for name in names or shipped():
        out.print(model_card(name), highlight=False, markup=False, soft_wrap=True)


@app.command()
def reconstruct(
    out_file: Out,
    redshift: Annotated[float, typer.Option("--redshift", help="Redshift of the cluster.")],
    model: Annotated[str, typer.Option("--model", help="A shipped model or a folder.")] = "laptop",
    sz: Annotated[Path | None, typer.Option("--sz", help="FITS image of Compton y.")] = None,
    xray: Annotated[Path | None, typer.Option("--xray", help="FITS image of X-ray surface brightness.")] = None,
    mask: Annotated[Path | None, typer.Option("--mask", help="FITS image, 0 where pixels are to be ignored.")] = None,
    pixel_kpc: Annotated[float | None, typer.Option(help="Side of a pixel [kpc], if not by WCS.")] = None,
    samples: Annotated[int, typer.Option("--samples", help="Number of posterior samples.")] = 50,
    r500c: Annotated[float | None, typer.Option("--r500c", help="R500c [kpc] for the mass table.")] = None,
    r200m: Annotated[float | None, typer.Option("--r200m", help="R200m [kpc] for the mass table.")] = None,
    sampler: Annotated[str | None, typer.Option(help="dpm (fast), sde, heun, euler_maruyama, mean.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Noise levels of the sampler.")] = None,
    prior: Annotated[str, typer.Option(help="Of the mass: training, flat or mass_function.")] = "training",
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Reconstruct gas and dark matter from SZ and X-ray images; write OUT, a FITS file of posterior samples.

    Example: zwicky reconstruct --sz y.fits --xray sx.fits --redshift 0.1 --samples 50 --out posterior.fits
    """
    from zwicky.io import check_output
    from zwicky.reconstruct import load_model, reconstruct_files

    radii = {k: v for k, v in (("R500c", r500c), ("R200m", r200m)) if v is not None}
    if not all(r > 0 for r in radii.values()):
        raise UserError("the radii of apertures must be positive.")
    files = {k: v for k, v in (("compton_y", sz), ("xray", xray)) if v is not None}
    check_output(out_file, [*files.values(), mask])
    with user_errors():
        network = load_model(model, device)
        with bars() as tell:
            posterior = reconstruct_files(
                network, files, redshift, mask=mask, pixel_kpc=pixel_kpc, n=samples, seed=seed, sampler=sampler,
                steps=steps, prior=prior, progress=lambda done, total: tell("sample", done, total, ""),
            )
        posterior.to_fits(out_file, radii)
    for text in posterior.warnings:
        err.print(f"warning: {text}", style="yellow", markup=False, highlight=False)
    print_masses(posterior.masses(radii))
    out.print(f"{out_file}", highlight=False)


@app.command()
def evaluate(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL... MAPS", help="Models, then a set of maps.")
    ] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Where to write.")] = None,
    sightlines: Annotated[int, typer.Option(help="Held-out sightlines.")] = 64,
    samples: Annotated[int, typer.Option(help="Posterior samples of each.")] = 50,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    sampler: Annotated[str, typer.Option(help="dpm, sde, heun, euler_maruyama; that of the model if not given.")] = "",
    steps: Annotated[int, typer.Option(help="Noise levels; 0 is the sampler's default.")] = 0,
    given: Annotated[str | None, typer.Option(help="Channels that are given (all); none for the prior.")] = None,
    instruments: Annotated[str | None, typer.Option(help="Instruments of the set whose images are given.")] = None,
    prior: Annotated[str, typer.Option(help="Of the mass: training, flat or mass_function.")] = "training",
    self_check: Annotated[
        bool, typer.Option("--self-check", help="Judge the measures by posteriors that are known, and by known faults.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Evaluate models on held-out clusters: metrics.json, table1.md and figures.

    Example: zwicky evaluate run1/model run1/maps.h5 --out run1/report
    """
    from zwicky.evaluate.run import EvaluateConfig
    from zwicky.evaluate.run import evaluate as run

    if self_check:
        return _self_check(seed, sightlines, samples)
    if paths is None or len(paths) < 2:
        raise UserError("give at least one model and then the set of maps.")
    if out_folder is None:
        raise UserError("give the folder of the report with --out.")
    with user_errors():
        config = EvaluateConfig(
            split, sightlines, samples, sampler, steps, seed, words(given), words(instruments), prior
        )
    if dry_run:
        return show(config)
    with user_errors(), bars() as tell:
        folder = run(paths[:-1], paths[-1], out_folder, config, device, lambda d, t: tell("evaluate", d, t, ""))
    out.print(f"{folder}", highlight=False)


def _self_check(seed: int, maps: int, samples: int) -> None:
    """Print every measure of the exact posterior, and which of them notices each fault."""
    from zwicky.evaluate.selfcheck import LIMIT, require_sound, self_check

    with user_errors(), bars() as tell:
        found = self_check(seed, maps, samples, lambda done, total: tell("self-check", done, total, ""))
    for check in found["none"]:
        out.print(
            f"{check.name:42s} {check.value:10.4f}  ideal {check.ideal:8.4f}  off by {check.off:4.1f} standard errors",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for fault, checks in found.items():
        loud = [c for c in checks if c.off > LIMIT] if fault != "none" else []
        if loud:
            worst = max(loud, key=lambda c: c.off)
            by = f"noticed by {len(loud)} of {len(checks)} measures, first of all {worst.name}"
            out.print(f"{fault}: {by}", highlight=False, soft_wrap=True)
    require_sound(found)
    out.print("the measures are sound", highlight=False)


@app.command("run")
def run_command(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.")],
    out_folder: Out,
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Run a whole recipe: simulate, halos, observe, train, evaluate. What is done is skipped, what was cut off resumes.

    Example: zwicky run recipes/laptop.toml --out runs/laptop
    """
    from zwicky.device import choose_device
    from zwicky.recipe import read_recipe, run_recipe

    config = read_recipe(recipe)
    if dry_run:
        return show(config)
    place = choose_device(device)
    with user_errors(), bars() as tell:
        report = run_recipe(recipe, out_folder, place.type, tell)
    out.print(f"{report}", highlight=False)


@app.command()
def demo(
    out_folder: Out = Path("demo"),
    samples: Annotated[int, typer.Option("--samples", help="Number of posterior samples.")] = 50,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Reconstruct the shipped observation with the shipped model; nothing is downloaded.

    Writes OUT/posterior.fits and OUT/reconstruction.png and prints masses against the truth.

    Example: zwicky demo --out demo
    """
    from zwicky.demo import run_demo

    with user_errors(), bars() as tell:
        posterior, radii, truth = run_demo(
            out_folder, samples, seed, device, lambda done, total: tell("sample", done, total, "")
        )
    print_masses(posterior.masses(radii), truth)
    out.print(f"{out_folder / 'posterior.fits'}\n{out_folder / 'reconstruction.png'}", highlight=False)


if __name__ == "__main__":
    main()

"""Commands that train models, use them and judge them, and whole recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    named_numbers,
    print_masses,
    say,
    show,
    user_errors,
    warn,
    words,
)


def train(
    maps: Annotated[Path, typer.Argument(help="A set of maps.")],
    out_folder: Out,
    baseline: Annotated[str, typer.Option(help="A published method: unet, h25, h25_unet, deandres_sz, ...")] = "",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps (4000).")] = None,
    batch: Annotated[int | None, typer.Option(help="Maps a step (16).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate (1e-3).")] = None,
    widths: Annotated[str | None, typer.Option(help="Widths of the levels (32,64,96,128).")] = None,
    blocks: Annotated[int | None, typer.Option(help="Residual blocks a level (1).")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of the pixel blocks folded into channels (2).")] = None,
    inputs: Annotated[str | None, typer.Option(help="Channels to condition on (compton_y,xray).")] = None,
    targets: Annotated[str | None, typer.Option(help="Channels to predict (gas,dark_matter).")] = None,
    kind: Annotated[str | None, typer.Option(help="score, regression (a U-Net, one map) or h25.")] = None,
    network: Annotated[str | None, typer.Option(help="unet or ncsnpp.")] = None,
    mass: Annotated[bool, typer.Option("--mass", help="Predict the masses apart from the shapes.")] = False,
    instruments: Annotated[str | None, typer.Option(help="Instruments of the set whose images are shown.")] = None,
    degrade: Annotated[float | None, typer.Option(help="Share of clean images given a beam and noise (0).")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a batch is worked through in (1).")] = None,
    physics: Annotated[
        str | None, typer.Option(help="Weights of further losses: mass=0.1,power=0.1,gas_fraction=0.1,forward=0.1.")
    ] = None,
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
    from zwicky.device import is_first_process
    from zwicky.physics import PhysicsWeights
    from zwicky.recipe import build
    from zwicky.reconstruct import add_reference
    from zwicky.train import remark
    from zwicky.train import train as run
    from zwicky.train_config import BASELINES, TrainConfig

    given = {
        "targets": words(targets), "inputs": words(inputs), "steps": steps, "batch": batch, "blocks": blocks,
        "learning_rate": learning_rate, "widths": integers(widths, "--widths"), "patch": patch, "seed": seed,
        "kind": kind, "network": network, "mass": mass or None, "instruments": words(instruments), "degrade": degrade,
        "accumulate": accumulate, "patience": patience,
        "physics": build(PhysicsWeights, named_numbers(physics, "--physics"), "--physics"),
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
        if is_first_process():
            add_reference(out_folder, maps, device, lambda done, total: tell("outliers", done, total, ""))
    say(out_folder)


def models(
    names: Annotated[list[str] | None, typer.Argument(help="Shipped models or folders; else all shipped.")] = None,
) -> None:
    """List models: what they expect, what they were trained on, and how well they did on held-out clusters.

    Example: zwicky models laptop
    """
    from zwicky.model import shipped
    from zwicky.model_card import model_card

    for name in names or shipped():
        say(model_card(name))


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
        warn(text)
    print_masses(posterior.masses(radii))
    say(out_file)


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
    workers: Workers = 1,
    scheduler: Scheduler = "",
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
        folder = run(
            paths[:-1], paths[-1], out_folder, config, device, lambda done, total: tell("evaluate", done, total, ""),
            workers, scheduler,
        )  # fmt: skip
    say(folder)


def _self_check(seed: int, maps: int, samples: int) -> None:
    """Print every measure of the exact posterior, and which of them notices each fault."""
    from zwicky.evaluate.selfcheck import LIMIT, require_sound, self_check

    with user_errors(), bars() as tell:
        found = self_check(seed, maps, samples, lambda done, total: tell("self-check", done, total, ""))
    for check in found["none"]:
        ideal = f"ideal {check.ideal:8.4f}  off by {check.off:4.1f} standard errors"
        say(f"{check.name:42s} {check.value:10.4f}  {ideal}")
    for fault, checks in found.items():
        loud = [c for c in checks if c.off > LIMIT] if fault != "none" else []
        if loud:
            worst = max(loud, key=lambda c: c.off)
            by = f"noticed by {len(loud)} of {len(checks)} measures, first of all {worst.name}"
            say(f"{fault}: {by}")
    require_sound(found)
    say("the measures are sound")


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe in TOML.")],
    out_folder: Out,
    workers: Workers = 1,
    scheduler: Scheduler = "",
    device: Device = "cpu",
    dry_run: DryRun = False,
) -> None:
    """Run a whole recipe: simulate, halos, observe, train, evaluate. What is done is skipped, what was cut off resumes.

    Example: zwicky run recipes/clusters.toml --out runs/clusters
    """
    from zwicky.device import choose_device
    from zwicky.recipe import read_recipe, run_recipe

    config = read_recipe(recipe)
    if dry_run:
        return show(config)
    place = choose_device(device, particles=True)
    with user_errors(), bars() as tell:
        report = run_recipe(recipe, out_folder, place.type, tell, workers, scheduler)
    say(report)


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
    say(f"{out_folder / 'posterior.fits'}\n{out_folder / 'reconstruction.png'}")

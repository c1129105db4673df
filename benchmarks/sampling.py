"""Cost of sampling and of training beside other packages: posterior samples of 2 maps of 128 x 128 given 2 images.

    python benchmarks/sampling.py [--threads 1] [--seconds 5]

| network | what it is |
|---|---|
| laptop | the model in the package, sampled by `Model.sample` and trained by `Trainer.advance` |
| ncsnpp | Zwicky's NCSN++ of the published width, 256 at four levels |
| score-models | NCSN++ with the defaults of `pip install score-models`, by its own `sample` and `fit` |
| diffusers | UNet2DModel (64, 128, 256, 256) of `pip install diffusers`, attention at the lowest level |

Weights matter to no time, so all but the first have fresh ones. Everything runs in one go on the same threads, each
entry in a process of its own, whose peak memory is that of the entry alone. Seconds are those of the CPU, user and
system, which other work on the cores changes least; the wall's follow. A call is repeated for --seconds at least and
the least of its times taken; one that takes longer is timed once. The samples of `laptop` are drawn, all 50 of them;
those of the others are extrapolated, 50 times the evaluations of a sample times the time of one for one image.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from astropy.io import fits
from torch import Tensor, nn

from zwicky.dataset.loader import Batch
from zwicky.demo import OBSERVATION
from zwicky.device import autocast
from zwicky.diffusion.sample import DEFAULT_LEVELS
from zwicky.model import Networks
from zwicky.posterior import network_calls
from zwicky.reconstruct import Model, load_model
from zwicky.train_config import Stage, TrainConfig
from zwicky.trainer import Trainer

CPU = torch.device("cpu")
PIXELS, SAMPLES, BATCH = 128, 50, 4
TRAINING = f"training step of {BATCH}"
EVALUATION = "evaluation of 1"
WORKS = {
    "laptop": (EVALUATION, "mean", "dpm", "sde", TRAINING),
    "ncsnpp": (EVALUATION, TRAINING),
    "score-models": (EVALUATION, TRAINING),
    "diffusers": (EVALUATION, TRAINING),
}
"""Network -> what is timed of it."""

EXTRAPOLATED = {
    "ncsnpp": [("dpm", 24), ("Euler-Maruyama", 100), ("Euler-Maruyama", 1000)],
    "score-models": [("Euler-Maruyama", 100), ("Euler-Maruyama", 1000)],
    "diffusers": [("DDIM", 50), ("DDPM", 1000)],
}
"""Network -> samplers and evaluations of a sample: 1000 as in score-models' README, 100 and 24 as Zwicky's defaults, 50
and 1000 as those of diffusers' pipelines."""


class Work(NamedTuple):
    """What is timed: a call that does the work `count` times with `net`."""

    net: nn.Module
    call: Callable[[], object]
    count: int = 1


# Zwicky ---------------------------------------------------------------------------------------------------------------


def zwicky_model(name: str) -> Model:
    """The model in the package, or one with an NCSN++ of the published width in its place."""
    model = load_model("laptop")
    if name == "laptop":
        return model
    published = {"widths": (256,) * 4, "blocks": 2}
    config = replace(model.config, kind="h25", architecture="ncsnpp", network=published, mass={}, local=False)
    networks = config.networks().eval().requires_grad_(False)
    networks.to(memory_format=torch.channels_last)  # as a model that is loaded
    return replace(model, config=config, networks=networks)


def of_precision(networks: Networks, bf16: bool) -> Networks:
    """The networks of maps, always in bfloat16 or always in float32; sums over a map are in float32 anyway."""
    for part in (networks.mean, networks.denoiser):
        if part is not None:
            set_precision(part.net, bf16)
    return networks


def zwicky_evaluation(model: Model, bf16: bool) -> Work:
    """One evaluation of the denoiser for one cluster."""
    networks = of_precision(model.networks, bf16)
    batch, _ = RandomMaps(model).batch(1, 0, 0)
    config = networks.denoiser.net.config
    condition = torch.randn(1, config["in_channels"] - config["out_channels"], PIXELS, PIXELS)
    scalars = torch.zeros(1, config["scalar_features"])
    return Work(networks, torch.no_grad()(lambda: networks.denoiser(batch.x, torch.ones(1), condition, scalars)))


def zwicky_samples(model: Model, bf16: bool, sampler: str) -> Work:
    """50 samples of the posterior of the observation in the package, or its mean."""
    networks = of_precision(model.networks, bf16)
    files = {"compton_y": "sz.fits", "xray": "xray.fits"}
    images = {name: fits.getdata(OBSERVATION / file) for name, file in files.items()}
    redshift = fits.getheader(OBSERVATION / "truth.fits")["REDSHIFT"]
    return Work(networks, lambda: model.sample(images, redshift, model.config.pixel_kpc, SAMPLES, sampler=sampler))


class RandomMaps:
    """White noise in place of the batches of a `MapLoader`, in as many planes as the network of a model takes."""

    def __init__(self, model: Model):
        self.out, self.beams, self.planes = len(model.config.targets), len(model.config.inputs), model.config.planes

    def batch(self, size: int, seed: int, step: int) -> tuple[Batch, torch.Generator]:
        """A batch and the generator of the step."""
        rng = torch.Generator().manual_seed(step)
        x, condition = (torch.randn(size, n, PIXELS, PIXELS, generator=rng) for n in (self.out, self.planes))
        return Batch(x, condition, torch.zeros(size, self.beams), torch.full((size, self.out), 33.0)), rng


def zwicky_training(model: Model, bf16: bool) -> Work:
    """A step of the training of the denoiser: mean, loss, gradient, Adam, average of the weights."""
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    trainer = Trainer.new(TrainConfig(batch=BATCH), model.config, Stage("denoiser", 1000), 0, fabric, "")
    return Work(of_precision(trainer.networks, bf16), lambda: trainer.advance(RandomMaps(model)))


def zwicky(name: str, work: str, bf16: bool) -> Work:
    """A work of `WORKS` by Zwicky."""
    model = zwicky_model(name)
    if work == EVALUATION:
        return zwicky_evaluation(model, bf16)
    return zwicky_training(model, bf16) if work == TRAINING else zwicky_samples(model, bf16, work)


# The others -----------------------------------------------------------------------------------------------------------


def score_models(work: str, bf16: bool) -> Work:
    """A step of Euler-Maruyama of `ScoreModel.sample`, or an epoch of one batch of `ScoreModel.fit`."""
    from score_models import NCSNpp, ScoreModel

    net = NCSNpp(channels=2, condition=("input",), condition_input_channels=2)
    model = ScoreModel(set_precision(net, bf16), sigma_min=1e-3, sigma_max=1.0, device=CPU)
    if work == EVALUATION:
        y, steps = torch.randn(1, 2, PIXELS, PIXELS), 2  # in 2 steps the time is exact, and none is left out
        return Work(net, lambda: model.sample((1, 2, PIXELS, PIXELS), steps, condition=[y]), steps)
    maps = torch.utils.data.TensorDataset(*torch.randn(2, BATCH, 2, PIXELS, PIXELS))
    return Work(net, lambda: model.fit(maps, epochs=1, batch_size=BATCH))


def diffusers(work: str, bf16: bool) -> Work:
    """A step of `DDPMScheduler`, or the loss of the noise, its gradient, Adam and `EMAModel`."""
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    net = UNet2DModel(
        sample_size=PIXELS, in_channels=4, out_channels=2, block_out_channels=(64, 128, 256, 256),
        down_block_types=("DownBlock2D",) * 3 + ("AttnDownBlock2D",),
        up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * 3,
    )  # fmt: skip
    set_precision(net, bf16)
    scheduler, (x, y) = DDPMScheduler(), torch.randn(2, BATCH, 2, PIXELS, PIXELS)
    if work == EVALUATION:

        @torch.no_grad()
        def step() -> Tensor:
            eps = net(torch.cat([x[:1], y[:1]], 1), 500).sample
            return scheduler.step(eps, 500, x[:1]).prev_sample

        return Work(net, step)
    optimizer, ema = torch.optim.Adam(net.parameters()), EMAModel(net.parameters())

    def train() -> None:
        noise, t = torch.randn_like(x), torch.randint(1000, (BATCH,))
        optimizer.zero_grad()
        eps = net(torch.cat([scheduler.add_noise(x, noise, t), y], 1), t).sample
        (eps - noise).square().mean().backward()
        optimizer.step()
        ema.step(net.parameters())

    return Work(net, train)


# Timing ---------------------------------------------------------------------------------------------------------------


def set_precision(net: nn.Module, bf16: bool) -> nn.Module:
    """The network, always in bfloat16 by autocast or always in float32."""
    net.forward = torch.autocast("cpu", torch.bfloat16, enabled=bf16)(net.forward)
    return net


def has_bfloat16() -> bool:
    """Whether Zwicky takes bfloat16 on this CPU."""
    with autocast(CPU):
        return torch.is_autocast_enabled("cpu")


def least(call: Callable[[], object], seconds: float) -> tuple[float, float]:
    """CPU and wall seconds of a call, those of the least CPU time."""
    times: list[tuple[float, float]] = []
    while sum(cpu for cpu, _ in times) < seconds:
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return min(times)


def measure(network: str, work: str, bf16: bool, seconds: float) -> dict[str, float]:
    """Parameters, CPU and wall seconds, and peak memory [GB] of a work, in this process."""
    torch.manual_seed(0)
    others = {"score-models": score_models, "diffusers": diffusers}
    with contextlib.redirect_stdout(sys.stderr):
        found = others[network](work, bf16) if network in others else zwicky(network, work, bf16)
        cpu, wall = least(found.call, seconds)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = sum(p.numel() for p in found.net.parameters())
    return {"parameters": size, "cpu": cpu / found.count, "wall": wall / found.count, "memory": memory}


def measure_apart(network: str, work: str, bf16: bool, o: argparse.Namespace) -> dict[str, float] | None:
    """The same in a process of its own; None, after a line that says so, if that fails."""
    command = [sys.executable, __file__, "--threads", str(o.threads), "--seconds", str(o.seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(o.threads)}
    done = subprocess.run(
        [*command, "--only", network, work, str(int(bf16))], env=environment, capture_output=True, text=True
    )  # fmt: skip
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        print(f"{network}, {work}: did not run ({reason})", flush=True)
        return None
    return json.loads(done.stdout)


# Tables ---------------------------------------------------------------------------------------------------------------


def three(x: float) -> str:
    """The number to three figures, without powers of ten where it is large."""
    return f"{float(f'{x:.3g}'):,.0f}" if x >= 100 else f"{x:.3g}"


def row(*columns: float | str) -> None:
    """Print a row of a table."""
    print("|", " | ".join(c if isinstance(c, str) else three(c) for c in columns), "|", flush=True)


def print_samples(found: dict[tuple[str, bool, str], dict[str, float]]) -> None:
    """Print the table of samples; the last column is the time over that of `dpm` by the model in the package."""
    default = found.get(("laptop", has_bfloat16(), "dpm"), {}).get("cpu", float("nan"))
    print(f"\n{SAMPLES} samples; * extrapolated\n")
    row("network", "precision", "M parameters", "CPU s an evaluation", "sampler", "evaluations a sample", "CPU s",
        "wall s", "over dpm")  # fmt: skip
    row(*["---"] * 9)
    for (network, bf16, work), f in found.items():
        if work != EVALUATION:
            continue
        head = network, "bf16" if bf16 else "fp32", f["parameters"] / 1e6, f["cpu"]
        for sampler in WORKS[network][1:-1]:
            if s := found.get((network, bf16, sampler)):
                n = network_calls(zwicky_model(network).config, sampler, DEFAULT_LEVELS[sampler])
                row(*head, sampler, n, s["cpu"], s["wall"], s["cpu"] / default)
        for sampler, n in EXTRAPOLATED.get(network, []):
            cpu, wall = (SAMPLES * n * f[clock] for clock in ("cpu", "wall"))
            row(*head, f"{sampler}*", n, cpu, wall, cpu / default)


def print_training(found: dict[tuple[str, bool, str], dict[str, float]]) -> None:
    """Print the table of training and memory."""
    print(f"\nA training step of a batch of {BATCH}, and peak memory\n")
    row("network", "precision", "CPU s a step", "wall s a step", "images per CPU s", "GB training", "GB sampling")
    row(*["---"] * 7)
    for (network, bf16, work), f in found.items():
        if work == TRAINING:
            rest = [v["memory"] for (n, b, w), v in found.items() if (n, b) == (network, bf16) and w != TRAINING]
            row(network, "bf16" if bf16 else "fp32", f["cpu"], f["wall"], BATCH / f["cpu"], f["memory"],
                max(rest, default=float("nan")))  # fmt: skip


def main() -> None:
    """Measure everything and print the tables, or measure one entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="least CPU time of an entry")
    parser.add_argument("--networks", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--only", nargs=3, help=argparse.SUPPRESS)  # network, work, bfloat16: an entry, as JSON
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    if o.only:
        network, work, bf16 = o.only
        print(json.dumps(measure(network, work, bool(int(bf16)), o.seconds)))
        return
    found: dict[tuple[str, bool, str], dict[str, float]] = {}
    for network in o.networks:
        package = network.replace("-", "_")
        if package in ("score_models", "diffusers") and importlib.util.find_spec(package) is None:
            print(f"{network}: not installed, left out (pip install {network})", flush=True)
            continue
        for bf16 in [True, False] if has_bfloat16() else [False]:
            for work in WORKS[network]:
                if (entry := measure_apart(network, work, bf16, o)) is not None:
                    found[network, bf16, work] = entry
                    print(f"{network} {'bf16' if bf16 else 'fp32'} {work}: {entry}", file=sys.stderr, flush=True)
    print_samples(found)
    print_training(found)


if __name__ == "__main__":
    main()

"""Quality against the number of evaluations of the network, for each sampler.

    python validation/levels.py MODEL MAPS FOLDER [--sightlines 24] [--samples 24] [--figure levels.png]

The model is judged by `zwicky evaluate` with samplers of 4 to 256 evaluations and, for masses alone, with the mean of a
single one. All see the same sightlines with the same seeds. The correction of the spread of samples was found with the
default sampler, which it favours; a copy of the model with an empty `spread` in its config.json has none. Prints, for
each channel, the CRPS of pixels over the mean pixel and over the best of all, the share of pixels and of masses in the
map that lie inside one standard deviation, the CRPS of masses, and the slope of true on predicted mass. Reports are
kept in FOLDER and resumed.
"""

import argparse
import json
from pathlib import Path

from common import COLOURS, draw, with_error

from zwicky.diffusion.sample import SAMPLERS
from zwicky.evaluate.run import EvaluateConfig, evaluate
from zwicky.model import read_model
from zwicky.posterior import network_calls

EVALUATIONS = (4, 8, 16, 32, 64, 128, 256)


def levels_for(config, sampler, count):
    """Noise levels with which a score model evaluates its network `count` times or just fewer; two at least."""
    return next((n for n in range(count + 1, 2, -1) if network_calls(config, sampler, n) <= count), 2)


def judged(o, sampler, levels):
    """The metrics of all maps of each channel; None where samples of one diverge, as they may with few evaluations."""
    config = EvaluateConfig(
        split=o.split, sightlines=o.sightlines, samples=o.samples, sampler=sampler, steps=levels, seed=o.seed
    )
    report = evaluate([o.model], o.maps, o.folder / f"{sampler}-{levels}", config, workers=o.workers)
    metrics = json.loads((report / "metrics.json").read_text())
    found = {name: channel["bins"]["all"] for name, channel in metrics["channels"].items()}
    lost = max(channel["settings"]["n_maps"] - found[name]["n_maps"] for name, channel in metrics["channels"].items())
    if lost:
        print(f"{sampler}, {levels} levels: samples of {lost} maps have diverged", flush=True)
    return None if lost else found


def line(sampler, count, found, best):
    """A line of the table of a channel."""
    pixel, mass = found["pixel"], found["mass"]["map"]
    slope = with_error(mass, "slope_true_given_pred")
    if sampler == "mean":
        return f"{sampler:16s} {count:4d} {'':43s} {slope}"
    crps = pixel["crps_over_mean"]
    shares = f"{pixel['coverage']:6.3f} {mass['coverage']:6.3f}"
    return f"{sampler:16s} {count:4d} {crps:8.4f} {crps / best:8.3f} {shares} {mass['crps_over_mass']:8.4f}    {slope}"


def main():
    """Judge, print the tables, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("maps", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samplers", nargs="+", default=[s for s in SAMPLERS if s != "mean"], choices=SAMPLERS)
    parser.add_argument("--evaluations", type=int, nargs="+", default=EVALUATIONS)
    parser.add_argument("--sightlines", type=int, default=24)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    found, (config, _) = {}, read_model(o.model)
    if (mean := judged(o, "mean", 2)) is not None:
        found["mean", 1] = mean
    for sampler in o.samplers:
        for levels in dict.fromkeys(levels_for(config, sampler, count) for count in o.evaluations):
            if (numbers := judged(o, sampler, levels)) is not None:
                count = network_calls(config, sampler, levels)
                found[sampler, count] = numbers
                print(f"{sampler}, {count} evaluations: done", flush=True)
    if not any(sampler != "mean" for sampler, _ in found):
        raise SystemExit("all samples diverged.")
    channels = list(next(iter(found.values())))
    for name in channels:
        crps = {key: f[name]["pixel"]["crps_over_mean"] for key, f in found.items() if key[0] != "mean"}
        print(f"\n{name}\nsampler          evaluations  CRPS  over best  pixels masses  CRPS (mass)  slope")
        for key, of_channels in found.items():
            print(line(*key, of_channels[name], min(crps.values())))

    def curve(name, value, label):
        def panel(ax):
            for sampler, colour in zip(o.samplers, COLOURS, strict=False):
                counts = [count for which, count in found if which == sampler]
                numbers = [value(found[sampler, count][name]) for count in counts]
                ax.semilogx(counts, numbers, "o-", ms=3, color=colour, label=sampler)
            ax.set(xlabel="evaluations", ylabel=label, title=name)
            ax.legend(fontsize=7)

        return panel

    measures = [(lambda f: f["pixel"]["crps_over_mean"], "CRPS / mean"), (lambda f: f["pixel"]["coverage"], "coverage")]
    draw(o.figure, [curve(name, *measure) for name in channels[:2] for measure in measures])


if __name__ == "__main__":
    main()

"""Variants of the model and published methods, trained on the same maps with the same images seen, judged side by side.

    python validation/variants.py MAPS FOLDER [--variants ours together ...] [--steps 2000] [--sightlines 60]

| variant | what differs |
|---|---|
| ours | masses apart, spread of samples corrected, no physics in the loss |
| no_spread | the same weights, samples as the network gives them |
| even | all pixels weigh alike in the loss |
| mass, power, gas_fraction, forward | a term of physics in the loss, of weight --weight |
| together | masses left to the pixels |
| no_pixels | the mean starts from nothing, not from what each pixel says |
| h25, h25_unet, unet | the baselines of `zwicky train --baseline` |
| h25_unet_80 | the second of these, with sigma_max = 80 |
| unet_sz, unet_xray, unet_stars, unet_multi | `unet`, shown y, X-rays, painted galaxies or all (de Andres et al.) |

Trains each, evaluates all by `zwicky evaluate` with the Wiener filter and the scaling relations beside them, and prints
for each channel the table of the comparison and the slopes of predicted on true mass and of true on predicted. Models
and reports are kept in FOLDER and resumed. Generative replicas take 100 evaluations a sample; --replicas says on how
many sightlines they are judged.
"""

import argparse
import json
import shutil
from pathlib import Path

from common import with_error

from zwicky.dataset.store import open_maps
from zwicky.diffusion.noise import NoiseSchedule
from zwicky.evaluate.run import EvaluateConfig, evaluate
from zwicky.physics import PhysicsWeights
from zwicky.train import TrainConfig, train
from zwicky.train_config import BASELINES

PHYSICS = ("mass", "power", "gas_fraction", "forward")
REPLICAS = ("h25", "h25_unet", "h25_unet_80")
SEEN = {"sz": ("compton_y",), "xray": ("xray",), "stars": ("galaxies",), "multi": ("compton_y", "xray", "galaxies")}
FROM_80 = NoiseSchedule(1e-3, 80.0, P_mean=-1.26, P_std=100.0)  # ln sigma uniform, as the replica's


def variants(weight):
    """Name -> settings that differ from those of a training."""
    ours = {"mass": True}
    return {
        "ours": ours,
        "even": {**ours, "bright": 0.0},
        **{name: {**ours, "physics": PhysicsWeights(**{name: weight})} for name in PHYSICS},
        "together": {},
        "no_pixels": {**ours, "local": False},
        **{name: BASELINES[name] for name in ("h25", "h25_unet", "unet")},
        "h25_unet_80": {**BASELINES["h25_unet"], "noise": FROM_80},
        **{f"unet_{which}": {**BASELINES["unet"], "inputs": inputs} for which, inputs in SEEN.items()},
    }


VARIANTS = ["ours", "no_spread", *list(variants(0.0))[1:]]


def without_spread(model, folder):
    """A copy of the model whose samples are as its network gives them."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"spread": {}}))


def print_slopes(report, names):
    """Slopes of masses of the whole map, for each channel."""
    found = {name: json.loads((report / name / "metrics.json").read_text())["channels"] for name in names}
    for channel in found[names[0]]:
        print(f"\n{channel}: mass in the map\n{'':12s} predicted on true    true on predicted")
        for name in names:
            mass = found[name][channel]["bins"]["all"]["mass"]["map"]
            slopes = [with_error(mass, f"slope_{which}") for which in ("pred_given_true", "true_given_pred")]
            print(f"{name:12s} {slopes[0]}     {slopes[1]}")


def main():
    """Train, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs="+", default=TrainConfig().widths)
    parser.add_argument("--weight", type=float, default=0.1, help="of a term of physics")
    parser.add_argument("--sightlines", type=int, default=60)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--split", default="test")
    parser.add_argument("--replicas", type=int, default=20, help="sightlines that generative replicas are judged on")
    parser.add_argument("--workers", type=int, default=1, help="processes that judge")
    parser.add_argument("--device", default="cpu")
    o = parser.parse_args()
    common = {"steps": o.steps, "batch": o.batch, "widths": tuple(o.widths), "warmup": min(200, o.steps)}
    every = variants(o.weight)
    wanted = {channel for name in o.variants for channel in every.get(name, {}).get("inputs", ())}
    if missing := wanted - set(open_maps(o.maps).units):
        raise SystemExit(f"{o.maps} lacks {', '.join(sorted(missing))}; leave out the variants that are shown it.")
    for name in o.variants:
        weights = "ours" if name == "no_spread" else name
        train(o.maps, o.folder / weights, TrainConfig(**{**common, **every[weights]}), o.device)
        if name == "no_spread":
            without_spread(o.folder / weights, o.folder / name)
        print(f"{name}: trained", flush=True)
    names = [f"{o.folder / name}@{o.replicas}" if name in REPLICAS else o.folder / name for name in o.variants]
    config = EvaluateConfig(split=o.split, sightlines=o.sightlines, samples=o.samples)
    names += ["wiener", "scaling_sz", "scaling_xray"]
    report = evaluate(names, o.maps, o.folder / "report", config, o.device, workers=o.workers)
    print((report / "comparison.md").read_text())
    print_slopes(report, [*o.variants, "wiener"])


if __name__ == "__main__":
    main()

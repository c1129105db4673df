"""Warnings of outliers: how many clusters of other physics they catch, and how many whose mass is off.

    python validation/outliers.py runs/outliers [--train 3] [--validation 2] [--test 1] [--figure roc.png]

Simulates boxes of 2 x 48^3 particles in 46.9 Mpc/h with the default physics, trains a small model on the first of them
and takes the limit of the score from the next. The last are then seen as they are, with other physics, and with
faults: a second cluster in the field, a bright source, images scaled by 1.5. Prints, for each, the area under the ROC
curve, the share of sightlines with a warning, the share whose mass is off by more than 3 standard deviations, and the
share of these with a warning. Runs, maps and model are kept and resumed.
"""

import argparse
from pathlib import Path

import numpy as np
from common import COLOURS, draw, read_run

from zwicky.cosmology import Cosmology
from zwicky.dataset.build import build_maps
from zwicky.dataset.plan import ObserveConfig
from zwicky.dataset.store import open_maps
from zwicky.evaluate.outliers import Cases, area, judge, roc, shares
from zwicky.evaluate.run import choose_rows
from zwicky.outliers import FALSE_ALARMS
from zwicky.reconstruct import add_reference, load_model
from zwicky.simulate.pressure import PressureModel
from zwicky.simulate.run import SimulationConfig, simulate
from zwicky.train import TrainConfig, train

TARGETS, INPUTS = ("gas", "dark_matter"), ("compton_y", "xray")
PHYSICS = {
    "default": {},
    "cold": {"pressure": PressureModel(thermal_0=0.65)},  # p0 would change nothing: gas follows pressure, T stays
    "baryons": {"cosmology": Cosmology(omega_b=0.06)},
    "thermal": {"pressure": PressureModel(thermal_scale=0.4)},
    "beta": {"pressure": PressureModel(beta=4.5)},
}


def run(folder, name, seed):
    """Snapshot and halos of one simulation."""
    place = folder / f"{name}-{seed}"
    simulate(SimulationConfig(n=48, box=46.875, seed=seed, **PHYSICS[name]), place)
    read_run(place, min_particles=100)
    return place / "snapshot.hdf5", place / "halos.hdf5"


def observe(folder, name, seeds, **options):
    """The set of maps of simulations of one physics."""
    path = folder / f"{name}.h5"
    if not path.exists():
        config = ObserveConfig(pixels=64, pixel_kpc=200.0, min_mass=4e13, per_bin=150, cap=20, **options)
        build_maps([run(folder, name, seed) for seed in seeds], path, config)
    return open_maps(path)


def companion(maps, cluster, rng):
    """The maps with those of another cluster, without its surroundings, 1 to 2.5 Mpc away."""
    out = {}
    partner = np.array([rng.choice(np.flatnonzero(cluster != c)) for c in cluster])
    shift = np.round(rng.uniform(5, 12.5, len(cluster)) * np.exp(2j * np.pi * rng.uniform(size=len(cluster))), 0)
    for channel, images in maps.items():
        other = images[partner]
        other = np.maximum(other - np.median(other, axis=(1, 2), keepdims=True), 0)
        moved = [np.roll(o, (int(s.imag), int(s.real)), (0, 1)) for o, s in zip(other, shift, strict=True)]
        out[channel] = images + np.stack(moved)
    return out


def source(maps, cluster, rng):
    """The maps with a source in the X-ray image, 0.4 to 1.5 Mpc off the centre, as bright as the brightest pixel."""
    xray, middle = maps["xray"].copy(), maps["xray"].shape[-1] // 2
    for image in xray:
        step = rng.uniform(2, 7.5) * np.exp(2j * np.pi * rng.uniform())
        image[middle + round(step.imag), middle + round(step.real)] += image.max()
    return {**maps, "xray": xray}


FAULTS = {
    "second cluster": companion,
    "X-ray source": source,
    "y x 1.5": lambda maps, cluster, rng: {**maps, "compton_y": 1.5 * maps["compton_y"]},
    "y x 0.67": lambda maps, cluster, rng: {**maps, "compton_y": maps["compton_y"] / 1.5},
    "X-rays x 1.5": lambda maps, cluster, rng: {**maps, "xray": 1.5 * maps["xray"]},
}


def populations(folder, own, names, seeds, count):
    """Name, maps of all channels, R200m [kpc] and clusters of each kind of held-out sightlines; the like ones first."""
    for name in ("default", *names):
        maps = own if name == "default" else observe(folder, name, seeds, fractions=(0.0, 0.0, 1.0))
        rows = choose_rows(maps, "test", count)
        found = {channel: maps.read(channel, rows) for channel in (*TARGETS, *INPUTS)}
        about = maps.halo["r200m"][rows], maps.cluster[rows]
        yield name, found, *about
        for fault, change in FAULTS.items() if name == "default" else ():
            yield fault, change(found, about[1], np.random.default_rng(0)), *about


def trained(o):
    """A model with its reference, and the set of maps it was trained on."""
    counts = np.array([o.train, o.validation, o.test])
    seeds = range(1, counts.sum() + 1)
    own = observe(o.folder, "default", seeds, hold_out="simulation", fractions=tuple(counts / counts.sum()))
    config = TrainConfig(TARGETS, INPUTS, steps=o.steps, warmup=min(200, o.steps), widths=(24, 48, 64))
    folder = train(own.path, o.folder / "model", config)
    add_reference(folder, own.path)
    return load_model(folder), own, seeds[-o.test :]


def line(name, cases, like, rng):
    """A line of the table."""
    cells = [f"{v:5.2f} +- {e:4.2f}" for v, e in shares(cases, FALSE_ALARMS, rng).values()]
    counts = f"{len(cases.cluster):5d} {len(set(cases.cluster.tolist())):9d}"
    return f"{name:15s} {counts} {area(like.score, cases.score):6.2f}   {'   '.join(cells)}"


def together(every):
    """Cases of several kinds as one. Their clusters grow from the same modes: those of the same rank count as one."""
    number = [cases.cluster - cases.cluster.min() for cases in every]
    columns = (np.concatenate([getattr(cases, field) for cases in every]) for field in ("score", "pull"))
    return Cases(*columns, np.concatenate(number))


def main():
    """Run, print the table, draw the ROC curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for split, default in (("train", 3), ("validation", 2), ("test", 1)):
        parser.add_argument(f"--{split}", type=int, default=default, help="simulations")
    parser.add_argument("--sightlines", type=int, default=60, help="of each kind")
    parser.add_argument("--steps", type=int, default=3000, help="of the training")
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--physics", nargs="*", default=list(PHYSICS)[1:], choices=list(PHYSICS)[1:])
    parser.add_argument("--given", nargs="+", default=INPUTS, help="the channels that are given")
    parser.add_argument("--figure", type=Path)
    o = parser.parse_args()
    model, own, seeds = trained(o)
    every, rng = {}, np.random.default_rng(0)
    print("kind             maps  clusters   area   warned          failed          warned of the failed")
    for name, maps, r200m, cluster in populations(o.folder, own, o.physics, seeds, o.sightlines):
        given, truth = ({c: maps[c] for c in names} for names in (o.given, TARGETS))
        every[name] = judge(model, given, truth, r200m, cluster, own.redshift, o.samples)
        print(line(name, every[name], every["default"], rng), flush=True)
    like, others = every.pop("default"), every
    print(line("all but default", together(others.values()), like, rng))

    def panel(ax):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.8)
        ax.axvline(FALSE_ALARMS, color="0.6", lw=0.8, ls=":")
        for i, (name, cases) in enumerate(others.items()):
            style = "-" if i < len(COLOURS) else "--"
            ax.plot(*roc(like.score, cases.score), style, color=COLOURS[i % len(COLOURS)], label=name)
        ax.set(xlabel="false alarms", ylabel="share caught", xlim=(0, 1), ylim=(0, 1.01))
        ax.legend(fontsize=8)

    draw(o.figure, [panel])


if __name__ == "__main__":
    main()

"""Reports of `zwicky evaluate` beside what a model should reach.

    python validation/aims.py REPORT [REPORT ...] [--radius 2000]

Prints, for each report and channel, the numbers that this project aims at, with their errors, and marks those that miss
by more than two of them (!) or by less (?). Profiles are judged to --radius [kpc], about R200m of a middling cluster.
"""

import argparse
import json
from pathlib import Path

import numpy as np

SHARE = (0.65, 0.70)  # of what should lie inside one standard deviation


def worst(profile, scales, name, radius):
    """The largest of |difference| over the annuli inside a radius, with its error."""
    inside = np.array(scales["profile_edges_kpc"][1:]) <= radius
    value, error = (np.array(curve, dtype=float)[inside] for curve in known(profile, name))
    at = np.nanargmax(np.abs(value))
    return value[at], error[at]


def known(found, name):
    """A number of a report and its error."""
    return found[name], found[f"{name}_error"]


def aims(channel, radius):
    """Label -> (value, error, lowest, highest); bounds are None where the number has no aim of its own."""
    b, free = channel["bins"]["all"], (None, None)
    found = {}
    for where in ("map", "r500c", "r200m"):
        mass = b["mass"][where]
        bounds = (-0.005, 0.005) if where == "map" else free
        found[f"mass, {where}: median error"] = (*known(mass, "error_median"), *bounds)
        half, error = np.mean([known(mass, "error_plus"), known(mass, "error_minus")], axis=0)
        found[f"mass, {where}: half-width"] = (half, error, *free)
        found[f"mass, {where}: inside 1 sigma"] = (*known(mass, "coverage"), *SHARE)
        found[f"mass, {where}: true on predicted"] = (*known(mass, "slope_true_given_pred"), *free)
    for scale, off in (("large", 0.02), ("small", 0.05)):
        power = b["power"]
        found[f"r of the mean, {scale} scales"] = (*known(power["r_mean"], scale), *free)
        found[f"b of samples, {scale} scales"] = (*known(power["b_sample_weighted"], scale), 1 - off, 1 + off)
        found[f"b - r of the mean, {scale} scales"] = (*known(power["b_minus_r_debiased"], scale), -0.02, 0.02)
    for name in ("mean_difference", "spread_difference"):
        most = worst(b["profile"], channel["scales"], name, radius)
        found[f"profiles: worst {name.replace('_', ' ')}"] = (*most, -0.05, 0.05)
    found["profiles: inside 1 sigma"] = (*known(b["profile"], "coverage_all"), *SHARE)
    found["pixels: inside 1 sigma"] = (*known(b["pixel"], "coverage"), *SHARE)
    found["pixels: CRPS / mean"] = (*known(b["pixel"], "crps_over_mean"), *free)
    found["TARP: largest deviation"] = (b["tarp"]["max_deviation"], None, None, 0.05)
    return found


def cell(value, error, low, high):
    """The number with its error, and whether it misses its bounds."""
    if value is None or not np.isfinite(value):
        return f"{'-':>20s}"
    off = max(0.0 if low is None else low - value, 0.0 if high is None else value - high)
    error = error if error and np.isfinite(error) else 0.0
    mark = " " if off <= 0 else "!" if off > 2 * error else "?"
    return f"{value:8.4f} +- {error:.4f} {mark}"


def main():
    """Print the table of every report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--radius", type=float, default=2000.0)
    o = parser.parse_args()
    for report in o.reports:
        channels = json.loads((report / "metrics.json").read_text())["channels"]
        table = {name: aims(channel, o.radius) for name, channel in channels.items()}
        first = next(iter(channels.values()))["bins"]["all"]
        print(f"\n{report}: {first['n_maps']} maps of {first['n_clusters']} clusters")
        print(f"{'':34s}" + "".join(f"{name:>22s}" for name in table))
        for label, (*_, low, high) in next(iter(table.values())).items():
            aim = "" if low is None and high is None else f"  ({low if low is not None else ''} to {high})"
            print(f"{label:34s}" + "  ".join(cell(*found[label]) for found in table.values()) + aim)


if __name__ == "__main__":
    main()

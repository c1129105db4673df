"""A simulation that is killed by SIGKILL at random moments and started again, against an uninterrupted one.

    python validation/interrupted.py runs/interrupted [--n 32] [--kills 3] [--every 4] [--seed 0]

Checkpoints are --every seconds apart. Prints in which step it was killed, and whether both snapshots have the same
bytes. Status 1 if they differ.
"""

import argparse
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np

from zwicky.simulate.run import SimulationConfig, simulate


def steps_in(folder):
    """Steps in the log of a run."""
    log = folder / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def start(config, folder, every):
    """The run, in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(
        target=simulate, args=(config, folder), kwargs={"checkpoint_seconds": every}
    )
    process.start()
    return process


def main():
    """Run whole, run and kill, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--every", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    o = parser.parse_args()
    config, rng = SimulationConfig(n=o.n, box=o.n * 500 / 1024, seed=1), np.random.default_rng(o.seed)
    whole, killed = o.folder / "whole", o.folder / "killed"
    began = time.monotonic()
    start(config, whole, 1e9).join()
    took = time.monotonic() - began
    for _ in range(o.kills):
        process = start(config, killed, o.every)
        process.join(rng.uniform(0.2, 0.8) * took / o.kills + 2 * o.every)
        if not process.is_alive():
            sys.exit("the run was over before it could be killed; choose a larger one.")
        process.kill()
        process.join()
        print(f"killed in step {steps_in(killed) + 1}", flush=True)
    start(config, killed, o.every).join()
    same = (whole / "snapshot.hdf5").read_bytes() == (killed / "snapshot.hdf5").read_bytes()
    print(f"{steps_in(whole)} steps; the snapshots {'have the same bytes' if same else 'DIFFER'}")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())

"""A set of maps made by one process, and by two workers of which one is killed: the same bytes in every data set.

    python validation/dataset.py runs/n128/snapshot.hdf5 runs/n128/halos.hdf5 runs/dataset [--sets 2000]

The sightlines are shared out evenly over the halos above --min-mass. Prints the number of sets, the time of each way,
and whether all data sets are equal.
"""

import argparse
import os
import shutil
import signal
import time
from pathlib import Path

import h5py
import numpy as np
from distributed import Client, LocalCluster

from zwicky.dataset.build import build_maps
from zwicky.dataset.plan import ObserveConfig
from zwicky.halos import read_halos


def datasets(path):
    """Every data set of a file."""
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def build_and_kill(pair, path, config):
    """Build with two workers; kill one when a tenth is done."""
    folder = Path(path).with_suffix(".dask")
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder), memory_limit=None
    ) as cluster:
        killed = []

        def kill(done, total):
            if not killed and done > total / 10:
                with Client(cluster) as client:
                    killed.extend(client.run(os.getpid).values())
                os.kill(killed[0], signal.SIGKILL)
                print(f"worker {killed[0]} killed after {done} of {total} sets", flush=True)

        build_maps([pair], path, config, kill, scheduler=cluster.scheduler_address)
    shutil.rmtree(folder, ignore_errors=True)


def main():
    """Build both and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("snapshot", type=Path)
    parser.add_argument("halos", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--min-mass", type=float, default=3e13, help="least M200m [Msun]")
    o = parser.parse_args()
    o.folder.mkdir(parents=True, exist_ok=True)
    clusters = int((np.asarray(read_halos(o.halos)["m200m"]) >= o.min_mass).sum())
    config = ObserveConfig(min_mass=o.min_mass, per_bin=10**6, cap=-(-o.sets // clusters))
    pair, serial, parallel = (o.snapshot, o.halos), o.folder / "serial.h5", o.folder / "parallel.h5"
    for name, build in (("one process", lambda: build_maps([pair], serial, config)),
                        ("two workers, one killed", lambda: build_and_kill(pair, parallel, config))):  # fmt: skip
        start = time.perf_counter()
        build()
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    one, two = datasets(serial), datasets(parallel)
    equal = one.keys() == two.keys() and all(one[k].tobytes() == two[k].tobytes() for k in one)
    print(f"{len(one['cluster'])} sets of {clusters} clusters; {len(one)} data sets {'equal' if equal else 'DIFFER'}")


if __name__ == "__main__":
    main()

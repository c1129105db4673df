"""Put what `recipes/clusters.toml` made into the package: the model with its scores, and a cluster for the demo.

    zwicky run recipes/clusters.toml --out runs/clusters
    python benchmarks/ship.py runs/clusters

The cluster is of the test split, of the median mass of its maps.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np

from zwicky.dataset.store import open_maps
from zwicky.demo import OBSERVATION, write_observation
from zwicky.io import atomic_folder
from zwicky.model import SHIPPED
from zwicky.model_card import SCORES, write_scores
from zwicky.outliers import FILE


def ship_model(model: Path, name: str) -> None:
    """Copy a trained model into the package."""
    with atomic_folder(SHIPPED / name) as part:
        for file in ("model.safetensors", "config.json", "stats.jsonl", "training.json", SCORES, FILE):
            if (model / file).exists():
                shutil.copy(model / file, part / file)


def main() -> None:
    """Ship the run in the folder given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of `zwicky run recipes/clusters.toml`")
    run = parser.parse_args().run
    write_scores(run / "model", run / "report")
    ship_model(run / "model", "laptop")
    maps = open_maps(run / "maps.h5")
    test = maps.rows("test")
    row = int(test[np.argsort(maps.halo["m200m"][test], kind="stable")[len(test) // 2]])
    write_observation(maps, row, OBSERVATION)
    print(f"row {row}, cluster {maps.cluster[row]}, M200m = {maps.halo['m200m'][row]:.3e} Msun")


if __name__ == "__main__":
    main()

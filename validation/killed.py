"""Run a recipe that dies by SIGKILL in every stage, and compare what it leaves with an uninterrupted run.

    zwicky run recipes/boxes.toml --out runs/whole
    python validation/killed.py recipes/boxes.toml runs/whole runs/killed

Prints one line a file: equal (data sets and attributes of HDF5, bytes of the rest) or not. Status 1 if one differs.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py

from zwicky.recipe import run_recipe

DEATHS = (("simulate", 40), ("halos", 2), ("observe", 100), ("train", 900), ("evaluate", 200))  # at this step of each


def run_and_die(recipe: str, folder: str, stage: str, step: int) -> None:
    """Run the recipe and die in the middle of a stage."""

    def tell(now: str, done: int, total: int, remark: str) -> None:
        if now.startswith(stage) and done >= min(step, total - 1):
            print(f"killed in {now!r} at {done} of {total}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    run_recipe(recipe, folder, progress=tell)


def content(path: Path) -> str:
    """A digest of what a file says: HDF5 files may store the same values in other bytes."""
    if path.suffix not in (".h5", ".hdf5"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        digest.update(repr((name, sorted((k, str(v)) for k, v in item.attrs.items()))).encode())
        if isinstance(item, h5py.Dataset):
            digest.update(item[()].tobytes())

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
    return digest.hexdigest()


def main(recipe: str, whole: str, killed: str) -> int:
    for stage, step in DEATHS:
        command = [sys.executable, __file__, recipe, killed, stage, str(step)]
        if subprocess.run(command, check=False).returncode != -signal.SIGKILL:
            sys.exit(f"the run did not die in {stage!r}.")
    run_recipe(recipe, killed)
    names = {p.relative_to(f).as_posix() for f in (Path(whole), Path(killed)) for p in f.rglob("*") if p.is_file()}
    equal = {n: _same(Path(whole, n), Path(killed, n)) for n in sorted(names)}
    print(json.dumps(equal, indent=2))
    return int(not all(equal.values()))


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and content(a) == content(b)


if __name__ == "__main__":
    if len(sys.argv) == 5:
        run_and_die(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(main(*sys.argv[1:4]))

"""The files of one snapshot or catalogue, of which large simulations write several: `snap_099.0.hdf5` and so on."""

from __future__ import annotations

import re
from pathlib import Path

from zwicky.io import UserError, require_file

MOST_FILES = 100_000
NUMBER = re.compile(r"\.(\d+)\.(?=(hdf5|h5)$)")


def first_file(path: Path, what: str) -> Path:
    """The file itself, or the first of a folder.

    Raises:
        UserError: there is none, or the folder holds several snapshots.
    """
    try:
        if not path.is_dir():
            return require_file(path, what)
        found = sorted(p for suffix in ("*.hdf5", "*.h5") for p in path.glob(suffix))
    except OSError as error:
        raise UserError(f"{what} cannot be read: {error.strerror or error}.") from error
    if len({NUMBER.sub(".", p.name) for p in found}) != 1:
        raise UserError(f"the folder {path} does not hold one HDF5 snapshot or catalogue; name a file of it.")
    return next((p for p in found if NUMBER.search(p.name)), found[0])


def require_alone(folder: Path, first: Path) -> None:
    """Check that a file that holds everything is the only one of its folder.

    Raises:
        UserError: there are others, each of which may hold everything too.
    """
    others = sorted(p.name for suffix in ("*.hdf5", "*.h5") for p in folder.glob(suffix) if p != first)
    if others:
        raise UserError(f"the folder {folder} holds {first.name}, which is whole in itself, and {others[0]}; name one.")


def all_files(path: Path, count: int) -> list[Path]:
    """All of `count` files, in their order, from one of them.

    Raises:
        UserError: one is missing, or the name of this one does not tell those of the others.
    """
    if count <= 1:
        return [path]
    if count > MOST_FILES:
        raise UserError(f"{path} says that it is one of {count} files, which cannot be.")
    if not NUMBER.search(path.name):
        raise UserError(f"{path} is one of {count} files, but its name has no number.")
    paths = [path.with_name(NUMBER.sub(f".{i}.", path.name)) for i in range(count)]
    missing = next((p for p in paths if not p.exists()), None)
    if missing:
        raise UserError(f"{missing}, one of {count} files, does not exist.")
    return paths

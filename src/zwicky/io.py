"""Artefacts on disk: written whole or not at all, and errors that a user can act on.

Every file of Zwicky is written to a temporary name beside its destination and renamed when it is complete, so that a
file with the final name is always whole, whatever interrupted the run.
"""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

DAMAGE = (  # what reading a file that is not as it should be may raise
    OSError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError, ImportError,
)  # fmt: skip


class UserError(Exception):
    """What the user asked for cannot be done; the message is one sentence that says why and what to do.

    The command line prints the message and ends with exit status 2.
    """


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` on success, remove it on failure.

    Args:
        path: final name of a file (not of a folder).

    Raises:
        UserError: the folder cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    require_writable(path.parent)
    part = _new_part(path)
    try:
        yield part
        with open(part, "rb+") as f:
            os.fsync(f.fileno())
        part.chmod(file_mode())
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}.") from error
    finally:
        part.unlink(missing_ok=True)


def discard(path: Path) -> None:
    """Remove a file, if it is there, and what a killed run has left of writing it."""
    for old in (path, *_left_of(path)):
        old.unlink(missing_ok=True)


def _left_of(path: Path) -> Iterator[Path]:
    """Temporary files, or folders, that killed runs left of writing `path`."""
    return path.parent.glob(f".{glob.escape(path.name)}.*.part")


def _new_part(path: Path) -> Path:
    """An empty temporary file beside `path`; those that a killed run left are removed."""
    try:
        for old in _left_of(path):
            old.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}.") from error
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` on success (replacing what was there)."""
    path = Path(path)
    require_writable(path.parent)
    for old in _left_of(path):
        shutil.rmtree(old, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        os.replace(part, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def require_writable(folder: str | Path) -> Path:
    """Make `folder` if need be and return it.

    Raises:
        UserError: it cannot be made, is a file, or does not allow writing.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write into the folder {folder}: {_reason(error)}.") from error
    return folder


def require_room(path: str | Path, size: int) -> None:
    """Check that a file of `size` bytes fits on the disk: HDF5 may end the process where one is full.

    Raises:
        UserError: it does not fit.
    """
    folder = Path(path).resolve().parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(f"cannot write {path}: it takes {size / 1e6:.0f} MB and {free / 1e6:.0f} MB are free.")


def check_writable(folder: str | Path) -> None:
    """Check that `folder` could be made and written to, without making it.

    Raises:
        UserError: it could not.
    """
    folder = Path(folder).absolute()
    try:
        existing = next(p for p in (folder, *folder.parents) if p.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"cannot write into the folder {folder}: {_reason(error)}.") from error


def check_output(path: str | Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Check that a file `path` could be written, without making anything.

    Args:
        inputs: files, or folders of files, that it must not replace; None for one that is not given.

    Raises:
        UserError: its folder could not be written to, it is a folder, its name is too long, or it is an input.
    """
    path = Path(path)
    if len(os.fsencode(path.name)) > 240:
        raise UserError(f"cannot write {path.name[:40]}...: the name is too long.")
    check_writable(path.parent)
    for given in (Path(p) for p in inputs if p is not None):
        if path.resolve() == given.resolve() or (path.exists() and path.resolve().parent == given.resolve()):
            raise UserError(f"--out names {path}, which is to be read; choose another file.")
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder.")


def require_file(path: str | Path, what: str) -> Path:
    """Return `path` as a Path.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{what} {path} does not exist or is not a file.")
    return path


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def append_jsonl(path: str | Path, record: dict[str, Any]) -> None:
    """Append one record as a line of JSON (the format of `stats.jsonl`)."""
    try:
        with open(path, "a") as f:
            f.write(json.dumps(record) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}.") from error


def keep_jsonl_until(path: str | Path, step: int) -> None:
    """Drop the records of steps after `step`, which a resumed run will make again, and a line that was cut off."""
    path = Path(path)
    lines = path.read_text().splitlines() if path.is_file() else []
    with atomic_path(path) as part:
        part.write_text("".join(line + "\n" for line in lines if _step_of(line) <= step))


def _step_of(line: str) -> float:
    """The step of a record, infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError):
        return math.inf


def _reason(error: OSError) -> str:
    """Why the system refused; h5py reports a full disk at length, its errno says it shortly."""
    return os.strerror(error.errno) if error.errno else str(error).splitlines()[0]


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without quotes around it and without a full stop."""
    lines = str(error).splitlines() or [type(error).__name__]
    text = lines[0].rstrip(".")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def file_mode() -> int:
    """Permissions of a new file; temporary files and safetensors start with fewer."""
    return 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

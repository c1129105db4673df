"""Where the network runs: the device, the precision, and the number of CPU threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from zwicky.io import UserError

THREADS = torch.get_num_threads()  # before anything changes it, as numba's parallel loops of other code would


def choose_device(name: str, particles: bool = False) -> torch.device:
    """The torch device of `cpu`, `cuda` or `auto`.

    Args:
        particles: whether it is to move particles, which on a GPU takes numba-cuda; `auto` does without.

    Raises:
        UserError: there is no such device.
    """
    if name not in ("cpu", "cuda", "auto"):
        raise UserError(f"the device must be cpu, cuda or auto, not {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device was found; use --device cpu.")
    lacking = name == "auto" and particles and find_spec("numba_cuda") is None
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() and not lacking else "cpu")


def is_first_process() -> bool:
    """Whether this is the first of the processes that torchrun has started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 for the network where it pays: on GPUs, and on CPUs with instructions for it."""
    fast = device.type == "cuda" or any(
        getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile")
    )
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)


@contextmanager
def cpu_threads(count: int = THREADS) -> Iterator[None]:
    """torch on `count` CPU threads inside the block: sums, and so the last bits of a result, depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

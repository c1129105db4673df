"""Compiled loops on all threads.

numba's own parallel loops are not used: they are slow to compile; in a process that compiled them another copy of their
body runs than in one that loads them from the cache, which fastmath may round differently; their OpenMP pool changes
the number of threads of torch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch

PIECES = 16  # for each thread, because some parts of a range are far more work than others


def share_out(loop: Callable[..., None], count: int, *arguments: Any) -> None:
    """Run loop(begin, end, *arguments) over the range of `count`, in pieces, on as many threads as torch uses.

    The loop must be compiled with nogil=True, and write nothing that another piece reads or writes.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        return loop(0, count, *arguments)
    edges = np.unique(np.linspace(0, count, PIECES * threads + 1).astype(np.int64)).tolist()
    pieces = [_pool(threads).submit(loop, begin, end, *arguments) for begin, end in pairwise(edges)]
    for piece in pieces:
        piece.result()


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)

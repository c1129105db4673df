"""The same function for many jobs: one after the other here, or by dask on many processes or machines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch

from zwicky.io import UserError

Given = TypeVar("Given")
Found = TypeVar("Found")


def each(
    function: Callable[[Given], Iterable[Found]],
    jobs: Sequence[Given],
    lost: Callable[[Given], Iterable[Found]],
    workers: int = 1,
    scheduler: str = "",
) -> Iterator[Found]:
    """What the function returns for each job, in the order in which jobs end; jobs of lost processes are done again.

    Args:
        lost: what to return for a job whose process was lost every time.
        workers: processes of this machine, by dask; 1 for none but this one.
        scheduler: address of a dask scheduler whose workers serve instead.

    Raises:
        UserError: dask is not installed, or the scheduler cannot be reached.
    """
    if not jobs or (workers <= 1 and not scheduler):
        for job in jobs:
            yield from function(job)
        return
    with ExitStack() as stack:
        client = _client(stack, workers, scheduler)
        from distributed import KilledWorker, as_completed

        futures = client.map(_on_one_thread, [function] * len(jobs), jobs, pure=False)
        of = {future.key: job for future, job in zip(futures, jobs, strict=True)}
        for future in as_completed(futures):
            try:
                yield from future.result()
            except KilledWorker:
                yield from lost(of[future.key])


def _client(stack: ExitStack, workers: int, scheduler: str) -> Any:
    """A client of the scheduler, or of a cluster of processes that ends with the stack."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UserError("several workers need dask; install it with: pip install 'zwicky[dask]'.") from error
    if scheduler:
        try:
            return stack.enter_context(Client(scheduler, timeout=20))
        except (OSError, ValueError) as error:
            raise UserError(f"no dask scheduler answers at {scheduler}.") from error
    stack.enter_context(_same_environment())
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=None, local_directory=folder, memory_limit=None
    )
    return stack.enter_context(Client(stack.enter_context(cluster)))


@contextmanager
def _same_environment() -> Iterator[None]:
    """dask leaves variables for the threads of its processes in the environment of this one: put it back."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _on_one_thread(function: Callable[[Given], Iterable[Found]], job: Given) -> list[Found]:
    """All that the function returns; the processes share the cores, so that none may take all of them."""
    torch.set_num_threads(1)
    return list(function(job))

"""What commands share on the terminal: options, bars, errors, lists in options, the table of masses."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from zwicky.io import UserError

out = Console()
err = Console(stderr=True)

Out = Annotated[Path, typer.Option("--out", help="Where to write.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of all randomness of the command.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")]
Workers = Annotated[int, typer.Option("--workers", min=1, help="Processes that share the work (needs dask).")]
Scheduler = Annotated[
    str, typer.Option("--scheduler", help="Address of a dask scheduler whose workers serve instead.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")]


def say(text: object, to: Console = out, style: str | None = None) -> None:
    """Print text as it is: brackets are no markup, and long lines, as of a path, are not broken."""
    to.print(str(text), style=style, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    say(f"warning: {text}", err, "yellow")


def fail(message: str, status: int = 2) -> None:
    if message:
        say(f"zwicky: {message}", err)
    sys.exit(status)


@contextmanager
def user_errors() -> Iterator[None]:
    """Impossible settings (ValueError of a configuration) are the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


@contextmanager
def bars() -> Iterator[Callable[[str, int, int, str], None]]:
    """Progress bars, one a stage, on standard error; call with (stage, done, in all, remark).

    Where standard error is not a terminal, a line at every tenth of a stage takes the place of a bar, with the time
    left if it goes on as since the first.
    """
    if not err.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<18}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=err) as progress:

        def tell(stage: str, done: int, total: int, remark: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total, remark=remark)
            progress.update(tasks[stage], completed=done, total=total, remark=remark)

        yield tell


def _lines() -> Callable[[str, int, int, str], None]:
    """Progress as lines of a log."""
    start, told, firsts = time.monotonic(), dict[str, tuple[int, str]](), dict[str, tuple[float, int]]()

    def tell(stage: str, done: int, total: int, remark: str = "") -> None:
        now, state = time.monotonic(), (10 * done // max(total, 1), remark if done == total else "")
        since, before = firsts.setdefault(stage, (now, done))
        if told.get(stage) != state:
            told[stage] = state
            left = f"{(now - since) * (total - done) / (done - before):.0f} s left" if before < done < total else ""
            text = f"{now - start:7.0f} s  {stage}: {done}/{total}"
            say(" ".join(part for part in (text, remark, left) if part), err)

    return tell


def show(config: Any) -> None:
    out.print_json(json.dumps(config if isinstance(config, dict) else asdict(config), default=str))


def words(text: str | None) -> tuple[str, ...]:
    """The words of a list separated by commas."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def named_numbers(text: str | None, option: str) -> dict[str, float]:
    """The numbers of a list like a=0.1,b=2."""
    pairs = [part.partition("=") for part in words(text)]
    try:
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError as error:
        raise UserError(f"{option} takes a list like name=0.1,name=0.2, not {text!r}.") from error


def integers(text: str | None, option: str) -> tuple[int, ...]:
    """The whole numbers of a list separated by commas."""
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{option} takes whole numbers separated by commas, not {text!r}.") from error


def numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"{option} takes numbers separated by commas, not {text!r}.") from error


def print_masses(masses: Any, truth: dict[tuple[str, str], float] | None = None) -> None:
    """Print the table of masses; with the truth, its value and the pull (mean - truth) / std."""
    table = RichTable(title="Mass [1e14 Msun]")
    for name in ("channel", "aperture", "R [kpc]", "mean", "std", "16-84%", *(("truth", "pull") if truth else ())):
        table.add_column(name, justify="left" if name in ("channel", "aperture") else "right")
    for row in masses:
        mean, std, low, high = (float(row[k]) / 1e14 for k in ("mean", "std", "p16", "p84"))
        cells = [row["channel"], row["aperture"], f"{row['radius_kpc']:.0f}", f"{mean:.3f}", f"{std:.3f}"]
        cells.append(f"{low:.3f} - {high:.3f}")
        if truth:
            true = truth[row["channel"], row["aperture"]] / 1e14
            cells += [f"{true:.3f}", f"{(mean - true) / std:+.2f}"]
        table.add_row(*(str(c) for c in cells))
    out.print(table)

"""The command line: one command a stage, each resumed by repeating it.

Whatever the user can mend ends in one sentence on standard error and exit status 2.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch loads: idle threads sleep instead of spinning

import sys
from typing import Annotated

import typer

from zwicky.commands import maps, models
from zwicky.io import UserError
from zwicky.terminal import fail, say
from zwicky.version import __version__

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Calibrated posterior maps of the gas and dark matter of galaxy clusters from SZ and X-ray images.",
)  # fmt: skip
for command in (
    maps.simulate, maps.halos, maps.observe, maps.export, maps.prepare, maps.card,
    models.train, models.models, models.reconstruct, models.evaluate, models.run, models.demo,
):  # fmt: skip
    app.command()(command)


def main() -> None:
    """Entry point: run the command, turn what the user can mend into one sentence and exit status 2."""
    try:
        app(prog_name="zwicky", standalone_mode=False)
    except UserError as error:
        fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        fail("interrupted; repeat the command to continue.", 130)
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error of click
            fail(error.format_message())
        raise


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        say(f"zwicky {__version__}")
        raise typer.Exit()


if __name__ == "__main__":
    main()

"""The `relocalize` command: one subcommand per file of this room."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Protocol

import tyro

from relocalize import progress
from relocalize.cli.align import Align
from relocalize.cli.build import Build
from relocalize.cli.check import Check
from relocalize.cli.drop import Drop
from relocalize.cli.evaluate import Evaluate
from relocalize.cli.experiment import Experiment
from relocalize.cli.export import Export
from relocalize.cli.export_model import ExportModel
from relocalize.cli.frames import Frames
from relocalize.cli.import_ import Import
from relocalize.cli.info import Info
from relocalize.cli.localize import Localize
from relocalize.cli.map import Map
from relocalize.cli.plot import Plot
from relocalize.cli.register import Register
from relocalize.cli.report import Report
from relocalize.cli.score import Score
from relocalize.cli.split import SplitImages
from relocalize.cli.train import Train, train_command
from relocalize.cli.view import View
from relocalize.errors import RelocalizeError
from relocalize.parallel import one_native_thread


class Command(Protocol):
    """A subcommand: a frozen dataclass whose fields are its arguments."""

    def run(self) -> int:
        """Do it; the return value is the exit code."""
        ...


# In the order in which a newcomer meets them.
COMMANDS: dict[str, Callable[..., Any]] = {
    "build": Build,
    "frames": Frames,
    "check": Check,
    "import": Import,
    "map": Map,
    "register": Register,
    "drop": Drop,
    "split": SplitImages,
    "train": Train,
    "experiment": Experiment,
    "evaluate": Evaluate,
    "report": Report,
    "score": Score,
    "export": Export,
    "export-model": ExportModel,
    "info": Info,
    "localize": Localize,
    "align": Align,
    "plot": Plot,
    "view": View,
}


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, and turn known errors into one line and exit code 1."""
    given = sys.argv[1:] if arguments is None else arguments
    commands: dict[str, Callable[..., Any]] = {**COMMANDS, "train": train_command(given)}
    run_command(
        lambda: tyro.extras.subcommand_cli_from_dict(
            commands, prog="relocalize", args=arguments, sort_subcommands=False
        )
    )


def run_command(parse: Callable[[], Command]) -> None:
    """Run the command that ``parse`` reads off the command line, and exit with its code.

    Known errors become one line and exit code 1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = parse()
        with progress.shown(), one_native_thread():
            code = command.run()
        sys.stdout.flush()
    except RelocalizeError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`); it saw what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # The machine's side, which can fail anywhere: no permission, disk full, name too long.
        what = error.strerror or str(error)
        print(f"error: {f'{error.filename}: ' if error.filename else ''}{what}", file=sys.stderr)
        code = 1
    sys.exit(code)

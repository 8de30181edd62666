"""The `relocalize` command: one subcommand per file of this room, imported when it is asked for."""

from __future__ import annotations

import contextlib
import difflib
import gc
import io
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import relocalize
from relocalize import progress
from relocalize.errors import RelocalizeError


class Command(Protocol):
    """A subcommand: a frozen dataclass whose fields are its arguments."""

    def run(self) -> int:
        """Do it; the return value is the exit code."""
        ...


_ABOUT = "From a walk-through video of a place to a camera relocalizer."

# The first line of each command's docstring, so that listing them imports none; in the order in
# which a newcomer meets them.
COMMANDS = {
    "build": "Everything in one: frames, map, split, localizers, evaluation, report.",
    "frames": "Add a capture to a Place: sharp, well-spaced frames of a video, or photos.",
    "check": "Test claimed poses against the images: convention, outliers, intrinsics, duplicates.",
    "import": "Bring images and their poses from another tool into a Place.",
    "map": (
        "Map a Place: poses for all its images and 3D points, z up, metric where a length is given."
    ),
    "merge": "Bring another Place's images, features and map into a Place that it overlaps.",
    "register": "Add photos of any camera to a finished map, which does not move.",
    "drop": "Take images out of the map, or bring them back exactly as they were.",
    "split": "Divide a Place's posed images into train and test, by a rule that keeps them apart.",
    "train": "Train a camera pose regressor on a Place.",
    "experiment": "Train a grid of settings on a Place, and compare them on validation images.",
    "evaluate": "Localize a split's test images and compare with the truth and with the baselines.",
    "report": "Write one self-contained HTML page about a stored evaluation.",
    "score": (
        "Score anyone's estimated poses against a truth: medians, recall, and how sure they are."
    ),
    "export": "Write a Place's posed images in another tool's format.",
    "export-model": (
        "Write a trained pose regressor as ONNX: an image in, its pose in the Place out."
    ),
    "info": "Show what a Place holds: captures, cameras, map, frame, splits, localizers.",
    "localize": (
        "Localize photos or a video in a Place: poses with uncertainty, or why there is none."
    ),
    "align": (
        "Find the transform from a Place's frame to another frame; --apply moves the Place there."
    ),
    "plot": "Draw the trajectory and the viewing directions of a Place's cameras.",
    "view": (
        "Walk around in a Place in a browser: points, cameras, photos, errors, where a photo lands."
    ),
    "serve": "Answer photos of phones, robots and headsets over HTTP; nothing on disk changes.",
}


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, and turn known errors into one line and exit code 1."""
    given = sys.argv[1:] if arguments is None else arguments
    run_command(lambda: _parsed(given))


def command_class(name: str) -> type[Command]:
    """The class of the subcommand ``name``, imported now: `ExportModel` of ``export_model.py``."""
    module = "import_" if name == "import" else name.replace("-", "_")
    kind = name.title().replace("-", "")
    found: type[Command] = getattr(import_module(f"relocalize.cli.{module}"), kind)
    return found


def _parsed(given: list[str]) -> Command:
    name, *rest = given or [""]
    if name in {"-h", "--help", "--version"}:
        print(_listing() if name != "--version" else f"relocalize {relocalize.__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        print(_listing(), file=sys.stderr)
        if name:
            similar = difflib.get_close_matches(name, COMMANDS, n=1)
            meant = f"; did you mean {similar[0]}?" if similar else ""
            print(f"\nerror: there is no command {name!r}{meant}", file=sys.stderr)
        sys.exit(2)
    import tyro  # noqa: PLC0415 - the list of commands needs no parser

    kind: Any = command_class(name)
    if hasattr(kind, "with_defaults_of"):
        kind = kind.with_defaults_of(rest)

    def parsed(arguments: list[str]) -> Command:
        config = (tyro.conf.DisallowNone, tyro.conf.PositionalMetavarFromFieldName)
        command: Command = tyro.cli(kind, prog=f"relocalize {name}", args=arguments, config=config)
        return command

    if not {"-h", "--help", "--help-all"} & set(rest):
        return parsed(rest)
    said = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8")
    try:
        with contextlib.redirect_stdout(said):
            return parsed(["--help"])
    finally:
        said.seek(0)
        text = _without_empty_defaults(said.read())
        print(text.rstrip() if "--help-all" in rest else _brief(text, name))


def _without_empty_defaults(said: str) -> str:
    """Without `(default: None)` and the like, where the option's text says what happens."""
    blanked = re.sub(
        r"\(default:[\s│]*(?:None|False)?\)",
        lambda found: re.sub(r"[^\s│]", " ", found[0]),
        said,
    )
    return re.sub(r"^│ +│\n", "", blanked, flags=re.MULTILINE)


def _brief(said: str, name: str) -> str:
    """A help that fits a screen: without the settings that stand below a name of their own."""
    lines, settings, kept = [], 0, True
    for line in said.rstrip().splitlines():
        heading = re.match(r"(?:╭─ | )(\S* ?)(?:positional arguments|options) ", line)
        kept = not heading[1] if heading else kept
        if kept:
            lines.append(line)
        elif re.match(r"[│ ] +--\w", line):
            settings += 1
    if settings:
        lines += ["", f"{settings} more settings: relocalize {name} --help-all"]
    return "\n".join(lines).rstrip()


def _listing() -> str:
    column = max(map(len, COMMANDS)) + 4
    lines = ["usage: relocalize COMMAND ...", "", _ABOUT, ""]
    for name, help_line in COMMANDS.items():
        start = f"  {name}".ljust(column)
        indent = " " * column
        lines += textwrap.wrap(help_line, 80, initial_indent=start, subsequent_indent=indent)
    return "\n".join([*lines, "", "relocalize COMMAND --help shows its options."])


def run_command(parse: Callable[[], Command]) -> None:
    """Run the command that ``parse`` reads off the command line, and exit with its code.

    Known errors become one line and exit code 1.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # What is imported stays: to look for garbage in it takes a tenth of a short command.
        gc.disable()
        try:
            command = parse()
            from relocalize.parallel import one_native_thread  # noqa: PLC0415 - --help needs no numpy
        finally:
            gc.enable()
        with progress.shown(), one_native_thread():
            code = command.run()
        sys.stdout.flush()
    except RelocalizeError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("stopped; run the same command again to resume", file=sys.stderr)
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

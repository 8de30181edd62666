"""The log of a training: ``training.jsonl``, one JSON object per epoch, and TensorBoard events."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from relocalize.place import atomic

LOG = "training.jsonl"
EVENTS = "tensorboard"  # the folder of TensorBoard's event files


class TrainingLog:
    """Writes each epoch down as it ends.

    A training that resumes after a kill drops what its log says beyond its checkpoint.
    """

    def __init__(self, folder: Path, *, epochs_done: int) -> None:
        # Reading a log, which reports do, needs no torch.
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        self._path = folder / LOG
        rows = [row for row in read_log(folder) if row["epoch"] <= epochs_done]
        atomic.write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))
        self._events = SummaryWriter(str(folder / EVENTS), purge_step=epochs_done + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write down one epoch: ``epoch`` and numbers; one that is not finite becomes null."""
        plain = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        for name, value in plain.items():
            if name != "epoch" and isinstance(value, float | int):
                self._events.add_scalar(name, value, plain["epoch"])
        self._events.flush()

    def close(self) -> None:
        """Finish TensorBoard's file."""
        self._events.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The epochs that the log in ``folder`` tells of; a last line cut short is left out."""
    rows: list[dict[str, Any]] = []
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            break
        rows.append(row)
    return rows

"""`relocalize train PLACE`: train a camera pose regressor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from relocalize.cli.options import Flag, Printed, options
from relocalize.regression.presets import preset
from relocalize.regression.settings import TrainSettings
from relocalize.verbs.train import TrainReport, train

_DEFAULT_PRESET = "default"
_SOURCES = {
    "pose": "the regressor",
    "view": "the view most similar to the network",
    "blend": "both the regressor and the view most similar to the network",
    "retrieval": "image retrieval",
    "interpolation": "interpolating between the images retrieved",
}


@dataclass(frozen=True)
class Train(Printed):
    """Train a camera pose regressor on a Place.

    Settings are those of --preset; any can be given beside it. Run it again to resume.
    """

    place: tyro.conf.Positional[Path]
    """The Place folder."""
    split: str | None = None
    """Split to train on; else the only one, or one by blocks of time."""
    all_images: Flag = False
    """Train on every posed image, for use: nothing is left to evaluate on."""
    name: str = "regressor"
    """What to call the trained regressor in evaluate and localize."""
    settings: Annotated[TrainSettings, tyro.conf.arg(name="")] = field(
        default_factory=lambda: preset(_DEFAULT_PRESET)
    )
    """Everything that the training depends on."""

    @classmethod
    def with_defaults_of(cls, arguments: Sequence[str]) -> type[Train]:
        """The command with the defaults of the preset that the command line names.

        So that `--help` shows that preset's numbers, and what is given beside it changes these.

        Raises:
            LocalizerError: there is no such preset.
        """
        named = _DEFAULT_PRESET
        for index, argument in enumerate(arguments):
            if argument == "--preset" and index + 1 < len(arguments):
                named = arguments[index + 1]
            elif argument.startswith("--preset="):
                named = argument.partition("=")[2]
        kind = Annotated[TrainSettings, tyro.conf.arg(name="")]
        made = make_dataclass(
            "Train",
            [("settings", kind, field(default=preset(named)))],
            bases=(cls,),
            frozen=True,
            namespace={"__doc__": cls.__doc__},
        )
        return cast("type[Train]", made)

    def run(self) -> int:
        """Train, and print how it does on validation images."""
        trained = train(**options(self, "settings"), preset=self.settings)
        from relocalize.regression.distributed import Workers  # noqa: PLC0415 - torch takes seconds

        if Workers.from_environment().leads:
            self.show(trained.to_json(), _as_text(trained, self.place))
        return 0


def _as_text(trained: TrainReport, place: Path) -> str:
    validation, training = trained.validation, trained.training
    minutes = (training["seconds"] + training["preparation_seconds"]) / 60
    size = sum(path.stat().st_size for path in trained.folder.glob("*") if path.is_file()) / 1e6
    lines = [
        f"trained {trained.settings.preset} in {trained.folder}",
        f"  {training['images']} train images, {training['epochs']} epochs, "
        f"{minutes:.1f} minutes, {training['device']}, {size:.1f} MB",
        f"  validation ({validation['images']} images in blocks of time, not trained on): median "
        f"{validation['position']:.3f} {validation['unit']}, {validation['rotation_deg']:.2f} deg "
        f"in epoch {validation['epoch']}, which is kept",
    ]
    lines += _answers(validation)
    if training.get("restarts"):
        lines.append(f"  it diverged, and went on at a lower rate ({training['restarts']} times)")
    if training["stopped"]:
        lines.append(f"  stopped early: {training['stopped']}")
    by = f"--localizer {trained.name}"
    if trained.split is None:
        lines.append(f"next: relocalize localize {place} PHOTO.jpg {by}")
    else:
        lines.append(f"next: relocalize evaluate {place} --split {trained.split} {by}")
    return "\n".join(lines)


def _answers(validation: dict[str, Any]) -> list[str]:
    """What photos are answered with, where that is not the regressed pose."""
    answers = validation["answers_by"]
    if set(answers.values()) == {"pose"}:
        return []
    found = {
        "position": f"{{position:.3f}} {validation['unit']}",
        "rotation": "{rotation_deg:.2f} deg",
    }
    parts = (
        f"{part}s by {_SOURCES[source]} ({found[part].format(**validation['sources'][source])})"
        for part, source in answers.items()
    )
    return [f"  on validation images photos are best answered with {', '.join(parts)}"]

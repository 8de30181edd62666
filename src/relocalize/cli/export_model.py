"""`relocalize export-model PLACE --onnx FILE`: a trained regressor for other programs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from relocalize.errors import LocalizerError
from relocalize.geometry import Camera
from relocalize.localization.registry import TRAINED
from relocalize.localization.saving import read_description
from relocalize.place import Place
from relocalize.regression import require_torch

if TYPE_CHECKING:
    from relocalize.localization.regressor import RegressorLocalizer
    from relocalize.regression.onnx_export import OnnxReport

_COMPARED = 4  # images of the Place on which torch and onnxruntime have to agree


@dataclass(frozen=True)
class ExportModel:
    """Write a trained pose regressor as ONNX: an image in, its pose in the Place out."""

    place: tyro.conf.Positional[Path]
    """The Place folder, which is only read."""
    onnx: Path
    """File to write."""
    localizer: str = "regressor"
    """Its name, with .SPLIT after it where there are several."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print one JSON object instead of text."""

    def run(self) -> int:
        """Export, and print what the file takes and gives."""
        require_torch()
        from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415
        from relocalize.regression.onnx_export import (  # noqa: PLC0415 - torch takes seconds
            export_regressor,
        )

        place = Place.open(self.place)
        name = trained_name(place, self.localizer)
        localizer = RegressorLocalizer.load(place.localizer_dir(name))
        if localizer.calibration.by_view:
            raise LocalizerError(
                f"{name} answers with the most similar train view, which did better than the "
                "regressed pose, and a file would hold the pose alone; train one that answers "
                f"with it: relocalize train {place.root} --answer pose"
            )
        camera = input_camera(localizer)
        report = export_regressor(
            localizer.model.cpu(),
            _images(place, localizer),
            self.onnx,
            {
                "unit": localizer.unit,
                "origin": localizer.origin.tolist(),
                "camera": asdict(camera),
                "place": place.name,
                "name": name,
                "turns": turns(localizer),
            },
        )
        print(_as_json(report) if self.json else _as_text(report, name, camera, localizer))
        return 0


def trained_name(place: Place, name: str) -> str:
    """The folder name of the trained regressor that ``name`` means.

    Raises:
        LocalizerError: there is none, or there are several.
    """
    trained = [
        other
        for other in place.localizer_names
        if read_description(place.localizer_dir(other)).get("localizer") in TRAINED
    ]
    if name in trained:
        return name
    meant = [other for other in trained if other.rpartition(".")[0] == name]
    if len(meant) > 1:
        raise LocalizerError(
            f"{name!r} was trained on several splits; take one of {', '.join(meant)}"
        )
    if not meant:
        raise LocalizerError(
            f"{place.root} has no trained regressor {name!r}, it has "
            f"{', '.join(trained) or 'none'}; train one with: relocalize train {place.root}"
        )
    return meant[0]


def input_camera(localizer: RegressorLocalizer) -> Camera:
    """The camera whose images the network takes; of crops that of the middle one."""
    from relocalize.regression.crops import centre_crop  # noqa: PLC0415 - torch takes seconds

    images = localizer.images
    height, width = images.shape
    if (images.target.height, images.target.width) == (height, width):
        return images.target
    return centre_crop(images.target, width).camera


def turns(localizer: RegressorLocalizer) -> list[list[list[float]]]:
    """[K, 3, 3] from a photo's camera axes to those of the images that it is answered by."""
    found = localizer.images.turns
    return [np.eye(3).tolist()] if found is None else found.tolist()


def _images(place: Place, localizer: RegressorLocalizer) -> Any:
    import torch  # noqa: PLC0415 - takes seconds

    images = list(place.map.images.values())
    rows = np.linspace(0, len(images) - 1, _COMPARED).round().astype(int)
    inputs: list[NDArray[np.uint8]] = [
        localizer.images.of_photo(place.read_image(images[row].name), images[row].camera, crops=1)
        for row in sorted(set(rows.tolist()))
    ]
    return torch.from_numpy(np.concatenate(inputs))


def _as_json(report: OnnxReport) -> str:
    return json.dumps({**asdict(report), "file": str(report.file)}, indent=2)


def _as_text(report: OnnxReport, name: str, camera: Camera, localizer: RegressorLocalizer) -> str:
    def each(shapes: dict[str, tuple[int, ...]]) -> str:
        return ", ".join(f"{what} [{', '.join(map(str, shape))}]" for what, shape in shapes.items())

    focal = camera.params[0]
    count = len(turns(localizer))
    averaged = (
        f"  answers to one image; relocalize averages those to {count}, turned as its metadata "
        "`turns` say, and is more exact",
    )
    return "\n".join(
        (
            f"{report.file}: {name}, {report.megabytes:.1f} MB",
            f"  takes {each(report.inputs)}: RGB in 0..255 as a pinhole camera of focal length "
            f"{focal:.1f} px sees it, {camera.width}x{camera.height}",
            f"  gives {each(report.outputs)}: camera centre in {localizer.unit}, rotation "
            "world_from_cam",
            *(averaged if count > 1 else ()),
            f"  onnxruntime agrees with torch to {report.difference:.1g}",
        )
    )

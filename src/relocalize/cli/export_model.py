"""`relocalize export-model PLACE --onnx FILE`: a trained regressor for other programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from relocalize.cli.options import Printed
from relocalize.errors import LocalizerError
from relocalize.geometry import Camera
from relocalize.localization.registry import TRAINED
from relocalize.localization.store import folder_and_kind
from relocalize.place import Place
from relocalize.regression import require_torch

if TYPE_CHECKING:
    from relocalize.localization.regressor import RegressorLocalizer
    from relocalize.regression.onnx_export import OnnxReport

_COMPARED = 4  # images of the Place on which torch and onnxruntime have to agree


@dataclass(frozen=True)
class ExportModel(Printed):
    """Write a trained pose regressor as ONNX: an image in, its pose in the Place out."""

    place: tyro.conf.Positional[Path]
    """The Place folder, which is only read."""
    onnx: Path
    """File to write."""
    localizer: str = "regressor"
    """Its name, with .SPLIT after it where there are several."""

    def run(self) -> int:
        """Export, and print what the file takes and gives."""
        require_torch()
        from relocalize.localization.regressor import RegressorLocalizer  # noqa: PLC0415
        from relocalize.regression.onnx_export import (  # noqa: PLC0415 - torch takes seconds
            WorldPose,
            export_onnx,
        )

        place = Place.open(self.place)
        folder, kind = folder_and_kind(place, self.localizer)
        if kind not in TRAINED or not folder.is_dir():
            raise LocalizerError(
                f"{place.root} has no trained regressor {self.localizer!r}; train one with: "
                f"relocalize train {place.root}"
            )
        name = folder.name
        localizer = RegressorLocalizer.load(folder)
        if not set(localizer.calibration.answers) <= {"pose", "blend"}:
            raise LocalizerError(
                f"{name} answers with train images that look like the photo, which did better than "
                "the regressed pose, and a file would hold the pose alone; train one that answers "
                f"with it: relocalize train {place.root} --answer pose"
            )
        camera = input_camera(localizer)
        report = export_onnx(
            WorldPose(localizer.parts.model.cpu()),
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
        return self.show(report, _as_text(report, name, camera, localizer))


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
    return torch.from_numpy(np.concatenate(inputs)).movedim(-1, 1).float()


def _as_text(report: OnnxReport, name: str, camera: Camera, localizer: RegressorLocalizer) -> str:
    def each(shapes: dict[str, tuple[int, ...]]) -> str:
        return ", ".join(f"{what} [{', '.join(map(str, shape))}]" for what, shape in shapes.items())

    focal = camera.params[0]
    count = len(turns(localizer))
    averaged = (
        f"  answers to one image; relocalize answers by {count}, turned as its metadata `turns` "
        "say, and is more exact",
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

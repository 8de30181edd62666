"""Finding the transform from a Place's frame to another frame, from images that both have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relocalize import progress
from relocalize.errors import GeometryError, MappingError
from relocalize.formats.images import match_images
from relocalize.formats.names import NameMatch, match_names
from relocalize.formats.registration import Registration
from relocalize.formats.registry import AUTO, read_registration
from relocalize.geometry import Alignment, Rigid3, Similarity3, align_camera_poses
from relocalize.geometry.alignment_doubts import (
    rotation_sigma_deg,
    scale_sigma,
    why_not,
    why_poses_differ,
)
from relocalize.geometry.transforms import FloatArray, rotation_angle_deg
from relocalize.place import Frame, Place
from relocalize.place.folder import METRE

# How far the reference's z axis may be off the Place's own up and still be up: gravity from
# images is good to about a degree, a hand-made frame to a few.
_UP_DEG = 5.0
_MOST_LISTED = 20  # outliers in the text
_SAME_SCALE = 0.02  # the two truths of the kitchen differ by 0.2%, depth cameras by up to 2%


@dataclass(frozen=True, eq=False)
class Outlier:
    """A pose, or point, that the others contradict."""

    name: str  # image or point
    distance: float  # from where the others put it, in the reference's unit
    angle_deg: float  # between the two orientations; 0 of points


@dataclass(frozen=True, eq=False)
class Stations:
    """Where cameras or points are."""

    positions: FloatArray  # [N, 3]
    directions: FloatArray | None  # [N, 3] unit vectors that cameras look along; None of points

    @classmethod
    def of_cameras(cls, world_from_cam: Sequence[Rigid3]) -> Stations:
        """Of camera poses."""
        return cls(
            np.stack([pose.translation for pose in world_from_cam]),
            np.stack([pose.rotation[:, 2] for pose in world_from_cam]),
        )

    def moved(self, b_from_a: Similarity3) -> Stations:
        """The same in another frame."""
        turned = None if self.directions is None else self.directions @ b_from_a.rotation.T
        return Stations(b_from_a @ self.positions, turned)


@dataclass(frozen=True, eq=False)
class FoundFrame:
    """The transform from a Place's frame to another, and how sure it is."""

    reference_from_place: Similarity3  # the transform
    onto: str  # what it leads to, for people
    frame: Frame  # what is known of the Place's frame once it is moved there
    unit: str  # of the reference's frame
    names: tuple[str, ...]  # the images or points that it comes from
    # of their positions and orientations; None where a length or a direction alone gave the
    # transform
    alignment: Alignment | None = None
    in_place: Stations | None = None  # where these are in the Place; None as above
    in_reference: Stations | None = None  # where they are in the reference
    remarks: tuple[str, ...] = ()  # what else there is to know, for people

    @property
    def outliers(self) -> tuple[Outlier, ...]:
        """The largest first."""
        if self.alignment is None:
            return ()
        rows = zip(
            self.names,
            self.alignment.position_residuals.tolist(),
            self.alignment.rotation_residuals_deg.tolist(),
            self.alignment.inliers,
            strict=True,
        )
        found = [Outlier(name, distance, angle) for name, distance, angle, good in rows if not good]
        limits = self.alignment.position_bound, self.alignment.rotation_bound_deg
        return tuple(
            sorted(found, key=lambda o: -max(o.distance / limits[0], o.angle_deg / limits[1]))
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; numbers that there are not are null."""
        found = self.reference_from_place
        result: dict[str, Any] = {
            "onto": self.onto,
            "scale": found.scale,
            "quat_wxyz": found.quat_wxyz.tolist(),
            "translation": found.translation.tolist(),
            "unit": self.unit,
            "n": len(self.names),
            "inliers": len(self.names) - len(self.outliers),
            "outliers": [outlier.name for outlier in self.outliers],
            "residual_median": None,
            "residual_median_deg": None,
            "loo_median": None,
            "remarks": list(self.remarks),
        }
        if self.alignment is not None:
            result |= _alignment_json(self.alignment)
            result["outlier_residuals"] = [
                {"image": o.name, "distance": o.distance, "angle_deg": o.angle_deg}
                for o in self.outliers
            ]
        return result

    def to_text(self) -> str:
        """The transform and how sure it is, for people."""
        transform, frame = self.reference_from_place, self.frame
        lines = [
            f"onto {self.onto}",
            f"  scale {transform.scale:.6g}, rotation "
            f"{rotation_angle_deg(transform.rotation):.3f} deg "
            f"(quat_wxyz {_numbers(transform.quat_wxyz)}), translation "
            f"{_numbers(transform.translation)} {self.unit}",
        ]
        if self.alignment is not None:
            lines += self._agreement(self.alignment)
        up = f"{frame.up} is up" if frame.up else "up is not known"
        lines.append(f"  there: {up}, unit {frame.unit}")
        return "\n".join(lines + [f"  note: {remark}" for remark in self.remarks])

    def _agreement(self, alignment: Alignment) -> list[str]:
        values, unit = _alignment_json(alignment), self.unit
        oriented = bool(alignment.rotation_residuals_deg.any())

        def pair(key: str) -> str:
            angle = f" and {values[f'{key}_deg']:.3g} deg" if oriented else ""
            return f"{values[key]:.4g} {unit}{angle}"

        left_out = values["loo_median"] is not None
        outliers = self.outliers
        lines = [
            f"  {len(self.names) - len(outliers)} of {len(self.names)} agree: median residual "
            f"{pair('residual_median')}, at most {pair('residual_max')}"
            + (f"; left out one at a time, median {pair('loo_median')}" if left_out else ""),
            f"  1 sigma: {values['middle_sigma']:.2g} {unit} at the middle, "
            f"{values['rotation_sigma_deg']:.2g} deg, scale {100 * values['scale_sigma']:.2g}%",
        ]
        if outliers:
            bound = pair("inlier_bound")
            lines.append(f"  {len(outliers)} outliers, beyond 5 sigma of the noise ({bound}):")
            lines += [
                f"    {one.name}: {one.distance:.4g} {unit}"
                + (f", {one.angle_deg:.2f} deg" if oriented else "")
                for one in outliers[:_MOST_LISTED]
            ]
        if len(outliers) > _MOST_LISTED:
            lines.append(f"    and {len(outliers) - _MOST_LISTED} more: --json lists all")
        return lines


def _alignment_json(alignment: Alignment) -> dict[str, Any]:
    inside = alignment.inliers
    return {
        "residual_median": _median(alignment.position_residuals[inside]),
        "residual_median_deg": _median(alignment.rotation_residuals_deg[inside]),
        "residual_max": float(alignment.position_residuals[inside].max()),
        "residual_max_deg": float(alignment.rotation_residuals_deg[inside].max()),
        "loo_median": _median(alignment.left_out_position),
        "loo_median_deg": _median(alignment.left_out_rotation_deg),
        "inlier_bound": alignment.position_bound,
        "inlier_bound_deg": alignment.rotation_bound_deg,
        "middle_sigma": float(
            np.sqrt(max(np.linalg.eigvalsh(alignment.middle_covariance[:3, :3]).max(), 0.0))
        ),
        "rotation_sigma_deg": rotation_sigma_deg(alignment),
        "scale_sigma": scale_sigma(alignment),
        "covariance": alignment.covariance.tolist(),
    }


def _median(values: FloatArray) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else None


def _numbers(values: FloatArray) -> str:
    return " ".join(f"{value:.6g}" for value in values)


@dataclass(frozen=True, eq=False)
class Reference:
    """Poses in another frame."""

    what: str  # for people
    world_from_cam: dict[str, Rigid3]  # by image name
    unit: str  # of the frame
    frame: Frame | None  # what is known of it; None of a foreign file
    registration: Registration | None = None  # the foreign file; None of a Place

    def match(self, images: Iterable[str]) -> NameMatch:
        """Which of a Place's images mean which of the reference's, as at import."""
        if self.registration is None:
            return match_names(self.world_from_cam, images)
        return match_images(self.registration, images)


def read_reference(path: Path, format_name: str = AUTO) -> Reference:
    """The poses of a Place, or of a registration of any known format.

    Raises:
        PlaceError: the Place has no map.
        FormatError: it is no registration.
    """
    if (path / "place.json").is_file():
        place = Place.open(path)
        poses = {name: image.world_from_cam for name, image in place.map.images.items()}
        return Reference(f"Place {place.name}", poses, place.unit, place.frame)
    registration = read_registration(path, format_name)
    registration.say()
    poses = {name: registration.world_from_cam(name) for name in registration.poses}
    what = f"{path.resolve().name} ({registration.format})"
    return Reference(what, poses, registration.unit, None, registration)


def align_place(
    place: Place, reference: Reference, *, rigid: bool = False, seed: int = 0
) -> FoundFrame:
    """The transform from a Place's frame to a reference's, from the images that both have.

    Args:
        place: with a map.
        reference: see `read_reference`.
        rigid: keep the scale.
        seed: of the choice of hypotheses.

    Raises:
        MappingError: too few images in common, or they do not determine the answer; with the
            reason.
    """
    posed = place.map.images
    match = reference.match(posed)
    listed_of = {name: listed for listed, name in match.present_of.items()}
    names = sorted(listed_of)
    if len(names) < 2:
        raise MappingError(
            f"{place.root} and {reference.what} have {len(names)} images in common, an alignment "
            f"needs 2 and should have 10 or more; the one has such as "
            f"{next(iter(posed), 'none')!r}, the other {next(iter(reference.world_from_cam))!r}"
        )
    if match.ambiguous:
        progress.say(
            f"{reference.what}: {len(match.ambiguous)} names could mean several images and are "
            f"not used: {next(iter(match.ambiguous.values()))}"
        )
    in_place = [posed[name].world_from_cam for name in names]
    in_reference = [reference.world_from_cam[listed_of[name]] for name in names]
    alignment = align_camera_poses(in_place, in_reference, fix_scale=rigid, seed=seed)
    reason = why_not(alignment, unit=reference.unit)
    if reason is not None:
        hint = (
            (rigid and _other_scale(in_place, in_reference, seed))
            or _diagnosis(in_place, in_reference)
            or _advice(alignment, rigid=rigid)
        )
        raise MappingError(f"{place.root} cannot be aligned with {reference.what}: {reason}{hint}")
    return FoundFrame(
        reference_from_place=alignment.b_from_a,
        onto=reference.what,
        frame=_frame_there(place, reference, alignment.b_from_a, rigid=rigid),
        unit=reference.unit,
        names=tuple(names),
        alignment=alignment,
        in_place=Stations.of_cameras(in_place),
        in_reference=Stations.of_cameras(in_reference),
        remarks=remarks_on(alignment) + _remarks_on_units(place, reference, alignment, rigid=rigid),
    )


def _other_scale(in_place: Sequence[Rigid3], in_reference: Sequence[Rigid3], seed: int) -> str:
    """Whether poses that do not agree with their scale kept do with another."""
    try:
        free = align_camera_poses(in_place, in_reference, seed=seed)
    except GeometryError:  # one side does not move, which has no scale
        return ""
    if why_not(free) is not None:
        return ""
    return f". They agree with a scale of {free.b_from_a.scale:.4g}, so leave --rigid away"


def _diagnosis(in_place: Sequence[Rigid3], in_reference: Sequence[Rigid3]) -> str:
    why = why_poses_differ(in_place, in_reference)
    if why is None:
        return ""
    return (
        f". {why[0].upper()}{why[1:]}. Check its convention: relocalize check, or relocalize "
        "import --convention"
    )


def _advice(alignment: Alignment, *, rigid: bool) -> str:
    if not rigid and scale_sigma(alignment) > rotation_sigma_deg(alignment):
        return "; if both frames have the same unit, use --rigid"
    return "; use more images, or a reference whose convention relocalize check has confirmed"


def remarks_on(alignment: Alignment, what: str = "poses") -> tuple[str, ...]:
    """What a user should know of an alignment that is believed."""
    remarks = []
    inside = int(alignment.inliers.sum())
    if inside < 4:
        remarks.append(f"{inside} {what} leave hardly anything to check the transform by")
    if alignment.rival is not None:
        other = alignment.rival[0]
        remarks.append(
            f"{alignment.rival[1]} of the outliers agree on another transform (scale "
            f"{other.scale:.6g}, translation {_numbers(other.translation)}): one of the two maps "
            "may be bent or folded there"
        )
    return tuple(remarks)


def _remarks_on_units(
    place: Place, reference: Reference, alignment: Alignment, *, rigid: bool
) -> tuple[str, ...]:
    if rigid or place.unit != METRE:
        return ()
    scale = alignment.b_from_a.scale
    if reference.unit != METRE:
        return (
            f"{place.root} is in metres, and whether {reference.what} is nobody knows: its unit is "
            f"{1 / scale:.4g} metre. Moved there, the Place is in map units",
        )
    # 5 sigma, and more than what scales of good maps differ by.
    if abs(np.log(scale)) > max(5 * scale_sigma(alignment), _SAME_SCALE):
        return (f"both frames are said to be in metres, but their scales differ by {scale:.4g}",)
    return ()


def _frame_there(
    place: Place, reference: Reference, reference_from_place: Similarity3, *, rigid: bool
) -> Frame:
    own = place.frame
    if reference.frame is not None:
        frame = reference.frame
    else:
        frame = replace(
            up_after(own, reference_from_place),
            unit=reference.unit,
            scale_from=reference.what if reference.unit == METRE else None,
        )
    if rigid and reference.unit != METRE:
        return replace(frame, unit=own.unit, scale_from=own.scale_from)
    return frame


def up_after(frame: Frame, now_from_before: Similarity3) -> Frame:
    """The frame with its up axis as it is after a move: kept where z stays up."""
    if frame.up is None:
        return frame
    off_deg = float(np.degrees(np.arccos(np.clip(now_from_before.rotation[2, 2], -1, 1))))
    if off_deg <= _UP_DEG:
        return frame
    return replace(frame, up=None, up_from=None)

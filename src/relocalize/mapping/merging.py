"""Two models of one place made one: by the images whose poses both know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy

import numpy as np
import pycolmap

from relocalize.errors import GeometryError
from relocalize.geometry import Rigid3, Similarity3, align_camera_poses
from relocalize.place.model import add_image

_LEAST_COMMON = 5  # images that two models are joined by
_LEAST_AGREEING = 0.6  # share of these whose poses agree on one similarity
_SAME_SHARE, _SAME_DEG = 0.03, 2.0  # of the depth: up to which two poses of one image agree


def agreed_similarity(
    in_a: Sequence[Rigid3], in_b: Sequence[Rigid3], depth: float
) -> tuple[Similarity3, list[bool]] | None:
    """b_from_a by the same cameras in both, and who agrees; None where too few do.

    Args:
        in_a: world_from_cam of N cameras in frame a.
        in_b: the same in frame b.
        depth: typical distance of what they see, in frame b.
    """
    if len(in_a) < _LEAST_COMMON:
        return None
    try:
        alignment = align_camera_poses(in_a, in_b)
    except GeometryError:
        return None
    # The alignment's own bounds follow its noise, which is nothing where two models share matches.
    agrees = alignment.inliers | (
        (alignment.position_residuals <= _SAME_SHARE * depth)
        & (alignment.rotation_residuals_deg <= _SAME_DEG)
    )
    if agrees.mean() < _LEAST_AGREEING or agrees.sum() < _LEAST_COMMON:
        return None
    return alignment.b_from_a, agrees.tolist()


def depth_of(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> float:
    """Typical distance of the points that images observe; 0 where these observe nothing."""
    depths = []
    for image_id in image_ids:
        image = model.images[image_id]
        seen = [model.points3D[p.point3D_id].xyz for p in image.points2D if p.has_point3D()]
        if seen:
            away = np.linalg.norm(np.array(seen) - image.projection_center(), axis=1)
            depths.append(np.median(away))
    return float(np.median(depths)) if depths else 0.0


def add_images(
    whole: pycolmap.Reconstruction,
    model: pycolmap.Reconstruction,
    image_ids: Mapping[int, int],
    camera_ids: Mapping[int, int],
) -> None:
    """The images of a model that the whole lacks, without points.

    Args:
        whole: what they are added to.
        model: in the whole's frame.
        image_ids: number in the whole of each posed image of the model.
        camera_ids: the same of each camera.
    """
    for image_id in model.reg_image_ids():
        if whole.exists_image(image_ids[image_id]):
            continue
        image = model.images[image_id]
        camera_id = camera_ids[image.camera_id]
        if not whole.exists_camera(camera_id):
            camera = copy(model.cameras[image.camera_id])
            camera.camera_id = camera_id
            whole.add_camera_with_trivial_rig(camera)
        pixels = np.array([p.xy for p in image.points2D]).reshape(-1, 2)
        pose = image.cam_from_world()
        add_image(whole, image.name, image_ids[image_id], camera_id, pose, pixels)


def add_points(
    whole: pycolmap.Reconstruction, model: pycolmap.Reconstruction, image_ids: Mapping[int, int]
) -> list[int]:
    """The points of a model whose images the whole has; one that both have becomes one.

    Args:
        whole: what they are added to.
        model: in the whole's frame.
        image_ids: number in the whole of each posed image of the model.

    Returns:
        The numbers of those that the whole did not have.
    """
    known = {
        number: {
            row: int(p.point3D_id)
            for row, p in enumerate(whole.images[number].points2D)
            if p.has_point3D()
        }
        for number in image_ids.values()
    }
    new = []
    for point_id in sorted(model.points3D):
        point = model.points3D[point_id]
        elements = [
            (image_ids[e.image_id], int(e.point2D_idx))
            for e in point.track.elements
            if e.image_id in image_ids
        ]
        same = Counter(known[i][row] for i, row in elements if row in known[i])
        free = [(i, row) for i, row in elements if row not in known[i]]
        if same:
            one = max(same, key=lambda number: (same[number], -number))
            for i, row in free:
                whole.add_observation(one, pycolmap.TrackElement(i, row))
        elif len(free) >= 2:
            track = pycolmap.Track()
            for i, row in free:
                track.add_element(i, row)
            one = int(whole.add_point3D(point.xyz, track, point.color))
            new.append(one)
        else:
            continue
        for i, row in free:
            known[i][row] = one
    return new


def poses_of(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> list[Rigid3]:
    """world_from_cam of posed images."""
    return [Rigid3.from_colmap(model.images[i].cam_from_world()).inverse() for i in image_ids]

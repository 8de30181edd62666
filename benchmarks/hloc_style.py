"""What users of hloc run: COLMAP's SIFT, matches image by image, COLMAP's absolute pose."""

from __future__ import annotations

import cv2
import numpy as np
import pycolmap
from numpy.typing import NDArray

from relocalize.absolute_pose.scene import Scene
from relocalize.features.database import open_database
from relocalize.features.extraction import KINDS, Features, unit_descriptors
from relocalize.features.matching import mutual_matches
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.localization.query import Query
from relocalize.place import Place

_RETRIEVED = 10  # images; as ours


class ColmapSift:
    """COLMAP's SIFT as it comes: of the doubled image (octave -1), on one thread."""

    def __init__(self, max_features: int) -> None:
        options = pycolmap.FeatureExtractionOptions()
        options.use_gpu = False
        options.num_threads = 1
        options.sift.max_num_features = max_features
        self._extractor = pycolmap.FeatureExtractor.create(options, pycolmap.Device.cpu)

    def features(self, image: NDArray[np.uint8]) -> Features:
        """Of RGB pixels [H, W, 3]."""
        bitmap = pycolmap.Bitmap.from_array(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        keypoints, descriptors = self._extractor.extract(bitmap)
        pixels = pycolmap.keypoints_to_matrix(keypoints)[:, :2]
        return Features(np.asarray(pixels, np.float32), np.asarray(descriptors.data))


def colmap_pose(pixels: FloatArray, points: FloatArray, camera: Camera) -> Rigid3 | None:
    """World from camera by COLMAP, of pixels [N, 2] that show points [N, 3]."""
    found = pycolmap.estimate_and_refine_absolute_pose(pixels, points, camera.to_colmap())
    if found is None:
        return None
    pose = found["cam_from_world"]
    return Rigid3(pose.rotation.matrix(), pose.translation).inverse()


class HlocStyle:
    """Localizes photos by the images of a map that look alike, each matched for itself."""

    def __init__(self, place: Place, scene: Scene, max_features: int) -> None:
        """Of a mapped Place; ``scene``, fitted on all of it, finds the images that look alike."""
        model = place.map
        self._scene, self._sift = scene, ColmapSift(max_features)
        self._images = []
        with open_database(place) as database:
            for image in model.images.values():
                rows = np.flatnonzero(image.point_rows >= 0)
                if len(rows):
                    descriptors = unit_descriptors(database.features(image.name).descriptors[rows])
                    points = model.points.positions[image.point_rows[rows]]
                    self._images.append((descriptors, points))

    def localize(self, photo: bytes, camera: Camera) -> Rigid3 | None:
        """World from camera, or None."""
        features = self._sift.features(Query.of(photo).pixels)
        similar = self._scene.retrieve(features.descriptors, _RETRIEVED)
        own, ratio = unit_descriptors(features.descriptors), KINDS["sift"].max_ratio
        pixels, points = [], []
        for row in similar.tolist():
            descriptors, positions = self._images[row]
            matches = mutual_matches(own, descriptors, ratio)
            pixels.append(features.keypoints[matches[:, 0]])
            points.append(positions[matches[:, 1]])
        return colmap_pose(
            np.concatenate(pixels).astype(np.float64), np.concatenate(points), camera
        )

"""A first focal length from matches alone, so that reconstruction starts near the truth.

With the right focal length f and no skew, E = K^T F K has two equal singular values; every verified
pair votes for the f at which its own are nearest to equal (Hartley and Zisserman, Multiple View
Geometry, section 9.6.1; the vote stands in for a closed form, which fails on planes and turns).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray

# Focal length over the longer side: from a 12 mm to a 150 mm lens in 35 mm terms.
_FOCAL_FACTORS = np.geomspace(0.33, 4.2, 160)
_DEFECT_SCALE = 0.1  # relative difference of singular values beyond which a pair has no opinion
_MIN_PAIRS = 10


def voted_focal(camera: Camera, fundamental_matrices: FloatArray) -> Camera:
    """The camera with the focal length that most fundamental matrices [N, 3, 3] agree on.

    The matrices relate pixels of two images of this same camera. With too few of them the camera
    comes back as it was.
    """
    if len(fundamental_matrices) < _MIN_PAIRS:
        return camera
    focals = _FOCAL_FACTORS * max(camera.width, camera.height)
    K = np.zeros((len(focals), 3, 3))
    K[:, 0, 0] = K[:, 1, 1] = focals
    K[:, :2, 2] = camera.principal_point
    K[:, 2, 2] = 1
    cost = np.zeros(len(focals))
    for F in fundamental_matrices:
        singular = np.linalg.svd(K.transpose(0, 2, 1) @ F @ K, compute_uv=False)
        defect = 1 - singular[:, 1] / np.maximum(singular[:, 0], 1e-300)
        cost += np.minimum(defect / _DEFECT_SCALE, 1.0)
    blank = Camera.from_focal(
        camera.width, camera.height, float(focals[int(cost.argmin())]), model=camera.model
    )
    return replace(blank, known="unknown")

"""Photos of an unknown camera join a finished map; their camera is estimated on the way."""

from pathlib import Path

import relocalize
from relocalize.plotting import plot_place

place = relocalize.open("hall")
report = relocalize.register(place, "corridor/visitor", capture="visitor")
for photo in report.photos:
    seen = f"{photo.inliers} map points" if photo.registered else photo.reason
    print(f"{photo.image}: {seen}")
for camera in report.cameras:
    print(camera.model, f"focal length {camera.focal_px:.1f} ± {camera.focal_sigma_px:.1f} px")
plot_place(place, Path("second_camera.svg"), points=True)

"""From a video to the poses of photos, and where they were taken, from above."""

from pathlib import Path

import relocalize
from relocalize.place.from_above import svg_from_above

place = relocalize.build("corridor/walk.mp4", "hall", train=False).place
photos = sorted(Path("corridor/visitor").glob("*.jpg"))
estimates = relocalize.localize(place, photos)
for photo, estimate in zip(photos, estimates, strict=True):
    if estimate.world_from_cam is None:
        print(f"{photo.name}: {estimate.reason}")
    else:
        x, y, z = estimate.world_from_cam.translation
        print(f"{photo.name}: {x:.2f} {y:.2f} {z:.2f} ± {estimate.position_sigma:.3f} {place.unit}")
poses = [estimate.world_from_cam for estimate in estimates if estimate.world_from_cam is not None]
Path("photos.svg").write_text(svg_from_above(place, poses), encoding="utf-8")

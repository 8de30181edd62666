"""A pose for every frame of a video, smoothed, and the way it went, from above."""

from pathlib import Path

import relocalize
from relocalize.place.from_above import svg_from_above

place = relocalize.open("hall")
clip = relocalize.localize_video(place, "corridor/walk.mp4", every=16, out="clip", overlay=False)
print(clip.counts)
for pose in clip.poses[:3]:
    print(pose.frame.number, pose.status, pose.position_sigma, place.unit)
poses = [pose.world_from_cam for pose in clip.poses if pose.world_from_cam is not None]
Path("trajectory.svg").write_text(svg_from_above(place, poses), encoding="utf-8")
print((clip.folder / "trajectory.txt").read_text().splitlines()[-1])  # TUM

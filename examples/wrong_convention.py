"""Poses of another tool come in as the images prove them, not as the file claims."""

from pathlib import Path

import relocalize

# A pose list has w first: image qw qx qy qz tx ty tz. Another tool writes it last.
lines = []
for line in Path("corridor/walk_poses.txt").read_text().splitlines():
    image, w, *xyz_and_rest = line.split()
    lines.append(" ".join([image, *xyz_and_rest[:3], w, *xyz_and_rest[3:]]))
Path("w_last.txt").write_text("\n".join(lines) + "\n")

report = relocalize.import_poses("w_last.txt", "proven", "hall/images/walk")
if report.check is not None:
    print("the file claims", report.check.stated)
print("the images prove", report.convention, "by", report.convention_from)
print(relocalize.export("proven", "splat", "nerfstudio"))

"""Which of two programs localizes better, or is it chance? Any formats that import reads."""

from pathlib import Path

import numpy as np

from relocalize.evaluation import score

truth = [line.split() for line in Path("corridor/walk_poses.txt").read_text().splitlines()]
rng = np.random.default_rng(0)
for program, noise in (("first", 0.02), ("second", 0.03)):  # metres; stand-ins for two programs
    rows = []
    for image, *numbers in truth:
        pose = np.array(numbers[:7], float)
        pose[4:] += rng.normal(0, noise, 3)
        rows.append(" ".join([image, *map(str, pose)]))
    Path(f"{program}.txt").write_text("\n".join(rows) + "\n")

found = score("first.txt", "corridor/walk_poses.txt", against=["second.txt"])
print(found)
for pair in found.to_json()["paired"]:
    print(pair["metric"], f"p = {pair['p_holm']:.2g}")

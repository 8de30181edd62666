"""The same localizers on blocks of time and on shuffled frames: how much a leaky split flatters."""

import relocalize

place = relocalize.open("hall")
relocalize.split(place, "random", share=0.2, replace=True)
relocalize.split(place, "blocks", name="blocks-of-4", blocks=20, replace=True)
for name in ("blocks-of-4", "random"):
    found = relocalize.evaluate(place, split=name, truth="corridor/walk_poses.txt").to_json()
    nearest = found["nearest_train_view"]["median_distance"]
    print(f"{name}: the nearest train view is {100 * nearest:.0f} cm away")
    for localizer, row in found["localizers"].items():
        print(f"  {localizer}: {100 * row['median_position']:.1f} cm")

"""A map from video alone, brought to the frame and unit of surveyed poses, with its uncertainty."""

import relocalize

report = relocalize.align("hall", "corridor/walk_poses.txt", plot="aligned.svg")
found = report.to_json()
print(f"{found['inliers']} of {found['n']} agree, one unit is {found['scale']:.4f} {found['unit']}")
print(f"residuals {100 * found['residual_median']:.2f} cm, {found['residual_median_deg']:.2f} deg")
print(f"scale to {found['scale_sigma']:.2%}, the middle to {100 * found['middle_sigma']:.2f} cm")

"""`relocalize info PLACE`: what a Place holds."""

from __future__ import annotations

import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from relocalize.checking.soundness import judge_soundness
from relocalize.cli.options import Flag, Printed
from relocalize.errors import PlaceError
from relocalize.place import Place
from relocalize.place.dropped import dropped_names
from relocalize.plain import to_plain


@dataclass(frozen=True)
class Info(Printed):
    """Show what a Place holds: captures, cameras, map, frame, splits, localizers."""

    place: tyro.conf.Positional[Path | None] = None
    """The Place folder; may be left out with --debug."""
    debug: Flag = False
    """For a bug report: versions, processor, what the Place holds; no paths or names."""

    def run(self) -> int:
        """Print it."""
        if self.place is None and not self.debug:
            raise PlaceError("name a Place folder, or give --debug for a bug report without one")
        facts = None if self.place is None else place_facts(Place.open(self.place))
        if self.debug or facts is None:
            print(json.dumps({"machine": machine_facts(), "place": _nameless(facts)}, indent=2))
            return 0
        return self.show(facts, _as_text(facts))


def machine_facts() -> dict[str, Any]:
    """Versions and processor, as a bug report needs them."""
    try:
        flags = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        flags = None
    named = [re.match(r"[\w.-]+", line) for line in requires("relocalize") or []]
    names = sorted({name.group() for name in named if name})
    return {
        "relocalize": version("relocalize"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "processors": os.cpu_count(),
        "flags": [f for f in (flags[1].split() if flags else ()) if re.search("avx|bf16|amx", f)],
        "packages": {name: found for name in names if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _nameless(facts: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a Place holds without what its owner called things: numbers say as much."""
    if facts is None:
        return None
    model = facts["map"] and {
        **facts["map"],
        "dropped": len(facts["map"]["dropped"]),
        "weak_links": len(facts["map"]["weak_links"]),
        "alarms": len(facts["map"]["alarms"]),
        "drift": facts["map"]["drift"]
        and {key: facts["map"]["drift"][key] for key in ("scale_sigma", "heading_sigma_deg")},
    }
    captures = [
        {key: value for key, value in capture.items() if key != "source"}
        for capture in facts["captures"].values()
    ]
    return {
        "frame": {key: facts["frame"][key] for key in ("up", "unit")},
        "captures": captures,
        "map": model,
        "splits": list(facts["splits"].values()),
        "localizers": len(facts["localizers"]),
    }


def place_facts(place: Place) -> dict[str, Any]:
    """Everything that `relocalize info` says, as plain values."""
    model = place.map if place.has_map else None
    posed = set(model.images) if model else set()
    facts: dict[str, Any] = {
        "name": place.name,
        "frame": asdict(place.frame),
        "poses_from": place.poses_from,
        "captures": {
            name: {
                "kind": capture.kind,
                "source": capture.source,
                "images": len(capture.images),
                "posed": sum(image.name in posed for image in capture.images),
                "left_out": sum(capture.left_out.values()),
            }
            for name, capture in place.captures.items()
        },
        "map": None,
        "splits": {
            name: {"train": len(split.train), "test": len(split.test), "rule": split.rule}
            for name in place.split_names
            for split in [place.split(name)]
        },
        "localizers": place.localizer_names,
    }
    if model is not None:
        from relocalize.mapping.stored_model import stored_report  # noqa: PLC0415  # takes a second

        points, soundness, report = model.points, judge_soundness(model), stored_report(place)
        drift = report and report.drift
        facts["map"] = {
            "images": len(model.images),
            "dropped": list(dropped_names(place)),
            "images_with_observations": len(model.views),
            "parts": [len(part) for part in soundness.parts],
            "weak_links": [str(link) for link in soundness.links],
            "alarms": list(report.alarms) if report else [],
            # as numbers and in words; None where nobody said
            "drift": {**to_plain(drift), "text": str(drift)} if drift else None,
            "points": len(points),
            "observations": int(points.track_lengths.sum()),
            "mean_track_length": _mean(points.track_lengths),
            "mean_reprojection_error_px": _mean(points.reprojection_errors),
            "cameras": {
                str(key): {
                    "model": camera.model,
                    "size": [camera.width, camera.height],
                    "params": [round(value, 6) for value in camera.params],
                    "images": sum(i.camera_id == key for i in model.images.values()),
                }
                for key, camera in sorted(model.cameras.items())
            },
        }
    return facts


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return round(float(values.mean()), 3) if len(values) else None


def _as_text(facts: dict[str, Any]) -> str:
    frame = facts["frame"]
    lines = [f"Place {facts['name']}"]
    for name, capture in facts["captures"].items():
        lines.append(
            f"  capture {name}: {capture['kind']} from {capture['source']}, "
            f"{capture['images']} images, {capture['posed']} with a pose, "
            f"{capture['left_out']} left out"
        )
    up = f"{frame['up']} up ({frame['up_from']})" if frame["up"] else "up axis unknown"
    scale = f" ({frame['scale_from']})" if frame["scale_from"] else " (nothing fixed the scale)"
    lines.append(f"  frame: {up}; unit: {frame['unit']}{scale}")
    if facts["map"] is None:
        lines.append("  no map yet: relocalize map PLACE")
    else:
        model = facts["map"]
        lines.append(f"  poses from: {facts['poses_from']}")
        lines.append(
            f"  map: {model['images']} posed images, {model['points']} points, "
            f"{model['observations']} observations, tracks of {model['mean_track_length']}, "
            f"reprojection error {model['mean_reprojection_error_px']} px"
        )
        if len(model["parts"]) > 1:
            sizes = ", ".join(map(str, model["parts"]))
            lines.append(f"  nothing firm ties its parts of {sizes} images to each other")
        lines += [f"  warning: {alarm}" for alarm in model["alarms"]]
        lines += [f"  weak link: {link}" for link in model["weak_links"]]
        if model["drift"]:
            lines.append(f"  drift: {model['drift']['text']}")
        if model["dropped"]:
            lines.append(
                f"  {len(model['dropped'])} images are dropped from it; bring them back with: "
                "relocalize drop PLACE --restore"
            )
        for key, camera in model["cameras"].items():
            width, height = camera["size"]
            lines.append(
                f"  camera {key}: {camera['model']} {width}x{height} "
                f"{camera['params']}, {camera['images']} images"
            )
    for name, split in facts["splits"].items():
        lines.append(
            f"  split {name} ({split['rule']}): {split['train']} train, {split['test']} test"
        )
    lines.append(f"  localizers: {', '.join(facts['localizers']) or 'none'}")
    return "\n".join(lines)

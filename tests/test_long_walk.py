"""A long walk: joined from stretches, closed by its loops and no look-alike, its drift said."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from relocalize import progress
from relocalize.geometry import Camera, Rigid3, Similarity3, align_camera_poses
from relocalize.geometry.transforms import rotations_from_rotvecs
from relocalize.mapping.drift import drift_of
from relocalize.mapping.loops import find_loops
from relocalize.mapping.pose_graph import close_loops
from relocalize.mapping.pruning import keep_images
from relocalize.mapping.reconstruction import Task, map_globally, read_models, save_models
from relocalize.mapping.stretches import joined, stretches
from relocalize.place import MapModel, PosedImage
from relocalize.place.bundle_adjustment import refine_map
from relocalize.place.model import NO_POINT, Points

CAMERA = Camera("SIMPLE_PINHOLE", 640, 480, (500.0, 320.0, 240.0))
RADIUS, WIDTH, HEIGHT = 8.0, 2.4, 2.7
IMAGES, LAPS = 120, 1.25
DOOR = 1.5  # metres
NOISE = 0.5  # pixels


class Ring:
    """A walk of more than a lap along a ring's corridor, and what a map of it in time knows.

    Of three doors of one kind everything looks alike. With ``rise`` the walk is a spiral stair
    whose floors look alike.
    """

    def __init__(
        self, *, growth: float = 0.0, rise: float = 0.0, noise: float = NOISE, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.names = [f"walk/{i:04d}.jpg" for i in range(IMAGES)]
        self.angles = 2 * np.pi * LAPS * np.arange(IMAGES) / IMAGES
        self.truth = [self._pose(angle, rise) for angle in self.angles]
        count = 9000
        around, up = rng.uniform(0, 2 * np.pi, count), rng.uniform(0, HEIGHT, count)
        across = RADIUS + rng.choice([-0.5, 0.5], count) * WIDTH
        alike = np.arange(count)
        for door in (1, 2):
            model = np.flatnonzero(np.abs(around - 1.0) < DOOR / RADIUS / 2)
            copies = np.flatnonzero(
                np.abs(around - 1.0 - door * 2 * np.pi / 3) < DOOR / RADIUS / 2
            )[: len(model)]
            model = model[: len(copies)]
            around[copies] = around[model] + door * 2 * np.pi / 3
            up[copies], across[copies], alike[copies] = up[model], across[model], model
        # A map made in time has a point for each lap.
        turned = np.concatenate([around, around + 2 * np.pi])
        self.alike = np.tile(alike, 2)
        world = np.column_stack(
            [
                np.tile(across, 2) * np.cos(turned),
                np.tile(across, 2) * np.sin(turned),
                np.tile(up, 2) + rise * turned / (2 * np.pi),
            ]
        )
        changes = self._drift(growth)
        self.seen, pixels = [], []
        for angle, pose in zip(self.angles, self.truth, strict=True):
            in_cam = pose.inverse() @ world
            ahead = (in_cam[:, 2] > 0.3) & (np.abs(turned - angle) < 1.2)
            at = CAMERA.img_from_cam(np.where(ahead[:, None], in_cam, [0, 0, 1.0]))
            ahead &= (np.linalg.norm(in_cam, axis=1) < 7) & (rng.uniform(size=len(world)) < 0.5)
            rows = np.flatnonzero(ahead & ((at > 0) & (at < [640, 480])).all(axis=1))
            self.seen.append(rows)
            pixels.append(at[rows] + rng.normal(0, noise, (len(rows), 2)))
        lengths = np.bincount(np.concatenate(self.seen), minlength=len(world))
        nearest = np.abs(turned[:, None] - self.angles).argmin(axis=1)
        positions = np.stack([changes[i] @ x for i, x in zip(nearest, world, strict=True)])
        images = {}
        for i, name in enumerate(self.names):
            rows = np.where(lengths[self.seen[i]] >= 2, self.seen[i], NO_POINT)
            pose = changes[i].move_camera(self.truth[i]).inverse()
            images[name] = PosedImage(name, CAMERA, 1, pose, pixels[i].astype(np.float32), rows)
        colors = np.zeros((len(world), 3), np.uint8)
        errors = np.full(len(world), NOISE)
        points = Points(np.arange(1, len(world) + 1), positions, colors, errors, lengths)
        self.model = MapModel(images, points).only(self.names)

    @staticmethod
    def _pose(angle: float, rise: float) -> Rigid3:
        forward = np.array([-np.sin(angle), np.cos(angle), 0.0])
        right = np.array([np.cos(angle), np.sin(angle), 0.0])
        rotation = np.stack([right, [0, 0, -1.0], forward], axis=1)
        height = 1.5 + rise * angle / (2 * np.pi)
        return Rigid3(rotation, np.array([*(RADIUS * right[:2]), height]))

    def _drift(self, growth: float) -> list[Similarity3]:
        """drifted_from_true about each image: steps grow, and turn a little too far."""
        drifted = [self.truth[0]]
        changes = [Similarity3.identity()]
        turn = rotations_from_rotvecs(np.array([0, growth / IMAGES, 0]))
        for i in range(1, IMAGES):
            scale = (1 + growth) ** (i / IMAGES)
            step = self.truth[i - 1].inverse() @ self.truth[i]
            centre = drifted[-1].rotation @ (scale * step.translation) + drifted[-1].translation
            drifted.append(Rigid3(drifted[-1].rotation @ step.rotation @ turn, centre))
            change = drifted[-1].rotation @ self.truth[i].rotation.T
            shift = centre - scale * change @ self.truth[i].translation
            changes.append(Similarity3(scale, change, shift))
        return changes

    def walk(self):
        """Verified matches of neighbours in time."""
        near = [(i, j) for i in range(IMAGES) for j in range(i + 1, min(IMAGES, i + 6))]
        return {(self.names[i], self.names[j]): self._matches(i, j) for i, j in near}

    def loops(self, *, true: bool):
        """The same of images far apart in time: of one place, or of what looks alike."""
        found = {}
        for i in range(IMAGES):
            for j in range(i + 20, IMAGES):
                same = abs(self.angles[j] - self.angles[i] - 2 * np.pi) < 0.3
                if same == true and len(rows := self._matches(i, j)) >= 15:
                    found[self.names[i], self.names[j]] = rows
        return found

    def _matches(self, i: int, j: int):
        one, other = self.alike[self.seen[i]], self.alike[self.seen[j]]
        _, first, second = np.intersect1d(one, other, return_indices=True)
        return np.column_stack([first, second]).astype(np.uint32)


def errors(model, ring):
    ids = {image.name: image for image in model.images.values()}
    poses = [Rigid3.from_colmap(ids[n].cam_from_world()).inverse() for n in ring.names]
    return align_camera_poses(poses, ring.truth).position_residuals


@lru_cache
def ring_of(*, growth: float = 0.0, rise: float = 0.0, noise: float = NOISE) -> Ring:
    return Ring(growth=growth, rise=rise, noise=noise)


@pytest.mark.parametrize("growth", [0.02, 0.08])
def test_a_ring_that_drifted_is_closed_by_loops_that_agree(growth: float) -> None:
    ring = ring_of(growth=growth)
    found = find_loops(ring.model, ring.names, ring.loops(true=True), ring.walk())
    assert len(found) >= 3
    before = ring.model.to_colmap()
    closed = close_loops(before, ring.names, found)
    assert np.median(errors(closed, ring)) < 0.3 * np.median(errors(before, ring))
    # Points come along: they still lie where their images see them.
    closed.update_point_3d_errors()
    assert closed.compute_mean_reprojection_error() < 4


def test_doors_that_look_alike_close_nothing() -> None:
    ring = ring_of(growth=0.02)
    loops = ring.loops(true=False)
    assert len(loops) > 20
    assert find_loops(ring.model, ring.names, loops, ring.walk()) == []


def test_floors_that_look_alike_in_full_stay_apart() -> None:
    ring = ring_of(rise=3.0)
    loops = ring.loops(true=True)
    assert len(loops) > 20
    assert find_loops(ring.model, ring.names, loops, ring.walk()) == []


def test_twice_the_noise_leaves_scale_and_direction_twice_as_loose() -> None:
    once, twice = (
        drift_of(ring.model, ring.names) for ring in (ring_of(noise=NOISE / 2), ring_of(growth=0.0))
    )
    assert once is not None
    assert twice is not None
    assert twice.scale_sigma / once.scale_sigma == pytest.approx(2, rel=0.2)
    assert twice.heading_sigma_deg / once.heading_sigma_deg == pytest.approx(2, rel=0.2)
    assert once.first in ring_of(growth=0.0).names
    assert "may change the scale by" in str(once)


def test_what_adjustment_moves_is_within_what_is_said_to_be_open() -> None:
    ring = ring_of(growth=0.0)
    said = drift_of(ring.model, ring.names)
    assert said is not None
    adjusted = ring.model.to_colmap()
    refine_map(adjusted)
    images = MapModel.from_colmap(adjusted).images
    grown = []
    for name in (said.first, said.last):
        middle = ring.names.index(name)
        near = range(max(0, middle - 4), min(IMAGES, middle + 4))
        mapped = [images[ring.names[i]].world_from_cam.translation for i in near]
        true = [ring.truth[i].translation for i in near]
        grown.append(np.log(np.std(mapped, axis=0).sum() / np.std(true, axis=0).sum()))
    # The optimum itself is off by some sigmas: adjustment that stops short would show nothing.
    assert 0.1 < abs(grown[1] - grown[0]) / said.scale_sigma < 4


def test_stretches_overlap_and_cover_the_walk() -> None:
    for count in (5, 100, 139, 500, 1152):
        names = [str(number) for number in range(count)]
        runs = stretches(names)
        assert {name for run in runs for name in run} == set(names)
        assert max(map(len, runs)) <= 140
        for run, following in pairwise(runs):
            assert len(set(run) & set(following)) == 20


def test_stretches_in_frames_of_their_own_become_one_map(tmp_path: Path) -> None:
    ring = ring_of(growth=0.0)
    whole = ring.model.to_colmap()
    rng = np.random.default_rng(0)
    parts = []
    for number, start in enumerate((0, 35, 70)):
        part = pycolmap.Reconstruction(whole)
        keep_images(part, ring.names[start : start + 50])
        turn = rotations_from_rotvecs(rng.normal(size=3))
        part.transform(Similarity3(0.5 + number, turn, rng.normal(size=3)).to_colmap())
        parts.append(part)
    save_models(parts, tmp_path / "parts")
    (one,) = joined(read_models(tmp_path / "parts"))
    assert one.num_reg_images() == len(ring.names)
    assert errors(one, ring).max() < 1e-3
    assert one.compute_num_observations() > 0.95 * whole.compute_num_observations()
    assert one.num_points3D() < 1.02 * whole.num_points3D()
    # What shares nothing with it stays a model of its own.
    alone = [read_models(tmp_path / "parts")[i] for i in (0, 2)]
    assert len(joined(alone)) == 2


def test_time_left_follows_the_recent_rate(monkeypatch, capsys) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar = progress.Bar("closing loops", 100, "images", None)
    bar.advance(50)
    now = 15.0
    assert "3.3/s, 15 s left" in bar.line()
    for _ in range(6):
        now += 15
        bar.advance()
        line = bar.line()
    assert "0.1/s" in line
    assert "660 s left" in line
    bar.advance(45)  # work that is tried again
    line = bar.line()
    assert line.startswith("closing loops: 101 images, ")
    assert "left" not in line


def test_a_stage_that_finishes_nothing_for_long_still_says_so(monkeypatch, capsys) -> None:
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.02)
    with progress.shown(), progress.bar("closing loops", 4, "steps"):
        time.sleep(0.2)
    said = capsys.readouterr().err
    assert "closing loops: 0 of 4 steps, at work for" in said
    assert said.endswith("s\n")


def test_steps_of_unknown_number_are_told_by_the_time_they_took(monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    bar = progress.Bar("global mapping", None, "steps", None)
    bar.advance(2)
    now = 90.0
    assert bar.line() == "global mapping: 2 steps, at work for 90 s"


def test_global_mapping_counts_its_steps(tmp_path, capsys) -> None:
    options = pycolmap.SyntheticDatasetOptions(num_frames_per_rig=8, num_points3D=60)
    with pycolmap.Database.open(str(tmp_path / "database.db")) as database:
        names = [i.name for i in pycolmap.synthesize_dataset(options, database).images.values()]
    task = Task(tmp_path / "database.db", names, tmp_path, tmp_path, ordered=False, seed=0)
    with progress.shown():
        assert map_globally(task).judgement.registered == len(names)
    said = capsys.readouterr().err
    assert re.search(r"relative poses: [1-9]\d* pairs in", said)
    # Positions, adjustments and points of COLMAP's, then points and an adjustment of our own.
    assert int(re.search(r"global mapping: (\d+) steps in", said)[1]) > 4

"""Does a map hang together? What ties its parts to each other, and how firmly.

Two parts of a map may each be exact and yet be bent against each other, where only a few points
of a plain wall are seen from both. What holds them is measured: each side is taken as rigid, and
the covariance of the similarity between the two follows from the points that both see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relocalize.checking.report import Problem
from relocalize.checking.standing import standing
from relocalize.geometry import Camera
from relocalize.geometry.transforms import FloatArray, skew
from relocalize.place import MapModel, PosedImage

# Two sides of which one might be turned or scaled by so much against the other are no one map.
_APART_DEG, _APART_SCALE = 5.0, 0.2
# And by so much, one map with a weak link; as where its two sides see so few points in common, by
# those that a single image sees: errors that images have in common are not in the sigmas.
_WEAK_DEG, _WEAK_SCALE = 1.0, 0.03
_WEAK_SHARE = 0.2
_LEAST_SHARED = 8  # points; a similarity has 7 degrees of freedom
_LEAST_SIDE = 3  # images: a smaller side is a few images, not a part
_MEASURED_CUTS = 100  # the weakest, by what is shared
_LEAST_NOISE = 0.5  # pixels
# An image is held by so many points, that leave open so much of its direction, and of its place
# as a share of the distance to them.
_LEAST_OBSERVATIONS = 12
# Of two sides that see one thing, some two images share as many; matches by chance are spread. The
# ends of a street that do not meet were tied by 1 to 5 points of any two images, 50 in all;
# fourteen maps of rooms, facades, streets and objects are by 24 and more where they are weakest.
_LEAST_TIE = _LEAST_OBSERVATIONS
_LOOSE_DEG, _LOOSE_SHIFT = 2.0, 0.05


@dataclass(frozen=True)
class Link:
    """What holds two parts of a map to each other."""

    first: str  # the image on one side that shares most points with the other
    second: str  # its counterpart
    images: int  # how many are on the smaller side
    points: int  # how many both sides see
    rotation_sigma_deg: float  # of one side against the other, about its worst axis
    scale_sigma: float  # of one side's scale against the other's, as a share

    def __str__(self) -> str:
        return (
            f"{self.images} images hang on the rest by {self.first} and {self.second}: "
            f"both sides see {self.points} points, whose noise alone leaves open "
            f"± {self.rotation_sigma_deg:.2g}° of direction and ± {self.scale_sigma:.2g} of scale; "
            "common errors may bend it by far more; film more of what lies between"
        )


def loose_images(model: MapModel) -> dict[str, str]:
    """Posed images that their points do not hold in place, with the reason of each.

    Images that observe nothing are none of them: their poses come from elsewhere.
    """
    noise = _noise(model)
    loose = {}
    for name, image in model.images.items():
        rows = image.observed
        if not len(rows):
            continue
        if len(rows) < _LEAST_OBSERVATIONS:
            loose[name] = f"only {len(rows)} points hold it"
            continue
        seen = image.cam_from_world @ model.points.positions[rows]
        jacobian = _of_pixels(seen, image.camera)
        # Of a small turn and shift of the camera, the shift in depths.
        motion = np.zeros((len(seen), 3, 6))
        motion[:, :, :3] = -skew(seen)
        motion[:, :, 3:] = np.eye(3) * max(float(np.median(seen[:, 2])), 1e-9)
        both = (jacobian @ motion).reshape(-1, 6) / noise
        sigmas = np.sqrt(np.diag(np.linalg.pinv(both.T @ both, hermitian=True)))
        held = np.linalg.matrix_rank(both) == 6
        turn, shift = np.degrees(sigmas[:3].max()), sigmas[3:].max()
        if not held or turn > _LOOSE_DEG or shift > _LOOSE_SHIFT:
            loose[name] = f"its {len(rows)} points lie too close together to hold it"
    return loose


@dataclass(frozen=True, eq=False)
class Soundness:
    """The parts of a map."""

    # image names of each, the largest first; images without observations are in none
    parts: tuple[tuple[str, ...], ...]
    links: tuple[Link, ...]  # the weak ones within parts, weakest first


def judge_soundness(model: MapModel) -> Soundness:
    """The parts of a map, by the points that its images share."""
    graph = _Graph(model)
    parts: list[NDArray[np.int64]] = []
    weak: list[Link] = []
    waiting = graph.components()
    while waiting:
        part = waiting.pop()
        cuts = graph.cuts(part)
        worst = max(cuts, key=_looseness, default=None)
        if worst is not None and _looseness(worst) >= 1:
            waiting += [worst.side, np.setdiff1d(part, worst.side)]
            continue
        parts.append(part)
        weak += [graph.link(cut, part) for cut in _distinct(cuts)]
    parts.sort(key=lambda part: (-len(part), part[0]))
    weak.sort(key=lambda link: -link.rotation_sigma_deg)
    return Soundness(tuple(tuple(graph.names[row] for row in part) for part in parts), tuple(weak))


def map_problems(model: MapModel) -> list[Problem]:
    """What speaks against a map by its own points: no depth, parts, weak links, loose images."""
    soundness = judge_soundness(model)
    problems = [Problem("standing", (), alarm) for alarm in standing(model)]
    if len(soundness.parts) > 1:
        main, *others = soundness.parts
        images = tuple(name for part in others for name in part)
        said = (
            f"nothing firm ties {len(others)} parts to the other {len(main)} images: "
            "their points leave open how they lie to each other"
        )
        problems.append(Problem("parts", images, said))
    problems += [
        Problem("weak link", (link.first, link.second), str(link)) for link in soundness.links
    ]
    loose = loose_images(model)
    if loose:
        said = f"{len(loose)} are held by few points (the first: {next(iter(loose.values()))})"
        problems.append(Problem("loose", tuple(loose), said))
    return problems


@dataclass(frozen=True, eq=False)
class _Cut:
    """A part in two: the rows of one side, the tie across, and what it holds."""

    side: NDArray[np.int64]
    tie: tuple[int, int]
    points: int
    rotation_sigma_deg: float
    scale_sigma: float
    share: float  # of the points that an image sees, in the median

    @property
    def is_weak(self) -> bool:
        return (
            self.rotation_sigma_deg > _WEAK_DEG
            or self.scale_sigma > _WEAK_SCALE
            or self.share < _WEAK_SHARE
        )


def _looseness(cut: _Cut) -> float:
    """1 and more where the two sides are no one map."""
    return max(cut.rotation_sigma_deg / _APART_DEG, cut.scale_sigma / _APART_SCALE)


def _distinct(cuts: Sequence[_Cut]) -> list[_Cut]:
    """Weak cuts, of several near one place the weakest."""
    weak = [cut for cut in sorted(cuts, key=_looseness, reverse=True) if cut.is_weak]
    kept: list[_Cut] = []
    for cut in weak:
        sides = [len(np.setxor1d(cut.side, other.side)) for other in kept]
        if all(size > 0.2 * len(cut.side) for size in sides):
            kept.append(cut)
    return kept


class _Graph:
    """Images that observe points, and how many points each two of them share."""

    def __init__(self, model: MapModel) -> None:
        from scipy import sparse  # noqa: PLC0415  # takes half a second

        images = model.views
        self.names = [image.name for image in images]
        rows = [np.unique(image.observed) for image in images]
        self.points = np.concatenate([np.zeros(0, np.int64), *rows])
        self.images = np.repeat(np.arange(len(images)), [len(seen) for seen in rows])
        self.positions = model.points.positions
        noise = _noise(model)
        information = [
            _information(image, model.points.positions[seen])
            for image, seen in zip(images, rows, strict=True)
        ]
        self.information = np.concatenate([np.zeros((0, 3, 3)), *information]) / noise**2
        self._seen = sparse.csr_matrix(
            (np.ones(len(self.points)), (self.images, self.points)),
            shape=(len(images), len(self.positions)),
        )
        self._shared = (self._seen @ self._seen.T).tocsr()
        self._shared.setdiag(0)
        self._shared.eliminate_zeros()

    def components(self) -> list[NDArray[np.int64]]:
        """Rows of the images of each part: it shares too few points with any other."""
        from scipy import sparse  # noqa: PLC0415
        from scipy.sparse import csgraph  # noqa: PLC0415

        label: NDArray[np.integer] = np.arange(len(self.names))
        while True:
            count = int(label.max(initial=-1)) + 1
            rows = np.arange(len(label))
            member = sparse.csr_matrix((np.ones(len(label)), (label, rows)), (count, len(label)))
            seen = (member @ self._seen).astype(bool).astype(np.int64)
            shared = seen @ seen.T
            merged, joined = csgraph.connected_components(
                shared.multiply(shared >= _LEAST_SHARED), directed=False
            )
            if merged == count:
                return [np.flatnonzero(label == number) for number in range(count)]
            label = joined[label]

    def cuts(self, part: NDArray[np.int64]) -> list[_Cut]:
        """The part in two at ties of its maximum spanning tree, those that least crosses."""
        from scipy.sparse import csgraph  # noqa: PLC0415

        if len(part) < 2 * _LEAST_SIDE:
            return []
        within = self._shared[part][:, part]
        distance = within.copy()
        distance.data = 1 / distance.data
        tree = csgraph.minimum_spanning_tree(distance)
        order, before = csgraph.depth_first_order(tree, 0, directed=False)
        # In this order each side is a range.
        start = np.empty(len(part), np.int64)
        start[order] = np.arange(len(part))
        size = np.ones(len(part), np.int64)
        for row in order[:0:-1]:
            size[before[row]] += size[row]
        end = start + size
        sums = np.zeros((len(part) + 1, len(part) + 1), np.float32)
        sums[1:, 1:] = within[order][:, order].toarray().cumsum(axis=0).cumsum(axis=1)
        inside = sums[end, end] - sums[start, end] - sums[end, start] + sums[start, start]
        crossing = sums[end, -1] - sums[start, -1] - inside
        both = (size >= _LEAST_SIDE) & (size <= len(part) - _LEAST_SIDE)
        rows = np.flatnonzero(both)
        rows = rows[np.argsort(crossing[rows], kind="stable")][:_MEASURED_CUTS]

        mine = np.isin(self.images, part)
        at = start[np.searchsorted(part, self.images[mine])]
        points, information = self.points[mine], self.information[mine]
        seen = float(np.median(np.bincount(at, minlength=len(part))))
        cuts = []
        for row in rows:
            of_side = (at >= start[row]) & (at < end[row])
            shared, rotation, scale = self._held(points, information, of_side)
            if within[before[row], row] < _LEAST_TIE:
                rotation = scale = np.inf  # by chance
            side = part[(start >= start[row]) & (start < end[row])]
            tie = (int(part[before[row]]), int(part[row]))
            cuts.append(_Cut(side, tie, shared, rotation, scale, shared / seen))
        return cuts

    def _held(
        self, points: NDArray[np.int64], information: FloatArray, inside: NDArray[np.bool_]
    ) -> tuple[int, float, float]:
        """Shared points, and the sigmas of rotation (degrees) and scale of one side."""
        count = len(self.positions)
        here = np.bincount(points[inside], minlength=count) > 0
        there = np.bincount(points[~inside], minlength=count) > 0
        both = np.flatnonzero(here & there)
        if len(both) < _LEAST_SHARED:
            return len(both), np.inf, np.inf
        row = np.full(count, -1)
        row[both] = np.arange(len(both))
        sums = np.zeros((2, len(both), 3, 3))
        for side, chosen in enumerate((inside, ~inside)):
            rows = row[points[chosen]]
            np.add.at(sums[side], rows[rows >= 0], information[chosen][rows >= 0])
        # A point that each side knows so well ties them as well as their parallel sum says.
        tie = sums[0] @ np.linalg.pinv(sums[0] + sums[1], hermitian=True) @ sums[1]
        centred = self.positions[both] - np.median(self.positions[both], axis=0)
        motion = np.zeros((len(both), 3, 7))
        motion[:, :, :3] = np.eye(3)
        motion[:, :, 3:6] = -skew(centred)
        motion[:, :, 6] = centred
        held = np.einsum("pia,pij,pjb->ab", motion, tie, motion, optimize=True)
        try:
            covariance = np.linalg.inv(held)
        except np.linalg.LinAlgError:
            return len(both), np.inf, np.inf
        rotation = float(np.linalg.eigvalsh(covariance[3:6, 3:6])[-1])
        scale = float(covariance[6, 6])
        if not (rotation >= 0 and scale >= 0):
            return len(both), np.inf, np.inf
        return len(both), float(np.degrees(np.sqrt(rotation))), float(np.sqrt(scale))

    def link(self, cut: _Cut, part: NDArray[np.int64]) -> Link:
        first, second = (self.names[row] for row in cut.tie)
        images = min(len(cut.side), len(part) - len(cut.side))
        return Link(first, second, images, cut.points, cut.rotation_sigma_deg, cut.scale_sigma)


def _noise(model: MapModel) -> float:
    """Pixels of a typical observation."""
    errors = model.points.reprojection_errors
    return max(_LEAST_NOISE, float(np.median(errors))) if len(errors) else _LEAST_NOISE


def _of_pixels(seen: FloatArray, camera: Camera) -> FloatArray:
    """[N, 2, 3] pixels by points [N, 3] in the camera's frame, without distortion."""
    depth = np.maximum(seen[:, 2], 1e-9)
    jacobian = np.zeros((len(seen), 2, 3))
    jacobian[:, 0, 0] = jacobian[:, 1, 1] = camera.focal_px / depth
    jacobian[:, :, 2] = -camera.focal_px * seen[:, :2] / depth[:, None] ** 2
    return jacobian


def _information(image: PosedImage, positions: FloatArray) -> FloatArray:
    """[N, 3, 3] what an observation, exact to a pixel, tells of each point [N, 3]."""
    seen = _of_pixels(image.cam_from_world @ positions, image.camera)
    world = seen @ image.cam_from_world.rotation
    return np.asarray(world.transpose(0, 2, 1) @ world)

"""What structure-based localization keeps of a map: points with one descriptor, who sees which.

One mean descriptor per point in uint8 instead of every observation's: a tenth of the size at the
same accuracy (Sattler et al., "Efficient & Effective Prioritized Matching", PAMI 2017, 3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relocalize.errors import MappingError
from relocalize.features.database import FeatureDatabase, StoredDescriptors
from relocalize.features.extraction import Descriptors, UnitDescriptors, kind_of, unit_descriptors
from relocalize.features.matching import Rows
from relocalize.features.vlad import Vlad, VladSettings
from relocalize.geometry import Camera, Rigid3
from relocalize.geometry.transforms import FloatArray
from relocalize.place import MapModel, PosedImage

_MARGIN = 0.05  # of the longer side, about an image: a place that just leaves it is still shown


@dataclass(frozen=True, eq=False)
class Scene:
    """The points, views and image vectors that a photo is compared with."""

    positions: FloatArray  # [P, 3] from `origin`
    descriptors: Descriptors  # [P, D], the mean over the point's observations
    centres: FloatArray  # [N, 3] camera centres of the views, likewise
    view_starts: Rows  # [N + 1] view i sees ``seen_rows[view_starts[i]:view_starts[i + 1]]``
    seen_rows: Rows  # rows of points
    vlad: Vlad  # describes photos for retrieval
    vectors: UnitDescriptors  # [N, D] the views' descriptions
    # [3] in the world, from which positions and poses of the scene count
    origin: FloatArray = field(default_factory=lambda: np.zeros(3))
    # of each capture by name, [P] which points its images observe
    seen_in: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def retrieve(
        self,
        descriptors: Descriptors,
        count: int,
        *,
        without: int | None = None,
        among: NDArray[np.bool_] | None = None,
    ) -> Rows:
        """The ``count`` views most similar to a photo, best first.

        Args:
            descriptors: [K, D] of the photo.
            count: at most.
            without: a view that is left out: the photo itself.
            among: [N] the only views that may be; None: all.
        """
        similarity = self.vectors @ self.vlad.describe(descriptors)
        asked = np.ones(len(similarity), np.bool_) if among is None else among.copy()
        if without is not None:
            asked[without] = False
        similarity[~asked] = -np.inf
        count = min(count, int(asked.sum()))
        return np.argsort(-similarity, kind="stable")[:count].astype(np.int64)

    def views_about(self, centre: FloatArray, reach: float) -> NDArray[np.bool_]:
        """[N] which views see what a camera within ``reach`` of ``centre`` [3] may see too.

        Features of a thing are matched where it is seen from a similar direction and distance:
        by cameras that are no farther apart than the thing is.
        """
        views = np.repeat(np.arange(len(self.centres)), np.diff(self.view_starts))
        away = np.linalg.norm(self.positions[self.seen_rows] - self.centres[views], axis=1)
        farthest = np.zeros(len(self.centres))
        np.maximum.at(farthest, views, away)
        near: NDArray[np.bool_] = np.linalg.norm(self.centres - centre, axis=1) <= reach + farthest
        return near

    def captures_of(self, rows: Rows) -> dict[str, float]:
        """Which share of some points the images of each capture observe; of all captures."""
        return {name: float(seen[rows].mean()) for name, seen in self.seen_in.items()}

    def seen_by(self, views: Iterable[int]) -> Rows:
        """Rows of the points that any of ``views`` sees, ascending."""
        seen = np.zeros(len(self.positions), dtype=np.bool_)
        for i in views:
            seen[self.seen_rows[self.view_starts[i] : self.view_starts[i + 1]]] = True
        return np.flatnonzero(seen)

    def shown_in(self, camera: Camera, world_from_cam: Rigid3) -> NDArray[np.bool_]:
        """[P] which points lie in an image, or just outside, hidden or not.

        Args:
            camera: of the image.
            world_from_cam: its pose, from the scene's origin.
        """
        points = world_from_cam.inverse() @ self.positions
        shown: NDArray[np.bool_] = points[:, 2] > 0
        size = np.array([camera.width, camera.height])
        margin = _MARGIN * size.max()
        pixels = camera.img_from_cam(points[shown])
        shown[shown] = ((pixels > -margin) & (pixels < size + margin)).all(axis=1)
        return shown

    def without(self, gone: NDArray[np.bool_]) -> Scene | None:
        """The same without some points, and without the views that saw more of these than others.

        Args:
            gone: [P] points that no view sees any more.

        Returns:
            None where no view is left.
        """
        left = ~gone[self.seen_rows]
        seen = np.diff(self.view_starts)
        still = np.diff(np.concatenate([[0], np.cumsum(left)])[self.view_starts])
        kept = (still > 0) & (2 * still >= seen)
        if not kept.any():
            return None
        return replace(
            self,
            centres=self.centres[kept],
            view_starts=np.concatenate([[0], np.cumsum(still[kept])]),
            seen_rows=self.seen_rows[left & np.repeat(kept, seen)],
            vectors=self.vectors[kept],
        )

    def as_seen_by(
        self, centres: FloatArray, seen: Sequence[Rows], descriptors: Sequence[Descriptors]
    ) -> Scene:
        """The same points, with other photos as the views and their descriptors as the points'.

        Args:
            centres: [N, 3] camera centres of the photos.
            seen: rows of the points that each photo sees.
            descriptors: [len(rows), D] what each photo sees there.
        """
        kind = kind_of(self.descriptors)
        sums = np.zeros((len(self.positions), kind.size))
        for rows, of_photo in zip(seen, descriptors, strict=True):
            np.add.at(sums, rows, unit_descriptors(of_photo))
        mean = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        return replace(
            self,
            descriptors=kind.stored(mean),
            centres=centres,
            view_starts=np.cumsum([0, *map(len, seen)]).astype(np.int64),
            seen_rows=np.concatenate([np.zeros(0, np.int64), *map(np.sort, seen)]),
            vectors=np.zeros((len(centres), self.vlad.size), np.float32),
        )

    @classmethod
    def from_map(
        cls,
        model: MapModel,
        database: FeatureDatabase,
        vlad: Vlad | VladSettings,
        origin: FloatArray | None = None,
    ) -> Scene:
        """From a map; its images that observe points become the views, in their order.

        Args:
            model: that counts from ``origin`` already.
            database: with its images' features.
            vlad: describes the views, or how that is learnt from them.
            origin: [3] in the world; None is the world's own.

        Raises:
            MappingError: the map has no points, or too few features for retrieval.
        """
        images, points = model.views, model.points
        if not images or not len(points):
            raise MappingError(
                "the map has no points to localize against; map the place first: "
                "relocalize map PLACE"
            )
        descriptors = StoredDescriptors(database, [image.name for image in images])
        if isinstance(vlad, VladSettings):
            try:
                vlad = Vlad.fit(descriptors, vlad)
            except MappingError as error:
                raise MappingError(f"the map has too few features: {error}") from error
        kind = kind_of(descriptors[0])
        sums = np.zeros((len(points), kind.size))
        seen: list[Rows] = []
        for image, of_image in zip(images, descriptors, strict=True):
            observed = np.flatnonzero(image.point_rows >= 0)
            rows = image.point_rows[observed]
            np.add.at(sums, rows, unit_descriptors(of_image[observed]))
            seen.append(np.unique(rows))
        # Points without an observation left are nobody's; they go.
        used = observed_rows(images)
        new_row = np.full(len(points), -1, np.int64)
        new_row[used] = np.arange(len(used))
        captures = [image.name.partition("/")[0] for image in images]
        seen_in = {name: np.zeros(len(used), np.bool_) for name in sorted(set(captures))}
        for name, rows in zip(captures, seen, strict=True):
            seen_in[name][new_row[rows]] = True
        mean = sums[used] / np.linalg.norm(sums[used], axis=1, keepdims=True)
        compact = Vlad.from_arrays({name: _half(row) for name, row in vlad.to_arrays().items()})
        return cls(
            positions=points.positions[used].astype(np.float32).astype(np.float64),
            descriptors=kind.stored(mean),
            centres=np.stack([image.world_from_cam.translation for image in images]),
            view_starts=np.cumsum([0, *(len(rows) for rows in seen)]).astype(np.int64),
            seen_rows=new_row[np.concatenate(seen)],
            vlad=compact,
            vectors=_half(np.stack([compact.describe(rows) for rows in descriptors])),
            origin=np.zeros(3) if origin is None else origin,
            seen_in=seen_in,
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The scene in its smallest exact form."""
        arrays: dict[str, NDArray[Any]] = {
            "positions": self.positions.astype(np.float32),
            "descriptors": self.descriptors,
            "centres": self.centres,
            "origin": self.origin,
            "view_starts": self.view_starts,
            # Sorted within a view: their steps are small and pack to a byte or two.
            "seen_steps": np.diff(self.seen_rows, prepend=0).astype(np.int32),
            "vectors": self.vectors.astype(np.float16),
            "captures": np.frombuffer("\n".join(self.seen_in).encode(), np.uint8),
            "seen_in": np.packbits(list(self.seen_in.values()), axis=-1),
        }
        for name, array in self.vlad.to_arrays().items():
            arrays[f"vlad_{name}"] = array.astype(np.float16)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Scene:
        """From what `to_arrays` gave.

        Raises:
            MappingError: an array is missing or does not fit the others.
        """
        try:
            captures = arrays["captures"].tobytes().decode().split("\n")
            seen_in = np.unpackbits(arrays["seen_in"], axis=-1, count=len(arrays["positions"]))
            scene = cls(
                positions=arrays["positions"].astype(np.float64),
                descriptors=arrays["descriptors"],
                centres=arrays["centres"].astype(np.float64),
                view_starts=arrays["view_starts"].astype(np.int64),
                seen_rows=np.cumsum(arrays["seen_steps"], dtype=np.int64),
                vlad=Vlad.from_arrays(
                    {
                        name.removeprefix("vlad_"): array
                        for name, array in arrays.items()
                        if name.startswith("vlad_")
                    }
                ),
                vectors=arrays["vectors"].astype(np.float32),
                # What was saved before there was one counts from the world's own.
                origin=np.asarray(arrays.get("origin", np.zeros(3)), dtype=np.float64),
                seen_in=dict(zip(captures, seen_in.astype(np.bool_), strict=True)),
            )
        except (KeyError, MappingError, ValueError, TypeError) as error:
            raise MappingError(f"the saved scene is damaged: {error}") from error
        scene._check()
        return scene

    def _check(self) -> None:
        points, views = len(self.positions), len(self.centres)
        starts, rows = self.view_starts, self.seen_rows
        fits = (
            self.positions.shape == (points, 3)
            and bool(np.isfinite(self.positions).all() and np.isfinite(self.centres).all())
            and self.descriptors.shape == (points, kind_of(self.descriptors).size)
            and self.centres.shape == (views, 3)
            and self.origin.shape == (3,)
            and bool(np.isfinite(self.origin).all())
            and self.vectors.shape == (views, self.vlad.size)
            and all(seen.shape == (points,) for seen in self.seen_in.values())
            and starts.shape == (views + 1,)
            and starts[0] == 0
            and starts[-1] == len(rows)
            and bool((np.diff(starts) >= 0).all())
            and (not len(rows) or (int(rows.min()) >= 0 and int(rows.max()) < points))
        )
        if not fits:
            raise MappingError(
                f"the saved scene is damaged: its arrays for {points} points and {views} views "
                "do not fit each other"
            )


def observed_rows(images: Iterable[PosedImage]) -> Rows:
    """Rows of the map's points that images observe, ascending: row i of a scene is point [i]."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(image.observed for image in images)]))


def _half(array: NDArray[Any]) -> UnitDescriptors:
    """Rounded to what half precision holds, so that saving changes nothing."""
    return np.asarray(array.astype(np.float16), dtype=np.float32)

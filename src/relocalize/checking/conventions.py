"""Which pose convention explains the images: all of them are tried, and the margin is said.

Images measure relative poses; a convention turns the numbers of a file into claimed ones. Three
sieves, each finer and over fewer conventions: the relative rotations, which do not depend on the
positions; the directions of the relative translations; the epipolar errors of the matches.
Conventions that give the same poses up to a similarity are one, named by its simplest name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from relocalize.checking.agreement import PairMatches, angle_deg, unit
from relocalize.checking.measuring import MeasuredPair
from relocalize.geometry import Convention
from relocalize.geometry.conventions import (
    CAM_FROM_WORLD,
    CAMERA_AXES,
    CENTRE,
    COLUMNS,
    TRANSLATION,
    WORLD_FROM_CAM,
    axes_matrix,
    column_matrix,
)
from relocalize.geometry.transforms import FloatArray

# A convention explains a place when half of its pairs agree to these. Poses of a depth camera that
# are centimetres off have 1.5 and 7 degrees on the kitchen, wrong conventions above 20 and 40.
MAX_ROTATION_DEG = 5.0
MAX_DIRECTION_DEG = 25.0
# Errors are capped, so that a few wrong poses do not decide.
_ROTATION_CAP_DEG = 30.0
_DIRECTION_CAP_DEG = 90.0
_ERROR_CAP = 32.0  # pixels at 640 pixels of image size
# Of each sieve, what is clearly worse than its best is dropped: by a factor and degrees beyond it.
_SIEVE_FACTOR = 2.0
_SIEVE_DEG = 3.0
_FINALISTS = 400
# Two conventions are the same when no relative pose differs by more.
_SAME_DEG = 0.05
# A winner must be ahead by two standard errors of the pairs' log ratios, and by this factor.
_MIN_MARGIN = 1.05
_HANDFUL = 8  # pairs below which nothing is said


@dataclass(frozen=True)
class Fit:
    """How well one convention's poses explain the images."""

    convention: Convention  # the convention
    rotation_deg: float  # median over the pairs of the angle between claimed and measured rotation
    direction_deg: float  # the same of the direction of the translation
    # geometric mean over the pairs of the median epipolar error, in pixels of an image of 640
    # pixels; matches behind a camera count as 32
    error_px: float

    @property
    def explains(self) -> bool:
        """Whether the images can have been taken like this."""
        return self.rotation_deg <= MAX_ROTATION_DEG and self.direction_deg <= MAX_DIRECTION_DEG


@dataclass(frozen=True)
class Verdict:
    """What the images say about the convention."""

    stated: Fit  # the fit of the convention that was claimed
    best: Fit  # the fit of the best one; the stated one where it is that or the same
    # the best of those that give other poses; None where nothing else was left
    runner_up: Fit | None
    margin: float  # the runner-up's error over the best one's
    decided: bool  # whether the best is ahead of the runner-up beyond chance
    pairs: int  # that were measured

    @property
    def consistent(self) -> bool:
        """Whether the claimed convention explains the images, and no other does it better."""
        return self.stated.explains and self.stated.convention == self.best.convention


def judge_conventions(
    stated: Convention,
    rotations: FloatArray,
    positions: FloatArray,
    measured: Sequence[MeasuredPair],
) -> Verdict | None:
    """The convention that explains the measured pairs, or None where there are too few.

    Args:
        stated: what the file, its format or the user claims.
        rotations: [N, ...] numbers of the file, a row per view.
        positions: [N, 3] likewise.
        measured: pairs of views with their relative poses.
    """
    moving = [pair for pair in measured if pair.is_moving]
    if len(moving) < _HANDFUL:
        return None
    evidence = _Evidence(measured, positions)
    claimed = _Claim.of(stated, rotations)
    claims = [claimed, *(_Claim.of(one, rotations) for one in _rotations_like(stated, rotations))]
    rotation_cost = np.array([evidence.rotation_costs(claim) for claim in claims])  # [C, 24]
    finalists = _finalists(stated, claims, rotation_cost, evidence)
    fits = [evidence.fit(claim, convention) for claim, convention in finalists]
    return _verdict(fits, len(measured))


# -- hypotheses ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Claim:
    """One reading of the rotations: [N, 3, 3] ``world_from_cam`` along the file's own axes."""

    rotation: str
    direction: str
    world_from_cam: FloatArray

    @classmethod
    def of(cls, convention: Convention, numbers: FloatArray) -> _Claim:
        matrices = convention.rotations(numbers)
        if convention.direction == CAM_FROM_WORLD:
            matrices = np.swapaxes(matrices, 1, 2)
        return cls(convention.rotation, convention.direction, matrices)


_RIGHT_HANDED = CAMERA_AXES[:24]
_AXES = np.array([axes_matrix(axes) for axes in _RIGHT_HANDED])
_COLUMN_MATRICES = np.array([column_matrix(columns) for columns in COLUMNS])
_COLUMNS_OF = {column_matrix(columns).astype(int).tobytes(): columns for columns in COLUMNS}


def _rotations_like(stated: Convention, numbers: FloatArray) -> Iterator[Convention]:
    """Every other reading of rotations of this shape."""
    if stated.rotation == "matrix":
        names = ["matrix"]
    elif numbers.shape[1:] == (4,):
        names = ["wxyz", "xyzw"]
    else:
        names = list(_euler_names())
    for name, direction in product(names, (WORLD_FROM_CAM, CAM_FROM_WORLD)):
        if (name, direction) != (stated.rotation, stated.direction):
            yield Convention(name, direction)


def _euler_names() -> Iterator[str]:
    """Intrinsic and extrinsic are each other's reverse, so all orders of axes are both."""
    orders = [axes for axes in product("xyz", repeat=3) if axes[0] != axes[1] != axes[2]]
    for measure, axes, columns, signs in product(
        ("deg", "rad"), orders, permutations("012"), product(("", "-"), repeat=3)
    ):
        factors = "".join(s + a + c for s, a, c in zip(signs, axes, columns, strict=True))
        yield f"euler:{factors}:{measure}"


# -- evidence --------------------------------------------------------------------------------


class _Evidence:
    """The measured pairs against the positions as they stand in the file."""

    def __init__(self, measured: Sequence[MeasuredPair], positions: FloatArray) -> None:
        self.matches = PairMatches(measured)
        self.positions = positions

    def relative(self, claim: _Claim) -> FloatArray:
        """[P, 3, 3] the second view's rotation from the first's, along the file's axes."""
        world_from_cam = claim.world_from_cam
        back = np.swapaxes(world_from_cam[self.matches.second], 1, 2)
        result: FloatArray = back @ world_from_cam[self.matches.first]
        return result

    def rotation_costs(self, claim: _Claim) -> FloatArray:
        """[24] mean capped angle in degrees, for each right-handed axes of the camera."""
        # trace(R^T A^T M A) for every A at once
        turned = np.einsum("aji,pjk,akl->apil", _AXES, self.relative(claim), _AXES, optimize=True)
        angles = angle_deg(np.einsum("pij,apij->ap", self.matches.rotation, turned, optimize=True))
        costs: FloatArray = np.minimum(angles, _ROTATION_CAP_DEG).mean(axis=1)
        return costs

    def direction_costs(self, claim: _Claim, axes: FloatArray, position: str) -> FloatArray:
        """[48] mean capped angle in degrees, for each order and signs of the columns."""
        moving = self.matches.moving
        claimed = unit(self._translations(claim, axes, position, _COLUMN_MATRICES)[:, moving])
        cosines = np.einsum("cqi,qi->cq", claimed, self.matches.direction[moving])
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
        costs: FloatArray = np.minimum(angles, _DIRECTION_CAP_DEG).mean(axis=1)
        return costs

    def _translations(
        self, claim: _Claim, axes: FloatArray, position: str, columns: FloatArray
    ) -> FloatArray:
        """[C, P, 3] ``second_from_first`` translations for column matrices [C, 3, 3]."""
        first = self.positions[self.matches.first]
        second = self.positions[self.matches.second]
        if position == CENTRE:
            difference = np.einsum("cij,pj->cpi", columns, first - second)
            back = axes.T @ np.swapaxes(claim.world_from_cam[self.matches.second], 1, 2)
            return np.asarray(np.einsum("pij,cpj->cpi", back, difference))
        moved = np.einsum("pij,cjk,pk->cpi", self.relative(claim), columns, first, optimize=True)
        return np.asarray((np.einsum("cij,pj->cpi", columns, second) - moved) @ axes)

    def fit(self, claim: _Claim, convention: Convention) -> tuple[Fit, FloatArray, FloatArray]:
        """The fit, the pairs' errors [P] in pixels at 640, and the relative poses [P, 12]."""
        axes = axes_matrix(convention.camera_axes)
        rotation = axes.T @ self.relative(claim) @ axes
        columns = column_matrix(convention.columns)[None]
        direction = unit(self._translations(claim, axes, convention.position, columns)[0])
        errors = self.matches.errors(rotation, direction, cap=_ERROR_CAP)
        fit = Fit(
            convention,
            float(np.median(self.matches.rotation_angles_deg(rotation))),
            float(np.nanmedian(self.matches.direction_angles_deg(direction))),
            float(np.exp(np.log(errors).mean())),
        )
        return fit, errors, np.concatenate([rotation.reshape(-1, 9), direction], axis=1)


# -- sieves ----------------------------------------------------------------------------------


def _finalists(
    stated: Convention, claims: Sequence[_Claim], rotation_cost: FloatArray, evidence: _Evidence
) -> list[tuple[_Claim, Convention]]:
    """The stated convention first, then the best of each sieve."""
    kept = np.argwhere(rotation_cost <= _bound(float(rotation_cost.min())))
    order = np.argsort(rotation_cost[tuple(kept.T)], kind="stable")
    rows: list[tuple[float, int, int, str, int]] = []
    for claim_row, axes_row in kept[order][:4000]:
        for position in (CENTRE, TRANSLATION):
            costs = evidence.direction_costs(claims[claim_row], _AXES[axes_row], position)
            rotation = float(rotation_cost[claim_row, axes_row])
            rows += [
                (rotation + float(cost), int(claim_row), int(axes_row), position, column)
                for column, cost in enumerate(costs)
            ]
    rows.sort(key=lambda row: row[0])
    bound = _bound(rows[0][0]) if rows else 0.0
    chosen: dict[str, tuple[_Claim, Convention]] = {stated.name: (claims[0], stated)}
    names = [
        (cost, claims[claim], _named(claims[claim], axes, position, column, stated))
        for cost, claim, axes, position, column in rows
        if cost <= bound
    ]
    # Among equal costs the simplest names are the ones to keep.
    names.sort(key=lambda item: (round(item[0], 6), _strangeness(item[2], stated)))
    for _, claim, convention in names[:_FINALISTS]:
        chosen.setdefault(convention.name, (claim, convention))
    # A runner-up even where the best has no near rival.
    for _, claim_row, axes_row, position, column in rows[len(names) : len(names) + _FINALISTS // 4]:
        convention = _named(claims[claim_row], axes_row, position, column, stated)
        chosen.setdefault(convention.name, (claims[claim_row], convention))
    return list(chosen.values())


def _bound(best: float) -> float:
    return max(_SIEVE_FACTOR * best, best + _SIEVE_DEG)


def _named(
    claim: _Claim, axes_row: int, position: str, column_row: int, stated: Convention
) -> Convention:
    """The simpler of two names: all axes and all columns may be turned around together."""
    axes, columns = _RIGHT_HANDED[axes_row], COLUMNS[column_row]
    names = (
        Convention(claim.rotation, claim.direction, axes, position, columns),
        Convention(
            claim.rotation,
            claim.direction,
            axes.translate(str.maketrans("RLUDFB", "LRDUBF")),
            position,
            _COLUMNS_OF[(-_COLUMN_MATRICES[column_row]).astype(int).tobytes()],
        ),
    )
    return min(names, key=lambda name: _strangeness(name, stated))


# Camera axes that tools use, the commonest first; others come after these.
_KNOWN_AXES = ("RDF", "RUB", "FLU", "RUF", "FRD", "RFU", "RBD")


def has_known_axes(convention: Convention) -> bool:
    """Whether a tool is known that has a camera's axes like this."""
    return convention.camera_axes in _KNOWN_AXES


def _strangeness(convention: Convention, stated: Convention) -> tuple[float, ...]:
    """Small for what a tool would write, and for what differs little from what was claimed."""
    changed = sum(
        getattr(convention, part) != getattr(stated, part)
        for part in ("rotation", "direction", "camera_axes", "position", "columns")
    )
    known = has_known_axes(convention)
    axes = _KNOWN_AXES.index(convention.camera_axes) if known else len(_KNOWN_AXES)
    signs = convention.rotation.count("-") + convention.columns.count("-")
    # COLMAP's pairing and the others' are natural; a mixture is rarer than strange axes.
    mixed = (convention.direction == CAM_FROM_WORLD) != (convention.position == TRANSLATION)
    swapped = convention.columns.replace("-", "") != "xyz"
    return (changed + swapped + 0.5 * mixed + (0 if known else 1), signs, axes)


# -- the verdict -----------------------------------------------------------------------------


def _verdict(fits: list[tuple[Fit, FloatArray, FloatArray]], pairs: int) -> Verdict:
    stated = fits[0]
    order = sorted(range(len(fits)), key=lambda row: fits[row][0].error_px)
    best = fits[order[0]]
    same = [fit for fit in fits if _same(fit[2], best[2])]
    # Of the same poses the stated name if it is there, else the simplest.
    if any(fit is stated for fit in same):
        best = stated
    else:
        best = min(same, key=lambda fit: _strangeness(fit[0].convention, stated[0].convention))
    rivals = [fits[row] for row in order if not _same(fits[row][2], best[2])]
    if not rivals:
        return Verdict(stated[0], best[0], None, math.inf, True, pairs)
    leader = rivals[0]
    equals = [fit for fit in rivals if _same(fit[2], leader[2])]
    runner_up = min(equals, key=lambda fit: _strangeness(fit[0].convention, stated[0].convention))
    margin, decided = _lead(best[1], leader[1])
    return Verdict(stated[0], best[0], runner_up[0], margin, decided, pairs)


def _lead(best: FloatArray, rival: FloatArray) -> tuple[float, bool]:
    """The factor between the errors of two conventions, and whether it is beyond chance."""
    ratios = np.log(rival / best)
    lead = float(ratios.mean())
    deviation = float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    return math.exp(lead), lead > max(2 * deviation, math.log(_MIN_MARGIN))


def _same(first: FloatArray, second: FloatArray) -> bool:
    return bool(np.abs(first - second).max() < math.radians(_SAME_DEG))

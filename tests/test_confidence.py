"""Numbers with how sure they are: known cases, and what must hold of any errors."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation
from scipy.stats import rankdata

from relocalize.evaluation.axes import ErrorAxes, Up
from relocalize.evaluation.comparison import Comparison
from relocalize.evaluation.confidence import Resamples, clusters_of
from relocalize.evaluation.metrics import THRESHOLDS_CM_DEG, PoseErrors, RecallCurve
from relocalize.evaluation.paired import differences, sign_flip_p
from relocalize.geometry import Rigid3
from relocalize.place import Frame
from relocalize.place.folder import MAP_UNIT, METRE
from relocalize.plain import to_strict_json

UP = np.array([0.0, 0.0, 1.0])
LEVEL = Rigid3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), np.zeros(3))  # looks along x


def errors_of(position, rotation_deg=None):
    position = np.asarray(position, dtype=float)
    rotation = np.where(np.isinf(position), np.inf, 1.0) if rotation_deg is None else rotation_deg
    directions = np.zeros((len(position), 3))
    return PoseErrors(position, np.asarray(rotation, dtype=float), directions, directions)


def own_clusters(count):
    return np.arange(count)


# -- clusters of a walk ---------------------------------------------------------------------


def test_images_that_follow_one_another_are_one_cluster_up_to_the_root_of_their_number():
    found = clusters_of(["walk"] * 100, range(100))
    assert [len(list(run)) for _, run in itertools.groupby(found)] == [10] * 10


def test_a_gap_in_time_and_another_capture_end_a_piece():
    places = [*range(100, 108), *range(0, 8), *range(0, 8)]
    found = clusters_of(["a"] * 16 + ["b"] * 8, places)
    assert set(found[:8]) & set(found[8:16]) == set()
    assert set(found[8:16]) & set(found[16:]) == set()
    assert len(set(found)) == 6  # runs of 8 are two clusters of at most 4


def test_test_blocks_of_a_long_walk_are_clusters_as_they_are():
    blocks = [100 * block + row for block in range(10) for row in range(25)]
    found = clusters_of(["walk"] * 250, blocks)
    assert [len(list(run)) for _, run in itertools.groupby(found)] == [25] * 10


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 10**12)), min_size=1, max_size=60))
def test_clusters_are_numbered_without_holes_and_never_span_captures(images):
    found = clusters_of([run for run, _ in images], [place for _, place in images])
    assert sorted(set(found)) == list(range(max(found) + 1))
    assert max(found) >= 9 or np.bincount(found).max() <= max(1, int(np.sqrt(len(images))))
    for number in set(found):
        assert len({run for (run, _), own in zip(images, found, strict=True) if own == number}) == 1


# -- intervals ------------------------------------------------------------------------------


@given(
    st.lists(st.floats(0, 9) | st.just(np.inf), min_size=1, max_size=25),
    st.integers(0, 5),
)
def test_medians_and_means_of_draws_are_those_of_the_drawn_images(values, seed):
    values = np.array(values)
    groups = np.sort(np.random.default_rng(seed).integers(3, size=len(values)))
    groups = np.unique(groups, return_inverse=True)[1]
    resamples = Resamples.of(groups, samples=20, seed=seed)
    for row, counts in enumerate(resamples.counts):
        drawn = np.concatenate([np.repeat(values[groups == g], n) for g, n in enumerate(counts)])
        drawn = np.sort(drawn)
        middle = (drawn[(len(drawn) - 1) // 2] + drawn[len(drawn) // 2]) / 2
        assert resamples.medians(values)[row] == middle
        assert resamples.means(values)[row] == pytest.approx(drawn.mean())


def test_an_interval_covers_the_truth_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        values = np.random.default_rng(seed).exponential(size=60)
        resamples = Resamples.of(own_clusters(60), samples=400, seed=seed)
        low, high = resamples.interval(resamples.medians(values))
        covered += low <= np.log(2) <= high
    assert 0.90 <= covered / 200 <= 0.99


def alike(rng, count, correlation):
    """Errors of a walk, each like the one before; their median is 1."""
    steps = np.sqrt(1 - correlation**2) * rng.normal(size=count + 200)
    return np.exp(lfilter([1], [1, -correlation], steps)[200:])


@pytest.mark.slow
def test_clusters_cover_the_truth_where_single_images_do_not():
    rng = np.random.default_rng(0)
    covered = {"clusters": 0, "images": 0}
    told_apart = {"clusters": 0, "images": 0}
    grouped = {"clusters": clusters_of(["walk"] * 250, range(250)), "images": own_clusters(250)}
    for seed in range(150):
        values, others = alike(rng, 250, 0.8), alike(rng, 250, 0.8)
        ranks = rankdata(np.concatenate([values, others]))
        for name, groups in grouped.items():
            resamples = Resamples.of(groups, samples=200, seed=seed)
            low, high = resamples.interval(resamples.medians(values))
            covered[name] += low <= 1 <= high
            by_group = np.bincount(groups, weights=ranks[:250] - ranks[250:])
            told_apart[name] += sign_flip_p(by_group, seed=seed) <= 0.05
    # As on the page about scores: 89% against 61%, and 8% against 48%.
    assert covered["clusters"] > 0.82 * 150
    assert covered["images"] < 0.72 * 150
    assert told_apart["clusters"] < 0.15 * 150
    assert told_apart["images"] > 0.35 * 150


def test_near_copies_do_not_make_an_interval_narrower():
    rng = np.random.default_rng(0)
    once = rng.exponential(size=40)
    tenfold = np.repeat(once, 10)
    alone = Resamples.of(own_clusters(40))
    together = Resamples.of(np.repeat(np.arange(40), 10))
    assert together.interval(together.medians(tenfold)) == pytest.approx(
        alone.interval(alone.medians(once)), rel=0.2
    )


def test_of_few_clusters_no_interval_is_stated():
    resamples = Resamples.of(np.zeros(50, dtype=int))
    assert resamples.interval(resamples.medians(np.arange(50.0))) is None


def test_an_interval_of_mostly_failures_is_open():
    values = np.array([0.1] * 11 + [np.inf] * 9)
    resamples = Resamples.of(own_clusters(20))
    low, high = resamples.interval(resamples.medians(values))
    assert (low, high) == (0.1, np.inf)


# -- paired tests ---------------------------------------------------------------------------


def test_a_sign_flip_p_is_the_share_of_signs_that_are_as_extreme():
    assert sign_flip_p(np.array([1.0, 2, 3])) == 2 / 8  # all plus, all minus
    assert sign_flip_p(np.array([1.0, -1, 0])) == 1
    assert sign_flip_p(np.zeros(3)) == 1
    assert sign_flip_p(np.ones(100)) == 1 / 10000


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=10))
def test_p_does_not_depend_on_which_of_the_two_comes_first(values):
    assert sign_flip_p(np.array(values)) == sign_flip_p(-np.array(values))


def test_p_is_small_as_seldom_as_it_says_where_there_is_no_difference():
    rng = np.random.default_rng(1)
    found = [sign_flip_p(rng.normal(size=10)) for _ in range(400)]
    assert 0.02 < np.mean(np.array(found) <= 0.05) < 0.09


def test_a_localizer_that_is_nearer_everywhere_is_better_and_failures_are_worst():
    rng = np.random.default_rng(0)
    near = rng.uniform(0.01, 0.02, 40)
    far = near + 0.1
    fails = far.copy()
    fails[:25] = np.inf
    errors = {"near": errors_of(near), "far": errors_of(far), "fails": errors_of(fails)}
    rows = differences(errors, Resamples.of(own_clusters(40)), metric=True)
    found = {(one.a, one.b, one.metric): one for one in rows}
    assert len(found) == 9
    better = found["near", "far", "median_position"]
    assert better.difference == pytest.approx(-0.1)
    assert better.interval == pytest.approx((-0.1, -0.1), abs=0.01)
    assert better.p == 1e-4
    assert better.p_holm == pytest.approx(3e-4)
    worst = found["near", "fails", "median_position"]
    assert (worst.difference, worst.p) == (-np.inf, 1e-4)
    assert to_strict_json(worst)["difference"] is None
    recall = found["near", "far", "recall_0.05m_5deg"]
    assert (recall.difference, recall.p) == (1.0, 1e-4)
    assert found["far", "fails", "recall_0.05m_5deg"].p == 1
    same = {"a": errors_of(near), "b": errors_of(near)}
    equal = differences(same, Resamples.of(own_clusters(40)), metric=True)
    assert {one.p for one in equal} == {1.0}


def test_without_metres_recall_is_not_compared():
    both = {"a": errors_of([1.0, 2]), "b": errors_of([2.0, 1])}
    rows = differences(both, Resamples.of(own_clusters(2)), metric=False)
    assert {one.metric for one in rows} == {"median_position", "median_rotation_deg"}
    assert all(one.interval is None for one in rows)


# -- recall curves --------------------------------------------------------------------------


def test_the_area_below_a_recall_curve_is_what_the_curve_encloses():
    curve = RecallCurve.of(errors_of([0.0, 0.02, 0.04, np.inf], [0.0, 1.0, 4.5, np.inf]))
    at = dict(zip(THRESHOLDS_CM_DEG, curve.recall, strict=True))
    assert (at[0.1], at[2], at[4], at[5]) == (0.25, 0.5, 0.5, 0.75)
    # Right from 0, 2 and 4.5 on, of 5: (5 + 3 + 0.5) / 5 / 4.
    assert curve.area["5cm_5deg"] == pytest.approx(8.5 / 20)


@given(st.lists(st.floats(0, 2) | st.just(np.inf), min_size=1, max_size=20))
def test_recall_grows_along_its_curve(position):
    curve = RecallCurve.of(errors_of(position))
    assert list(curve.recall) == sorted(curve.recall)
    assert 0 <= curve.area["5cm_5deg"] <= curve.recall[THRESHOLDS_CM_DEG.index(5)]


# -- errors taken apart ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "name"), [([0, 0, 1], "heading"), ([0, -1, 0], "pitch"), ([1, 0, 0], "roll")]
)
def test_a_turn_of_a_level_camera_is_heading_pitch_or_roll_alone(axis, name):
    turn = Rotation.from_rotvec(np.radians(3) * np.array(axis)).as_matrix()
    off = Rigid3(turn @ LEVEL.rotation, [0.1, -0.2, 0.3])
    axes = ErrorAxes.of(PoseErrors.of([off], [LEVEL]), [LEVEL], UP)
    found = to_strict_json(axes.of_image(0))
    assert found["position_error_xyz"] == pytest.approx([0.1, -0.2, 0.3])
    for other in ("heading", "pitch", "roll"):
        expected = 3 if other == name else 0
        assert found[f"{other}_error_deg"] == pytest.approx(expected, abs=1e-9)


def test_positive_pitch_looks_too_high():
    higher = Rotation.from_rotvec([0, -np.radians(3), 0]).as_matrix() @ LEVEL.rotation
    assert higher[2, 2] > 0  # looks up
    found = ErrorAxes.of(PoseErrors.of([Rigid3(higher, [0, 0, 0])], [LEVEL]), [LEVEL], UP)
    assert found.pitch_deg[0] == pytest.approx(3)


@given(st.integers(0, 10**6))
def test_heading_pitch_and_roll_add_up_to_the_whole(seed):
    rng = np.random.default_rng(seed)
    true = [Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)) for _ in range(4)]
    found = [Rigid3(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)) for _ in range(4)]
    errors = PoseErrors.of(found, true)
    axes = ErrorAxes.of(errors, true, rng.normal(size=3))
    squares = axes.heading_deg**2 + axes.pitch_deg**2 + axes.roll_deg**2
    assert np.sqrt(squares) == pytest.approx(errors.rotation_deg)
    assert np.linalg.norm(axes.offset, axis=1) == pytest.approx(errors.position)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_camera_that_looks_straight_up_or_down_has_errors_too(sign):
    tilt = Rotation.from_rotvec([0, -sign * np.pi / 2, 0]).as_matrix() @ LEVEL.rotation
    true = Rigid3(tilt, [0, 0, 0])
    more = Rotation.from_rotvec([0, -np.radians(2), 0]).as_matrix() @ tilt
    axes = ErrorAxes.of(PoseErrors.of([Rigid3(more, [0, 0, 0])], [true]), [true], UP)
    assert axes.pitch_deg[0] == pytest.approx(2)
    assert axes.heading_deg[0] == pytest.approx(0, abs=1e-9)


def test_up_is_the_maps_or_what_the_images_show():
    assert Up.of(Frame("z", "gravity"), [LEVEL]).source == "gravity"
    turned = [Rigid3(LEVEL.rotation @ Rotation.from_euler("y", a).as_matrix(), [0, 0, 0]) for a in
              (0.1, 1, 2, 3)]  # fmt: skip
    found = Up.of(Frame(), turned)
    assert found.direction == pytest.approx(UP)
    assert "images" in found.source
    upside_down = Rigid3(LEVEL.rotation @ np.diag([-1.0, -1, 1]), [0, 0, 0])
    assert Up.of(None, [LEVEL, upside_down]).direction == pytest.approx(UP)


# -- all of it ------------------------------------------------------------------------------


def row_of(estimated, unit=METRE):
    """What is said of estimates for a level camera at the origin, seen from as many images."""
    true = [LEVEL] * len(estimated)
    errors = {"a": PoseErrors.of(estimated, true)}
    return Comparison(errors, true, unit, Up(UP, "z"), own_clusters(len(true))).row("a")


def test_both_ways_to_count_failures_are_there():
    off = [Rigid3(LEVEL.rotation, [0, 0, 0.01 * i]) for i in range(1, 8)]
    row = row_of([*off, None])
    assert (row["n"], row["failed"], row["answered"]["n"]) == (8, 1, 7)
    assert row["median_position"] == pytest.approx(0.045)
    assert row["answered"]["median_position"] == pytest.approx(0.04)
    assert row["mean_position"] is None
    assert row["answered"]["mean_position"] == pytest.approx(0.04)
    assert row["recall"]["0.05m_5deg"] == 5 / 8
    assert row["answered"]["recall"]["0.05m_5deg"] == 5 / 7
    low, high = row["intervals"]["recall"]["0.05m_5deg"]
    assert 0 <= low < 5 / 8 < high <= 1
    assert row["axes"]["median_z"] == pytest.approx(0.045)
    assert row["axes"]["median_x"] == 0


def test_all_failed_and_one_image_are_rows_like_others():
    failed = row_of([None])
    assert (failed["n"], failed["failed"], failed["answered"]) == (1, 1, None)
    assert failed["median_position"] is None
    assert failed["recall"]["5m_10deg"] == 0
    assert failed["intervals"]["median_position"] is None
    one = row_of([LEVEL], MAP_UNIT)
    assert (one["median_position"], one["recall_curve"]) == (0, None)
    assert set(one["recall"].values()) == {None}

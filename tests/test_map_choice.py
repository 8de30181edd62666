"""Which kind of features a map is made with: the first with which it hangs together."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import relocalize
from relocalize.cli.main import main
from relocalize.errors import NotConnectedError
from relocalize.evaluation.truth import truth_of_place
from relocalize.features import xfeat
from relocalize.features.database import remembered_settings
from relocalize.mapping import unknown_poses
from relocalize.mapping.outcome import Outcome
from relocalize.mapping.report import MapReport
from relocalize.place import Frame, MapModel, Place
from relocalize.place.model import Points

Mapped = Callable[..., list[str]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.jpg"), pixels)
    relocalize.frames(tmp_path / "photos", tmp_path / "place")
    return Place.open(tmp_path / "place")


@pytest.fixture
def mapped(place: Place, monkeypatch: pytest.MonkeyPatch) -> Mapped:
    """Maps the Place where each kind of features holds a given share; returns the kinds tried."""

    def run(choice: str = "auto", /, doubted: str = "", **held: float) -> list[str]:
        tried: list[str] = []

        def reconstruct(place, database, work, settings, **_):
            kind = database.settings.kind
            tried.append(kind)
            if kind not in held:
                raise NotConnectedError(f"nothing comes together with {kind}")
            alarms = ("it jumps",) if kind == doubted else ()
            report = MapReport(3, 3, 3, 3, 0, 0.5, features=kind, alarms=alarms)
            return Outcome(MapModel({}, Points.none()), Frame(), report, held=held[kind])

        monkeypatch.setattr(unknown_poses, "reconstruct_map", reconstruct)
        monkeypatch.setattr(xfeat, "is_installed", lambda: True)
        relocalize.map(place, features=choice, seed=run.seed)
        run.seed += 1
        return tried

    run.seed = 0
    return run


def kind_of(place: Place) -> str:
    settings = remembered_settings(place)
    assert settings is not None
    return settings.kind


def test_a_map_that_hangs_together_is_the_end_of_it(place: Place, mapped: Mapped) -> None:
    assert mapped(sift=1.0) == ["sift"]
    assert kind_of(place) == "sift"


def test_the_next_kind_is_tried_where_it_falls_apart_and_is_remembered(
    place: Place, mapped: Mapped
) -> None:
    assert mapped(sift=0.4, xfeat=1.0) == ["sift", "xfeat"]
    assert kind_of(place) == "xfeat"
    assert mapped(xfeat=1.0) == ["xfeat"]


def test_of_maps_that_all_fall_apart_the_largest_is_kept(place: Place, mapped: Mapped) -> None:
    assert mapped(sift=0.6, xfeat=0.3) == ["sift", "xfeat"]
    assert kind_of(place) == "sift"
    assert mapped(xfeat=0.3) == ["sift", "xfeat"]
    assert kind_of(place) == "xfeat"


def test_a_smaller_map_without_an_alarm_is_taken_before_one_with(
    place: Place, mapped: Mapped
) -> None:
    assert mapped(sift=0.6, xfeat=1.0, doubted="xfeat") == ["sift", "xfeat"]
    assert kind_of(place) == "sift"


def test_what_is_suspicious_of_a_map_is_said_whenever_it_is_asked_for(
    place: Place, mapped: Mapped, capsys: pytest.CaptureFixture[str]
) -> None:
    mapped("sift", sift=1.0, doubted="sift")
    with pytest.raises(SystemExit) as ended:
        main(["info", str(place.root)])
    assert not ended.value.code
    assert "warning: it jumps" in capsys.readouterr().out
    assert "mapping warned: it jumps" in truth_of_place(Place.open(place.root)).exactness


def test_a_kind_can_be_forced_and_its_error_is_said(place: Place, mapped: Mapped) -> None:
    assert mapped("xfeat", xfeat=0.1) == ["xfeat"]
    with pytest.raises(NotConnectedError, match="nothing comes together with sift"):
        mapped("sift", xfeat=1.0)

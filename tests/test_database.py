"""The database of features stays whole while COLMAP and its copies are at work on it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from relocalize.errors import MappingError
from relocalize.features.database import FeatureDatabase, copy_database, open_database
from relocalize.features.extraction import FeatureSettings
from relocalize.mapping import reconstruction
from relocalize.mapping.reconstruction import Task, map_incrementally
from relocalize.place import Place
from relocalize.place.model import is_whole


def add_images(database: pycolmap.Database, numbers: range) -> None:
    with pycolmap.DatabaseTransaction(database):
        for number in numbers:
            image = pycolmap.Image(name=f"{number}.jpg", camera_id=1)
            image.image_id = number
            database.write_image(image, True)
            database.write_keypoints(number, np.full((500, 2), number, np.float32))


def count(path: Path) -> int:
    database = pycolmap.Database.open(str(path))
    try:
        return sum(len(database.read_keypoints(i.image_id)) for i in database.read_all_images())
    finally:
        database.close()


def test_a_database_that_is_open_is_copied_and_written_to_afterwards(tmp_path: Path) -> None:
    path, copies = tmp_path / "database.db", [tmp_path / "one.db", tmp_path / "two.db"]
    database = pycolmap.Database.open(str(path))
    camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 500.0, 640, 480)
    database.write_camera(camera)
    add_images(database, range(1, 21))
    copy_database(path, copies[0])
    assert count(path) == 20 * 500  # as COLMAP's mapping does, beside the one that is open
    add_images(database, range(21, 41))
    copy_database(path, copies[1])
    add_images(database, range(41, 61))
    database.close()
    assert [count(one) for one in (*copies, path)] == [20 * 500, 40 * 500, 60 * 500]


def test_what_is_no_database_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_text("no database\n" * 100)
    with pytest.raises(MappingError, match=r"cannot be copied.*not a database"):
        copy_database(tmp_path / "database.db", tmp_path / "copy.db")


def test_stretches_side_by_side_wait_for_the_database_that_they_share(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    database = pycolmap.Database.open(str(path))
    database.write_camera(pycolmap.Camera.create_from_model_name(1, "PINHOLE", 500.0, 640, 480))
    add_images(database, range(1, 4))
    database.close()

    def mapped(number: int) -> int:
        work = tmp_path / str(number)
        names = ["1.jpg", "2.jpg", "3.jpg"]
        task = Task(path, names, tmp_path, work, ordered=True, seed=0)
        return len(map_incrementally(task, "reconstructing").models)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(mapped, range(400))) == {0}  # nothing was matched


def test_a_snapshot_that_a_kill_cut_short_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    database = pycolmap.Database.open(str(path))
    database.write_camera(pycolmap.Camera.create_from_model_name(1, "PINHOLE", 500.0, 640, 480))
    add_images(database, range(1, 4))
    database.close()
    snapshot = tmp_path / "work" / "reconstructing" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    pycolmap.Reconstruction().write_binary(str(snapshot))
    (snapshot / "points3D.bin").write_bytes(b"\1")
    names = ["1.jpg", "2.jpg", "3.jpg"]
    task = Task(path, names, tmp_path, tmp_path / "work", ordered=True, seed=0)
    assert not map_incrementally(task, "reconstructing").models  # nothing was matched


def test_a_model_of_which_a_kill_removed_a_file_is_not_whole(tmp_path: Path) -> None:
    pycolmap.Reconstruction().write_binary(str(tmp_path))
    assert is_whole(tmp_path)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / "gone")
        assert not is_whole(tmp_path)
        (tmp_path / "gone").rename(path)


def test_new_databases_and_copies_need_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = FeatureDatabase(tmp_path / "database.db", FeatureSettings())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    for copied in (
        lambda: database.copy_without([], tmp_path / "copy.db"),
        lambda: database.copy_of({}, tmp_path / "copy.db"),
    ):
        with pytest.raises(MappingError, match=r"copy.db needs .* MB free; free some"):
            copied()
    database.close()
    place = Place.create(tmp_path / "place")
    with (
        pytest.raises(MappingError, match=r"database.db needs .* MB free; free some"),
        open_database(place, FeatureSettings()),
    ):
        pass


def test_a_database_that_stays_busy_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "_WAITS_S", (0.001, 0.001))
    path = tmp_path / "database.db"
    path.write_text("no database\n" * 100)
    task = Task(path, ["1.jpg"], tmp_path, tmp_path / "work", ordered=True, seed=0)
    with pytest.raises(MappingError, match="cannot be opened"):
        map_incrementally(task, "reconstructing")

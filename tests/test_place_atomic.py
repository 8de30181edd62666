"""Writes that are whole or not there, one writer at a time, whatever is killed when."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from relocalize import Place
from relocalize.errors import PlaceError
from relocalize.place import atomic


def run_python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code in another process."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_is_replaced_and_nothing_is_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    atomic.write_json(path, {"ä": 1})
    atomic.write_json(path, {"ä": 2})
    assert path.read_text(encoding="utf-8") == '{\n  "ä": 2\n}\n'
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_what_is_no_json_leaves_the_old_file(tmp_path: Path, value: object) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, 1)
    with pytest.raises((ValueError, TypeError)):
        atomic.write_json(path, value)
    assert path.read_text() == "1\n"


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    done = run_python(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from relocalize.place import atomic\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "atomic.write_text(Path(sys.argv[1]), 'new')\n",
        path,
    )
    assert done.returncode == 9
    assert path.read_text() == "old"
    atomic.write_text(path, "newer")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_and_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            atomic.write_text(path, "new" * 1000)
        with (
            pytest.raises(OSError, match=r"too large.*/folder"),
            atomic.new_folder(tmp_path / "folder") as folder,
            (folder / "b").open("wb", buffering=0) as file,
        ):
            file.write(bytes(1000))
            file.write(bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_kill_while_a_folder_is_removed_leaves_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "work"
    path.mkdir()
    (path / "a.txt").touch()
    done = run_python(
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "from relocalize.place import atomic\n"
        "shutil.rmtree = lambda path, **_: path.exists() and os._exit(9)\n"
        "atomic.remove_folder(Path(sys.argv[1]))\n",
        path,
    )
    assert done.returncode == 9
    assert not path.exists()
    atomic.remove_folder(path)
    assert not list(tmp_path.iterdir())


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "map"
    for generation, files in enumerate((["a", "b"], ["c"])):
        with atomic.new_folder(path) as folder:
            assert not list(folder.iterdir())
            for name in files:
                (folder / name).write_text(str(generation))
            (folder / "deep").mkdir()
    assert sorted(entry.name for entry in path.iterdir()) == ["c", "deep"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["map"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_leaves_the_old_folder(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "map"
    with atomic.new_folder(path) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(error), atomic.new_folder(path) as folder:
        (folder / "a").write_text("half")
        raise error
    assert (path / "a").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["map"]


KILLED_AT = """
import os, sys
from pathlib import Path
from relocalize import Place
from relocalize.place import atomic
place = Place.open(sys.argv[1])
calls = int(sys.argv[2])
rename = Path.rename
def rename_then_die(self, target):
    global calls
    if calls == 0:
        os._exit(9)
    calls -= 1
    return rename(self, target)
with place.lock(), atomic.new_folder(place.root / sys.argv[3]) as folder:
    (folder / "a").write_text("new")
    Path.rename = rename_then_die
"""


@pytest.mark.parametrize("folder", ["map", "localizers/structure", "images/walk1", "reports/all"])
@pytest.mark.parametrize("renames", [0, 1])
def test_a_kill_while_a_folder_is_replaced_is_healed_by_opening_the_place(
    tmp_path: Path, folder: str, renames: int
) -> None:
    place = Place.create(tmp_path / "kitchen")
    with atomic.new_folder(place.root / folder) as old:
        (old / "a").write_text("old")
    assert run_python(KILLED_AT, place.root, str(renames), folder).returncode == 9
    opened = Place.open(place.root)
    assert (opened.root / folder / "a").read_text() == "old"
    with opened.lock(), atomic.new_folder(place.root / folder) as new:
        (new / "a").write_text("newer")
    assert (opened.root / folder / "a").read_text() == "newer"
    around = (opened.root / folder).parent
    assert not [entry.name for entry in around.iterdir() if entry.name.startswith((".w", ".r"))]


def test_a_kill_after_the_new_folder_is_there_keeps_it(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    for name, text in (("map", "new"), (".replaced-map", "old")):
        (place.root / name).mkdir()
        (place.root / name / "a").write_text(text)
    opened = Place.open(place.root)
    assert (opened.root / "map" / "a").read_text() == "new"
    assert not (opened.root / ".replaced-map").exists()


def test_a_reader_leaves_a_writer_between_its_two_renames_alone(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    (place.root / ".replaced-map").mkdir()
    with place.lock():
        done = run_python(
            "import sys; from relocalize import Place; Place.open(sys.argv[1])", place.root
        )
        assert done.returncode == 0, done.stderr
        assert (place.root / ".replaced-map").exists()
        assert not (place.root / "map").exists()


def test_an_interrupted_creation_can_be_repeated(tmp_path: Path) -> None:
    root = tmp_path / "kitchen"
    done = run_python(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from relocalize import Place\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "Place.create(sys.argv[1])\n",
        root,
    )
    assert done.returncode == 9
    assert Place.create(root).name == "kitchen"


# -- the lock ------------------------------------------------------------------------------

WRITES = """
import sys
from relocalize import Place, RelocalizeError
try:
    with Place.open(sys.argv[1]).lock():
        print("wrote")
except RelocalizeError as error:
    print(error)
"""


def test_a_second_writer_is_refused_and_told_whom_to_wait_for(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    with place.lock():
        said = run_python(WRITES, place.root).stdout
        assert f"being written by another relocalize (process {os.getpid()})" in said
    assert run_python(WRITES, place.root).stdout == "wrote\n"


def test_the_lock_is_reentrant_and_ends_with_the_outermost_block(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    with place.lock():
        with Place.open(place.root).lock(), place.lock():
            pass
        assert "another relocalize" in run_python(WRITES, place.root).stdout
    assert run_python(WRITES, place.root).stdout == "wrote\n"


def test_a_killed_writer_holds_nothing(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from relocalize import Place\n"
            "with Place.open(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)",
            str(place.root),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(PlaceError, match=f"process {holder.pid}"), place.lock():
        pass
    holder.kill()
    holder.communicate()
    with place.lock():
        pass


def test_threads_share_the_lock_in_any_order_of_leaving(tmp_path: Path) -> None:
    place = Place.create(tmp_path / "kitchen")
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with place.lock():
            entered.set()
            leave.wait(30)

    first = threading.Thread(target=hold)
    first.start()
    assert entered.wait(30)
    with place.lock():
        leave.set()
        first.join(30)
        # The first holder has left; the Place is still held.
        assert "another relocalize" in run_python(WRITES, place.root).stdout
    assert run_python(WRITES, place.root).stdout == "wrote\n"


def test_a_folder_that_went_away_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="cannot be written"), Place(tmp_path / "gone").lock():
        pass

"""What is lost where a command is killed, or the machine fails under it.

    python benchmarks/faults.py [--work FOLDER] [--kills N] [--rows map train ...]

A short rendered corridor is walked twice. Every command runs undisturbed once; then a copy of what
it began with is killed with SIGKILL, the whole process group, and the same command runs again to
its end. Kills are spread evenly with a seeded jitter: every other one over the processor time of
the undisturbed run, the rest over its file operations (the moment before a file is opened for
writing, renamed, linked or deleted), for these are where something can be lost. Commands are forks
of a process that has imported them, so that no kill is wasted on imports.

*Same*: every file has the same bytes, apart from times and counts of the work done in JSON,
fingerprints with the times of files in them, and the order of rows in the database. *Within*: as
many images have a pose, their centres are within 1% of the extent of the map and their rotations
within 0.5 degrees. *Debris*: files that the undisturbed run does not leave, in the Place, beside
it, or in the temporary folder. *Neither*: a kill that left neither the poses of before nor the new.

The second table is of other faults. Each wants one line, an exit code other than 0, nothing
changed of what was there; where files have come, the command once more, which is to end like the
undisturbed one. Full disks and read-only folders are mounts, which need root.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import tyro

from relocalize.cli.main import command_class
from relocalize.cli.main import main as relocalize_main
from relocalize.errors import RelocalizeError
from relocalize.geometry import position_error, rotation_error_deg
from relocalize.place import Place
from relocalize_synthetic import CorridorSettings, WalkSettings, write_corridor

_POSES = ("walk_poses.txt", "moved_poses.txt")
_WALKS = {"first": (0.0, 0.65), "second": (0.45, 1.0)}  # shares of the video
# Keys of JSON: times, and what a run did to get there, of which a resumed one has less to do.
_TIMES = re.compile(r"wall|cpu|second|_s$|_ms|^ms_|inputs|minutes|made|memory|peak|^stages$")
_SCRATCH = Path(tempfile.gettempdir()) / f"relocalize-faults-{os.getpid()}"
_MAY_STAY = {".lock"}  # which is documented to stay
_UNDER_WAY = (".lock", ".mapping", ".capturing-", ".training-", ".cache", "answers.jsonl")
_CENTRES, _ROTATIONS_DEG = 0.01, 0.5  # tolerance of poses, the first of the map's extent
_LEFT_FREE = (8 << 10, 64 << 10, 512 << 10)  # bytes, of full disks
_TINY_TRAINING = (
    *("--optimizer.epochs", "2", "--copies", "1", "--indexed-copies", "1"),
    *("--input.width", "64", "--input.height", "64"),
)


@dataclass(frozen=True)
class Arguments:
    """Kill commands, fill disks."""

    work: Path | None = None
    """Where all is made; a temporary folder by default."""
    kills: int = 200
    """Of all commands together; 0 for the second table alone."""
    seed: int = 0
    """Of the moments."""
    rows: tuple[str, ...] = ()
    """Commands, by default all."""
    faults: bool = True
    """The second table too."""


@dataclass(frozen=True)
class Case:
    """A command and what it begins with."""

    name: str
    arguments: tuple[str, ...]
    start: str | None = None  # name of a prepared Place; None: nothing is there


CASES = (
    Case("build", ("build", "first.mp4", "place", "--count", "18"), "tiny"),
    Case("frames", ("frames", "first.mp4", "place", "--count", "18")),
    Case("import", ("import", "walk_poses.txt", "place", "--images", "frames")),
    Case("import again", ("import", "moved_poses.txt", "place", "--images", "frames"), "imported"),
    Case("map", ("map", "place"), "frames"),
    Case("map --extend", ("map", "place", "--extend"), "two walks"),
    Case("merge", ("merge", "place", "other"), "mapped"),
    Case("register", ("register", "place", "visitor"), "mapped"),
    Case("train", ("train", "place", *_TINY_TRAINING), "split"),
    Case("drop", ("drop", "place", "--images", "first/frame-000000.jpg"), "mapped"),
    Case("align --apply", ("align", "place", "walk_poses.txt", "--apply"), "mapped"),
    Case("evaluate", ("evaluate", "place"), "split"),
)


# -- running a command ---------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int  # negative: by that signal
    said: str
    cpu_s: float
    operations: int  # on files, of its Python code

    def line(self) -> str | None:
        """The one line that says what is wrong; None where there is none, or there is more."""
        errors = [line for line in self.said.splitlines() if line.startswith("error: ")]
        clear = len(errors) == 1 and "Traceback" not in self.said and self.code == 1
        return errors[0] if clear else None


def _operations(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    return event in {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "shutil.rmtree"}


def run(
    root: Path,
    arguments: tuple[str, ...],
    *,
    after_cpu_s: float | None = None,
    after_operations: int | None = None,
    at_operation: Callable[[], object] | None = None,
) -> Ended:
    """Run a command in ``root``, and kill its group after so much of either.

    ``at_operation`` is done there in place of the kill.
    """
    # Not in ``root``, where the disk may be full.
    said, count = (_SCRATCH.with_suffix(end) for end in (".said", ".count"))
    said.write_text("")
    (root / "tmp").mkdir(exist_ok=True)
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(root)
        os.environ["TMPDIR"] = tempfile.tempdir = str(root / "tmp")
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        counted = 0

        def hook(event: str, values: tuple[Any, ...]) -> None:
            nonlocal counted
            if _operations(event, values):
                counted += 1
                if counted - 1 == after_operations:
                    if at_operation is None:
                        os.killpg(0, signal.SIGKILL)
                    else:
                        at_operation()

        sys.addaudithook(hook)
        code = 70
        try:
            relocalize_main(list(arguments))
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        total = counted
        count.write_text(str(total))
        os._exit(code)
    while (
        after_cpu_s is not None
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        if sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") >= after_cpu_s:
            os.killpg(child, signal.SIGKILL)
            break
        time.sleep(0.005)
    _, status, usage = os.wait4(child, 0)
    cpu_s = usage.ru_utime + usage.ru_stime
    counted = int(count.read_text()) if count.exists() else 0
    code, text = os.waitstatus_to_exitcode(status), said.read_text(errors="replace")
    for path in (said, count):
        path.unlink(missing_ok=True)
    return Ended(code, text, cpu_s, counted)


# -- what it begins with -------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Videos, photos, poses, and the Places that cases begin with."""
    walk = WalkSettings(CorridorSettings.small().walk.camera, fps=12, speed=1.2, rest_s=0.2)
    small = CorridorSettings.small()
    settings = CorridorSettings(
        first_arm=6.0, second_arm=0.0, texel=0.005, walk=walk, visitor=small.visitor
    )
    write_corridor(folder, settings=settings)
    with av.open(str(folder / "walk.mp4")) as source:
        frames = [frame.to_ndarray(format="bgr24") for frame in source.decode(video=0)]
    for name, shares in _WALKS.items():
        start, end = (round(share * len(frames)) for share in shares)
        with av.open(str(folder / f"{name}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=12, options={"crf": "16"})
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            for frame in frames[start:end]:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
            out.mux(stream.encode())
    _move(folder / "walk_poses.txt", folder / "moved_poses.txt")
    (folder / "frames").mkdir()
    for number, frame in list(enumerate(frames))[::6]:
        cv2.imwrite(str(folder / "frames" / f"frame-{number:06d}.jpg"), frame)
    starts = folder / "starts"
    starts.mkdir()

    def make(name: str, begin: str | None, *commands: tuple[str, ...]) -> None:
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        if begin is not None:
            shutil.copytree(starts / begin, place)
        for command in commands:
            ended = run(folder, command)
            if ended.code:
                raise SystemExit(f"{' '.join(command)}:\n{ended.said}")
        place.rename(starts / name)

    first = ("frames", "first.mp4", "place", "--count", "18")
    second = ("frames", "second.mp4", "place", "--count", "10")
    make("imported", None, ("import", "walk_poses.txt", "place", "--images", "frames"))
    make("frames", None, first)
    make("mapped", "frames", ("map", "place"))
    make("two walks", "mapped", second)
    make("other", None, second, ("map", "place"))
    make("split", "mapped", ("split", "place", "--rule", "blocks", "--blocks", "6"))
    make("trained", "split", ("train", "place", *_TINY_TRAINING))
    # Build trains as the regressor that is there was trained.
    Place.create(starts / "tiny")
    shutil.copytree(starts / "trained" / "localizers", starts / "tiny" / "localizers")


def _move(poses: Path, moved: Path) -> None:
    """The same poses, one metre further in x."""
    rows = [line.split() for line in poses.read_text().splitlines()]
    for row in rows:
        row[5] = f"{float(row[5]) + 1:.9f}"
    moved.write_text("".join(" ".join(row) + "\n" for row in rows))


def begin(inputs: Path, root: Path, case: Case) -> Path:
    """A new folder ``root`` with what a case begins with; the Place in it."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in ("first.mp4", "second.mp4", "frames", "visitor", *_POSES):
        (root / name).symlink_to(inputs / name)
    shutil.copytree(inputs / "starts" / "other", root / "other")
    if case.start is not None:
        shutil.copytree(inputs / "starts" / case.start, root / "place")
    return root / "place"


# -- what it ends with ---------------------------------------------------------------------


def files_of(root: Path) -> set[str]:
    """All files and folders below ``root`` that commands may have left there."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.name not in _MAY_STAY}
    return found - {"tmp"}


def content(path: Path) -> Any:
    """A file's content without what differs from run to run."""
    if path.suffix == ".json":
        return _without_times(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without_times(json.loads(line)) for line in path.read_text().splitlines()]
    if path.name == "database.db":
        with closing(sqlite3.connect(path)) as database:
            tables = database.execute("select name from sqlite_master where type = 'table'")
            return {
                name: sorted(map(repr, database.execute(f"select * from {name}")))
                for (name,) in tables.fetchall()
            }
    if path.suffix == ".html":  # its numbers are in JSON too, apart from times and dates
        return re.sub(r"\d", "", path.read_text())
    return path.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_times(one) for key, one in value.items() if not _TIMES.search(str(key))
        }
    if isinstance(value, list):
        return [_without_times(one) for one in value]
    return value


def _stable(name: str) -> str:
    """The name of a file without the time and process that tensorboard puts into it."""
    return re.sub(r"events\.out\.tfevents\..*", "events", name)


def _by_stable_name(root: Path) -> dict[str, str]:
    """Files of a folder; of caches, named by times of images too, only how many there are."""
    names = sorted(files_of(root))
    found = {_stable(name): name for name in names if ".cache/" not in name}
    caches = [name for name in names if Path(name).parent.name == ".cache"]
    return found | {f"cache {number}": name for number, name in enumerate(caches)}


@dataclass
class Comparison:
    """A result beside the undisturbed one."""

    differ: list[str] = field(default_factory=list)  # files, or missing ones
    debris: list[str] = field(default_factory=list)
    within: bool = True


def compare(wanted: Path, got: Path) -> Comparison:
    """Two folders that should be the same."""
    before, after = _by_stable_name(wanted), _by_stable_name(got)
    result = Comparison(sorted(before.keys() - after.keys()))
    result.debris = sorted(after.keys() - before.keys())
    result.within = not result.differ
    for name in sorted(before.keys() & after.keys()):
        a, b = wanted / before[name], got / after[name]
        if a.is_dir() or name.endswith("events") or a.is_symlink():
            continue
        try:
            same = content(a) == content(b)
        except (ValueError, sqlite3.Error):
            same, result.within = False, False
        if not same:
            result.differ.append(name)
    if result.differ and result.within:
        result.within = _poses_agree(wanted / "place", got / "place")
    return result


def _poses_agree(wanted: Path, got: Path) -> bool:
    try:
        a, b = (
            {image.name: image.world_from_cam for image in Place.open(root).posed_images()}
            for root in (wanted, got)
        )
    except RelocalizeError:
        return False
    extent = np.ptp([pose.translation for pose in a.values()], axis=0).max()
    return a.keys() == b.keys() and all(
        position_error(pose, b[name]) <= _CENTRES * extent
        and rotation_error_deg(pose, b[name]) <= _ROTATIONS_DEG
        for name, pose in a.items()
    )


# -- kills ---------------------------------------------------------------------------------


@dataclass
class Row:
    """A line of the first table."""

    name: str
    cpu_s: float
    operations: int
    counts: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        keys = ("kills", "same", "within", "different", "failed", "debris", "neither")
        shown = [f"{self.cpu_s:.1f}", self.operations, *(self.counts[key] for key in keys)]
        return f"| `{self.name}` | {' | '.join(map(str, shown))} |"


def kill(inputs: Path, work: Path, case: Case, kills: int, rng: np.random.Generator) -> Row:
    """Kill a command at so many moments and see what comes of it; stderr says what is wrong."""
    wanted, again = work / "wanted", work / "again"
    begin(inputs, wanted, case)
    whole = run(wanted, case.arguments)
    if whole.code:
        raise SystemExit(f"{case.name}, undisturbed:\n{whole.said}")
    row = Row(case.name, whole.cpu_s, whole.operations)
    for number, moment in enumerate((np.arange(kills) + rng.random(kills)) / kills):
        for earlier in (1.0, 0.9, 0.8, 0.6, 0.3):  # where it is faster this time
            begin(inputs, again, case)
            at = earlier * moment
            if number % 2:
                where = f"operation {int(at * whole.operations)} of {whole.operations}"
                ended = run(again, case.arguments, after_operations=int(at * whole.operations))
            else:
                where = f"{at:.0%} of the time"
                ended = run(again, case.arguments, after_cpu_s=at * whole.cpu_s)
            if ended.code == -signal.SIGKILL:
                break
        row.counts["kills"] += 1
        row.counts["neither"] += not _whole_poses(inputs, wanted, again, case)
        second = run(again, case.arguments)
        if second.code:
            row.counts["failed"] += 1
            _say(f"{case.name}, killed at {where}: {second.said.strip().splitlines()[-1]}")
            continue
        found = compare(wanted, again)
        outcome = "same" if not found.differ else "within" if found.within else "different"
        row.counts[outcome] += 1
        row.counts["debris"] += bool(found.debris)
        _say(f"{case.name}, killed at {where}: {outcome} {found.differ}, debris {found.debris}")
    return row


def _whole_poses(inputs: Path, wanted: Path, killed: Path, case: Case) -> bool:
    """Whether a killed command left the poses of before, or those that it was to make."""
    found = _poses(killed / "place")
    before = None if case.start is None else _poses(inputs / "starts" / case.start)
    return found in (before, None if before else found, _poses(wanted / "place"))


def _poses(place: Path) -> dict[str, list[float]] | None:
    try:
        images = list(Place.open(place).posed_images())
    except RelocalizeError:
        return None
    return {image.name: image.world_from_cam.matrix.ravel().tolist() for image in images}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- other faults --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """Something that is wrong while a command runs, and how it is mended."""

    name: str
    commands: tuple[str, ...]  # names of cases
    make: Callable[[Path], object]  # what is wrong in the Place, before the command
    mend: Callable[[Path], object]
    at_operation: bool = False  # of the command, half of the way through, not before it
    hurts: bool = True  # False: the command is to do its work all the same


def _spoil(name: str, how: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(place: Path) -> None:
        path = place / name
        path.with_name(f"{path.name}.whole").write_bytes(path.read_bytes())
        data = how(path.read_bytes())
        path.unlink()  # it may be a link to the whole one
        path.write_bytes(data)

    return spoil


def _whole_again(name: str) -> Callable[[Path], None]:
    def mend(place: Path) -> None:
        path = place / name
        path.with_name(f"{path.name}.whole").replace(path)

    return mend


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _garbage(data: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(data))


def _hole(data: bytes) -> bytes:
    """The middle third overwritten: the head still says that all is well."""
    third = len(data) // 3
    return data[:third] + _garbage(data[:third]) + data[2 * third :]


def _from_now_on(place: Path) -> None:
    for path in [*place.rglob("*"), place]:
        os.utime(path, (time.time() + 1e6,) * 2)


def _locked(place: Path) -> None:
    child = os.fork()
    if not child:
        with Place.open(place).lock():
            (place.parent / "tmp" / "holds").touch()
            signal.pause()
    while not (place.parent / "tmp" / "holds").exists():
        time.sleep(0.01)
    (place.parent / "tmp" / "holds").write_text(str(child))


def _unlocked(place: Path) -> None:
    holds = place.parent / "tmp" / "holds"
    child = int(holds.read_text())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    holds.unlink()


def _an_image(place: Path) -> Path:
    return sorted(place.glob("images/*/*"))[1]


def _gone(place: Path) -> None:
    path = _an_image(place)
    path.rename(place.parent / "tmp" / path.name)


def _test_image_gone(place: Path) -> None:
    path = place / "images" / Place.open(place).split().test[0]
    path.rename(place.parent / "tmp" / path.name)


def _there_again(place: Path) -> None:
    (path,) = (place.parent / "tmp").glob("frame-*")
    (folder,) = place.glob("images/first")
    path.rename(folder / path.name)


def _forgotten(place: Path) -> None:
    (path,) = (place.parent / "tmp").glob("frame-*")
    path.unlink()


_USE_THE_MAP = ("map --extend", "merge", "register", "train", "drop", "align --apply", "evaluate")
_READ_THE_PLACE = ("build", "import again", "map", *_USE_THE_MAP)
FAULTS = (
    Fault("two writers", tuple(c.name for c in CASES if c.start), _locked, _unlocked),
    Fault(
        "the clock set back: all files are of days to come",
        tuple(c.name for c in CASES if c.start),
        _from_now_on,
        lambda place: None,
        hurts=False,
    ),
    Fault("an image gone before", ("map", "map --extend", "train"), _gone, _there_again),
    Fault("a test image gone before", ("evaluate",), _test_image_gone, _there_again),
    Fault("an image gone, not needed", ("align --apply",), _gone, _there_again, hurts=False),
    Fault("an image gone, imported again", ("import again",), _gone, _forgotten, hurts=False),
    Fault("an image gone meanwhile", ("map",), _gone, _there_again, at_operation=True),
    *(
        Fault(
            f"{name} {what}",
            _READ_THE_PLACE if name == "place.json" else _USE_THE_MAP,
            _spoil(name, how),
            _whole_again(name),
        )
        for name in ("place.json", "map/images.bin", "map/points3D.bin", "map/cameras.bin")
        for what, how in (("cut in half", _half), ("of garbage", _garbage))
    ),
    *(
        Fault(
            f"map/database.db {what}",
            ("map --extend", "merge", "register"),
            _spoil("map/database.db", how),
            _whole_again("map/database.db"),
        )
        for what, how in (
            ("cut in half", _half),
            ("of garbage", _garbage),
            ("with a hole", _hole),
            ("empty", lambda data: b""),
        )
    ),
)


def tree(root: Path) -> dict[str, Any]:
    """All files of a Place that are not of work under way, with their bytes.

    Of the database with its rows, where it can be read: COLMAP counts how often it was opened.
    """
    found: dict[str, Any] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_file() and not any(mark in name for mark in _UNDER_WAY):
            try:
                found[name] = content(path) if path.name == "database.db" else path.read_bytes()
            except sqlite3.Error:
                found[name] = path.read_bytes()
    return found


@dataclass
class Verdict:
    """What came of a command under a fault; empty texts are as it should be."""

    command: str
    said: str
    wrong: list[str]


def suffer(inputs: Path, work: Path, fault: Fault, case: Case, whole: Ended) -> Verdict:
    """Run a command under a fault, and once more when it is mended."""
    root = work / "again"
    place = begin(inputs, root, case)
    (root / "tmp").mkdir()
    if fault.at_operation:
        before = tree(place)
        ended = run(
            root,
            case.arguments,
            after_operations=whole.operations // 4,
            at_operation=lambda: fault.make(place),
        )
    else:
        fault.make(place)
        before = tree(place)
        ended = run(root, case.arguments)
    wrong = _wrong(ended) if fault.hurts else [f"said {ended.said[-200:]}"] if ended.code else []
    after = tree(place)
    lost = [name for name in before if after.get(name) != before[name]]
    if fault.hurts and not fault.at_operation and lost:
        wrong.append(f"changed {lost}")
    fault.mend(place)
    if after != before or not fault.hurts:
        wrong += _afterwards(work, root, case)
    return Verdict(case.name, ended.line() or ended.said.strip()[-200:], wrong)


def _wrong(ended: Ended) -> list[str]:
    if ended.code == 0:
        return ["it noticed nothing"]
    return [] if ended.line() else [f"code {ended.code}, said {ended.said.strip()[-300:]!r}"]


def _afterwards(work: Path, root: Path, case: Case) -> list[str]:
    """What is wrong once a fault is mended and the command has run again."""
    second = run(root, case.arguments)
    if second.code:
        return [f"afterwards: {second.said.strip()[-200:]}"]
    found = compare(work / "wanted", root)
    wrong = [] if found.within or not found.differ else [f"afterwards differ {found.differ}"]
    return wrong + ([f"debris {found.debris}"] if found.debris else [])


def full_disk(inputs: Path, work: Path, case: Case, free: int) -> Verdict:
    """Run a command where ``free`` bytes are left, and again where there are enough."""
    small = work / "small"
    small.mkdir(exist_ok=True)
    root = begin(inputs, work / "again", case).parent
    _mount(small, "size=1g")
    try:
        there = small / "again"
        shutil.copytree(root, there, symlinks=True)
        before = tree(there / "place")
        disk = os.statvfs(small)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        _mount(small, f"remount,size={used + free}")
        ended = run(there, case.arguments)
        if not ended.code:
            return Verdict(case.name, "there was room", [])
        _mount(small, "remount,size=1g")
        wrong, after = _wrong(ended), tree(there / "place")
        lost = [name for name in before if after.get(name) != before[name]]
        wrong += [f"changed {lost}"] if lost else []
        wrong += _afterwards(work, there, case)
    finally:
        subprocess.run(["umount", str(small)], check=True)
    return Verdict(case.name, ended.line() or ended.said.strip()[-200:], wrong)


def read_only(inputs: Path, work: Path, case: Case) -> Verdict:
    """Run a command in a folder that is mounted to be read only."""
    root = begin(inputs, work / "again", case).parent
    (root / "place").mkdir(exist_ok=True)
    (root / "tmp").mkdir()
    place = root / "place"
    subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
    try:
        _mount(place, "remount,bind,ro")
        ended = run(root, case.arguments)
    finally:
        subprocess.run(["umount", str(place)], check=True)
    return Verdict(case.name, ended.line() or "", _wrong(ended) + _afterwards(work, root, case))


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


# -- all of it -----------------------------------------------------------------------------


def main(arguments: Arguments) -> None:
    """Print both tables."""
    for name in {case.arguments[0] for case in CASES} | {"split"}:
        command_class(name)
    for module in ("torch", "pycolmap", "scipy.optimize", "relocalize.localization.regressor"):
        import_module(module)
    work = arguments.work or Path(tempfile.mkdtemp(prefix="relocalize-benchmark-"))
    inputs = work / "inputs"
    if not (inputs / "starts" / "tiny").exists():
        shutil.rmtree(inputs, ignore_errors=True)
        inputs.mkdir(parents=True)
        prepare(inputs)
    chosen = [case for case in CASES if not arguments.rows or case.name in arguments.rows]
    rng = np.random.default_rng(arguments.seed)
    each = -(-arguments.kills // len(chosen))
    if each:
        head = "command | CPU s | file operations | kills | same | within | different | failed"
        print(f"| {head} | debris | neither |\n|{'---|' * (head.count('|') + 2)}")
    for case in chosen if each else ():
        print(kill(inputs, work, case, each, rng), flush=True)
    if arguments.faults:
        print("\n| fault | command | said | wrong |\n|---|---|---|---|")
    for case in chosen if arguments.faults else ():
        for name, verdict in _faults_of(inputs, work, case):
            wrong = "; ".join(verdict.wrong) or "-"
            print(f"| {name} | `{verdict.command}` | {verdict.said} | {wrong} |", flush=True)


def _faults_of(inputs: Path, work: Path, case: Case) -> Iterator[tuple[str, Verdict]]:
    begin(inputs, work / "wanted", case)
    whole = run(work / "wanted", case.arguments)
    for fault in FAULTS:
        if case.name in fault.commands:
            yield fault.name, suffer(inputs, work, fault, case, whole)
    if os.geteuid() == 0:
        yield "a read-only folder", read_only(inputs, work, case)
        for free in _LEFT_FREE:
            yield f"a disk with {free >> 10} kB free", full_disk(inputs, work, case, free)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

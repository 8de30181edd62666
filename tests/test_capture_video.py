"""A video's kept frames: sharp, at even motion, none at rest, with their true times, upright."""

import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from relocalize.capture import measure as measure_module
from relocalize.capture import video_frames as video_frames_module
from relocalize.capture.frames import capture_frames
from relocalize.cli.main import main
from relocalize.errors import CaptureError, PlaceError
from relocalize.place import Capture, Place

pytestmark = pytest.mark.slow
WIDTH, HEIGHT, RATE = 320, 240, 30


def panorama() -> np.ndarray:
    """A long textured wall [HEIGHT, 6000] of smoothed noise and boxes."""
    random = np.random.default_rng(7)
    wall = cv2.GaussianBlur(random.uniform(0, 255, (HEIGHT, 6000)).astype(np.float32), (0, 0), 2)
    wall = cv2.normalize(wall, None, 40, 215, cv2.NORM_MINMAX).astype(np.uint8)
    for _ in range(500):
        x, y = random.integers(0, 5960), random.integers(0, HEIGHT - 30)
        w, h = random.integers(8, 40, 2)
        cv2.rectangle(wall, (x, y), (x + w, y + h), int(random.integers(0, 255)), -1)
    return wall


WALL = panorama()


def view(offset: float, *, blur: int = 0) -> np.ndarray:
    """What the camera sees at ``offset`` pixels along the wall, with motion blur."""
    shift = np.array([[1, 0, -offset], [0, 1, 0]], dtype=np.float64)
    image = cv2.warpAffine(WALL, shift, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    if blur:
        image = cv2.blur(image, (blur, 1))
    return np.repeat(image[:, :, None], 3, axis=2)


def write_video(
    path: Path,
    images: Sequence[np.ndarray] | Iterator[np.ndarray],
    *,
    ticks: Sequence[int] | None = None,
    prepare: Callable[[av.VideoStream], None] = lambda stream: None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode images; ``ticks`` are their times in milliseconds (default: even)."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18", "g": "15"})
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        prepare(stream)
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.time_base = Fraction(1, 1000)
            frame.pts = ticks[index] if ticks else round(index * 1000 / RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def walk_video(path: Path, offsets: Sequence[float], blur: Sequence[int] = ()) -> Path:
    blurs = list(blur) or [0] * len(offsets)
    return write_video(path, (view(o, blur=b) for o, b in zip(offsets, blurs, strict=True)))


def kept_frames(capture: Capture) -> np.ndarray:
    return np.array([image.frame_index for image in capture.images])


@pytest.fixture(scope="module")
def plain_walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 4 pixels (1.25% of the width) a frame."""
    return walk_video(tmp_path_factory.mktemp("video") / "plain.mp4", 4.0 * np.arange(180))


@pytest.fixture(scope="module")
def whole(plain_walk: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A Place with the capture of `plain_walk`, made undisturbed."""
    root = tmp_path_factory.mktemp("whole") / "place"
    capture_frames(plain_walk, root)
    return Place.open(root)


def test_none_where_the_camera_rests(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    offsets = np.concatenate([4.0 * np.arange(60), np.full(75, 236.0), 236 + 4.0 * np.arange(60)])
    offsets[60:135] += random.uniform(-0.7, 0.7, 75)  # the hand trembles
    capture = capture_frames(walk_video(tmp_path / "rest.mp4", offsets), tmp_path / "place")
    kept = kept_frames(capture)
    assert not np.any((kept > 66) & (kept < 129))
    assert np.sum(kept < 60) >= 20
    assert np.sum(kept >= 135) >= 20
    assert any("rests" in row.reason for row in capture.dropped)


def test_blurred_frames_are_avoided(tmp_path: Path) -> None:
    blurred = np.isin(np.arange(180) % 12, (4, 5, 6, 7))
    video = walk_video(tmp_path / "b.mp4", 4.0 * np.arange(180), np.where(blurred, 15, 0).tolist())
    capture = capture_frames(video, tmp_path / "place")
    kept = kept_frames(capture)
    assert len(kept) >= 40
    assert not np.any(blurred[kept])
    assert any(row.reason == "blurred" for row in capture.dropped)


@pytest.mark.parametrize("count", [12, 40])
def test_steps_of_motion_are_even(tmp_path: Path, count: int) -> None:
    # Slow, fast, slow: the speed changes by a factor of 7.
    speed = 1.0 + 6.0 * np.sin(np.linspace(0, np.pi, 180)) ** 2
    offsets = np.cumsum(speed)
    video = walk_video(tmp_path / "speed.mp4", offsets)
    kept = kept_frames(capture_frames(video, tmp_path / "place", count=count))
    steps = np.diff(offsets[kept])
    assert np.all(steps > 0.4 * np.median(steps))
    assert np.all(steps < 1.8 * np.median(steps))
    middle = np.sum((kept >= 60) & (kept < 120))
    assert middle > 1.5 * np.sum(kept < 60)


@pytest.mark.parametrize("count", [10, 30, 90])
def test_count_is_kept_to(tmp_path: Path, plain_walk: Path, count: int) -> None:
    capture = capture_frames(plain_walk, tmp_path / "place", count=count)
    assert abs(len(capture.images) - count) <= max(1, 0.1 * count)


def test_every_seconds(tmp_path: Path, plain_walk: Path) -> None:
    capture = capture_frames(plain_walk, tmp_path / "place", every_s=0.5)
    times = np.array([image.time_s for image in capture.images])
    np.testing.assert_allclose(times, 0.5 * np.arange(len(times)), atol=0.18)
    assert 12 <= len(times) <= 13


def test_times_and_images_are_those_of_the_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    ticks = np.cumsum(random.integers(15, 90, 90)).tolist()
    offsets = 5.0 * np.arange(90)
    video = write_video(tmp_path / "vfr.mp4", (view(o) for o in offsets), ticks=ticks)
    place = Place.create(tmp_path / "place")
    capture = capture_frames(video, place, name="walk")
    assert len(capture.images) >= 25
    for image in capture.images:
        assert image.frame_index is not None and image.time_s is not None
        assert image.name == f"walk/frame-{image.frame_index:06d}.jpg"
        assert abs(image.time_s - (ticks[image.frame_index] - ticks[0]) / 1000) < 1.5e-3
        true = view(offsets[image.frame_index]).astype(int)
        assert np.abs(place.read_image(image.name).astype(int) - true).mean() < 4


@pytest.mark.parametrize(
    ("degrees", "mirror"), [(0, False), (90, False), (180, False), (-90, False), (0, True)]
)
def test_rotation_metadata_is_applied(tmp_path: Path, degrees: int, mirror: bool) -> None:
    # Upright: bright corner at the top left. Stored: as a camera held otherwise would.
    def upright(offset: float) -> np.ndarray:
        image = (view(offset) // 3).astype(np.uint8)
        image[:60, :80] = 250
        return image

    def stored(offset: float) -> np.ndarray:
        image = upright(offset)
        if mirror:
            image = image[:, ::-1]
        return np.rot90(image, -degrees // 90)

    video = write_video(
        tmp_path / "turned.mp4",
        (stored(4.0 * i) for i in range(40)),
        prepare=lambda stream: stream.set_display_rotation(degrees, hflip=mirror),
    )
    place = Place.create(tmp_path / "place")
    capture = capture_frames(video, place)
    first = capture.images[0]
    pixels = place.read_image(first.name)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (capture.cameras[0].width, capture.cameras[0].height) == (WIDTH, HEIGHT)
    assert capture.cameras[0].known == "unknown"
    true = upright(4.0 * (first.frame_index or 0)).astype(int)
    assert np.abs(pixels.astype(int) - true).mean() < 4


def test_container_says_focal_length_and_pixel_shape(tmp_path: Path) -> None:
    def prepare(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    path = tmp_path / "phone.mov"
    images = (view(4.0 * i) for i in range(40))
    write_video(path, images, prepare=prepare, options={"movflags": "use_metadata_tags"})
    # Remuxed with the key that phones write.
    named = tmp_path / "named.mov"
    with (
        av.open(str(path)) as source,
        av.open(str(named), "w", options={"movflags": "use_metadata_tags"}) as target,
    ):
        target.metadata["com.apple.quicktime.camera.focal_length.35mm_equivalent"] = "26"
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    place = Place.create(tmp_path / "place")
    capture = capture_frames(named, place)
    camera = capture.cameras[0]
    width = round(WIDTH * 4 / 3)
    assert place.read_image(capture.image_names[0]).shape == (HEIGHT, width, 3)
    assert (camera.width, camera.height, camera.known) == (width, HEIGHT, "approximate")
    true = 26 / np.hypot(36, 24) * np.hypot(width, HEIGHT)
    assert abs(camera.focal_px - true) < 0.01


def test_a_cut_video_gives_what_it_has(tmp_path: Path) -> None:
    whole = write_video(
        tmp_path / "whole.mp4",
        (view(4.0 * i) for i in range(180)),
        options={"movflags": "faststart"},
    )
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    capture = capture_frames(cut, tmp_path / "place")
    last = max(image.time_s or 0.0 for image in capture.images)
    assert 2.0 < last < 4.5
    broke = capture.settings["broke"]
    assert "of 6.0" in broke
    assert any(row.reason == broke for row in capture.dropped)


def test_damaged_middle_is_passed_over(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.ts", (view(4.0 * i) for i in range(180)))
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    damaged = tmp_path / "damaged.ts"
    damaged.write_bytes(data)
    capture = capture_frames(damaged, tmp_path / "place")
    times = [image.time_s or 0.0 for image in capture.images]
    assert min(times) < 0.3 and max(times) > 5.5


def make_text(path: Path) -> None:
    path.write_text("not a film\n" * 500)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_no_frames(path: Path) -> None:
    write_video(path.with_name("one.mkv"), [view(0.0)])
    with (
        av.open(str(path.with_name("one.mkv"))) as source,
        av.open(str(path), "w", format="matroska") as container,
    ):
        container.add_stream_from_template(source.streams.video[0])
        container.start_encoding()


def make_garbage(path: Path) -> None:
    write_video(path, [view(4.0 * i) for i in range(30)])
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def make_audio(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_beheaded(path: Path) -> None:
    write_video(path, [view(4.0 * i) for i in range(30)])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # its index is at the end


def make_playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://localhost:1/film.ts\n#EXT-X-ENDLIST\n")


def make_still(path: Path) -> None:
    write_video(path, [view(0.0)] * 60)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (make_text, "cannot be opened as a video"),
        (make_empty, "is empty"),
        (make_no_frames, "no frame of|cannot be opened"),
        (make_garbage, "no frame of"),
        (make_audio, "no video track, only audio"),
        (make_beheaded, "cut before its index"),
        (make_playlist, "video"),
        (make_still, "a camera that moves"),
        (lambda path: None, "does not exist"),
    ],
)
def test_wrong_input_gets_one_line(
    tmp_path: Path, plain_walk: Path, make: Callable[[Path], None], says: str
) -> None:
    source = tmp_path / "film.mp4"
    make(source)
    place = tmp_path / "place"
    with pytest.raises(CaptureError, match=says) as caught:
        capture_frames(source, place)
    assert "film.mp4" in str(caught.value) and "\n" not in str(caught.value)
    # The Place, if one was made, is as good as new.
    capture = capture_frames(plain_walk, place, count=10)
    assert list(Place.open(place).captures) == [capture.name]
    assert not list(place.glob(".capturing-*"))


def test_a_folder_with_other_things_is_no_place(tmp_path: Path, plain_walk: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(PlaceError, match="other files"):
        capture_frames(plain_walk, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def files_of(place: Path) -> dict[str, bytes]:
    kinds = ("images", "captures")
    paths = (path for kind in kinds for path in (place / kind).rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in paths}


class Killed(BaseException):
    """Stands for kill -9: nothing of the code under test may handle it."""


@pytest.mark.parametrize("at_frame", [1, 100])
def test_goes_on_after_a_kill_while_measuring(
    tmp_path: Path,
    plain_walk: Path,
    whole: Place,
    monkeypatch: pytest.MonkeyPatch,
    at_frame: int,
) -> None:
    taken: list[int] = []
    deaths = [at_frame]
    take = measure_module._Run.take

    def dying(run, image, frame_s):
        if deaths == [len(taken)]:
            deaths.clear()
            raise Killed
        taken.append(len(run.frames))
        take(run, image, frame_s)

    monkeypatch.setattr(measure_module, "_SAVE_SECONDS", -1.0)
    monkeypatch.setattr(measure_module._Run, "take", dying)
    with pytest.raises(Killed):
        capture_frames(plain_walk, tmp_path / "place")
    assert Place.open(tmp_path / "place").captures == {}
    assert capture_frames(plain_walk, tmp_path / "place") == whole.capture("plain")
    assert sorted(set(taken)) == list(range(180))
    assert len(taken) == 180  # no frame is measured twice
    assert files_of(tmp_path / "place") == files_of(whole.root)


def test_goes_on_after_a_kill_while_writing(
    tmp_path: Path, plain_walk: Path, whole: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = video_frames_module._write_jpeg

    def dying(item):
        if len(written) >= 20:  # two threads write
            raise Killed
        write(item)
        written.append(item[0].name)

    with monkeypatch.context() as patch:
        patch.setattr(video_frames_module, "_write_jpeg", dying)
        with pytest.raises(Killed):
            capture_frames(plain_walk, tmp_path / "place")
    assert Place.open(tmp_path / "place").captures == {}
    times = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "place").glob(".capturing-*/images/*")
    }
    assert len(times) >= 20
    assert capture_frames(plain_walk, tmp_path / "place") == whole.capture("plain")
    assert files_of(tmp_path / "place") == files_of(whole.root)
    for name, time in times.items():
        assert (tmp_path / "place" / "images" / "plain" / name).stat().st_mtime_ns == time


def test_goes_on_after_a_kill_before_the_record(
    tmp_path: Path, plain_walk: Path, whole: Place, monkeypatch: pytest.MonkeyPatch
) -> None:

    def dying(place, capture):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Place, "write_capture", dying)
        with pytest.raises(Killed):
            capture_frames(plain_walk, tmp_path / "place")
    assert capture_frames(plain_walk, tmp_path / "place") == whole.capture("plain")
    assert files_of(tmp_path / "place") == files_of(whole.root)


def test_done_is_done_and_names_do_not_mix(tmp_path: Path, plain_walk: Path) -> None:
    place = tmp_path / "place"
    capture = capture_frames(plain_walk, place, count=20)
    before = files_of(place)
    assert capture_frames(plain_walk, place, count=20) == capture
    with pytest.raises(CaptureError, match="--capture"):
        capture_frames(plain_walk, place, count=30)
    other = walk_video(tmp_path / "other.mp4", 3.0 * np.arange(60))
    with pytest.raises(CaptureError, match=r"another source \(plain.mp4\)"):
        capture_frames(other, place, name="plain", count=20)
    assert files_of(place) == before
    capture_frames(other, place, name="second")
    assert list(Place.open(place).captures) == ["plain", "second"]


def test_images_of_unknown_origin_are_left_alone(tmp_path: Path, plain_walk: Path) -> None:
    place = Place.create(tmp_path / "place")
    stray = place.images_dir / "plain" / "mine.jpg"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"mine")
    with pytest.raises(CaptureError, match="no capture of the Place lists"):
        capture_frames(plain_walk, place)
    assert stray.read_bytes() == b"mine"


def test_fast_turns_and_tiny_steps_keep_every_frame_once(tmp_path: Path) -> None:
    video = walk_video(tmp_path / "fast.mp4", 12.0 * np.arange(60))
    for number, settings in enumerate(({"count": 10_000}, {"every_s": 1e-9})):
        capture = capture_frames(video, tmp_path / "place", name=f"walk{number}", **settings)
        kept = kept_frames(capture)
        assert len(kept) == len(set(kept)) >= 57


def test_contradictory_settings(tmp_path: Path, plain_walk: Path) -> None:
    for settings in ({"count": 0}, {"every_s": 0.0}, {"every_s": float("nan")}):
        with pytest.raises(CaptureError, match="want"):
            capture_frames(plain_walk, tmp_path / "place", **settings)
    with pytest.raises(CaptureError, match="exclude"):
        capture_frames(plain_walk, tmp_path / "place", count=5, every_s=1.0)
    with pytest.raises(PlaceError, match="cannot name"):
        capture_frames(plain_walk, tmp_path / "place", name="../up")
    assert not (tmp_path / "place").exists()


def test_contact_sheet_is_an_image_of_sane_size(tmp_path: Path, plain_walk: Path) -> None:
    capture_frames(plain_walk, tmp_path / "place")
    sheet = cv2.imread(str(tmp_path / "place" / "captures" / "plain.png"))
    assert sheet is not None
    height, width = sheet.shape[:2]
    assert 800 < width <= 3000 and 300 < height <= 3000


def test_command(tmp_path: Path, plain_walk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["frames", str(plain_walk), str(tmp_path / "place"), "--count", "20", "--json"])
    assert ended.value.code == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["frames_in_source"] == 180
    assert abs(facts["images"] - 20) <= 2
    assert len(list(Path(facts["folder"]).iterdir())) == facts["images"]
    assert Path(facts["contact_sheet"]).is_file()
    with pytest.raises(SystemExit) as ended:
        main(["frames", str(tmp_path / "absent.mp4"), str(tmp_path / "place")])
    assert ended.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error


@pytest.mark.data
def test_redkitchen_keeps_about_every_third_frame(tmp_path: Path, data_dir: Path) -> None:
    video = data_dir / "redkitchen" / "walkthrough.mp4"
    capture = capture_frames(video, tmp_path / "place")
    assert 280 <= len(capture.images) <= 350
    gaps = np.diff(kept_frames(capture))
    assert gaps.max() <= 15

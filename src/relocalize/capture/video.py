"""Decoding a video: its frames in order, with their times, and upright when asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.buffer import Buffer
from av.container import InputContainer
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from relocalize.capture.exif import FILM_DIAGONAL_MM
from relocalize.errors import CaptureError
from relocalize.geometry import Camera
from relocalize.parallel import worker_count

MAX_FRAME_PIXELS = 100_000_000  # 12K video has 80 million
# FFmpeg also "opens" text files, play lists and devices; none of these is a video file.
_NOT_VIDEO_FILES = frozenset(
    ("hls", "dash", "concat", "concatf", "sdp", "rtsp", "tty", "lavfi", "ffmetadata", "image2")
)
_FOCAL_35MM_KEYS = ("com.apple.quicktime.camera.focal_length.35mm_equivalent",)


@dataclass(frozen=True)
class Turn:
    """How stored images become upright: transpose first, then mirror."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Turn:
        """From the display matrix (libavutil/display.h), to the nearest quarter turn.

        The matrix (a b u; c d v; x y w), in 16.16 fixed point, maps the stored (p, q) to the
        shown (a p + c q, b p + d q).
        """
        try:
            matrix = cast(Mapping[SideData, Buffer], frame.side_data)[SideData.DISPLAYMATRIX]
        except KeyError:
            return cls()
        except ValueError:
            # PyAV knows fewer kinds of side data than FFmpeg; the angle alone it always tells.
            turns = round(frame.rotation / 90) % 4  # counterclockwise
            return cls(transpose=turns % 2 == 1, mirror_x=turns >= 2, mirror_y=turns in (1, 2))
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(transpose=True, mirror_x=c < 0, mirror_y=b < 0)
        return cls(transpose=False, mirror_x=a < 0, mirror_y=d < 0)

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn an image [H, W, ...]."""
        if self.transpose:
            pixels = np.swapaxes(pixels, 0, 1)
        if self.mirror_x:
            pixels = pixels[:, ::-1]
        if self.mirror_y:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


class Image:
    """One decoded frame, converted only as far as it is asked for."""

    def __init__(
        self, frame: VideoFrame, aspect: float, turn: Turn, reformatter: VideoReformatter
    ) -> None:
        """Made by `Video.images`."""
        self._frame, self._aspect, self._turn = frame, aspect, turn
        self._reformatter = reformatter

    @property
    def stamp(self) -> int | None:
        """Presentation time in the stream's own ticks, or None where the container has none."""
        return self._frame.pts

    @property
    def time_s(self) -> float | None:
        """Presentation time in the container's clock."""
        return self._frame.time

    @property
    def is_damaged(self) -> bool:
        """Whether the decoder had to make up parts of it."""
        return bool(self._frame.is_corrupt)

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height as stored, before turning."""
        return self._frame.width, self._frame.height

    def luma(self) -> NDArray[np.uint8]:
        """Brightness [H, W] as stored, not turned; a view of the decoder's memory if possible."""
        frame = self._frame
        layout = frame.format
        if layout.name.startswith(("yuv4", "yuvj4", "nv1", "nv2", "gray")) and (
            layout.components[0].bits == 8
        ):
            plane = frame.planes[0]
            rows: NDArray[np.uint8] = np.frombuffer(memoryview(plane), dtype=np.uint8)
            return rows.reshape(-1, plane.line_size)[: frame.height, : frame.width]
        return self._as("gray")

    def bgr(self) -> NDArray[np.uint8]:
        """Colours [H, W, 3] in OpenCV's order, upright, with square pixels."""
        pixels = self._as("bgr24")
        height, width = pixels.shape[:2]
        if self._aspect != 1.0:
            stretched = (round(width * self._aspect), height)
            pixels = np.asarray(cv2.resize(pixels, stretched), dtype=np.uint8)
        return self._turn.apply(pixels)

    def _as(self, layout: str) -> NDArray[np.uint8]:
        converted = self._reformatter.reformat(self._frame, format=layout)
        return np.asarray(converted.to_ndarray(), dtype=np.uint8)


class Video:
    """An open video file.

    Attributes:
        announced_s: length that the container announces, or None.
        announced_frames: frames that it announces or that follow from its rate, or None.
        frame_s: nominal time from one frame to the next.
        damaged_packets: packets that could not be decoded so far.
        broke: why reading ended before the end of the file, or None.
    """

    def __init__(self, path: Path) -> None:
        """Use `open_video`."""
        self._path = path
        self._container, self._stream = _open_stream(path)
        ratio = self._stream.sample_aspect_ratio
        aspect = float(ratio) if ratio else 1.0
        self._aspect = aspect if 0.1 < aspect < 10.0 else 1.0
        # One for all frames, since each keeps the tables of its conversion.
        self._reformatter = VideoReformatter()
        self._turn: Turn | None = None
        rate = self._stream.average_rate
        self.frame_s = 1.0 / float(rate) if rate else 1.0 / 30.0
        self.announced_s = _announced_length(self._container, self._stream)
        self.announced_frames: int | None = self._stream.frames or None
        if self.announced_frames is None and self.announced_s is not None:
            self.announced_frames = round(self.announced_s / self.frame_s)
        self.damaged_packets = 0
        self.broke: str | None = None

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def images(self) -> Iterator[Image]:
        """From where the video stands to its end, or to where it breaks (see `broke`)."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self.broke = error.strerror or str(error)
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged_packets += 1
                continue
            for frame in frames:
                if frame.width * frame.height > MAX_FRAME_PIXELS:
                    raise CaptureError(_too_large(self._path, frame.width, frame.height))
                if self._turn is None:
                    # Asked of one frame only: side data keeps its frame in memory for long.
                    self._turn = Turn.of(frame)
                yield Image(frame, self._aspect, self._turn, self._reformatter)

    def where_it_broke(self, end_s: float) -> str | None:
        """What is missing after images were asked for, the last at ``end_s``; or None."""
        # Containers round their length and count the last frame's duration: a second is no loss.
        announced = self.announced_s
        short = announced is not None and announced - end_s > max(1.0, 0.02 * announced)
        if not (self.broke or self.damaged_packets or short):
            return None
        message = f"the video can be decoded up to second {end_s:.1f}"
        if short:
            message += f" of {announced:.1f}"
        if self.damaged_packets:
            message += f", {self.damaged_packets} packets of it are damaged"
        return message + (f" ({self.broke})" if self.broke else "")

    def images_from(self, number: int, stamp: int | None) -> Iterator[tuple[int, Image]]:
        """Images with their numbers in the video, from ``number`` (0 is the first) on.

        With that image's `Image.stamp` the video jumps there; else all before it is decoded.
        """
        if number > 0 and stamp is not None:
            images = self._images_near(stamp)
            for image in images:
                if image.stamp is None or image.stamp > stamp:
                    break  # this container does not jump to where it is told
                if image.stamp == stamp:
                    yield number, image
                    yield from enumerate(images, number + 1)
                    return
            self._container.close()
            self._container, self._stream = _open_stream(self._path)
        for index, image in enumerate(self.images()):
            if index >= number:
                yield index, image

    def _images_near(self, stamp: int) -> Iterator[Image]:
        try:
            self._container.seek(stamp, stream=self._stream, backward=True)
        except av.FFmpegError:
            return
        yield from self.images()

    def camera(self, width: int, height: int) -> Camera:
        """What the container says about the camera, for upright frames of this size."""
        for key in _FOCAL_35MM_KEYS:
            value = self._container.metadata.get(key) or self._stream.metadata.get(key)
            try:
                focal_mm = float(value) if value else math.nan
            except ValueError:
                continue
            if 5.0 <= focal_mm <= 1000.0:
                focal_px = focal_mm / FILM_DIAGONAL_MM * math.hypot(width, height)
                return Camera.from_focal(width, height, focal_px)
        return Camera.from_focal(width, height)


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """Open a video of any container and codec that FFmpeg reads.

    Raises:
        CaptureError: no such file, no video in it, or frames that are too large.
    """
    video = Video(path)
    try:
        yield video
    finally:
        video.close()


def _open_stream(path: Path) -> tuple[InputContainer, VideoStream]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise CaptureError(f"video {path} {what}; give the path of a video file")
    if path.stat().st_size == 0:
        raise CaptureError(f"video {path} is empty; copy it again")
    try:
        # `file:` and the white list keep names and contents from reaching the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise CaptureError(
            f"{path} cannot be opened as a video ({error.strerror}): it is another kind of file, "
            "or was cut before its index was written; copy or export it again"
        ) from error
    try:
        stream = _video_stream(path, container)
    except BaseException:
        container.close()
        raise
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = worker_count()
    return container, stream


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    names = set(container.format.name.split(","))
    if names & _NOT_VIDEO_FILES or any(name.endswith("_pipe") for name in names):
        raise CaptureError(
            f"{path} is no video file but {container.format.long_name}; give a video or photos"
        )
    if not container.streams.video:
        kinds = ", ".join(sorted({str(stream.type) for stream in container.streams}))
        only = f", only {kinds}" if kinds else " and no other"
        raise CaptureError(f"{path} has no video track{only}; give a video file")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise CaptureError(
            f"the codec of {path} is unknown to this FFmpeg; convert the video to H.264"
        )
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_FRAME_PIXELS:
        raise CaptureError(_too_large(path, width, height))
    return stream


def _too_large(path: Path, width: int, height: int) -> str:
    limit = MAX_FRAME_PIXELS // 1_000_000
    return (
        f"video {path} has frames of {width} x {height} pixels; want at most {limit} megapixels: "
        "export it smaller"
    )


def _announced_length(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None

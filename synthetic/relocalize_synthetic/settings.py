"""What the synthetic corridor and its two cameras are like; the rest follows from the seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from relocalize.errors import CaptureError
from relocalize.geometry import Camera

# Below this the doors, windows and the walk's turns have no room.
_LEAST_ARM_M = 4.0


@dataclass(frozen=True)
class WalkSettings:
    """The hand-held video.

    Attributes:
        camera: pinhole intrinsics of the video camera; the size must be even (H.264 4:2:0).
        fps: frames per second.
        speed: walking speed on straight pieces, metres per second.
        rest_s: seconds for which the walker stands still, about a third of the way in.
        return_m: metres walked back after turning round at the far end, on the other side of the
            corridor; 0 to stop there. No more than there are.
        eye_height: mean height of the camera above the floor, metres.
        shake: scale of sway, bob and hand tremor; 1 is a relaxed walk, 0 a dolly.
        exposure_s: shutter time, which is what blurs moving frames; 0 for none.
        noise: standard deviation of the sensor noise at mid grey, in grey levels of 255.
        exposure_drift: amplitude of the slow automatic-exposure drift, as a share of the gain.
        vignetting: darkening in the image's corners, as a share.
        crf: x264's constant rate factor; lower is better and larger.
    """

    camera: Camera = field(default_factory=lambda: _pinhole(960, 540, 720.0))
    fps: int = 30
    speed: float = 1.0
    rest_s: float = 2.0
    return_m: float = 0.0
    eye_height: float = 1.5
    shake: float = 1.0
    exposure_s: float = 1 / 100
    noise: float = 2.5
    exposure_drift: float = 0.08
    vignetting: float = 0.18
    crf: int = 19


@dataclass(frozen=True)
class VisitorSettings:
    """The photos by a second camera.

    Attributes:
        count: number of photos.
        camera: intrinsics with lens distortion, any COLMAP model.
        gain: exposure relative to the video.
        white_balance: gains of red, green and blue.
        noise: as for the walk.
        vignetting: as for the walk.
        jpeg_quality: of the photo files, 1 to 100.
        focal_in_exif: write the focal length (35 mm equivalent, rounded as cameras do) to EXIF.
    """

    count: int = 30
    camera: Camera = field(
        default_factory=lambda: Camera(
            "RADIAL", 800, 600, (585.0, 403.0, 297.5, -0.11, 0.025), known="exact"
        )
    )
    gain: float = 1.12
    white_balance: tuple[float, float, float] = (0.94, 1.0, 1.09)
    noise: float = 3.0
    vignetting: float = 0.25
    jpeg_quality: int = 92
    focal_in_exif: bool = False


@dataclass(frozen=True)
class CorridorSettings:
    """An L-shaped corridor, a walk through it, and a visitor's photos.

    Attributes:
        seed: of every random choice; the same settings give the same files.
        first_arm: length of the first arm with the corner, metres, along +x.
        second_arm: length of the second arm beyond the corner, metres, along +y; 0 for a
            straight corridor.
        width: of both arms, metres.
        height: of the ceiling, metres.
        texel: size of the walls' texture elements, metres.
        walk: the video.
        visitor: the photos.
    """

    seed: int = 0
    first_arm: float = 18.0
    second_arm: float = 12.0
    width: float = 2.4
    height: float = 2.7
    texel: float = 0.003
    walk: WalkSettings = field(default_factory=WalkSettings)
    visitor: VisitorSettings = field(default_factory=VisitorSettings)

    def __post_init__(self) -> None:
        if self.first_arm < _LEAST_ARM_M or 0 < self.second_arm < _LEAST_ARM_M:
            raise CaptureError(
                f"corridor arms of {self.first_arm:g} m and {self.second_arm:g} m; "
                f"make each at least {_LEAST_ARM_M:g} m (the second may be 0)"
            )
        camera = self.walk.camera
        if camera.width % 2 or camera.height % 2:
            raise CaptureError(
                f"video of {camera.width} x {camera.height} pixels; H.264 needs even sizes"
            )
        if camera.model not in {"SIMPLE_PINHOLE", "PINHOLE"}:
            raise CaptureError(
                f"walk camera of model {camera.model}; the video is rendered without distortion, "
                "take SIMPLE_PINHOLE or PINHOLE"
            )

    @classmethod
    def small(cls, *, seed: int = 0) -> CorridorSettings:
        """One short arm, about a hundred small frames: seconds to render, and SfM works on it."""
        return cls(
            seed=seed,
            first_arm=7.0,
            second_arm=0.0,
            texel=0.004,
            walk=WalkSettings(
                camera=_pinhole(480, 360, 370.0), fps=20, speed=0.9, rest_s=1.0, return_m=0.0
            ),
            visitor=VisitorSettings(
                count=6,
                camera=Camera("RADIAL", 400, 300, (292.5, 201.5, 148.75, -0.11, 0.025)),
            ),
        )


def _pinhole(width: int, height: int, focal_px: float) -> Camera:
    return Camera("SIMPLE_PINHOLE", width, height, (focal_px, width / 2, height / 2))

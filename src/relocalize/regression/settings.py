"""Everything that a training of a camera pose regressor depends on, as one frozen value.

The text below each field is its help on the command line. Nothing here imports torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from relocalize.errors import LocalizerError
from relocalize.plain import to_plain

Orientation = Literal["quaternion", "log_quaternion", "6d"]
HeadKind = Literal["posenet", "founding", "lstm", "attention", "grid", "coordinates"]
LossKind = Literal["beta", "homoscedastic", "reprojection", "heteroscedastic", "coordinates"]
Name = Annotated[str, Meta(min_length=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
DropoutShare = Annotated[float, Meta(ge=0, lt=1)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1e12)]
Weight = Annotated[float, Meta(ge=0, le=1e12)]
Logarithm = Annotated[float, Meta(ge=-20, le=20)]
Angle = Annotated[float, Meta(ge=0, le=60)]
InputSide = Annotated[int, Meta(ge=64, le=2048)]
GridSide = Annotated[int, Meta(ge=1, le=64)]
Width = Annotated[int, Meta(ge=1, le=16384)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
CountOrNone = Annotated[int, Meta(ge=0, le=1000)]

SettingsType = TypeVar("SettingsType", bound="Settings")
_HINTS: dict[type, dict[str, Any]] = {}  # the types of each class's fields, once asked for
# Steps of a run, which up to so many train frames are enough; from there on they follow the root of
# the number: each frame is seen less often, and there is more to learn.
_STEPS, _STEPS_SUIT = 2000, 1000
# In all, and of each frame: disk and processor time do not allow many of many frames, and of few
# frames a network without many knows every one by heart. Up to `_COPIES_SUIT` frames copies fall
# with the root of their number.
_KEPT_COPIES, _COPIES_SUIT, _LEAST_COPIES, _MOST_COPIES = 6500, 650, 2, 40
_NO_VALUE = "none"  # what is written for no value where a file has no null: TOML


@dataclass(frozen=True)
class Settings:
    """What all settings share: each field is checked against its type and bounds when it is set."""

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            value = getattr(self, name)
            if not isinstance(value, Settings):
                object.__setattr__(self, name, _checked(self.section + name, value, hint))
        for holds, name, wanted in self.rules():
            if not holds:
                value = attrgetter(name)(self)
                raise _refused(self.section + name, value, f"want {wanted}")

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """What fields that are right alone have to keep together.

        Yields whether it holds, the field to change where it does not, and what that wants.
        """
        return ()


@dataclass(frozen=True)
class BackboneSettings(Settings):
    """The network that turns an image into feature maps."""

    section: ClassVar[str] = "backbone."

    name: Name = "efficientnet_lite0"
    """googlenet, googlenet_caffe, resnet18, resnet34, resnet50, efficientnet_lite0 to
    efficientnet_lite2, or timm:<model>."""
    weights: Name = "imagenet"
    """Where its weights come from: imagenet, places365, none, or a file."""
    frozen: bool = True
    """Keep its weights as they are; its features are then computed once and kept on disk."""
    stages: tuple[str, ...] = ()
    """The stages whose feature maps the head sees, shallow to deep; none: the deepest one."""
    channels: Count | None = None
    """Principal channels kept of each stage's feature map (a frozen backbone only); none: all."""
    learning_rate_share: Share = 1.0
    """Its learning rate as a share of the head's, where it is not frozen."""

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """Principal channels are those of a frozen backbone."""
        wanted = "none where the backbone is trained: its principal channels would change"
        yield self.channels is None or self.frozen, "channels", wanted


@dataclass(frozen=True)
class InputSettings(Settings):
    """How an image becomes the network's input."""

    section: ClassVar[str] = "input."

    width: InputSide = 256
    """Width of the input in pixels."""
    height: InputSide = 192
    """Height of the input in pixels."""
    geometry: Literal["canonical", "posenet"] = "canonical"
    """canonical: every image is warped to one undistorted pinhole camera. posenet: as in the
    paper, the shorter side becomes 256 and a crop is taken, random in training."""
    mean_image: bool = False
    """Subtract the mean image of the train images (the paper's) in place of a mean colour."""
    test_crops: Annotated[int, Meta(ge=1, le=1024)] = 1
    """Images of a photo that it is answered by, their poses averaged. canonical: 1, or 5 with
    those of the camera turned by 5 degrees to each side. posenet: crops; the paper has 1 or 128."""

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """Crops are square, and alone have a mean image and any number of them."""
        crops = self.geometry == "posenet"
        square = not crops or self.width == self.height
        yield square, "height", f"the width, {self.width}, for crops"
        few = self.test_crops in {1, 5}
        yield crops or few, "test_crops", "1 or 5 with canonical geometry"
        yield crops or not self.mean_image, "geometry", "posenet for a mean image"


@dataclass(frozen=True)
class AugmentSettings(Settings):
    """How training images are varied, by default not at all; each copy's pose is exact."""

    section: ClassVar[str] = "augment."

    roll_deg: Annotated[float, Meta(ge=0, le=180)] = 0.0
    """Largest rotation about the viewing direction, in degrees."""
    turn_deg: Angle = 0.0
    """Largest rotation to the left and right, in degrees."""
    tilt_deg: Angle | None = None
    """Largest rotation up and down, in degrees; none: as much as turn_deg."""
    shift: Annotated[float, Meta(ge=0, le=0.3)] = 0.0
    """Standard deviation of the shift in each direction, as a share of the median depth of what
    the frame sees. Needs a map with points; surfaces between them are taken to be smooth."""
    zoom: Annotated[float, Meta(ge=1, le=4)] = 1.0
    """Largest factor of the focal length, and of one over it, of another lens whose image is
    brought back to the canonical camera: a longer lens shows less, a shorter one is coarser. Above
    1, half of the copies are also of other shapes, as by a phone held upright."""
    focal_doubt: Annotated[float, Meta(ge=1, le=2)] = 1.0
    """Largest factor of the focal length, and of one over it, that stays in the image: teaches
    to doubt the lens, at a cost, since an image magnified by 2% looks like one from nearer."""
    jitter: Share = 0.0
    """Strength of changes of brightness, contrast, gamma, white balance and colour, 0 to 1."""
    blur_px: Annotated[float, Meta(ge=0, le=20)] = 0.0
    """Largest standard deviation of a blur in pixels, and a third of the longest motion streak."""
    noise: Annotated[float, Meta(ge=0, le=128)] = 0.0
    """Largest standard deviation of pixel noise, of 255."""
    jpeg: Share = 0.0
    """Share of copies that went through JPEG of low quality."""
    occlusion: Annotated[float, Meta(ge=0, le=0.9)] = 0.0
    """Largest share of the image that is covered."""
    fill: Literal["mean", "edge"] = "mean"
    """What is shown beyond the image: a mean colour, or its edge drawn out."""

    @property
    def is_none(self) -> bool:
        """Whether copies equal their image."""
        return self == AugmentSettings(fill=self.fill)


@dataclass(frozen=True)
class HeadSettings(Settings):
    """The layers that turn feature maps into a pose."""

    section: ClassVar[str] = "head."

    kind: HeadKind = "grid"
    """posenet (2015), founding (average pool, 512), lstm (PoseLSTM), attention (AtLoc), grid
    (where a feature is in the image is kept), or coordinates (ours: cells say where in the place
    they look, and the pose follows)."""
    width: Width = 128
    """Channels of its layers: 2048 in posenet, lstm and attention as published, 512 in founding."""
    dropout: DropoutShare = 0.1
    """Share of its features left out at random in training."""
    orientation: Orientation = "6d"
    """What it regresses for the orientation: a w-first quaternion, its logarithm, or two columns of
    the rotation matrix."""
    map_dropout: DropoutShare = 0.0
    """Share of the deepest feature map left out before it is averaged (Bayesian PoseNet)."""
    auxiliary: bool = False
    """The two further heads in the middle of GoogLeNet (posenet and lstm heads)."""
    grid: tuple[GridSide, GridSide] = (6, 8)
    """Rows and columns that all feature maps are brought to (grid and coordinates heads)."""
    blocks: Annotated[int, Meta(ge=0, le=32)] = 2
    """Residual blocks (grid and coordinates heads)."""
    drawn_cells: Count = 64
    """Cells of the grid that a training step looks at, drawn anew each time (coordinates head)."""
    cell_stages: tuple[str, ...] = ()
    """Of backbone.stages those that a cell itself sees; the others are in what it is told of the
    whole image (coordinates head). Where none of them is there, it sees all."""
    context_dropout: DropoutShare = 0.0
    """Share left out at random in training of what cells are told of the whole image (coordinates
    head)."""
    pooling: Literal["flatten", "attention"] = "flatten"
    """How the cells of the grid become one vector (grid head)."""
    hidden: Width = 256
    """Width of the layer between the cells and the pose (grid head); states of each LSTM."""
    log_variance: bool = False
    """Predict how uncertain the pose is, beside it."""

    @property
    def kept_grid(self) -> tuple[int, int] | None:
        """The grid that a head brings its feature maps to, or None."""
        return self.grid if self.kind in {"grid", "coordinates"} else None

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """Each kind of head has fields of its own."""
        matrices = self.kind != "coordinates" or self.orientation == "6d"
        wanted = "6d for the coordinates head, which makes rotation matrices"
        yield matrices, "orientation", wanted
        can_have_sides = self.kind in {"posenet", "lstm"}
        wanted = "false where the head is not posenet or lstm"
        yield can_have_sides or not self.auxiliary, "auxiliary", wanted
        wanted = "a multiple of 32 for the lstm head, which reads it as 32 rows"
        yield self.kind != "lstm" or self.width % 32 == 0, "width", wanted


@dataclass(frozen=True)
class LossSettings(Settings):
    """What training makes small."""

    section: ClassVar[str] = "loss."

    kind: LossKind = "homoscedastic"
    """beta (PoseNet 2015), homoscedastic (learned weights, 2017), reprojection (map points, 2017),
    heteroscedastic (predicted uncertainty), or coordinates (what cells say, and the pose that
    follows)."""
    norm: Literal["l1", "l2", "mse"] = "l1"
    """Of the difference of two positions or orientations: the mean absolute value, the length, or
    the mean square."""
    unit: Literal["world", "standardised"] = "standardised"
    """Of position differences: the Place's unit, as published, or the spread of train positions."""
    beta: Positive = 500.0
    """Weight of the orientation against the position (beta loss)."""
    normalise: bool = True
    """Make a predicted quaternion a unit one before it is compared (PoseNet 2015 does not)."""
    position_weight: Logarithm = 0.0
    """Start of the learned position weight s_x, a logarithm (homoscedastic loss)."""
    rotation_weight: Logarithm = -3.0
    """Start of the learned orientation weight s_q, a logarithm (homoscedastic loss)."""
    auxiliary_weight: Weight = 0.3
    """Weight of each auxiliary head's loss."""
    relative_weight: Weight = 0.0
    """Weight of the relative poses between the frames of a tuple (MapNet)."""
    tuple_size: Annotated[int, Meta(ge=1, le=32)] = 1
    """Frames that are trained on together; more than 1 for relative poses."""
    tuple_spacing: Count = 10
    """Frames from one of a tuple to the next."""
    points: Annotated[int, Meta(ge=1, le=4096)] = 128
    """Map points per frame (reprojection loss)."""
    pretrain: Share = 0.5
    """Share of the run before the reprojection loss takes over from learned weights, or before the
    pose joins in (coordinates loss)."""
    depth_weight: Weight = 3.0
    """Weight of the depth of what cells see, where the map knows it (coordinates loss)."""
    pose_weight: Weight = 10.0
    """Weight of the pose that follows from the cells (coordinates loss)."""

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """Relative poses are of several frames."""
        several = self.relative_weight == 0 or self.tuple_size > 1
        yield several, "tuple_size", "2 or more for relative poses"


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """How the loss is made small."""

    section: ClassVar[str] = "optimizer."

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    """The optimizer."""
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 1e-3
    """The learning rate, after warming up."""
    weight_decay: Weight = 1e-4
    """Weight decay; adam and sgd add it to the gradient, adamw shrinks the weights."""
    eps: Positive = 1e-8
    """The number in the denominator of adam and adamw."""
    momentum: DropoutShare = 0.9
    """Momentum of sgd; the first beta of adam and adamw."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    """How the learning rate goes down over the run."""
    step_share: PositiveShare = 1 / 3
    """Share of the run from one step to the next (step schedule)."""
    step_factor: PositiveShare = 0.5
    """What each step multiplies the learning rate by (step schedule)."""
    warm_up: DropoutShare = 0.0
    """Share of the run in which the learning rate rises from 0."""
    clip: Positive | None = None
    """Longest gradient; longer ones are shortened to it."""
    ema: Annotated[float, Meta(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is what is kept."""
    batch_size: Annotated[int, Meta(ge=1, le=65536)] = 64
    """Frames per step. With steps in place of epochs, the learning rate is that of a full batch: of
    fewer train frames it falls with the root of their number."""
    epochs: Annotated[int, Meta(ge=1, le=1_000_000)] | None = 200
    """Times that each train frame is seen; none: as many as the steps take."""
    steps: Count | None = None
    """Steps of a run without epochs; none: by the number of train frames, 2000 up to a thousand,
    and more with the root of their number."""

    def epochs_of(self, images: int, batches: int) -> int:
        """Epochs of a run on so many train frames, of so many batches each."""
        if self.epochs is not None:
            return self.epochs
        steps = self.steps or round(_STEPS * max(1.0, math.sqrt(images / _STEPS_SUIT)))
        return -(-steps // batches)

    def for_images(self, images: int) -> OptimizerSettings:
        """With the learning rate for so many train frames."""
        if self.epochs is not None or images >= self.batch_size:
            return self
        # Noise of the gradient (Krizhevsky, One weird trick for parallelizing convolutional neural
        # networks, 2014, section 5).
        share = math.sqrt(images / self.batch_size)
        return replace(self, learning_rate=share * self.learning_rate)


@dataclass(frozen=True)
class TrainSettings(Settings):
    """A whole training; two equal ones on the same Place give the same regressor."""

    preset: str = "default"
    """The preset that these settings begin as."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    input: InputSettings = field(default_factory=InputSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    copies: CountOrNone | None = None
    """Varied copies of each frame (frozen backbone); else 2 to 40, by the number of frames."""
    indexed_copies: CountOrNone = 10
    """Copies of each frame among the views that photos are compared with."""
    answer: Literal["pose", "view", "validation"] = "pose"
    """The regressed pose, that of the most similar view, or what the validation images favour."""
    samples: CountOrNone = 0
    """Answers with dropout left on, averaged (Bayesian PoseNet: 40)."""
    validation_share: Annotated[float, Meta(gt=0, le=0.5)] = 0.1
    """Share of the train frames, in blocks of time, that choose the epoch instead of training."""
    minutes: Positive | None = None
    """Time for all of it, to which schedules adapt; else until the last epoch."""
    checkpoint_minutes: Positive = 2.0
    """Minutes from one checkpoint to the next."""
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    """Random seed."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    threads: Annotated[int, Meta(ge=1, le=256)] | None = None
    """CPU threads; else OMP_NUM_THREADS, or one for each core, 8 at most."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto takes bfloat16 where the hardware has it."""

    def rules(self) -> Iterable[tuple[bool, str, str]]:
        """Heads, losses and backbones have to go together."""
        head, loss = self.head, self.loss.kind
        drops = head.dropout > 0 or head.map_dropout > 0
        yield self.samples == 0 or drops, "samples", "0 where head.dropout is 0"
        predicts = loss != "heteroscedastic" or head.log_variance
        yield predicts, "head.log_variance", "true for the heteroscedastic loss"
        coordinates = head.kind == "coordinates"
        wanted = "coordinates with the coordinates head, and with no other"
        yield (loss == "coordinates") == coordinates, "loss.kind", wanted
        wanted = "canonical for the coordinates head, which is for one known camera"
        yield not coordinates or self.input.geometry == "canonical", "input.geometry", wanted
        googlenet = self.backbone.name.startswith("googlenet")
        wanted = "false where the backbone is not googlenet"
        yield googlenet or not head.auxiliary, "head.auxiliary", wanted

    def copies_of(self, frames: int) -> int:
        """Copies of each of so many frames whose features are kept."""
        if self.augment.is_none:
            return 0
        if self.copies is not None:
            return self.copies
        copies = _KEPT_COPIES / max(frames, math.sqrt(frames * _COPIES_SUIT))
        return min(_MOST_COPIES, max(_LEAST_COPIES, round(copies)))

    def to_json(self) -> str:
        """As a JSON object, which `from_json` reads."""
        return json.dumps(to_plain(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> TrainSettings:
        """The settings of `to_json`; fields that are left out have their default.

        Raises:
            LocalizerError: one line that names the field and what it wants.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:  # of digits, too
            raise LocalizerError(f"the settings are no JSON: {str(error)[:100]}") from error
        return _updated(cls(), values, "")


# --- as JSON, and single fields replaced -------------------------------------------------------


def with_fields(settings: SettingsType, values: Mapping[str, object]) -> SettingsType:
    """``settings`` with fields replaced, named with dots: ``{"optimizer.batch_size": 128}``.

    Where a field may be None, and is no string, ``"none"`` is None too.

    Raises:
        LocalizerError: there is no such field, or it cannot have the value.
    """
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *outer, last = name.split(".")
        branch = tree
        for part in outer:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise LocalizerError(f"setting {name[:80]!r}: {part} is given as a whole too")
        branch[last] = value
    return _updated(settings, tree, "")


def field_names(kind: type[Settings]) -> tuple[str, ...]:
    """Every field's dotted name, those of nested settings included, in order."""
    names: list[str] = []
    for name, hint in _hints(kind).items():
        nested = isinstance(hint, type) and issubclass(hint, Settings)
        names += field_names(hint) if nested else [kind.section + name]
    return tuple(names)


def _updated(settings: SettingsType, values: object, where: str) -> SettingsType:
    """All fields of one value at once: some are only right together."""
    if not isinstance(values, Mapping):
        raise LocalizerError(f"settings {where or 'file'}: {_shown(values)}; want an object")
    hints = _hints(type(settings))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise LocalizerError(f"no setting {where + name[:80]!r}; there are {', '.join(hints)}")
        options, now = get_args(hints[name]), getattr(settings, name)
        if isinstance(now, Settings) and not isinstance(value, Settings):
            changes[name] = _updated(now, value, f"{where}{name}.")
        elif value == _NO_VALUE and type(None) in options and str not in options:
            changes[name] = None
        else:
            changes[name] = value
    return replace(settings, **changes)


def _hints(kind: type[Settings]) -> dict[str, Any]:
    if kind not in _HINTS:
        hints = get_type_hints(kind, include_extras=True)
        _HINTS[kind] = {one.name: hints[one.name] for one in fields(kind)}
    return _HINTS[kind]


def _checked(name: str, value: object, hint: Any) -> object:
    """The value as the field has it, a list as a tuple."""
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        wanted = str(error).replace("`", "").replace("Expected", "want")
        if get_origin(hint) is Literal:
            wanted = f"want {' | '.join(get_args(hint))}"
        raise _refused(name, value, wanted) from None


def _refused(name: str, value: object, wanted: str) -> LocalizerError:
    return LocalizerError(f"setting {name} is {_shown(value)}; {wanted}")


def _shown(value: object) -> str:
    return repr(value)[:80]

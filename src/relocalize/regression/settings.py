"""Everything that a training of a camera pose regressor depends on, as one frozen value.

The text below each field is its help on the command line. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from relocalize.errors import LocalizerError
from relocalize.regression.augmentation import AugmentSettings
from relocalize.regression.settings_json import settings_from_json, settings_to_json

Orientation = Literal["quaternion", "log_quaternion", "6d"]
HeadKind = Literal["posenet", "founding", "lstm", "attention", "grid", "coordinates"]
LossKind = Literal["beta", "homoscedastic", "reprojection", "heteroscedastic", "coordinates"]


@dataclass(frozen=True)
class BackboneSettings:
    """The network that turns an image into feature maps."""

    name: str = "efficientnet_lite0"
    """googlenet, googlenet_caffe, resnet18, resnet34, resnet50, efficientnet_lite0 to
    efficientnet_lite2, or timm:<model>."""
    weights: str = "imagenet"
    """Where its weights come from: imagenet, places365, none, or a file."""
    frozen: bool = True
    """Keep its weights as they are; its features are then computed once and kept on disk."""
    stages: tuple[str, ...] = ()
    """The stages whose feature maps the head sees, shallow to deep; none: the deepest one."""
    channels: int | None = None
    """Principal channels kept of each stage's feature map (a frozen backbone only); none: all."""
    learning_rate_share: float = 1.0
    """Its learning rate as a share of the head's, where it is not frozen."""

    def __post_init__(self) -> None:
        _check(bool(self.name), "backbone.name", self.name, "a name")
        _check(bool(self.weights), "backbone.weights", self.weights, "imagenet, none, or a file")
        _check(
            self.channels is None or self.channels >= 1, "backbone.channels", self.channels, ">= 1"
        )
        _check(
            self.channels is None or self.frozen,
            "backbone.channels",
            self.channels,
            "none where the backbone is trained: its principal channels would change",
        )
        _share("backbone.learning_rate_share", self.learning_rate_share)


@dataclass(frozen=True)
class InputSettings:
    """How an image becomes the network's input."""

    width: int = 256
    """Width of the input in pixels."""
    height: int = 192
    """Height of the input in pixels."""
    geometry: Literal["canonical", "posenet"] = "canonical"
    """canonical: every image is warped to one undistorted pinhole camera. posenet: as in the
    paper, the shorter side becomes 256 and a crop is taken, random in training."""
    mean_image: bool = False
    """Subtract the mean image of the train images (the paper's) in place of a mean colour."""
    test_crops: int = 1
    """Images of a photo that it is answered by, their poses averaged. canonical: 1, or 5 with
    those of the camera turned by 5 degrees to each side. posenet: crops; the paper has 1 or 128."""

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            value = getattr(self, name)
            _check(64 <= value <= 2048, f"input.{name}", value, "64 to 2048")
        _check(
            self.geometry == "canonical" or self.width == self.height,
            "input.height",
            self.height,
            f"the width, {self.width}, for crops",
        )
        _check(1 <= self.test_crops <= 1024, "input.test_crops", self.test_crops, "1 to 1024")
        _check(
            self.geometry == "posenet" or self.test_crops in {1, 5},
            "input.test_crops",
            self.test_crops,
            "1 or 5 with canonical geometry",
        )
        _check(
            self.geometry == "posenet" or not self.mean_image,
            "input.geometry",
            self.geometry,
            "posenet for a mean image",
        )


@dataclass(frozen=True)
class HeadSettings:
    """The layers that turn feature maps into a pose."""

    kind: HeadKind = "grid"
    """posenet (2015), founding (average pool, 512), lstm (PoseLSTM), attention (AtLoc), grid
    (where a feature is in the image is kept), or coordinates (ours: cells say where in the place
    they look, and the pose follows)."""
    width: int = 128
    """Channels of its layers: 2048 in posenet, lstm and attention as published, 512 in founding."""
    dropout: float = 0.1
    """Share of its features left out at random in training."""
    orientation: Orientation = "6d"
    """What it regresses for the orientation: a w-first quaternion, its logarithm, or two columns of
    the rotation matrix."""
    map_dropout: float = 0.0
    """Share of the deepest feature map left out before it is averaged (Bayesian PoseNet)."""
    auxiliary: bool = False
    """The two further heads in the middle of GoogLeNet (posenet and lstm heads)."""
    grid: tuple[int, int] = (6, 8)
    """Rows and columns that all feature maps are brought to (grid and coordinates heads)."""
    blocks: int = 2
    """Residual blocks (grid and coordinates heads)."""
    drawn_cells: int = 64
    """Cells of the grid that a training step looks at, drawn anew each time (coordinates head)."""
    context_dropout: float = 0.0
    """Share left out at random in training of what cells are told of the whole image (coordinates
    head)."""
    pooling: Literal["flatten", "attention"] = "flatten"
    """How the cells of the grid become one vector (grid head)."""
    hidden: int = 256
    """Width of the layer between the cells and the pose (grid head); states of each LSTM."""
    log_variance: bool = False
    """Predict how uncertain the pose is, beside it."""

    def __post_init__(self) -> None:
        for name in ("width", "hidden"):
            value = getattr(self, name)
            _check(1 <= value <= 16384, f"head.{name}", value, "1 to 16384")
        for name in ("dropout", "map_dropout", "context_dropout"):
            value = getattr(self, name)
            _check(0 <= value < 1, f"head.{name}", value, "0 to below 1")
        _check(
            len(self.grid) == 2 and all(1 <= side <= 64 for side in self.grid),
            "head.grid",
            self.grid,
            "rows and columns of 1 to 64",
        )
        _check(0 <= self.blocks <= 32, "head.blocks", self.blocks, "0 to 32")
        _check(self.drawn_cells >= 1, "head.drawn_cells", self.drawn_cells, "1 or more")
        _check(
            self.kind != "coordinates" or self.orientation == "6d",
            "head.orientation",
            self.orientation,
            "6d for the coordinates head, which makes rotation matrices",
        )
        _check(
            not self.auxiliary or self.kind in {"posenet", "lstm"},
            "head.auxiliary",
            self.auxiliary,
            "false where the head is not posenet or lstm",
        )
        _check(
            self.kind != "lstm" or self.width % 32 == 0,
            "head.width",
            self.width,
            "a multiple of 32 for the lstm head, which reads it as 32 rows",
        )


@dataclass(frozen=True)
class LossSettings:
    """What training makes small."""

    kind: LossKind = "homoscedastic"
    """beta (PoseNet 2015), homoscedastic (learned weights, 2017), reprojection (map points, 2017),
    heteroscedastic (predicted uncertainty), or coordinates (what cells say, and the pose that
    follows)."""
    norm: Literal["l1", "l2", "mse"] = "l1"
    """Of the difference of two positions or orientations: the mean absolute value, the length, or
    the mean square."""
    unit: Literal["world", "standardised"] = "standardised"
    """Of position differences: the Place's unit, as published, or the spread of train positions."""
    beta: float = 500.0
    """Weight of the orientation against the position (beta loss)."""
    normalise: bool = True
    """Make a predicted quaternion a unit one before it is compared (PoseNet 2015 does not)."""
    position_weight: float = 0.0
    """Start of the learned position weight s_x, a logarithm (homoscedastic loss)."""
    rotation_weight: float = -3.0
    """Start of the learned orientation weight s_q, a logarithm (homoscedastic loss)."""
    auxiliary_weight: float = 0.3
    """Weight of each auxiliary head's loss."""
    relative_weight: float = 0.0
    """Weight of the relative poses between the frames of a tuple (MapNet)."""
    tuple_size: int = 1
    """Frames that are trained on together; more than 1 for relative poses."""
    tuple_spacing: int = 10
    """Frames from one of a tuple to the next."""
    points: int = 128
    """Map points per frame (reprojection loss)."""
    pretrain: float = 0.5
    """Share of the run before the reprojection loss takes over from learned weights, or before the
    pose joins in (coordinates loss)."""
    depth_weight: float = 3.0
    """Weight of the depth of what cells see, where the map knows it (coordinates loss)."""
    pose_weight: float = 10.0
    """Weight of the pose that follows from the cells (coordinates loss)."""

    def __post_init__(self) -> None:
        _check(self.beta > 0, "loss.beta", self.beta, "above 0")
        for name in ("auxiliary_weight", "relative_weight", "depth_weight", "pose_weight"):
            _check(getattr(self, name) >= 0, f"loss.{name}", getattr(self, name), "0 or more")
        for name in ("position_weight", "rotation_weight"):
            value = getattr(self, name)
            _check(-20 <= value <= 20, f"loss.{name}", value, "-20 to 20, a logarithm")
        _check(1 <= self.tuple_size <= 32, "loss.tuple_size", self.tuple_size, "1 to 32")
        _check(self.tuple_spacing >= 1, "loss.tuple_spacing", self.tuple_spacing, ">= 1")
        _check(
            self.relative_weight == 0 or self.tuple_size > 1,
            "loss.tuple_size",
            self.tuple_size,
            "2 or more for relative poses",
        )
        _check(1 <= self.points <= 4096, "loss.points", self.points, "1 to 4096")
        _share("loss.pretrain", self.pretrain)


@dataclass(frozen=True)
class OptimizerSettings:
    """How the loss is made small."""

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    """The optimizer."""
    learning_rate: float = 1e-3
    """The learning rate, after warming up."""
    weight_decay: float = 1e-4
    """Weight decay; adam and sgd add it to the gradient, adamw shrinks the weights."""
    eps: float = 1e-8
    """The number in the denominator of adam and adamw."""
    momentum: float = 0.9
    """Momentum of sgd; the first beta of adam and adamw."""
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    """How the learning rate goes down over the run."""
    step_share: float = 1 / 3
    """Share of the run from one step to the next (step schedule)."""
    step_factor: float = 0.5
    """What each step multiplies the learning rate by (step schedule)."""
    warm_up: float = 0.0
    """Share of the run in which the learning rate rises from 0."""
    clip: float | None = None
    """Longest gradient; longer ones are shortened to it."""
    ema: float | None = None
    """Decay per step of a moving average of the weights, which is what is kept."""
    batch_size: int = 64
    """Frames per step."""
    epochs: int | None = 200
    """Times that each train frame is seen; none: as many as the steps take."""
    steps: int = 2000
    """Steps of a run without epochs: few train frames are seen more often than many."""

    def __post_init__(self) -> None:
        _check(0 < self.learning_rate <= 10, "optimizer.learning_rate", self.learning_rate, "> 0")
        _check(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _check(self.eps > 0, "optimizer.eps", self.eps, "above 0")
        _check(0 <= self.momentum < 1, "optimizer.momentum", self.momentum, "0 to below 1")
        _check(0 < self.step_share <= 1, "optimizer.step_share", self.step_share, "above 0 to 1")
        _check(0 < self.step_factor <= 1, "optimizer.step_factor", self.step_factor, "above 0 to 1")
        _check(0 <= self.warm_up < 1, "optimizer.warm_up", self.warm_up, "0 to below 1")
        _check(self.clip is None or self.clip > 0, "optimizer.clip", self.clip, "above 0, or none")
        _check(self.ema is None or 0 < self.ema < 1, "optimizer.ema", self.ema, "between 0 and 1")
        _check(1 <= self.batch_size <= 65536, "optimizer.batch_size", self.batch_size, "1 to 65536")
        _check(
            self.epochs is None or 1 <= self.epochs <= 1_000_000,
            "optimizer.epochs",
            self.epochs,
            "1 to 1000000, or none",
        )
        _check(1 <= self.steps <= 100_000_000, "optimizer.steps", self.steps, "1 to 100000000")

    def epochs_of(self, batches: int) -> int:
        """Epochs of a run, of so many batches each."""
        return -(-self.steps // batches) if self.epochs is None else self.epochs


@dataclass(frozen=True)
class TrainSettings:
    """A whole training; two equal ones on the same Place give the same regressor."""

    preset: str = "default"
    """The preset that these settings began as."""
    backbone: BackboneSettings = field(default_factory=BackboneSettings)
    input: InputSettings = field(default_factory=InputSettings)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    copies: int = 10
    """Augmented copies of each frame whose features are kept (frozen backbone)."""
    indexed_copies: int = 10
    """Of these copies, how many of each frame are among the views that photos are compared with, to
    tell how sure an answer is and for answers by the nearest view (frozen backbone)."""
    answer: Literal["pose", "view", "validation"] = "pose"
    """What a photo is answered with: the regressed pose, the pose of the most similar view (image
    retrieval), or that of the two which was better on the validation images."""
    samples: int = 0
    """Answers per photo with dropout left on, averaged (Bayesian PoseNet: 40); 0: one without."""
    validation_share: float = 0.1
    """Share of the train frames, whole blocks of time, that choose the epoch and are not trained
    on."""
    minutes: float | None = None
    """Time that training may take; schedules adapt to it. None: until the last epoch."""
    checkpoint_minutes: float = 2.0
    """Minutes from one checkpoint to the next."""
    seed: int = 0
    """Of everything random."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute."""
    threads: int = 1
    """CPU threads; more than one is slower where cores are shared."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the arithmetic; auto takes bfloat16 where the hardware has it."""

    def __post_init__(self) -> None:
        _check(0 <= self.copies <= 1000, "copies", self.copies, "0 to 1000")
        _check(self.indexed_copies >= 0, "indexed_copies", self.indexed_copies, "0 or more")
        _check(0 <= self.samples <= 1000, "samples", self.samples, "0 to 1000")
        _check(
            self.samples == 0 or self.head.dropout > 0 or self.head.map_dropout > 0,
            "samples",
            self.samples,
            "0 where head.dropout is 0",
        )
        _check(
            0 < self.validation_share <= 0.5,
            "validation_share",
            self.validation_share,
            "above 0 to 0.5",
        )
        _check(self.minutes is None or self.minutes > 0, "minutes", self.minutes, "above 0")
        _check(
            self.checkpoint_minutes > 0, "checkpoint_minutes", self.checkpoint_minutes, "above 0"
        )
        _check(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        _check(1 <= self.threads <= 256, "threads", self.threads, "1 to 256")
        _check(
            self.loss.kind != "heteroscedastic" or self.head.log_variance,
            "head.log_variance",
            self.head.log_variance,
            "true for the heteroscedastic loss",
        )
        _check(
            (self.loss.kind == "coordinates") == (self.head.kind == "coordinates"),
            "loss.kind",
            self.loss.kind,
            "coordinates with the coordinates head, and with no other",
        )
        _check(
            self.head.kind != "coordinates" or self.input.geometry == "canonical",
            "input.geometry",
            self.input.geometry,
            "canonical for the coordinates head, which looks through one known camera",
        )
        _check(
            not self.head.auxiliary or self.backbone.name.startswith("googlenet"),
            "head.auxiliary",
            self.head.auxiliary,
            "false where the backbone is not googlenet",
        )

    def to_json(self) -> str:
        """As a JSON object, which `from_json` reads."""
        return settings_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> TrainSettings:
        """The settings of `to_json`.

        Raises:
            LocalizerError: one line that names the field and what it wants.
        """
        return settings_from_json(cls, text)


def _check(right: bool, name: str, value: object, wanted: str) -> None:
    if not right:
        raise LocalizerError(f"setting {name} is {repr(value)[:80]}; want {wanted}")


def _share(name: str, value: float) -> None:
    _check(0 <= value <= 1, name, value, "a share, 0 to 1")

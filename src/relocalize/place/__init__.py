"""The Place: a folder that every command reads and adds to."""

from relocalize.place.captures import Capture, CapturedImage, DroppedFrame
from relocalize.place.folder import Frame, Move, Place
from relocalize.place.model import MapModel, Points, PosedImage
from relocalize.place.splits import Split

__all__ = [
    "Capture",
    "CapturedImage",
    "DroppedFrame",
    "Frame",
    "MapModel",
    "Move",
    "Place",
    "Points",
    "PosedImage",
    "Split",
]

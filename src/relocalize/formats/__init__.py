"""One module per foreign format: detect, read. What they read is a `Registration`."""

from relocalize.formats.lenses import SizelessCamera
from relocalize.formats.names import NameMatch, match_names
from relocalize.formats.registration import Registration, StatedPoses
from relocalize.formats.registry import AUTO, FORMATS, read_registration

__all__ = [
    "AUTO",
    "FORMATS",
    "NameMatch",
    "Registration",
    "SizelessCamera",
    "StatedPoses",
    "match_names",
    "read_registration",
]

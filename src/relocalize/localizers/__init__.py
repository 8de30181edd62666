"""One module per localizer, all with the same verbs."""

from relocalize.localizers.estimate import PoseEstimate
from relocalize.localizers.localizer import Localizer
from relocalize.localizers.registry import LOCALIZERS, localizer_type
from relocalize.localizers.store import fitted

__all__ = ["LOCALIZERS", "Localizer", "PoseEstimate", "fitted", "localizer_type"]

"""One module per localizer, all with the same verbs."""

from relocalize.localization.estimate import PoseEstimate
from relocalize.localization.localizer import Localizer
from relocalize.localization.registry import LOCALIZERS, localizer_type
from relocalize.localization.store import fitted

__all__ = ["LOCALIZERS", "Localizer", "PoseEstimate", "fitted", "localizer_type"]

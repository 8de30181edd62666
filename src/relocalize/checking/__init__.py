"""The data set doctor: do claimed poses explain the images, and under which convention?"""

from relocalize.checking.check import CheckSettings
from relocalize.checking.entry import check_place, check_registration
from relocalize.checking.proof import AS_STATED, proven
from relocalize.checking.report import CheckReport, Problem

__all__ = [
    "AS_STATED",
    "CheckReport",
    "CheckSettings",
    "Problem",
    "check_place",
    "check_registration",
    "proven",
]

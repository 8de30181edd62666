"""Claimed poses against the images: do they explain them, and under which convention?"""

from relocalize.checking.check import check_claims
from relocalize.checking.proof import AS_STATED, proven
from relocalize.checking.report import CheckReport, Problem

__all__ = ["AS_STATED", "CheckReport", "Problem", "check_claims", "proven"]

"""Why a request is not answered: a status, a word for programs, a line for people."""

from __future__ import annotations


class RefusedError(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP.
        reason: one word for programs.
        message: one line for people, without paths of this machine.
        retry_after: seconds after which it may be tried again, or None.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message
        self.retry_after = retry_after

    def to_json(self) -> dict[str, dict[str, str]]:
        """As it is answered."""
        return {"error": {"reason": self.reason, "message": self.message}}


def busy(what: str) -> RefusedError:
    """503: come again in a second."""
    return RefusedError(503, "busy", f"{what}; try again in a second", retry_after=1)

"""The errors that users meet: one root, one subclass per subject.

A message names the value that was received and the next step to take. The command line prints
it as one line and exits with 1; any other exception that reaches a user is a bug of ours.
"""


class RelocalizeError(Exception):
    """Root of every error that relocalize raises on purpose."""


class GeometryError(RelocalizeError):
    """A transform, camera or alignment that the given numbers cannot determine."""


class PlaceError(RelocalizeError):
    """A Place folder that is missing, locked, of another version, or damaged."""


class ImageError(RelocalizeError):
    """An image file that is missing, damaged, too large, or no image."""


class ImageTooLargeError(ImageError):
    """An image of more pixels than are decoded."""


class CaptureError(RelocalizeError):
    """A video or a set of photos that cannot be read or gives no usable frames."""


class FormatError(RelocalizeError):
    """A foreign file that is not what it claims to be; names file and line."""


class CheckError(RelocalizeError):
    """Poses whose convention the images do not decide."""


class MappingError(RelocalizeError):
    """Images that do not come together to a map."""


class NotConnectedError(MappingError):
    """No two images of a map to be could be set in relation by their features."""


class LocalizerError(RelocalizeError):
    """A localizer that cannot be fitted, found or loaded (a photo that fails is not an error)."""


class DivergenceError(LocalizerError):
    """A training that ran away before any of its epochs was of use."""


class QueryError(LocalizerError):
    """Pixels that are not an image, or a camera that is not theirs."""


class EvaluationError(RelocalizeError):
    """Estimates and truth that cannot be compared."""


class ExperimentError(RelocalizeError):
    """A sweep that says what no training can be, or an engine that is not here."""


class ViewerError(RelocalizeError):
    """A viewer that cannot be shown: not installed, or its port is taken."""


class ServeError(RelocalizeError):
    """A service that cannot be started: not installed, its port is taken, or open to everybody."""

"""The images that a map is made of."""

from __future__ import annotations

from relocalize.place import Place, PosedImage


def given_images(place: Place) -> dict[str, PosedImage]:
    """The posed images by name, but for those that were registered into the finished map."""
    later = {name for name, capture in place.captures.items() if capture.is_registered}
    images = place.map.images
    return {name: image for name, image in images.items() if name.partition("/")[0] not in later}

"""Where were photos taken?  python ask.py http://localhost:8000 kitchen photo.jpg..."""

from __future__ import annotations

import sys
import time

from relocalize_client import Client, RefusedError


def ask(client: Client, place: str, photo: str) -> str:
    """The answer about one photo in a line; asks again while the service is busy."""
    while True:
        try:
            answer = client.localize(place, photo)
        except RefusedError as error:
            if error.retry_after is None:
                return f"{photo}: {error}"
            time.sleep(error.retry_after)
            continue
        if answer["status"] == "failed":
            return f"{photo}: {answer['reason']}"
        x, y, z = answer["position"]
        return f"{photo}: {x:.3f} {y:.3f} {z:.3f} ± {answer['position_sigma']:.3f} {answer['unit']}"


if __name__ == "__main__":
    url, place, *photos = sys.argv[1:]
    with Client(url) as client:
        for photo in photos:
            print(ask(client, place, photo))

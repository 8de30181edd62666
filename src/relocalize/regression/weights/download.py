"""Fetching a published file once, into a cache folder, going on where a broken one stopped."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from relocalize.errors import FormatError, LocalizerError
from relocalize.place.lock import write_lock
from relocalize.progress import bar
from relocalize.regression.weights.sources import WeightsSource

MOST_BYTES = 1 << 30  # ten times the largest of them
_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Where weights are kept: RELOCALIZE_CACHE, or relocalize/ in the XDG cache folder."""
    if named := environment.get("RELOCALIZE_CACHE"):
        return Path(named).expanduser() / "weights"
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "relocalize" / "weights"


def fetch_weights(source: WeightsSource, folder: Path | None = None) -> Path:
    """The file of ``source`` in the cache folder, fetched if it is not there yet.

    Raises:
        LocalizerError: it cannot be fetched.
        FormatError: what came, or what is there, is not what was published.
        PlaceError: another process is fetching, or the folder cannot be written.
    """
    folder = cache_folder() if folder is None else folder
    path = folder / source.file_name
    if path.exists():
        check_digest(path, source.digest)
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with write_lock(folder):  # two processes would write into one part
            _fetch(source.url, part)
            check_digest(part, source.digest)
            part.replace(path)
            _marker(part).unlink(missing_ok=True)
    except FormatError:
        part.unlink(missing_ok=True)
        _marker(part).unlink(missing_ok=True)
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise LocalizerError(
            f"cannot fetch {source.url} ({str(reason)[:100]}); fetch it some other way and put "
            f"it at {path} (RELOCALIZE_CACHE names another folder), or choose --backbone.weights "
            "none or a file; the next run goes on with what has come so far"
        ) from None
    return path


def check_digest(path: Path, digest: str) -> None:
    """Compare a file with as many digits of its digest as are known.

    Raises:
        FormatError: it differs.
    """
    if not digest:
        return
    algorithm, _, expected = digest.partition(":")
    found = file_digest(path, algorithm)
    if not found.startswith(expected):
        raise FormatError(
            f"{path} is not the published file: its {algorithm} starts with "
            f"{found[: len(expected)]}, not {expected}; delete it to fetch it again"
        )


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """A file's digest in hexadecimal digits."""
    digest = hashlib.new(algorithm)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _fetch(url: str, part: Path) -> None:
    # What a part belongs to is kept beside it (ETag or Last-Modified), so that a file that was
    # changed meanwhile is not glued to the old one's beginning (RFC 9110, If-Range).
    marker = _marker(part)
    done = part.stat().st_size if part.exists() and marker.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "relocalize"})
    if done:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", marker.read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and done:
            error.close()
            marker.unlink()
            _fetch(url, part)
            return
        raise
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        _check_size(url, total or 0)
        validator = response.headers.get("ETag") or response.headers.get("Last-Modified")
        if validator and not validator.startswith("W/"):  # a weak one does not vouch for bytes
            marker.write_text(validator, encoding="utf-8")
        else:
            marker.unlink(missing_ok=True)
        with (
            part.open("ab" if done else "wb") as file,
            bar(f"fetching {part.stem}", -(-total // _CHUNK) if total else None, "MB") as progress,
        ):
            progress.advance(done // _CHUNK)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                _check_size(url, done)
                progress.advance()
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done != total:
        raise OSError(f"the connection broke after {done} of {total} bytes")


def _check_size(url: str, size: int) -> None:
    if size > MOST_BYTES:
        raise FormatError(f"{url} sends more than {MOST_BYTES >> 20} MB; no network here has that")


def _marker(part: Path) -> Path:
    return part.with_name(f"{part.name}-of")

"""Where videos, pictures and weights lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of one object. `version` is the store's version id; the etag where the bucket keeps no versions."""

    bucket: str
    key: str
    version: str
    etag: str
    size_bytes: int


class ObjectStore(Protocol):
    def head(self, bucket: str, key: str) -> ObjectVersion:
        """Raises `ObjectGone` where there is none."""

    def list(self, bucket: str, prefix: str, start_after: str | None = None) -> Iterator[ObjectVersion]:
        """Objects in key order, after `start_after`."""

    def download(self, version: ObjectVersion, path: Path) -> None:
        """Write the object's bytes to `path`. Raises `ObjectGone` if this version is no longer there."""

    def put(self, bucket: str, key: str, body: bytes, content_type: str) -> ObjectVersion: ...

    def upload(self, bucket: str, key: str, path: Path, content_type: str) -> ObjectVersion: ...

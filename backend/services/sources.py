"""Source videos: their bytes kept under their hash, and the side each of them is on, decided once.

A video is fetched, hashed and copied the first time a data set wants it; from then on the data set needs nothing of the
bucket it came from.
"""

import logging
import tempfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from backend.db.repositories import datasets as repository
from backend.db.repositories import videos as video_rows
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import SourceVideo
from backend.domain.annotation import VideoProbe
from backend.domain.datasets import DatasetItem, Split
from backend.domain.errors import Conflict, ObjectGone
from backend.domain.holdout import FrameHashes, Likeness, Source, place, twins
from backend.ports.media import FrameHasher
from backend.ports.storage import ObjectStore
from backend.services.dataset_files import is_there, sha256_of
from backend.services.runs import object_version
from backend.services.videos import probe_of
from backend.settings import DatasetSettings, StorageSettings

log = logging.getLogger(__name__)

#: So many pairs of videos an error names.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Media:
    """A video's bytes as they lie in the artifact bucket, and what its frames look like."""

    key: str
    size_bytes: int
    hashes: FrameHashes
    source_uri: str


def media_key(sha256: str, storage: StorageSettings) -> str:
    """Where a video's bytes are kept, whatever it was called where it came from."""
    return f"{storage.artifact_prefix}media/{sha256[:2]}/{sha256}"


def keep(
    factory: SessionFactory, store: ObjectStore, hasher: FrameHasher, video_ids: Mapping[str, int],
    storage: StorageSettings,
) -> tuple[dict[str, Media], list[str]]:  # fmt: skip
    """Copy the videos (an id by SHA-256) into the artifact bucket where they aren't yet; no session is open meanwhile.

    What is new, by SHA-256, and the SHA-256s of those whose bytes are nowhere any more. Raises `ServiceUnavailable`.
    """
    with session_scope(factory) as session:
        known = repository.sources(session, video_ids.keys())
    new, gone = {}, []
    for sha256, video_id in sorted(video_ids.items()):
        key = media_key(sha256, storage)
        kept = is_there(store, storage.artifact_bucket, key)
        if sha256 in known and kept:
            continue
        try:
            media = _fetch(factory, store, hasher, video_id, sha256, key if kept else None, storage)
        except ObjectGone as error:
            log.warning("video %s can't be kept: %s", sha256[:12], error)
            gone.append(sha256)
            continue
        if sha256 not in known:
            new[sha256] = media
    return new, gone


def _fetch(
    factory: SessionFactory, store: ObjectStore, hasher: FrameHasher, video_id: int, sha256: str, kept_at: str | None,
    storage: StorageSettings,
) -> Media:  # fmt: skip
    """Read the video, from the copy where there is one, and make the copy where there is none."""
    with session_scope(factory) as session:
        video = video_rows.get(session, video_id)
        version, probe = object_version(video), probe_of(video)
    if kept_at is not None:
        version = store.head(storage.artifact_bucket, kept_at)
    with tempfile.TemporaryDirectory(prefix="premask-media-") as folder:
        path = Path(folder) / "video"
        store.download(version, path)
        if sha256_of(path) != sha256:
            raise ObjectGone(f"s3://{version.bucket}/{version.key} holds other bytes than when it was probed")
        return keep_file(store, hasher, path, probe, sha256, f"s3://{video.bucket}/{video.key}", storage)


def keep_file(
    store: ObjectStore, hasher: FrameHasher, path: Path, probe: VideoProbe, sha256: str, source_uri: str,
    storage: StorageSettings,
) -> Media:  # fmt: skip
    """Copy a file into the artifact bucket, unless it is there; `sha256` is the file's."""
    key = media_key(sha256, storage)
    if not is_there(store, storage.artifact_bucket, key):
        store.upload(storage.artifact_bucket, key, path, "application/octet-stream")
    return Media(key, path.stat().st_size, hasher(path, probe), source_uri)


def decide(session: Session, new: Mapping[str, Media], settings: DatasetSettings) -> None:
    """Write the sides of new videos; a video that another freeze has placed meanwhile keeps its side."""
    repository.lock_placing(session)
    rows = repository.sources(session)
    known = {sha256: Source(Split(row.split), hashes_of(row)) for sha256, row in rows.items()}
    wanted = {sha256: media.hashes for sha256, media in new.items() if sha256 not in known}
    placed = place(wanted, known, settings.holdout_share, likeness(settings))
    repository.add_sources(
        session,
        (
            SourceVideo(
                sha256=sha256, split=placement.split.value, twin_of=placement.twin_of,
                frame_hashes=new[sha256].hashes.astype(">u8").tobytes(), media_key=new[sha256].key,
                media_size_bytes=new[sha256].size_bytes, source_uri=new[sha256].source_uri,
            )
            for sha256, placement in placed.items()
        ),
    )  # fmt: skip


def check_contamination(session: Session, items: Iterable[DatasetItem], settings: DatasetSettings) -> None:
    """Raise `Conflict`, naming the videos, unless everything that is trained on is on the training side, and shows
    nothing that any held-out video shows."""
    trained = {item.source_id for item in items if item.split is Split.TRAIN}
    rows = repository.sources(session)
    if wrong := sorted(sha256 for sha256 in trained if sha256 not in rows or rows[sha256].split != Split.TRAIN):
        raise _contaminated([f"{_name(sha256, rows)} is not on the training side" for sha256 in wrong])
    held_out = [sha256 for sha256, row in rows.items() if row.split == Split.HOLDOUT]
    hashes = {sha256: hashes_of(rows[sha256]) for sha256 in {*trained, *held_out}}
    pairs = twins(trained, hashes, likeness(settings), among=held_out)
    if pairs:
        raise _contaminated([f"{_name(one, rows)} shows what {_name(other, rows)} shows" for one, other in pairs])


def _contaminated(findings: Collection[str]) -> Conflict:
    told = "; ".join(list(findings)[:_NAMED])
    more = f"; and {len(findings) - _NAMED} more" if len(findings) > _NAMED else ""
    return Conflict(f"held-out videos would be trained on: {told}{more}", code="contaminated")


def _name(sha256: str, rows: Mapping[str, SourceVideo]) -> str:
    return f"{rows[sha256].source_uri} ({sha256[:12]})" if sha256 in rows else sha256[:12]


def hashes_of(row: SourceVideo) -> FrameHashes:
    return np.frombuffer(row.frame_hashes, dtype=">u8").astype(np.uint64)


def likeness(settings: DatasetSettings) -> Likeness:
    return Likeness(settings.near_duplicate_bits, settings.near_duplicate_share)

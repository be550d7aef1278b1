"""Probing: a pending video becomes readable, its runs go to the GPU; or unreadable, its runs fail with the reason."""

import logging

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import runs as run_rows
from backend.db.repositories import videos as repository
from backend.db.tables import Video
from backend.domain.annotation import VideoProbe
from backend.domain.pts import pack_pts, unpack_pts
from backend.domain.text import storable
from backend.ports.storage import ObjectVersion
from backend.services import outbox, runs
from backend.settings import WorkerSettings

log = logging.getLogger(__name__)


def claim_probe(session: Session, video_id: int, settings: WorkerSettings) -> ObjectVersion | None:
    """What to probe; None if that is done. The attempt is counted in a transaction that ends before the probe begins.

    A file that ended its reader `settings.max_attempts` times is unreadable.
    """
    video = repository.lock(session, video_id)
    if video.probe_status != "pending":
        return None
    if video.probe_attempt >= settings.max_attempts:
        reason = f"reading it didn't come to an end, {video.probe_attempt} times; the file may be made to do harm"
        _set_unreadable(session, video, "unreadable_video", reason)
        return None
    video.probe_attempt += 1
    video.touched_at = func.clock_timestamp()
    session.flush()
    return runs.object_version(video)


def postpone_probe(session: Session, video_id: int) -> None:
    """A service is out: probe later, and don't count the attempt."""
    video = repository.lock(session, video_id)
    if video.probe_status == "pending":
        video.probe_attempt = max(0, video.probe_attempt - 1)
        outbox.dispatch_probe(session, video, delay_s=runs.OUTAGE_WAIT_S)


def record_probe(session: Session, video_id: int, probe: VideoProbe, sha256: str) -> int:
    """Write what probing found and send the video's queued runs to the GPU; how many. A repeat changes nothing."""
    video = repository.lock(session, video_id)
    if video.probe_status != "pending":
        return 0
    video.probe_status, video.probed_at, video.sha256 = "ok", func.clock_timestamp(), sha256
    video.frame_count, video.width, video.height = probe.frame_count, probe.width, probe.height
    video.rotation_deg, video.duration_s, video.has_audio = probe.rotation_deg, probe.duration_s, probe.has_audio
    video.codec, video.pts = storable(probe.codec), pack_pts(probe.pts)
    video.time_base_num, video.time_base_den = probe.time_base_num, probe.time_base_den
    session.flush()
    queued = run_rows.lock_queued_of_video(session, video_id)
    for run in queued:
        outbox.dispatch_run(session, run)
    return len(queued)


def record_unreadable(session: Session, video_id: int, code: str, reason: str) -> None:
    """Write why the video can't be annotated, and fail its queued runs with that. A repeat changes nothing."""
    video = repository.lock(session, video_id)
    if video.probe_status == "pending":
        _set_unreadable(session, video, code, reason)


def _set_unreadable(session: Session, video: Video, code: str, reason: str) -> None:
    video.probe_status, video.probed_at = "unreadable", func.clock_timestamp()
    video.unreadable_code, video.unreadable_reason = code, storable(reason)
    log.info("video %d (s3://%s/%s) is unreadable: %s", video.id, video.bucket, video.key, reason)
    for run in run_rows.lock_queued_of_video(session, video.id):
        runs.fail_unreadable(session, run, video)


def stored_probe(session: Session, video_id: int) -> VideoProbe | None:
    """What probing found in the video, if it was probed. Raises `NotFound`."""
    video = repository.get(session, video_id)
    return probe_of(video) if video.probe_status == "ok" else None


def probe_of(video: Video) -> VideoProbe:
    """What probing found in a readable video."""
    assert video.frame_count is not None
    assert video.width is not None
    assert video.height is not None
    assert video.time_base_num is not None
    assert video.time_base_den is not None
    assert video.pts is not None
    return VideoProbe(
        frame_count=video.frame_count,
        width=video.width,
        height=video.height,
        rotation_deg=video.rotation_deg or 0,
        duration_s=video.duration_s or 0.0,
        has_audio=bool(video.has_audio),
        codec=video.codec or "",
        time_base_num=video.time_base_num,
        time_base_den=video.time_base_den,
        pts=unpack_pts(video.pts),
    )

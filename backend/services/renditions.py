"""Renditions: whether a video needs one is known from its probe on; it is made once, before anything is published.

A publication of the video waits for it. The object's key says what it was made of, so that a repeat after a crash puts
the same thing in the same place, and videos with the same bytes share one. Where none can be made, the video is shown
as it is, and its runs say so. A window always has one of its own, asked for with the first result that is shown in it;
where none can be made, the window is not shown.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import renditions as repository
from backend.db.repositories import videos as video_rows
from backend.db.tables import RenditionRow, Video
from backend.domain.annotation import VideoProbe
from backend.domain.errors import BadInput
from backend.domain.text import storable
from backend.domain.windows import Window
from backend.ports.publication import ShownRendition
from backend.ports.storage import ObjectVersion
from backend.services import outbox, runs
from backend.services.videos import probe_of
from backend.settings import LabelStudioSettings, StorageSettings, WorkerSettings

log = logging.getLogger(__name__)

#: What is written, and how: another one makes other objects. The size it may have is part of the name as well.
RECIPE = "h264-1"
#: Writing one takes all cores there are, so a worker makes one at a time; the next ones ask again after so long.
BUSY_WAIT_S = 10.0
_BATCH = 200
_WINDOWED = "it is a window of a longer video"


@dataclass(frozen=True, slots=True)
class Job:
    """A rendition to be made, of the whole video or of a window of it. `reasons` None: it is still to be found out
    whether it is needed."""

    rendition_id: int
    video_id: int
    window: Window | None
    source: ObjectVersion
    probe: VideoProbe
    reasons: tuple[str, ...] | None
    key: str


@dataclass(frozen=True, slots=True)
class Made:
    """A rendition that lies in the storage. `seconds`: what it took."""

    key: str
    sha256: str
    size_bytes: int
    fps: Fraction
    seconds: float


def note_need(session: Session, video_id: int, reasons: Sequence[str]) -> None:
    """Write down whether the video needs one, and why, and have it made; not of a video that nobody is shown but in
    windows. A repeat changes nothing."""
    if reasons and repository.only_in_windows(session, video_id):
        return
    if repository.insert_missing(session, video_id, "pending" if reasons else "not_needed", reasons) and reasons:
        _dispatch(session, video_id)


def settled(session: Session, video_id: int, window: Window | None = None) -> bool:
    """Whether it is known what is to be shown of the video, or of a window of it; if nobody has looked yet, somebody is
    asked to."""
    row = repository.of_video(session, video_id, window)
    reasons = None if window is None else [_WINDOWED]
    if row is None and repository.insert_missing(session, video_id, "pending", reasons, window):
        _dispatch(session, video_id, window)
    return row is not None and row.state != "pending"


def shown(
    session: Session, video: Video, storage: StorageSettings, window: Window | None = None
) -> ShownRendition | None:
    """What is shown in place of the video; None: the video itself. Raises `BadInput` (code `no_window`) for a window
    that none could be made of."""
    row = video.rendition if window is None else repository.of_video(session, video.id, window)
    if row is None or row.state != "ready":
        if window is not None:
            raise BadInput(
                f"frames {window.first_frame} to {window.stop - 1} can't be shown: "
                f"{row.problem if row and row.problem else 'their rendition is not there'}; "
                f"`premask videos render {video.id}` tries again",
                code="no_window",
            )
        return None
    assert row.fps_num is not None
    assert row.fps_den is not None
    return ShownRendition(f"s3://{storage.artifact_bucket}/{row.key}", Fraction(row.fps_num, row.fps_den))


def trouble(video: Video) -> str | None:
    """What people should know who look at the video, where it should have a rendition and has none."""
    row = video.rendition
    if row is None or row.state != "failed":
        return None
    return f"The labeling tool shows the video itself, perhaps with the wrong frames: {row.problem}"


def claim(
    session: Session, video_id: int, storage: StorageSettings, labeling: LabelStudioSettings, worker: WorkerSettings
) -> Job | None:
    """What of the video is to be made next; None if it is all settled, or to be tried later. The attempt is counted in
    a transaction that ends before the work."""
    row = _next_pending(session, video_id)
    while row is not None:
        video, window = video_rows.get(session, video_id), row.window
        part = "" if window is None else f"-{window.first_frame}-{window.stop}"
        key = f"{storage.artifact_prefix}renditions/{video.sha256}/{RECIPE}-{labeling.rendition_max_side_px}{part}.mp4"
        if row.attempts >= worker.max_attempts:
            reason = f"{row.attempts} attempts, none of which ended; the file may be made to do harm"
            _settle(session, row, "failed", reason)
        elif row.reasons and (same := repository.ready_at(session, key)) is not None:
            _take(session, row, same)
        else:
            break
        row = _next_pending(session, video_id)
    else:
        return None
    row.attempts += 1
    row.touched_at = func.clock_timestamp()
    session.flush()
    reasons = None if row.reasons is None else tuple(row.reasons)
    return Job(row.id, video_id, window, runs.object_version(video), probe_of(video), reasons, key)


def _next_pending(session: Session, video_id: int) -> RenditionRow | None:
    rendition_id = repository.first_pending(session, video_id)
    return None if rendition_id is None else repository.lock_pending(session, rendition_id)


def note_reasons(session: Session, rendition_id: int, reasons: Sequence[str]) -> None:
    """Write down what was found by looking; without reasons it is settled."""
    row = repository.lock_pending(session, rendition_id)
    if row is not None:
        row.reasons = list(reasons)
        if not reasons:
            _settle(session, row, "not_needed", None)


def record(session: Session, rendition_id: int, made: Made) -> None:
    """Write the rendition down; what waits for it is published. A repeat changes nothing."""
    row = repository.lock_pending(session, rendition_id)
    if row is not None:
        row.key, row.sha256, row.size_bytes = made.key, made.sha256, made.size_bytes
        row.fps_num, row.fps_den, row.seconds = made.fps.numerator, made.fps.denominator, made.seconds
        _settle(session, row, "ready", None)


def fail(session: Session, rendition_id: int, reason: str) -> None:
    """None can be made: the video itself is shown, a window not at all. A repeat changes nothing."""
    row = repository.lock_pending(session, rendition_id)
    if row is not None:
        _settle(session, row, "failed", reason)


def again(session: Session, video_id: int) -> int:
    """Have those of the video made that could not be made, and windows published that could not be; how many."""
    failed = repository.lock_failed(session, video_id)
    for row in failed:
        row.state, row.problem, row.attempts = "pending", None, 0
        if row.window is not None:
            for publication in repository.lock_failed_publications(session, video_id, row.window):
                publication.state, publication.attempts = "pending", 0
        outbox.dispatch_rendition(session, row)
    return len(failed)


def postpone(session: Session, rendition_id: int) -> None:
    """A service is out: later, and the attempt doesn't count."""
    row = repository.lock_pending(session, rendition_id)
    if row is not None:
        row.attempts = max(0, row.attempts - 1)
        outbox.dispatch_rendition(session, row, runs.OUTAGE_WAIT_S)


def wait_for_a_worker(session: Session, video_id: int) -> None:
    """The worker that was asked makes another one."""
    row = _next_pending(session, video_id)
    if row is not None:
        outbox.dispatch_rendition(session, row, BUSY_WAIT_S)


def give_back(session: Session, rendition_id: int, reason: str, worker: WorkerSettings) -> None:
    """After an error that another attempt may not meet: later each time, or not any more."""
    row = repository.lock_pending(session, rendition_id)
    if row is None:
        return
    if row.attempts >= worker.max_attempts:
        _settle(session, row, "failed", f"given up after {row.attempts} attempts; the last: {reason}")
    else:
        outbox.dispatch_rendition(session, row, min(runs.RETRY_LONGEST_S, runs.RETRY_BASE_S * 2 ** (row.attempts - 1)))


def reap(session: Session, settings: WorkerSettings, idle_queues: Collection[str]) -> int:
    """As `runs.reap`; how many were found."""
    if outbox.IO_QUEUE not in idle_queues:
        return 0
    forgotten = repository.lock_forgotten(session, 2 * settings.lease_s, _BATCH)
    for row in forgotten:
        outbox.dispatch_rendition(session, row)
    return len(forgotten)


def _dispatch(session: Session, video_id: int, window: Window | None = None) -> None:
    row = repository.of_video(session, video_id, window)
    assert row is not None
    outbox.dispatch_rendition(session, row)


def _take(session: Session, row: RenditionRow, other: RenditionRow) -> None:
    row.key, row.sha256, row.size_bytes = other.key, other.sha256, other.size_bytes
    row.fps_num, row.fps_den, row.seconds = other.fps_num, other.fps_den, 0.0
    _settle(session, row, "ready", None)


def _settle(session: Session, row: RenditionRow, state: str, problem: str | None) -> None:
    row.state, row.problem = state, None if problem is None else storable(problem)
    row.made_at = func.clock_timestamp()
    session.flush()
    if problem is not None:
        log.warning("rendition %d of video %d can't be made: %s", row.id, row.video_id, problem)
    for publication in repository.waiting_publications(session, row.video_id, row.window):
        outbox.dispatch_publication(session, publication)

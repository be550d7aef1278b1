"""Writing videos as browsers show them, on the io queue: fetched, written and put with no session open."""

import logging
import threading
import time
from pathlib import Path

from backend.db.repositories import renditions as rendition_rows
from backend.db.session import try_lock
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.services import outbox, renditions
from backend.services.renditions import Job, Made
from integrations.media.playable import why_not_played
from integrations.media.rendition import write_rendition
from workers import process
from workers.app import app
from workers.task import PremaskTask

log = logging.getLogger(__name__)

#: With the video's number: one worker at a time.
_RENDER_LOCK = 7_079_000_000_000
_rendering = threading.Lock()


@app.task(name=outbox.RENDER_TASK, bind=True)  # type: ignore[untyped-decorator]
def render(self: PremaskTask, video_id: int) -> None:
    """Settle what is shown of the video: itself, or its rendition, which is made now."""
    if not _rendering.acquire(blocking=False):
        with self.transaction() as session:
            renditions.wait_for_a_worker(session, video_id)
        return
    try:
        with try_lock(self.container.engine, _RENDER_LOCK + video_id) as alone:
            if alone:
                _render(self, video_id)
    finally:
        _rendering.release()


def _render(task: PremaskTask, video_id: int) -> None:
    settings = task.container.settings
    with task.transaction() as session:
        job = renditions.claim(session, video_id, settings.storage, settings.label_studio, settings.worker)
    if job is None:
        return
    alive = process.Ticker(f"premask-render-{video_id}", settings.worker.lease_s / 3, lambda: _touch(task, video_id))
    alive.start()
    try:
        made = _make(task, job)
    except BadInput as error:
        with task.transaction() as session:
            renditions.fail(session, video_id, str(error))
        return
    except ServiceUnavailable:
        with task.transaction() as session:
            renditions.postpone(session, video_id)
        raise
    except Exception as error:
        # As for runs: whatever a codec throws, what waits for the rendition must not wait for ever.
        with task.transaction() as session:
            renditions.give_back(session, video_id, f"{type(error).__name__}: {error}", settings.worker)
        raise
    finally:
        alive.stop()
    if made is not None:
        with task.transaction() as session:
            renditions.record(session, video_id, made)
        log.info("%s: %.1f MB in %.1f s", made.key, made.size_bytes / 1e6, made.seconds)


def _make(task: PremaskTask, job: Job) -> Made | None:
    """The rendition, put into the storage; None: the video needs none."""
    container, settings = task.container, task.container.settings
    began = time.perf_counter()
    with process.scratch(settings.worker) as folder:
        source, to = folder / process.SCRATCH_VIDEO, folder / "rendition.mp4"
        container.store.download(job.source, source)
        if job.reasons is None and not _needed(task, job, source):
            return None
        fps = write_rendition(source, job.probe, to, settings.label_studio.rendition_max_side_px)
        digest, size_bytes = process.sha256(to), to.stat().st_size
        container.store.upload(settings.storage.artifact_bucket, job.key, to, "video/mp4")
    return Made(job.key, digest, size_bytes, fps, round(time.perf_counter() - began, 3))


def _needed(task: PremaskTask, job: Job, source: Path) -> bool:
    reasons = why_not_played(source, job.probe)
    with task.transaction() as session:
        renditions.note_reasons(session, job.video_id, reasons)
    return bool(reasons)


def _touch(task: PremaskTask, video_id: int) -> None:
    with task.transaction() as session:
        rendition_rows.touch(session, video_id)

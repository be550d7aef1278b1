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
    """All that is to be made of the video, one after the other: it is fetched once."""
    settings = task.container.settings
    with process.scratch(settings.worker) as folder:
        while True:
            with task.transaction() as session:
                job = renditions.claim(session, video_id, settings.storage, settings.label_studio, settings.worker)
            if job is None:
                return
            _settle(task, job, folder)


def _settle(task: PremaskTask, job: Job, folder: Path) -> None:
    every_s = task.container.settings.worker.lease_s / 3
    alive = process.Ticker(f"premask-render-{job.rendition_id}", every_s, lambda: _touch(task, job.rendition_id))
    alive.start()
    try:
        made = _make(task, job, folder)
    except BadInput as error:
        with task.transaction() as session:
            renditions.fail(session, job.rendition_id, str(error))
        return
    except ServiceUnavailable:
        with task.transaction() as session:
            renditions.postpone(session, job.rendition_id)
        raise
    except Exception as error:
        # As for runs: whatever a codec throws, what waits for the rendition must not wait for ever.
        with task.transaction() as session:
            reason = f"{type(error).__name__}: {error}"
            renditions.give_back(session, job.rendition_id, reason, task.container.settings.worker)
        raise
    finally:
        alive.stop()
    if made is not None:
        with task.transaction() as session:
            renditions.record(session, job.rendition_id, made)
        log.info("%s: %.1f MB in %.1f s", made.key, made.size_bytes / 1e6, made.seconds)


def _make(task: PremaskTask, job: Job, folder: Path) -> Made | None:
    """The rendition, put into the storage; None: the video needs none."""
    container, settings = task.container, task.container.settings
    began = time.perf_counter()
    source, to = folder / process.SCRATCH_VIDEO, folder / "rendition.mp4"
    if not source.exists():
        fetched = source.with_suffix(".part")
        container.store.download(job.source, fetched)
        fetched.rename(source)
    if job.reasons is None and not _needed(task, job, source):
        return None
    fps = write_rendition(source, job.probe, to, settings.label_studio.rendition_max_side_px, job.window)
    digest, size_bytes = process.sha256(to), to.stat().st_size
    container.store.upload(settings.storage.artifact_bucket, job.key, to, "video/mp4")
    return Made(job.key, digest, size_bytes, fps, round(time.perf_counter() - began, 3))


def _needed(task: PremaskTask, job: Job, source: Path) -> bool:
    reasons = why_not_played(source, job.probe)
    with task.transaction() as session:
        renditions.note_reasons(session, job.rendition_id, reasons)
    return bool(reasons)


def _touch(task: PremaskTask, rendition_id: int) -> None:
    with task.transaction() as session:
        rendition_rows.touch(session, rendition_id)

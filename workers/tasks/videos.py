"""Probing, on the io queue."""

import logging

from backend.db.repositories import videos as video_rows
from backend.domain.errors import BadInput, ServiceUnavailable
from backend.services import outbox, renditions, videos
from integrations.media.playable import why_not_played
from integrations.media.probe import probe_video
from workers import process
from workers.app import app
from workers.task import PremaskTask

log = logging.getLogger(__name__)


@app.task(name=outbox.PROBE_TASK, bind=True)  # type: ignore[untyped-decorator]
def probe(self: PremaskTask, video_id: int) -> None:
    """Fetch and read the video; then its runs are sent to the GPU, or end with the reason why it can't be annotated."""
    settings = self.container.settings
    with self.transaction() as session:
        version = videos.claim_probe(session, video_id, settings.worker)
    if version is None:
        return
    alive = process.Ticker(f"premask-probe-{video_id}", settings.worker.lease_s / 3, lambda: _touch(self, video_id))
    alive.start()
    try:
        with process.scratch(settings.worker) as folder:
            path = folder / process.SCRATCH_VIDEO
            self.container.store.download(version, path)
            found, digest = probe_video(path, settings.pipeline), process.sha256(path)
            reasons = why_not_played(path, found)
    except BadInput as error:
        with self.transaction() as session:
            videos.record_unreadable(session, video_id, error.code, str(error))
        return
    except ServiceUnavailable:
        with self.transaction() as session:
            videos.postpone_probe(session, video_id)
        raise
    finally:
        alive.stop()
    with self.transaction() as session:
        queued = videos.record_probe(session, video_id, found, digest)
        if settings.label_studio.url is not None:
            renditions.note_need(session, video_id, reasons)
    log.info("%d frames of %d×%d, %d runs", found.frame_count, found.width, found.height, queued)


def _touch(task: PremaskTask, video_id: int) -> None:
    with task.transaction() as session:
        video_rows.touch(session, video_id)

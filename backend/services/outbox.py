"""The outbox: messages are rows of the transaction that makes them true, and reach the broker after its commit.

`dispatch_*` are the only ways to ask for work; `relay` hands to the broker what is due, `reap` in `services.runs` asks
again for what was forgotten.
"""

import logging
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import outbox as repository
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import CorrectedLayer, Publication, RenditionRow, Retraining, RetrainingNotice, Run, Video
from backend.domain.errors import ServiceUnavailable
from backend.ports.messages import JobQueue

log = logging.getLogger(__name__)

GPU_QUEUE = "gpu"
IO_QUEUE = "io"
TRAIN_QUEUE = "train"
PROBE_TASK = "videos.probe"
ANNOTATE_TASK = "runs.annotate"
PUBLISH_TASK = "runs.publish"
COLLECT_TASK = "reviews.collect"
POLL_TASK = "reviews.poll"
CORRECT_TASK = "reviews.correct"
RETRAIN_TASK = "retraining.retrain"
NOTIFY_TASK = "retraining.notify"
RENDER_TASK = "videos.render"

#: Sent messages are kept this long for the operator to look at.
KEEP_SENT_S = 86_400.0
_BATCH = 200
_WRITTEN = "premask_outbox_written"


def enqueue(session: Session, task: str, queue: str, payload: dict[str, int], delay_s: float = 0.0) -> None:
    """Write a message into the session's transaction, for `delay_s` seconds from now at the earliest."""
    message_id = repository.add(session, task, queue, payload, delay_s)
    if delay_s <= 0:
        session.info.setdefault(_WRITTEN, []).append(message_id)


def written(session: Session) -> list[int]:
    """The messages this session wrote that may be sent as soon as it has committed."""
    return list(session.info.get(_WRITTEN, ()))


def dispatch_probe(session: Session, video: Video, delay_s: float = 0.0) -> None:
    video.touched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, PROBE_TASK, IO_QUEUE, {"video_id": video.id}, delay_s)


def dispatch_rendition(session: Session, rendition: RenditionRow, delay_s: float = 0.0) -> None:
    """Have a video written as browsers show it."""
    rendition.touched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, RENDER_TASK, IO_QUEUE, {"video_id": rendition.video_id}, delay_s)


def dispatch_run(session: Session, run: Run, delay_s: float = 0.0) -> None:
    run.dispatched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, ANNOTATE_TASK, GPU_QUEUE, {"run_id": run.id}, delay_s)


def dispatch_publication(session: Session, publication: Publication, delay_s: float = 0.0) -> None:
    publication.dispatched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, PUBLISH_TASK, IO_QUEUE, {"run_id": publication.run_id}, delay_s)


def dispatch_collection(session: Session, project_id: int, task_id: int) -> None:
    """Have a task of the labeling tool's project read."""
    enqueue(session, COLLECT_TASK, IO_QUEUE, {"project_id": project_id, "task_id": task_id})


def dispatch_poll(session: Session, project_id: int) -> None:
    """Have the labeling tool asked what changed in its project."""
    enqueue(session, POLL_TASK, IO_QUEUE, {"project_id": project_id})


def dispatch_changes(session: Session, project_id: int, task_ids: Sequence[int]) -> None:
    """Have the tasks of the labeling tool's project read that a hint names; where it names none, have it asked."""
    for task_id in task_ids:
        dispatch_collection(session, project_id, task_id)
    if not task_ids:
        dispatch_poll(session, project_id)


def dispatch_correction(session: Session, layer: CorrectedLayer, delay_s: float = 0.0) -> None:
    """Have a review worked into its run's result."""
    layer.dispatched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, CORRECT_TASK, GPU_QUEUE, {"layer_id": layer.id}, delay_s)


def dispatch_retraining(session: Session, retraining: Retraining, delay_s: float = 0.0) -> None:
    retraining.dispatched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, RETRAIN_TASK, TRAIN_QUEUE, {"retraining_id": retraining.id}, delay_s)


def dispatch_notice(session: Session, notice: RetrainingNotice, delay_s: float = 0.0) -> None:
    """Have somebody told how a retraining ended."""
    notice.dispatched_at = func.clock_timestamp() + timedelta(seconds=delay_s)
    session.flush()
    enqueue(session, NOTIFY_TASK, IO_QUEUE, {"notice_id": notice.id}, delay_s)


def relay(factory: SessionFactory, queue: JobQueue, ids: Sequence[int] | None = None) -> int:
    """Send what is due (of those ids, if given); how many messages went.

    A broker that can't be reached ends it with a warning: the rows stay and are sent by a later relay. A message may go
    twice if the process dies between sending and the commit; tasks are idempotent.
    """
    sent = 0
    while True:
        with session_scope(factory) as session:
            due = repository.lock_due(session, _BATCH, ids)
            delivered: list[int] = []
            for message in due:
                try:
                    queue.send(message.task, message.queue, message.payload)
                except ServiceUnavailable as error:
                    log.warning("%d messages stay in the outbox: %s", len(due) - len(delivered), error)
                    break
                delivered.append(message.id)
            repository.mark_sent(session, delivered)
        sent += len(delivered)
        if len(delivered) < _BATCH:
            return sent


def prune(session: Session) -> int:
    """Forget what was sent long ago, and workers not seen for as long; how many messages went."""
    repository.delete_heartbeats(session, KEEP_SENT_S)
    return repository.delete_sent(session, KEEP_SENT_S)

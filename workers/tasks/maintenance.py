"""What beat asks for, on the io queue: sending, reaping, listing, forgetting."""

import logging

from backend.db.session import try_lock
from backend.domain.errors import ServiceUnavailable
from backend.services import corrected, notices, outbox, renditions, retraining, review_feed, runs, schedules
from backend.services import reconcile as listing
from workers.app import app
from workers.task import PremaskTask

log = logging.getLogger(__name__)

_RECONCILE_LOCK = 7_077_009
_QUEUES = (outbox.GPU_QUEUE, outbox.IO_QUEUE, outbox.TRAIN_QUEUE)


@app.task(name="maintenance.relay", bind=True)  # type: ignore[untyped-decorator]
def relay(self: PremaskTask) -> None:
    """Send what no commit could send itself: messages for later, and those of an outage."""
    outbox.relay(self.container.sessions, self.container.queue)


@app.task(name="maintenance.reap", bind=True)  # type: ignore[untyped-decorator]
def reap(self: PremaskTask) -> None:
    """Queue again what a dead worker or broker took with it."""
    try:
        idle = {queue for queue in _QUEUES if self.container.queue.depth(queue) == 0}
    except ServiceUnavailable as error:
        log.warning("only leases are looked at: %s", error)
        idle = set()
    settings = self.container.settings
    with self.transaction() as session:
        found = runs.reap(session, settings.worker, idle)
        found["layers"] = corrected.reap(session, settings.worker, idle)
        found["retrainings"] = retraining.reap(session, settings.worker, idle)
        found["notices"] = notices.reap(session, settings.retraining, 2 * settings.worker.lease_s, idle)
        found["renditions"] = renditions.reap(session, self.container.settings.worker, idle)
    if any(found.values()):
        log.warning("sent again: %s", found)


@app.task(name="maintenance.reconcile", bind=True)  # type: ignore[untyped-decorator]
def reconcile(self: PremaskTask) -> None:
    """List the storage for what no event told. One at a time: a listing may take longer than its interval."""
    container = self.container
    with try_lock(container.engine, _RECONCILE_LOCK) as alone:
        if alone:
            found = listing.reconcile(
                container.sessions, container.store, container.settings.ingest, container.run_spec
            )
            if found:
                outbox.relay(container.sessions, container.queue)


@app.task(name="maintenance.poll_reviews", bind=True)  # type: ignore[untyped-decorator]
def poll_reviews(self: PremaskTask) -> None:
    """Have every connected project of the labeling tool asked what people changed."""
    if self.container.labeling_tool is not None:
        with self.transaction() as session:
            for project_id in review_feed.projects(session):
                outbox.dispatch_poll(session, project_id)


@app.task(name="maintenance.open_retrainings", bind=True)  # type: ignore[untyped-decorator]
def open_retrainings(self: PremaskTask) -> None:
    """Have learned what people corrected, in the projects whose time has come."""
    with self.transaction() as session:
        for made in schedules.open_due(session):
            log.info("project %d: retraining %d is due", made.project_id, made.id)


@app.task(name="maintenance.prune", bind=True)  # type: ignore[untyped-decorator]
def prune(self: PremaskTask) -> None:
    with self.transaction() as session:
        outbox.prune(session)

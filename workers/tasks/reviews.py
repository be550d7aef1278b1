"""Reading back what people made of the pre-annotations, on the io queue."""

import logging

from backend.db.session import try_lock
from backend.domain.errors import Misconfigured, ServiceUnavailable
from backend.services import outbox, review_feed, reviews
from workers.app import app
from workers.task import PremaskTask

log = logging.getLogger(__name__)

#: With the project's number: a project is polled by one worker at a time.
_POLL_LOCK = 7_078_000_000


@app.task(name=outbox.COLLECT_TASK, bind=True)  # type: ignore[untyped-decorator]
def collect(self: PremaskTask, project_id: int, task_id: int) -> None:
    """Read one task. What fails here is found by the polling."""
    tool = self.container.labeling_tool
    if tool is None:
        log.warning("no labeling tool is configured; task %d of its project %d is not read", task_id, project_id)
        return
    storage = self.container.settings.storage
    if new := reviews.collect(self.container.sessions, tool, project_id, task_id, storage):
        log.info("%d new versions of annotations", new)


@app.task(name=outbox.POLL_TASK, bind=True)  # type: ignore[untyped-decorator]
def poll(self: PremaskTask, project_id: int) -> None:
    """Read every task of the project that changed since the last time."""
    tool = self.container.labeling_tool
    if tool is None:
        return
    with try_lock(self.container.engine, _POLL_LOCK + project_id) as alone:
        if not alone:
            return
        try:
            found = review_feed.poll(self.container.sessions, tool, project_id, self.container.settings.storage)
        except (ServiceUnavailable, Misconfigured) as error:
            log.warning("reviews of Label Studio's project %d can't be read: %s", project_id, error)
            return
    if found.versions:
        log.info("%d tasks read, %d new versions of annotations", found.tasks, found.versions)

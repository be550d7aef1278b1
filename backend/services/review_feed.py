"""The feed of reviews: what changed in a project of the labeling tool is read, whatever its webhook told.

The tool's webhooks are hints that may be lost, doubled or late; asking what changed is the path by which nothing gets
lost. Each pass begins a little before the last change seen, because a change may show up after a later one; what was
read already is left out by its time. Deleted tasks vanish from the list, so every so often all of it is compared.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import reviews as repository
from backend.db.session import SessionFactory, session_scope
from backend.domain.errors import PremaskError
from backend.domain.text import storable
from backend.ports.labeling import LabelingTool
from backend.services import reviews
from backend.services.results import target_of
from backend.settings import StorageSettings

log = logging.getLogger(__name__)

#: A change may be listed this much after one that was made later: the tool's transactions end in any order.
OVERLAP = timedelta(seconds=120)
#: The whole list is compared so often, for what was deleted.
SWEEP_EVERY = timedelta(minutes=10)
_BATCH = 200


@dataclass(slots=True)
class Found:
    """Tasks that were read in a pass, new versions of annotations, and tasks that are gone."""

    tasks: int = 0
    versions: int = 0
    gone: int = 0


def projects(session: Session) -> tuple[int, ...]:
    """The labeling tool's projects that ours are connected to."""
    return tuple(repository.connected_projects(session))


def poll(factory: SessionFactory, tool: LabelingTool, project_id: int, storage: StorageSettings) -> Found:
    """Read what changed in the project since the last pass; one pass at a time.

    Raises `ServiceUnavailable`, `Misconfigured` and `BadInput` (the project is gone) after writing it into the feed.
    What was read until then stays, and the next pass goes on from there.
    """
    target, found = target_of(project_id), Found()
    since, sweep = _begin(factory, target)
    try:
        listed = set[int]()
        changes = tool.changed_tasks(project_id, None if sweep else since)
        for batch in _batches(changes):
            listed |= {task_id for task_id, _ in batch}
            _read(factory, tool, project_id, batch, storage, found)
            _advance(factory, target, batch[-1][1])
        if sweep:
            _sweep(factory, tool, project_id, listed, storage, found)
    except PremaskError as error:
        with session_scope(factory) as session:
            repository.lock_feed(session, target).last_error = storable(str(error))
        raise
    with session_scope(factory) as session:
        repository.lock_feed(session, target).last_error = None
    return found


def _begin(factory: SessionFactory, target: str) -> tuple[datetime | None, bool]:
    """From when on changes are asked for, and whether it is time to compare everything."""
    with session_scope(factory) as session:
        feed = repository.lock_feed(session, target)
        now = session.scalar(func.clock_timestamp().select())
        assert now is not None
        sweep = feed.swept_at is None or feed.swept_at + SWEEP_EVERY <= now
        feed.polled_at = now
        return None if feed.seen_until is None else feed.seen_until - OVERLAP, sweep


def _read(
    factory: SessionFactory, tool: LabelingTool, project_id: int, batch: list[tuple[int, datetime]],
    storage: StorageSettings, found: Found,
) -> None:  # fmt: skip
    with session_scope(factory) as session:
        known = repository.known_tasks(session, target_of(project_id), [task_id for task_id, _ in batch])
    for task_id, changed_at in batch:
        read_until = known.get(task_id)
        if read_until is None or read_until < changed_at:
            found.versions += reviews.collect(factory, tool, project_id, task_id, storage)
            found.tasks += 1


def _advance(factory: SessionFactory, target: str, changed_at: datetime) -> None:
    with session_scope(factory) as session:
        feed = repository.lock_feed(session, target)
        feed.seen_until = max(feed.seen_until or changed_at, changed_at)


def _sweep(
    factory: SessionFactory, tool: LabelingTool, project_id: int, listed: set[int], storage: StorageSettings,
    found: Found,
) -> None:  # fmt: skip
    """Tasks that are no longer listed are read once more: one that was made meanwhile is there."""
    target = target_of(project_id)
    with session_scope(factory) as session:
        missing = repository.present_tasks(session, target) - listed
    for task_id in sorted(missing):
        found.versions += reviews.collect(factory, tool, project_id, task_id, storage)
    with session_scope(factory) as session:
        repository.lock_feed(session, target).swept_at = func.clock_timestamp()
        found.gone = len(missing - repository.present_tasks(session, target))
    if found.gone:
        log.info("%d tasks of Label Studio's project %d are gone", found.gone, project_id)


def _batches(changes: Iterator[tuple[int, datetime]]) -> Iterator[list[tuple[int, datetime]]]:
    while batch := list(islice(changes, _BATCH)):
        yield batch

"""Outages of the labeling tool: known once, they are not met again by every task.

A call that fails for a reason that will meet all others too (no answer, too many requests, a refused key, a project
that is gone) is written down, with when to try again: later each time. Until then tasks are told so at once and wait;
then one of them asks, and its success lets the others go on. What waits stays pending, so nothing is lost.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from backend.db.repositories import outages as repository
from backend.db.repositories import projects as project_rows
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import LabelingState
from backend.domain.adoption import Change, Place
from backend.domain.corrections import Layer
from backend.domain.errors import BadInput, PremaskError, ServiceUnavailable
from backend.domain.ordering import TaskOrder
from backend.domain.text import storable
from backend.ports.labeling import (
    KEY_REFUSED,
    LABELING_BUSY,
    LABELING_ERROR,
    LABELING_WAITS,
    PROJECT_GONE,
    PROJECT_WRONG,
    Answer,
    AnsweredTask,
    LabelingTool,
    PublishedTask,
)
from backend.ports.publication import PublicationItem
from backend.services import outbox
from backend.services.results import target_of

log = logging.getLogger(__name__)

SERVER = "label_studio"
#: Wait after the first failure, doubled for each further one, up to the longest.
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 300.0
#: A single 5xx may be about what was sent; so many in a row are about the server.
_ERRORS_THAT_TELL = 3

_STATES = {
    LABELING_BUSY: "busy",
    LABELING_ERROR: "failing",
    PROJECT_GONE: "project_gone",
    PROJECT_WRONG: "project_wrong",
    ServiceUnavailable.code: "away",
    KEY_REFUSED: "key_refused",
}


class GuardedTool:
    """A `LabelingTool` that asks nothing of a tool that is known to be out. `patience_s`: how long a call may take."""

    def __init__(self, factory: SessionFactory, tool: LabelingTool, patience_s: float) -> None:
        self._factory, self._tool, self._patience_s = factory, tool, patience_s

    def ensure_project(
        self, name: str, labels: list[str], buckets: list[str], order: TaskOrder = TaskOrder.UNCERTAIN
    ) -> int:
        """Never refused: a person asks for it. The project is well afterwards."""
        with self._noted(SERVER, SERVER):
            number = self._tool.ensure_project(name, labels, buckets, order)
        self._note_well(target_of(number))
        return number

    def set_order(self, project_id: int, order: TaskOrder) -> None:
        with self._guarded(project_id):
            self._tool.set_order(project_id, order)

    def survey(self, project_id: int, buckets: Sequence[str], labels: Sequence[str]) -> Place:
        """Never refused, as `ensure_project`; a project that is none of ours has no state."""
        with self._noted(SERVER, SERVER):
            return self._tool.survey(project_id, buckets, labels)

    def arrange(
        self, project_id: int, buckets: Sequence[str], labels: Sequence[str], changes: Collection[Change]
    ) -> None:
        with self._noted(SERVER, SERVER):
            self._tool.arrange(project_id, buckets, labels, changes)
        self._note_well(target_of(project_id))

    def sha256_of(self, address: str) -> str | None:
        return self._tool.sha256_of(address)

    def ensure_interactive(self, project_id: int, wanted: bool) -> None:
        """Never refused, as `ensure_project`."""
        with self._noted(SERVER, SERVER):
            self._tool.ensure_interactive(project_id, wanted)

    def interactive_trouble(self, project_id: int) -> str | None:
        with self._guarded(project_id):
            return self._tool.interactive_trouble(project_id)

    def publish(self, project_id: int, item: PublicationItem) -> PublishedTask:
        with self._guarded(project_id):
            return self._tool.publish(project_id, item)

    def publish_new(self, project_id: int, items: Sequence[PublicationItem]) -> list[int | BadInput]:
        with self._guarded(project_id):
            return self._tool.publish_new(project_id, items)

    def answered(self, project_id: int, task_id: int) -> AnsweredTask | None:
        with self._guarded(project_id):
            return self._tool.answered(project_id, task_id)

    def changed_tasks(self, project_id: int, since: datetime | None) -> Iterator[tuple[int, datetime]]:
        with self._guarded(project_id):
            found = self._tool.changed_tasks(project_id, since)
            first = next(found, None)
        if first is not None:
            yield first
        with self._noted(SERVER, target_of(project_id)):
            yield from found

    def task_url(self, project_id: int, task_id: int) -> str:
        return self._tool.task_url(project_id, task_id)

    def layers(self, task: AnsweredTask, answer: Answer, item: PublicationItem) -> tuple[Layer, Layer]:
        return self._tool.layers(task, answer, item)

    @contextmanager
    def _guarded(self, project_id: int) -> Iterator[None]:
        """Raises `ServiceUnavailable` without asking while the server or the project is known to be out, and where
        asking shows that it is."""
        target = target_of(project_id)
        with session_scope(self._factory) as session:
            for troubled in repository.troubled(session, (SERVER, target)):
                _admit(repository.lock(session, troubled), repository.now(session), self._patience_s)
        with self._noted(SERVER, target):
            yield

    @contextmanager
    def _noted(self, *targets: str) -> Iterator[None]:
        try:
            yield
        except PremaskError as error:
            state = _STATES.get(error.code)
            if state is None or (state.startswith("project") and targets[-1] == SERVER):
                raise
            about = targets[-1] if state.startswith("project") else SERVER
            with session_scope(self._factory) as session:
                wait_s = _note(session, about, state, error)
            if isinstance(error, ServiceUnavailable):
                error.retry_after_s = wait_s
            elif targets[-1] != SERVER:
                raise ServiceUnavailable(str(error), retry_after_s=wait_s) from error
            raise
        self._note_well(*targets)

    def _note_well(self, *targets: str) -> None:
        with session_scope(self._factory) as session:
            for troubled in repository.troubled(session, targets):
                _note_well(session, repository.lock(session, troubled))


@dataclass(frozen=True, slots=True)
class Status:
    """How a project's place in the labeling tool is doing. `state`: ok, not_connected, or what is wrong (`detail`)
    since when; `next_try_at`: when it is asked again; `asked_at`: when it was last asked for changes; `review_lag_*_s`:
    how long the last day's reviews took to be here."""

    project: str
    label_studio_project_id: int | None
    state: str
    since: datetime | None = None
    detail: str | None = None
    next_try_at: datetime | None = None
    asked_at: datetime | None = None
    pending: int = 0
    published: int = 0
    failed: int = 0
    review_lag_median_s: float | None = None
    review_lag_p95_s: float | None = None


def statuses(session: Session) -> list[Status]:
    """Of every project, by name."""
    known = repository.states(session)
    found = []
    for project in project_rows.all_projects(session):
        number = project.label_studio_project_id
        if number is None:
            found.append(Status(project.name, None, "not_connected"))
            continue
        rows = [row for target in (SERVER, target_of(number)) if (row := known.get(target)) and row.state != "ok"]
        feed = repository.feed(session, target_of(number))
        counts = repository.publication_counts(session, target_of(number))
        asked_at = None if feed is None else feed.polled_at
        if rows:
            row = rows[0]
            trouble = (row.state, row.since, row.detail, row.next_try_at)
        else:
            trouble = ("ok", None, None, None)
        tallies = [counts.get(state, 0) for state in ("pending", "published", "failed")]
        lag_s = repository.lag_s(session, target_of(number)) or (None, None)
        found.append(Status(project.name, number, *trouble, asked_at, *tallies, *lag_s))
    return found


def status(session: Session, name: str) -> Status:
    """Of one project. Raises `NotFound`."""
    project_rows.by_name(session, name)
    return next(one for one in statuses(session) if one.project == name)


def _admit(row: LabelingState, now: datetime, patience_s: float) -> None:
    """Whether to ask: always of what is well; else one at a time, when it is time to try again."""
    if row.state == "ok" or row.next_try_at is None:
        return
    again_at = max(row.next_try_at, row.probing_until or row.next_try_at)
    if now < again_at:
        raise ServiceUnavailable(
            f"{row.detail}; so since {row.since:%Y-%m-%d %H:%M:%S} UTC, asked again at {again_at:%H:%M:%S}",
            code=LABELING_WAITS,
            retry_after_s=(again_at - now).total_seconds(),
        )
    row.probing_until = now + timedelta(seconds=patience_s)


def _note(session: Session, target: str, state: str, error: PremaskError) -> float:
    """Write a failure down; in how many seconds to try again."""
    row, now = repository.lock(session, target), repository.now(session)
    row.detail, row.probing_until = storable(str(error)), None
    if row.next_try_at is None or row.next_try_at <= now:
        # Of several that were on their way together the first counts.
        row.failures += 1
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (row.failures - 1))
        asked_for = error.retry_after_s if isinstance(error, ServiceUnavailable) else None
        row.next_try_at = now + timedelta(seconds=max(wait_s, asked_for or 0.0))
    if state == "failing" and row.failures < _ERRORS_THAT_TELL:
        row.next_try_at = None
        return FIRST_WAIT_S
    if row.state != state:
        log.warning("%s is %s: %s", target, state, error)
        row.since = now if row.state == "ok" else row.since
        row.state = state
    assert row.next_try_at is not None
    return max(0.0, (row.next_try_at - now).total_seconds())


def _note_well(session: Session, row: LabelingState) -> None:
    if row.state != "ok":
        log.info("%s is well again", row.target)
        repository.hasten(session, outbox.PUBLISH_TASK)
        row.since = repository.now(session)
    row.state, row.failures, row.detail, row.next_try_at, row.probing_until = "ok", 0, None, None, None

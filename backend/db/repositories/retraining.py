"""Queries on retrainings: schedules that are due, claims, what was corrected since, and who is to be told."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload, selectinload

from backend.db.tables import (
    DatasetItemRow,
    Instruction,
    Project,
    Publication,
    Retraining,
    RetrainingNotice,
    RetrainingSchedule,
    Review,
    ReviewVersion,
    Run,
)
from backend.domain.datasets import Split
from backend.domain.errors import NotFound
from backend.domain.retraining import OPEN, TRAINED, RetrainingState

_DEVICE_LOCK = 7_077_011


def now(session: Session) -> datetime:
    """The database's clock."""
    moment: datetime = session.scalars(select(func.clock_timestamp())).one()
    return moment


def put_schedule(session: Session, project_id: int, values: Mapping[str, Any]) -> RetrainingSchedule:
    row = insert(RetrainingSchedule).values(project_id=project_id, **values)
    session.execute(row.on_conflict_do_update(index_elements=["project_id"], set_=dict(values)))
    return session.get_one(RetrainingSchedule, project_id, populate_existing=True)


def schedule_of(session: Session, project_id: int) -> RetrainingSchedule | None:
    return session.get(RetrainingSchedule, project_id)


def delete_schedule(session: Session, schedule: RetrainingSchedule) -> RetrainingSchedule:
    """The schedule as it was, with its project."""
    _ = schedule.project
    session.delete(schedule)
    session.flush()
    return schedule


def schedules(session: Session) -> Sequence[RetrainingSchedule]:
    query = select(RetrainingSchedule).join(Project).options(joinedload(RetrainingSchedule.project))
    return session.scalars(query.order_by(Project.name)).all()


def lock_due(session: Session, limit: int) -> Sequence[RetrainingSchedule]:
    """Schedules whose time has come, that nobody else looks at."""
    query = select(RetrainingSchedule).where(RetrainingSchedule.next_at <= func.clock_timestamp())
    return session.scalars(
        query.order_by(RetrainingSchedule.next_at).limit(limit).with_for_update(skip_locked=True)
    ).all()


def add(session: Session, project_id: int, who: str, plan: Mapping[str, Any], due_at: datetime) -> Retraining | None:
    """None where one of the project is open, or was asked for that moment already."""
    values = {"project_id": project_id, "who": who, "plan": dict(plan), "due_at": due_at}
    added = session.scalar(insert(Retraining).values(**values).on_conflict_do_nothing().returning(Retraining.id))
    return None if added is None else session.get_one(Retraining, added)


def get(session: Session, retraining_id: int) -> Retraining:
    """With all that it refers to. Raises `NotFound`."""
    found = session.scalar(_whole().where(Retraining.id == retraining_id))
    if found is None:
        raise NotFound(f"there is no retraining {retraining_id}")
    return found


def page(session: Session, limit: int, before_id: int | None, project: str | None = None) -> Sequence[Retraining]:
    """Newest first."""
    query = _whole().order_by(Retraining.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Retraining.id < before_id)
    if project is not None:
        query = query.join(Project, Project.id == Retraining.project_id).where(Project.name == project)
    return session.scalars(query).all()


def _whole() -> Select[Retraining]:
    one = [Retraining.project, Retraining.dataset, Retraining.base, Retraining.candidate, Retraining.verdict]
    return select(Retraining).options(*(joinedload(each) for each in one), selectinload(Retraining.notices))


def lock(session: Session, retraining_id: int) -> Retraining | None:
    """Locked for change and read anew; None if it is gone."""
    return session.get(Retraining, retraining_id, with_for_update=True, populate_existing=True)


def lock_owned(session: Session, retraining_id: int, fence: int) -> Retraining | None:
    """Locked, if it is running and this fence is still the newest."""
    query = select(Retraining).where(*_owned(retraining_id, fence))
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def extend_lease(session: Session, retraining_id: int, fence: int, lease_s: float) -> bool:
    """Whether the lease was extended; False: it is no longer this worker's."""
    statement = (
        update(Retraining)
        .where(*_owned(retraining_id, fence))
        .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_s))
        .returning(Retraining.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _owned(retraining_id: int, fence: int) -> tuple[ColumnElement[bool], ...]:
    return Retraining.id == retraining_id, Retraining.fence == fence, Retraining.state == RetrainingState.RUNNING


def lock_devices(session: Session) -> None:
    """Nobody else claims a device until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _DEVICE_LOCK})


def is_busy(session: Session, device: str, but_for: int) -> bool:
    """Whether another retraining is there, even one whose worker is silent: it is given to somebody soon."""
    query = select(Retraining.id).where(
        Retraining.device == device, Retraining.state == RetrainingState.RUNNING, Retraining.id != but_for
    )
    return session.scalar(query.limit(1)) is not None


def lock_expired(session: Session, limit: int) -> Sequence[Retraining]:
    over = and_(Retraining.state == RetrainingState.RUNNING, Retraining.lease_expires_at < func.clock_timestamp())
    return _lock(session, over, limit)


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[Retraining]:
    """Queued ones whose last message went out so long ago, or never."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    asked_at = func.coalesce(Retraining.dispatched_at, Retraining.created_at)
    return _lock(session, and_(Retraining.state == RetrainingState.QUEUED, asked_at < border), limit)


def _lock(session: Session, which: ColumnElement[bool], limit: int) -> Sequence[Retraining]:
    query = select(Retraining).where(which).order_by(Retraining.id).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def open_ids(session: Session) -> set[int]:
    return set(session.scalars(select(Retraining.id).where(Retraining.state.in_(sorted(OPEN)))))


def last_trained(session: Session, project_id: int, before_id: int) -> Retraining | None:
    """The newest of the project, of those before, that learned."""
    return session.scalar(_ended(project_id, before_id).where(Retraining.state.in_(sorted(TRAINED))).limit(1))


def last_promoted(session: Session, project_id: int, before_id: int) -> Retraining | None:
    """The newest of the project, of those before, whose candidate was promoted, with its data set."""
    query = _ended(project_id, before_id).where(Retraining.state == RetrainingState.PROMOTED)
    return session.scalar(query.options(joinedload(Retraining.dataset)).limit(1))


def timings_before(session: Session, project_id: int, before_id: int, limit: int = 5) -> list[dict[str, float]]:
    """The seconds by stage of the project's retrainings before, newest first."""
    ended = _ended(project_id, before_id).where(Retraining.finished_at.is_not(None))
    return [row.timings_s for row in session.scalars(ended.limit(limit))]


def _ended(project_id: int, before_id: int) -> Select[Retraining]:
    mine = select(Retraining).where(Retraining.project_id == project_id, Retraining.id < before_id)
    return mine.order_by(Retraining.id.desc())


def corrections(session: Session, project_id: int, since: datetime | None, until: datetime) -> int:
    """How many of the project's reviews changed a prediction, as they are now, by the labeling tool's time of them."""
    newest = select(ReviewVersion.review_id, func.max(ReviewVersion.number).label("number"))
    latest = newest.where(ReviewVersion.changed_at <= until).group_by(ReviewVersion.review_id).subquery()
    query = (
        select(func.count())
        .select_from(ReviewVersion)
        .join(latest, (latest.c.review_id == ReviewVersion.review_id) & (latest.c.number == ReviewVersion.number))
        .join(Review, Review.id == ReviewVersion.review_id)
        .join(Publication, Publication.id == Review.publication_id)
        .join(Run, Run.id == Publication.run_id)
        .join(Instruction, Instruction.id == Run.instruction_id)
        .where(
            Instruction.project_id == project_id, Review.deleted_at.is_(None), ~ReviewVersion.skipped,
            ReviewVersion.accepted.is_(False), Publication.window_first_frame.is_(None),
        )
    )  # fmt: skip
    if since is not None:
        query = query.where(ReviewVersion.changed_at > since)
    return session.scalars(query).one()


def fresh_held_out_videos(session: Session, dataset_id: int) -> int:
    """How many source videos the data set holds out that none before it did."""
    query = select(func.count(DatasetItemRow.source_sha256.distinct())).where(
        DatasetItemRow.dataset_id == dataset_id, DatasetItemRow.split == Split.HOLDOUT.value, DatasetItemRow.fresh
    )
    return session.scalars(query).one()


def add_notices(session: Session, retraining_id: int, addresses: Sequence[str]) -> Sequence[RetrainingNotice]:
    """One for each address, those that are there already too."""
    for address in addresses:
        row = insert(RetrainingNotice).values(retraining_id=retraining_id, address=address)
        session.execute(row.on_conflict_do_nothing())
    return session.scalars(select(RetrainingNotice).where(RetrainingNotice.retraining_id == retraining_id)).all()


def lock_notice(session: Session, notice_id: int) -> RetrainingNotice | None:
    return session.get(RetrainingNotice, notice_id, with_for_update=True, populate_existing=True)


def lock_unsent(session: Session, silent_s: float, attempts: int, limit: int) -> Sequence[RetrainingNotice]:
    """Notices whose last message went out so long ago, which weren't given up."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    waits = and_(
        RetrainingNotice.sent_at.is_(None),
        RetrainingNotice.attempts < attempts,
        RetrainingNotice.dispatched_at < border,
    )
    query = select(RetrainingNotice).where(waits).order_by(RetrainingNotice.id).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()

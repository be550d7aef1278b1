"""Queries on publications that can be made many at a time: those whose task nobody ever tried to make."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Engine, Table, bindparam, exists, func, select, text, update
from sqlalchemy.orm import Session, aliased

from backend.db.repositories.renditions import same_window
from backend.db.session import SessionFactory
from backend.db.tables import Publication, RenditionRow, Run

_LOCKS = text(
    "SELECT pg_advisory_lock(hashtextextended(key, 0)) FROM unnest(CAST(:keys AS text[])) AS key ORDER BY key"
)
_UNLOCKS = text("SELECT pg_advisory_unlock(hashtextextended(key, 0)) FROM unnest(CAST(:keys AS text[])) AS key")


def _untried(target: str) -> ColumnElement[bool]:
    """Never tried itself, nor any other of its video and instruction: its task can't be there yet. And it is settled
    what is shown of the video, without a word to be said about it."""
    other, other_run = aliased(Publication), aliased(Run)
    tried = (
        exists()
        .where(other.target == target, other.tried_at.is_not(None), other.run_id == other_run.id)
        .where(other_run.video_id == Run.video_id, other_run.instruction_id == Run.instruction_id)
        .where(same_window(other, Publication))
    )
    settled = RenditionRow.state == "ready"
    # A window is never shown as it is: there is no file of it.
    settled |= (RenditionRow.state == "not_needed") & Publication.window_first_frame.is_(None)
    return (
        (Publication.target == target)
        & (Publication.state == "pending")
        & Publication.layer_id.is_(None)
        & Publication.tried_at.is_(None)
        & ~Publication.control
        & (Run.status == "succeeded")
        & exists().where(RenditionRow.video_id == Run.video_id, same_window(RenditionRow, Publication), settled)
        & ~tried
    )


def count_untried(session: Session, target: str, limit: int) -> int:
    """How many there are, up to `limit`."""
    found = select(Publication.id).join(Run).where(_untried(target)).limit(limit).subquery()
    return session.scalar(select(func.count()).select_from(found)) or 0


def take_untried(session: Session, target: str, limit: int) -> list[tuple[int, int, int]]:
    """(publication, video, instruction) of up to `limit` of them, one of each video, instruction and window, locked
    until the commit; those that another worker holds are left out."""
    query = (
        select(Publication.id, Run.video_id, Run.instruction_id, Publication.window_first_frame)
        .join(Run)
        .where(_untried(target))
    )
    rows = session.execute(
        query.order_by(Publication.id).limit(limit).with_for_update(of=Publication, skip_locked=True)
    ).all()
    first: dict[tuple[int, int, int | None], int] = {}
    for publication_id, video_id, instruction_id, window_first_frame in rows:
        first.setdefault((video_id, instruction_id, window_first_frame), publication_id)
    return [(publication_id, *key[:2]) for key, publication_id in first.items()]


def note_tried(session: Session, publication_ids: Sequence[int]) -> None:
    session.execute(
        update(Publication)
        .where(Publication.id.in_(publication_ids))
        .values(tried_at=func.clock_timestamp(), attempts=Publication.attempts + 1)
    )


def set_published(session: Session, task_ids: Mapping[int, int]) -> None:
    """Publications that were made, with their tasks; which predictions they have is found when they are needed."""
    rows: list[dict[str, Any]] = [{"pk": key, "task": task_id} for key, task_id in task_ids.items()]
    if rows:
        table = Publication.__table__
        assert isinstance(table, Table)
        session.connection().execute(
            update(table)
            .where(table.c.id == bindparam("pk"), table.c.state == "pending")
            .values(state="published", task_id=bindparam("task"), last_error=None, published_at=func.clock_timestamp()),
            rows,
        )


def without_prediction(session: Session, target: str, task_id: int) -> Sequence[Publication]:
    """The task's publications whose prediction isn't known yet."""
    query = select(Publication).where(
        Publication.target == target, Publication.task_id == task_id, Publication.prediction_id.is_(None)
    )
    return session.scalars(query.where(Publication.state == "published")).all()


@contextmanager
def exclusive(factory: SessionFactory, keys: Sequence[tuple[int, int]]) -> Iterator[None]:
    """As `publications.exclusive`, for many (video, instruction) at once."""
    engine = factory.kw["bind"]
    assert isinstance(engine, Engine)
    names = {"keys": sorted(f"premask:publish:{video_id}:{instruction_id}" for video_id, instruction_id in keys)}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(_LOCKS, names)
        try:
            yield
        finally:
            connection.execute(_UNLOCKS, names)

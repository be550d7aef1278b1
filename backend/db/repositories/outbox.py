"""Queries on the outbox and on the workers' heartbeats."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import OutboxMessage, WorkerHeartbeat


def add(session: Session, task: str, queue: str, payload: Mapping[str, Any], delay_s: float) -> int:
    """Write one message, to be sent `delay_s` seconds from now at the earliest; its id."""
    message = OutboxMessage(
        task=task, queue=queue, payload=dict(payload), available_at=func.now() + timedelta(seconds=delay_s)
    )
    session.add(message)
    session.flush()
    return message.id


def lock_due(session: Session, limit: int, ids: Sequence[int] | None = None) -> Sequence[OutboxMessage]:
    """Unsent messages whose time has come, oldest first, locked; those another relay holds are left out."""
    query = (
        select(OutboxMessage)
        .where(OutboxMessage.sent_at.is_(None), OutboxMessage.available_at <= func.clock_timestamp())
        .order_by(OutboxMessage.available_at, OutboxMessage.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if ids is not None:
        query = query.where(OutboxMessage.id.in_(ids))
    return session.scalars(query).all()


def mark_sent(session: Session, ids: Sequence[int]) -> None:
    session.execute(update(OutboxMessage).where(OutboxMessage.id.in_(ids)).values(sent_at=func.clock_timestamp()))


def delete_sent(session: Session, older_than_s: float) -> int:
    """Delete what was sent longer ago than that; how many rows went."""
    border = func.now() - timedelta(seconds=older_than_s)
    result = session.execute(delete(OutboxMessage).where(OutboxMessage.sent_at < border).returning(OutboxMessage.id))
    return len(result.all())


def beat(session: Session, name: str, queue: str) -> None:
    """Write down that this worker is alive."""
    row = insert(WorkerHeartbeat).values(name=name, queue=queue, seen_at=func.clock_timestamp())
    session.execute(
        row.on_conflict_do_update(
            index_elements=[WorkerHeartbeat.name], set_={"queue": queue, "seen_at": func.clock_timestamp()}
        )
    )


def alive(session: Session, within_s: float) -> dict[str, datetime]:
    """The queues somebody has served within so many seconds, with the last sign of life on each."""
    border = func.clock_timestamp() - timedelta(seconds=within_s)
    rows = session.execute(
        select(WorkerHeartbeat.queue, func.max(WorkerHeartbeat.seen_at).label("last"))
        .where(WorkerHeartbeat.seen_at > border)
        .group_by(WorkerHeartbeat.queue)
    )
    return {row.queue: row.last for row in rows}


def delete_heartbeats_of(session: Session, name: str) -> None:
    session.execute(
        delete(WorkerHeartbeat).where(
            (WorkerHeartbeat.name == name) | func.starts_with(WorkerHeartbeat.name, f"{name}/")
        )
    )


def delete_heartbeats(session: Session, older_than_s: float) -> None:
    session.execute(
        delete(WorkerHeartbeat).where(WorkerHeartbeat.seen_at < func.now() - timedelta(seconds=older_than_s))
    )

"""Messages to the broker, written in the same transaction as the change they announce; and who is alive."""

from typing import Any

from sqlalchemy import Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.db.tables.base import Base, CreatedAt, Id, Moment


class OutboxMessage(Base):
    """`payload` carries ids only: Postgres owns the state. Sent rows are kept for a day for the operator to look at."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_unsent", "available_at", postgresql_where=text("sent_at IS NULL")),)

    id: Mapped[Id]
    task: Mapped[str] = mapped_column(String(100))
    queue: Mapped[str] = mapped_column(String(50))
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
    available_at: Mapped[CreatedAt]
    sent_at: Mapped[Moment | None]


class WorkerHeartbeat(Base):
    __tablename__ = "worker_heartbeats"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    queue: Mapped[str] = mapped_column(String(50))
    seen_at: Mapped[Moment]

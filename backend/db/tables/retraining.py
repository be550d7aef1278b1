"""Retrainings: when a project's corrections are learned from, and each time that they were."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.datasets import Dataset
from backend.db.tables.models import ModelVersion, VerdictRow
from backend.db.tables.projects import Project
from backend.domain.retraining import OPEN, RetrainingState

_STATES = ", ".join(f"'{state}'" for state in RetrainingState)
_OPEN = ", ".join(sorted(f"'{state}'" for state in OPEN))


class RetrainingSchedule(Base):
    """`cron` in `time_zone` (an IANA name); `next_at`: when it is due next, None: it is off. `plan`:
    `services.schedules.Plan`."""

    __tablename__ = "retraining_schedules"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    cron: Mapped[str] = mapped_column(String(200))
    time_zone: Mapped[str] = mapped_column(String(64))
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB)
    next_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]

    project: Mapped[Project] = relationship()


class Retraining(Base):
    """One time. Claimed by fence and lease as a run is; `device`: what it trains on, one at a time.

    `due_at`: the moment that it was asked for; reviews until then count. `base_id`: the version it begins with;
    `said`: how it ended, in a sentence; `timings_s`: seconds by stage; `figures`: what training told of itself.
    """

    __tablename__ = "retrainings"
    __table_args__ = (
        CheckConstraint(f"state IN ({_STATES})", name="state"),
        CheckConstraint("state <> 'running' OR lease_expires_at IS NOT NULL", name="running_has_lease"),
        CheckConstraint("stage_progress BETWEEN 0 AND 1", name="stage_progress"),
        UniqueConstraint("project_id", "due_at"),
        Index("uq_retrainings_device", "device", unique=True, postgresql_where=text("state = 'running'")),
        Index("uq_retrainings_open", "project_id", unique=True, postgresql_where=text(f"state IN ({_OPEN})")),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    who: Mapped[str] = mapped_column(String(200))
    plan: Mapped[dict[str, Any]] = mapped_column(JSONB)
    due_at: Mapped[Moment]
    state: Mapped[str] = mapped_column(String(16), server_default="queued")
    said: Mapped[str | None] = mapped_column(Text)
    stage: Mapped[str | None] = mapped_column(String(16))
    stage_progress: Mapped[float] = mapped_column(server_default="0")
    stage_began_at: Mapped[Moment | None]
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    worker: Mapped[str | None] = mapped_column(String(200))
    device: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[Moment | None]
    dispatched_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]
    corrections: Mapped[int | None]
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id"))
    base_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    candidate_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    verdict_id: Mapped[int | None] = mapped_column(ForeignKey("verdicts.id"))
    timings_s: Mapped[dict[str, float]] = mapped_column(JSONB, server_default="{}")
    figures: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")

    project: Mapped[Project] = relationship()
    dataset: Mapped[Dataset | None] = relationship()
    base: Mapped[ModelVersion | None] = relationship(foreign_keys=base_id)
    candidate: Mapped[ModelVersion | None] = relationship(foreign_keys=candidate_id)
    verdict: Mapped[VerdictRow | None] = relationship()
    notices: Mapped[list["RetrainingNotice"]] = relationship(order_by="RetrainingNotice.id")


class RetrainingNotice(Base):
    """One who is told how it ended: `https://…` or `mailto:…`. `problem`: why the last try failed."""

    __tablename__ = "retraining_notices"
    __table_args__ = (UniqueConstraint("retraining_id", "address"),)

    id: Mapped[Id]
    retraining_id: Mapped[int] = mapped_column(ForeignKey("retrainings.id", ondelete="CASCADE"))
    address: Mapped[str] = mapped_column(String(2000))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    dispatched_at: Mapped[Moment | None]
    sent_at: Mapped[Moment | None]
    problem: Mapped[str | None] = mapped_column(Text)

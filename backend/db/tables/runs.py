"""Runs and everything a run found: keyframes, detections, tracks, masks; and where it was published."""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.checkpoints import RunWay
from backend.db.tables.models import ModelVersion
from backend.db.tables.projects import Instruction
from backend.db.tables.videos import Video
from backend.domain.windows import Window, window_from

_STATUSES = "'queued', 'running', 'succeeded', 'no_target', 'failed', 'quarantined', 'cancelled'"


class Run(Base):
    """One instruction × one video × one model version × one pipeline configuration.

    A `shadow` is a challenger's beside the champion's: never published. Which version a run has is settled when it
    is first claimed; from then on it is the one that made everything in the row.

    `fence` grows by one with each claim; every write of a worker is conditional on it. `attempt` is committed before
    the work begins, so that a job that kills its worker ends in quarantine. `dispatched_at` is when a message for it
    was (or will be) last sent: a queued run that nobody took long after that is sent again.
    """

    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint(
            "video_id", "instruction_id", "model_version_id", "config_digest", "shadow", name="uq_runs_identity"
        ),
        CheckConstraint(f"status IN ({_STATUSES})", name="status"),
        CheckConstraint("status <> 'running' OR lease_expires_at IS NOT NULL", name="running_has_lease"),
        CheckConstraint("status <> 'failed' OR outcome_reason IS NOT NULL", name="failed_has_reason"),
        Index("ix_runs_lease", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("ix_runs_status_queued_at", "status", "queued_at"),
    )

    id: Mapped[Id]
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id"))
    instruction_id: Mapped[int] = mapped_column(ForeignKey("instructions.id"), index=True)
    model_version_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"), index=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB)
    config_digest: Mapped[str] = mapped_column(String(64))
    shadow: Mapped[bool] = mapped_column(server_default="false")
    created_at: Mapped[CreatedAt]

    status: Mapped[str] = mapped_column(String(16), server_default="queued")
    stage: Mapped[str | None] = mapped_column(String(16))
    stage_progress: Mapped[float] = mapped_column(Float, server_default="0")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    worker: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[Moment | None]
    queued_at: Mapped[CreatedAt]
    dispatched_at: Mapped[Moment | None]
    started_at: Mapped[Moment | None]
    finished_at: Mapped[Moment | None]

    outcome_code: Mapped[str | None] = mapped_column(String(64))
    outcome_reason: Mapped[str | None] = mapped_column(Text)
    reasoning: Mapped[str | None] = mapped_column(Text)
    raw_output: Mapped[str | None] = mapped_column(Text)
    timings_s: Mapped[dict[str, float]] = mapped_column(JSONB, server_default="{}")
    warnings: Mapped[list[str]] = mapped_column(JSONB, server_default="[]")

    video: Mapped[Video] = relationship()
    instruction: Mapped[Instruction] = relationship()
    model_version: Mapped[ModelVersion] = relationship()
    keyframes: Mapped[list["KeyframeRow"]] = relationship(order_by="KeyframeRow.position", viewonly=True)
    tracks: Mapped[list["TrackRow"]] = relationship(order_by="TrackRow.index", viewonly=True)
    publications: Mapped[list["Publication"]] = relationship(viewonly=True)
    ways: Mapped[list[RunWay]] = relationship(viewonly=True)


class KeyframeRow(Base):
    __tablename__ = "keyframes"
    __table_args__ = (
        UniqueConstraint("run_id", "frame_index"),
        UniqueConstraint("run_id", "position"),
        CheckConstraint("frame_index >= 0", name="frame_index"),
    )

    id: Mapped[Id]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    frame_index: Mapped[int]
    position: Mapped[int]
    time_s: Mapped[float]
    segment_start_s: Mapped[float]
    segment_end_s: Mapped[float]
    description: Mapped[str] = mapped_column(Text)
    #: The least of its detections', 0 without one; null in runs of before it was kept.
    score: Mapped[float | None]
    #: `chosen` by System 1, or `reanchored`.
    origin: Mapped[str] = mapped_column(String(16), server_default="chosen")
    image_key: Mapped[str] = mapped_column(String(1024))

    detections: Mapped[list["DetectionRow"]] = relationship(order_by="DetectionRow.index", viewonly=True)


class TrackRow(Base):
    """`box_keyframes` are the fewest [frame_index, x1, y1, x2, y2, visible] that keep every interpolated box close.
    `evidence`: what speaks for the track (`domain.confidence.TrackEvidence`); `score` is made of it."""

    __tablename__ = "tracks"
    __table_args__ = (UniqueConstraint("run_id", "index"),)

    id: Mapped[Id]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    index: Mapped[int]
    label: Mapped[str] = mapped_column(Text)
    score: Mapped[float | None]
    box_keyframes: Mapped[list[list[Any]]] = mapped_column(JSONB, server_default="[]")
    evidence: Mapped[dict[str, float] | None] = mapped_column(JSONB(none_as_null=True))


class DetectionRow(Base):
    """The paper's tuple: a box (source pixels) on a keyframe. `evidence`: `domain.confidence.BoxEvidence`."""

    __tablename__ = "detections"
    __table_args__ = (
        UniqueConstraint("keyframe_id", "index"),
        CheckConstraint("x1 < x2 AND y1 < y2", name="box"),
    )

    id: Mapped[Id]
    keyframe_id: Mapped[int] = mapped_column(ForeignKey("keyframes.id", ondelete="CASCADE"))
    index: Mapped[int]
    x1: Mapped[float]
    y1: Mapped[float]
    x2: Mapped[float]
    y2: Mapped[float]
    label: Mapped[str] = mapped_column(Text)
    score: Mapped[float | None]
    track_id: Mapped[int | None] = mapped_column(ForeignKey("tracks.id", ondelete="SET NULL"), index=True)
    evidence: Mapped[dict[str, float] | None] = mapped_column(JSONB(none_as_null=True))


class MaskRow(Base):
    """COCO RLE of a track on a frame, at source resolution, written with COPY. No row: nothing visible there."""

    __tablename__ = "masks"
    __table_args__ = (CheckConstraint("area > 0", name="area"),)

    track_id: Mapped[int] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), primary_key=True)
    frame_index: Mapped[int] = mapped_column(primary_key=True)
    counts: Mapped[str] = mapped_column(Text)
    area: Mapped[int] = mapped_column(BigInteger)
    x1: Mapped[int]
    y1: Mapped[int]
    x2: Mapped[int]
    y2: Mapped[int]
    #: How likely this mask is right; null in runs of before it was kept.
    score: Mapped[float | None] = mapped_column(REAL)


class Publication(Base):
    """What was pushed where. `target` names the tool and its project, as `label_studio:<project id>`; `layer_id`: the
    corrected layer that was pushed, null for the run's own result. `window_*`: the part of the video that it is of,
    null for the whole."""

    __tablename__ = "publications"
    __table_args__ = (
        UniqueConstraint(
            "run_id",
            "target",
            "layer_id",
            "window_first_frame",
            "window_frame_count",
            name="uq_publications_once",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("(window_first_frame IS NULL) = (window_frame_count IS NULL)", name="window"),
        CheckConstraint("state IN ('pending', 'published', 'failed')", name="state"),
    )

    id: Mapped[Id]
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    target: Mapped[str] = mapped_column(String(200))
    layer_id: Mapped[int | None] = mapped_column(
        ForeignKey("corrected_layers.id", ondelete="CASCADE", use_alter=True), index=True
    )
    window_first_frame: Mapped[int | None]
    window_frame_count: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16), server_default="pending", index=True)
    #: Only the task is made, without a prediction: what people do with nothing is what predictions are measured by.
    control: Mapped[bool] = mapped_column(server_default=text("false"))
    task_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    prediction_id: Mapped[int | None] = mapped_column(BigInteger)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]
    dispatched_at: Mapped[Moment | None]
    #: When it was first attempted; from then on something of it may be in the tool.
    tried_at: Mapped[Moment | None]
    published_at: Mapped[Moment | None]

    @property
    def window(self) -> Window | None:
        """The part of the video that it is of; None: the whole."""
        return window_from(self.window_first_frame, self.window_frame_count)

"""Corrected layers: what a version of a review makes of the run's tracks and masks, whose own rows stay as they are.

A track of a layer holds the masks of its changed frames; on all others it is, bit by bit, the run's own track. The view
`corrected_layer_masks` puts the two together.
"""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, INT4MULTIRANGE, JSONB, Range
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.models import ModelVersion


class CorrectedLayer(Base):
    """One version of a review, worked into the run's result. Claimed by fence and lease as a run is.

    `superseded`: the annotation had been saved again, or deleted, before it was begun. `model_version_id`: whose
    segmenter carried the masks, null where nothing had to be carried; `config`: the settings that shaped the rest.
    """

    __tablename__ = "corrected_layers"
    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'ready', 'superseded', 'failed')", name="state"),
        CheckConstraint("state <> 'running' OR lease_expires_at IS NOT NULL", name="running_has_lease"),
        Index("ix_corrected_layers_open", "state", postgresql_where=text("state IN ('queued', 'running')")),
    )

    id: Mapped[Id]
    version_id: Mapped[int] = mapped_column(ForeignKey("review_versions.id", ondelete="CASCADE"), unique=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), index=True)
    state: Mapped[str] = mapped_column(String(16), server_default="queued")
    fence: Mapped[int] = mapped_column(BigInteger, server_default="0")
    attempt: Mapped[int] = mapped_column(Integer, server_default="0")
    worker: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[Moment | None]
    dispatched_at: Mapped[Moment | None]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[Moment | None]
    problem: Mapped[str | None] = mapped_column(Text)
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"), index=True)
    config: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    timings_s: Mapped[dict[str, float]] = mapped_column(JSONB, server_default="{}")

    model: Mapped[ModelVersion | None] = relationship(viewonly=True)
    tracks: Mapped[list["CorrectedTrackRow"]] = relationship(order_by="CorrectedTrackRow.index", viewonly=True)

    @property
    def model_version(self) -> str | None:
        """The digest of the model version."""
        return None if self.model is None else self.model.digest


class CorrectedTrackRow(Base):
    """`kept_track_id`: the run's track that it is on all frames but those of `changed`; null for a person's own. Frames
    on which a mask or a box is a person's are in `drawn_frames` (also where they took it away) and `boxed_frames`."""

    __tablename__ = "corrected_tracks"
    __table_args__ = (
        UniqueConstraint("layer_id", "index"),
        CheckConstraint("change IN ('untouched', 'edited', 'added', 'removed')", name="change"),
    )

    id: Mapped[Id]
    layer_id: Mapped[int] = mapped_column(ForeignKey("corrected_layers.id", ondelete="CASCADE"))
    index: Mapped[int]
    kept_track_id: Mapped[int | None] = mapped_column(ForeignKey("tracks.id", ondelete="CASCADE"), index=True)
    region_id: Mapped[str] = mapped_column(Text)
    label: Mapped[str] = mapped_column(Text)
    score: Mapped[float | None]
    change: Mapped[str] = mapped_column(String(16))
    changed: Mapped[list[Range[int]]] = mapped_column(INT4MULTIRANGE)
    drawn_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    boxed_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    box_keyframes: Mapped[list[list[Any]]] = mapped_column(JSONB, server_default="[]")


class CorrectedMaskRow(Base):
    """COCO RLE on a changed frame, as in `masks`. `source`: drawn by a person, or carried by the segmenter."""

    __tablename__ = "corrected_masks"
    __table_args__ = (
        CheckConstraint("area > 0", name="area"),
        CheckConstraint("source IN ('drawn', 'carried')", name="source"),
    )

    track_id: Mapped[int] = mapped_column(ForeignKey("corrected_tracks.id", ondelete="CASCADE"), primary_key=True)
    frame_index: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(8))
    counts: Mapped[str] = mapped_column(Text)
    area: Mapped[int] = mapped_column(BigInteger)
    x1: Mapped[int]
    y1: Mapped[int]
    x2: Mapped[int]
    y2: Mapped[int]

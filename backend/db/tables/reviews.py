"""What people gave back: the labeling tool's tasks as last read, annotations in every version, what was changed."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.corrected import CorrectedLayer
from backend.db.tables.runs import Publication

_CHANGES = "'untouched', 'edited', 'added', 'removed'"


class ReviewFeed(Base):
    """How far a project of the labeling tool has been read. Moments are the tool's, but for `polled_at` and `swept_at`,
    when it was last asked for what changed and for everything."""

    __tablename__ = "review_feeds"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    seen_until: Mapped[Moment | None]
    polled_at: Mapped[Moment | None]
    swept_at: Mapped[Moment | None]
    last_error: Mapped[str | None] = mapped_column(Text)


class ReviewTask(Base):
    """A task of the labeling tool as it was last read. `changed_at`: the tool's own time of its last change."""

    __tablename__ = "review_tasks"

    target: Mapped[str] = mapped_column(String(200), primary_key=True)
    task_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    changed_at: Mapped[Moment | None]
    read_at: Mapped[Moment | None]
    gone_at: Mapped[Moment | None]


class Review(Base):
    """An annotation in the labeling tool. `publication_id`: of the prediction that it was made from, null where it was
    made from none of ours. `deleted_at`: when it was found to be gone; its versions stay."""

    __tablename__ = "reviews"
    __table_args__ = (UniqueConstraint("target", "annotation_id"),)

    id: Mapped[Id]
    target: Mapped[str] = mapped_column(String(200))
    annotation_id: Mapped[int] = mapped_column(BigInteger)
    task_id: Mapped[int] = mapped_column(BigInteger)
    publication_id: Mapped[int | None] = mapped_column(ForeignKey("publications.id", ondelete="SET NULL"), index=True)
    annotator: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[CreatedAt]
    deleted_at: Mapped[Moment | None]

    publication: Mapped[Publication | None] = relationship(viewonly=True)
    versions: Mapped[list["ReviewVersion"]] = relationship(order_by="ReviewVersion.number", viewonly=True)


class ReviewVersion(Base):
    """What the annotation said at one time; never changed. `raw`: whole, as it came; `context`: what the labeling
    tool needs beside it to read it again; `problem`: why it can't be read."""

    __tablename__ = "review_versions"
    __table_args__ = (UniqueConstraint("review_id", "number"),)

    id: Mapped[Id]
    review_id: Mapped[int] = mapped_column(ForeignKey("reviews.id", ondelete="CASCADE"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    changed_at: Mapped[Moment]
    read_at: Mapped[CreatedAt]
    lead_time_s: Mapped[float | None]
    skipped: Mapped[bool]
    accepted: Mapped[bool | None]
    raw: Mapped[dict[str, Any]] = mapped_column(JSONB)
    context: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    problem: Mapped[str | None] = mapped_column(Text)

    tracks: Mapped[list["TrackCorrectionRow"]] = relationship(order_by="TrackCorrectionRow.position", viewonly=True)
    masks: Mapped[list["MaskCorrectionRow"]] = relationship(order_by="MaskCorrectionRow.position", viewonly=True)
    layer: Mapped[CorrectedLayer | None] = relationship(viewonly=True)


class TrackCorrectionRow(Base):
    """`domain.corrections.TrackCorrection` of one version; frames are decoder order from 0."""

    __tablename__ = "track_corrections"
    __table_args__ = (CheckConstraint(f"change IN ({_CHANGES})", name="change"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("review_versions.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    region_id: Mapped[str] = mapped_column(Text)
    change: Mapped[str] = mapped_column(String(16))
    label_before: Mapped[str | None] = mapped_column(Text)
    label_after: Mapped[str | None] = mapped_column(Text)
    touched_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    moved_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    resized_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    shown_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    hidden_frames: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    iou: Mapped[float]


class MaskCorrectionRow(Base):
    """`domain.corrections.MaskCorrection` of one version."""

    __tablename__ = "mask_corrections"
    __table_args__ = (CheckConstraint(f"change IN ({_CHANGES})", name="change"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("review_versions.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    region_id: Mapped[str] = mapped_column(Text)
    change: Mapped[str] = mapped_column(String(16))
    frame_index: Mapped[int]
    label_before: Mapped[str | None] = mapped_column(Text)
    label_after: Mapped[str | None] = mapped_column(Text)
    pixels_added: Mapped[int]
    pixels_removed: Mapped[int]
    iou: Mapped[float]

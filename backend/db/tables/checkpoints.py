"""How far a running run has come, so that another worker can go on from there; gone when the run is over."""

from sqlalchemy import CheckConstraint, ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from backend.db.tables.base import Base, Moment


class RunCheckpoint(Base):
    """`decision`: what System 1 and System 2 came to, as the pipeline writes it."""

    __tablename__ = "run_checkpoints"

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    decision: Mapped[bytes] = mapped_column(LargeBinary)
    decided_at: Mapped[Moment]


class RunWay(Base):
    """One walk of the segmenter over `steps` frames, of which `done` are carried; `plan` is the digest of what its
    round does. `state`: what the tracker remembers there (safetensors)."""

    __tablename__ = "run_ways"
    __table_args__ = (CheckConstraint("done BETWEEN 0 AND steps", name="done"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    plan: Mapped[str] = mapped_column(String(64))
    steps: Mapped[int]
    done: Mapped[int]
    state: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)


class CarriedMaskRow(Base):
    """COCO RLE of a detection's propagation on a frame; what tracks are put together from. No row: nothing visible."""

    __tablename__ = "carried_masks"
    __table_args__ = (CheckConstraint("area > 0", name="area"),)

    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    detection: Mapped[int] = mapped_column(primary_key=True)
    frame_index: Mapped[int] = mapped_column(primary_key=True)
    counts: Mapped[str] = mapped_column(Text)
    area: Mapped[int]
    x1: Mapped[int]
    y1: Mapped[int]
    x2: Mapped[int]
    y2: Mapped[int]
    predicted_iou: Mapped[float]
    objectness: Mapped[float]

"""Renditions: what is shown of a video in its place, where a browser would show the wrong frame, or nothing."""

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.domain.windows import Window, window_from

STATES = ("pending", "ready", "not_needed", "failed")


class RenditionRow(Base):
    """One row a video, from when it is known whether it needs one; one more for each window it is shown in. Frame n of
    a rendition is frame n of the video, or of the window.

    `reasons`: why the video can't be shown itself; null while nobody has looked. `key` is in the artifact bucket.
    `touched_at` moves whenever its making is sent for or shows a sign of life; `attempts` are committed before the
    work: a file that kills its reader is given up. In place of a failed one the video itself is shown; a window isn't.
    """

    __tablename__ = "renditions"
    __table_args__ = (
        CheckConstraint(f"state IN ({', '.join(map(repr, STATES))})", name="state"),
        CheckConstraint(
            "state <> 'ready' OR (key IS NOT NULL AND sha256 IS NOT NULL AND size_bytes IS NOT NULL"
            " AND fps_num > 0 AND fps_den > 0)",
            name="ready",
        ),
        UniqueConstraint(
            "video_id",
            "window_first_frame",
            "window_frame_count",
            name="uq_renditions_once",
            postgresql_nulls_not_distinct=True,
        ),
        CheckConstraint("(window_first_frame IS NULL) = (window_frame_count IS NULL)", name="window"),
        CheckConstraint("state <> 'failed' OR problem IS NOT NULL", name="failed_has_problem"),
    )

    id: Mapped[Id]
    video_id: Mapped[int] = mapped_column(ForeignKey("videos.id", ondelete="CASCADE"))
    window_first_frame: Mapped[int | None]
    window_frame_count: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16), server_default="pending", index=True)
    reasons: Mapped[list[str] | None] = mapped_column(JSONB)
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    touched_at: Mapped[CreatedAt]
    made_at: Mapped[Moment | None]
    seconds: Mapped[float | None]
    key: Mapped[str | None] = mapped_column(String(1024), index=True)
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    fps_num: Mapped[int | None]
    fps_den: Mapped[int | None]
    problem: Mapped[str | None] = mapped_column(Text)

    @property
    def window(self) -> Window | None:
        """The part of the video that it shows; None: the whole."""
        return window_from(self.window_first_frame, self.window_frame_count)

"""Videos: one object version each, and what probing found in it."""

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.renditions import RenditionRow


class Video(Base):
    """`pts` is the PTS table: zlib-compressed little-endian int64, in units of time_base_num / time_base_den seconds.

    `touched_at` moves whenever the probe is sent for or shows a sign of life; a pending video that nobody touched for
    long is sent for again. `probe_attempt` is committed before the probe: a file that kills its reader is given up.
    """

    __tablename__ = "videos"
    __table_args__ = (
        UniqueConstraint("bucket", "key", "version"),
        CheckConstraint("probe_status IN ('pending', 'ok', 'unreadable')", name="probe_status"),
        CheckConstraint(
            "probe_status <> 'ok' OR (frame_count > 0 AND width > 0 AND height > 0 AND pts IS NOT NULL"
            " AND time_base_num > 0 AND time_base_den > 0 AND rotation_deg IN (0, 90, 180, 270))",
            name="probed",
        ),
        CheckConstraint(
            "probe_status <> 'unreadable' OR (unreadable_reason IS NOT NULL AND unreadable_code IS NOT NULL)",
            name="unreadable_reason",
        ),
    )

    id: Mapped[Id]
    bucket: Mapped[str] = mapped_column(String(63))
    key: Mapped[str] = mapped_column(String(1024))
    version: Mapped[str] = mapped_column(String(1024))
    etag: Mapped[str] = mapped_column(String(200))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]

    probe_status: Mapped[str] = mapped_column(String(16), server_default="pending", index=True)
    probed_at: Mapped[Moment | None]
    probe_attempt: Mapped[int] = mapped_column(server_default="0")
    touched_at: Mapped[CreatedAt]
    unreadable_code: Mapped[str | None] = mapped_column(String(64))
    unreadable_reason: Mapped[str | None] = mapped_column(Text)
    sha256: Mapped[str | None] = mapped_column(String(64), index=True)
    frame_count: Mapped[int | None]
    width: Mapped[int | None]
    height: Mapped[int | None]
    rotation_deg: Mapped[int | None]
    duration_s: Mapped[float | None]
    has_audio: Mapped[bool | None]
    codec: Mapped[str | None] = mapped_column(String(64))
    time_base_num: Mapped[int | None]
    time_base_den: Mapped[int | None]
    #: Large for long videos: read only when asked for.
    pts: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)

    #: Of the whole video.
    rendition: Mapped[RenditionRow | None] = relationship(
        viewonly=True,
        primaryjoin=lambda: (Video.id == RenditionRow.video_id) & RenditionRow.window_first_frame.is_(None),
    )

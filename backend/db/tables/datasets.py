"""Data sets, frozen for ever, and the side of each source video. Triggers refuse to change or remove a row (0004)."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id

_SPLITS = "split IN ('train', 'holdout', 'neither')"


class SourceVideo(Base):
    """A video by its bytes. `split`: its side, for ever; `twin_of`: the video it resembled when that was decided.

    `frame_hashes`: perceptual hashes of frames spread over it, eight bytes each, big-endian. The bytes themselves lie
    in the artifact bucket under `media_key`.
    """

    __tablename__ = "source_videos"
    __table_args__ = (CheckConstraint(_SPLITS, name="split"),)

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    split: Mapped[str] = mapped_column(String(16))
    twin_of: Mapped[str | None] = mapped_column(ForeignKey("source_videos.sha256"))
    frame_hashes: Mapped[bytes] = mapped_column(LargeBinary)
    media_key: Mapped[str] = mapped_column(String(1024))
    media_size_bytes: Mapped[int] = mapped_column(BigInteger)
    source_uri: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]


class Dataset(Base):
    """A frozen data set. `files`: its manifests in the artifact bucket, by split: key, SHA-256, rows."""

    __tablename__ = "datasets"

    id: Mapped[Id]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    parent_digest: Mapped[str | None] = mapped_column(ForeignKey("datasets.digest"))
    origin: Mapped[str] = mapped_column(String(64))
    query: Mapped[dict[str, Any]] = mapped_column(JSONB)
    counts: Mapped[dict[str, Any]] = mapped_column(JSONB)
    files: Mapped[dict[str, dict[str, Any]]] = mapped_column(JSONB)
    code_version: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]

    items: Mapped[list["DatasetItemRow"]] = relationship(order_by="DatasetItemRow.position", viewonly=True)


class DatasetItemRow(Base):
    """Which item is in which data set, and what it came from. The ids are of rows that may be gone by now."""

    __tablename__ = "dataset_items"
    __table_args__ = (
        UniqueConstraint("dataset_id", "item_id"),
        CheckConstraint("split IN ('train', 'holdout')", name="split"),
    )

    dataset_id: Mapped[int] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(String(64), index=True)
    source_sha256: Mapped[str] = mapped_column(ForeignKey("source_videos.sha256"), index=True)
    split: Mapped[str] = mapped_column(String(16))
    fresh: Mapped[bool]
    mode: Mapped[str] = mapped_column(String(8))
    review_version_id: Mapped[int | None] = mapped_column(BigInteger)
    run_id: Mapped[int | None] = mapped_column(BigInteger)

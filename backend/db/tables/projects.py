"""Projects: which parts of storage they watch, and what they ask of every video there."""

from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id, Moment
from backend.db.tables.models import ModelVersion


class Project(Base):
    """`model_version_id`: the version its runs are pinned to; None: they follow the champion of their profile."""

    __tablename__ = "projects"
    __table_args__ = (
        CheckConstraint("control_share BETWEEN 0 AND 1", name="control_share"),
        CheckConstraint("window_s >= 0", name="window_s"),
        CheckConstraint("task_order IN ('uncertain', 'oldest', 'newest')", name="task_order"),
    )

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(200), unique=True)
    priority: Mapped[int] = mapped_column(default=0)
    label_studio_project_id: Mapped[int | None]
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    #: Whether what corrections make of a result is sent to the labeling tool as a fresh prediction.
    show_corrected: Mapped[bool] = mapped_column(server_default=text("false"))
    #: Whether its labelers are given masks for what they click on keyframe pages.
    interactive: Mapped[bool] = mapped_column(server_default=text("false"))
    #: The share of tasks that get no pre-annotation, to see what one is worth.
    control_share: Mapped[float] = mapped_column(server_default="0")
    #: Longer videos are shown in windows of at most so many seconds, a task each; 0: in one.
    window_s: Mapped[float] = mapped_column(server_default="0")
    #: Which tasks people are to see first. Null: as those have it who made its place in the labeling tool.
    task_order: Mapped[str | None] = mapped_column(String(16), server_default="uncertain")
    #: Where its place in the labeling tool is somebody else's: what was agreed to (`changes`), and the newest of the
    #: annotations of before, which are not read (`annotations_until`; null: all are). Null: the place is our own.
    adoption: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]

    model_version: Mapped[ModelVersion | None] = relationship()
    sources: Mapped[list["ProjectSource"]] = relationship(back_populates="project", order_by="ProjectSource.id")
    instructions: Mapped[list["Instruction"]] = relationship(back_populates="project", order_by="Instruction.id")


class ProjectSource(Base):
    """A storage prefix a project watches. `listed_until_key`: the listing's checkpoint; `swept_at`: its last start."""

    __tablename__ = "project_sources"
    __table_args__ = (UniqueConstraint("project_id", "bucket", "prefix"),)

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    bucket: Mapped[str] = mapped_column(String(63), index=True)
    prefix: Mapped[str] = mapped_column(String(1024))
    listed_until_key: Mapped[str | None] = mapped_column(String(1024))
    swept_at: Mapped[Moment | None]

    project: Mapped[Project] = relationship(back_populates="sources")


class Instruction(Base):
    """A referring instruction. Identity is (project, mode, text); the hash stands in for the text in the index.

    `key_prefixes`: applies only to videos whose key begins with one of these; empty: to all of the project's videos.
    """

    __tablename__ = "instructions"
    __table_args__ = (
        UniqueConstraint("project_id", "mode", "text_sha256"),
        CheckConstraint("mode IN ('vos', 'avs', 'aid')", name="mode"),
        CheckConstraint("length(text) BETWEEN 1 AND 100000", name="text_length"),
    )

    id: Mapped[Id]
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True)
    text: Mapped[str] = mapped_column(Text)
    text_sha256: Mapped[str] = mapped_column(String(64))
    mode: Mapped[str] = mapped_column(String(8))
    key_prefixes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default="{}")
    #: What its things are labelled as in the labeling tool, where that was chosen.
    label: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[CreatedAt]

    project: Mapped[Project] = relationship(back_populates="instructions")


class AdoptedTask(Base):
    """A task that was in an adopted project before. `video_uri`: the address of its video; `sha256`: of its bytes,
    where they were read. Once it is used, `video_id` and `instruction_id` say for what."""

    __tablename__ = "adopted_tasks"

    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    video_uri: Mapped[str | None] = mapped_column(Text, index=True)
    sha256: Mapped[str | None] = mapped_column(String(64))
    video_id: Mapped[int | None] = mapped_column(ForeignKey("videos.id", ondelete="SET NULL"), index=True)
    instruction_id: Mapped[int | None] = mapped_column(ForeignKey("instructions.id", ondelete="SET NULL"), index=True)

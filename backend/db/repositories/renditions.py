"""Queries on renditions."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import Instruction, Project, Publication, RenditionRow, Run, Video
from backend.domain.windows import Window, stored_as


def shows(table: type[Publication] | type[RenditionRow], window: Window | None) -> ColumnElement[bool]:
    """That rows of the table are of that window; None: of the whole video."""
    if window is None:
        return table.window_first_frame.is_(None)
    return (table.window_first_frame == window.first_frame) & (table.window_frame_count == window.frame_count)


def same_window(one: Any, other: Any) -> ColumnElement[bool]:
    """That rows of the two tables, or of two aliases of one, are of the same window, or both of the whole video."""
    return and_(
        one.window_first_frame.is_not_distinct_from(other.window_first_frame),
        one.window_frame_count.is_not_distinct_from(other.window_frame_count),
    )


def insert_missing(
    session: Session, video_id: int, state: str, reasons: Sequence[str] | None, window: Window | None = None
) -> bool:
    """Whether the video, or its window, had no row and has one now."""
    row = insert(RenditionRow).values(
        video_id=video_id, state=state, reasons=None if reasons is None else list(reasons), **stored_as(window)
    )
    return session.scalar(row.on_conflict_do_nothing().returning(RenditionRow.id)) is not None


def of_video(session: Session, video_id: int, window: Window | None = None) -> RenditionRow | None:
    query = select(RenditionRow).where(RenditionRow.video_id == video_id, shows(RenditionRow, window))
    return session.scalar(query.execution_options(populate_existing=True))


def only_in_windows(session: Session, video_id: int) -> bool:
    """Whether all projects that ask something of the video show it in windows."""
    longer = (Project.window_s > 0) & (Video.duration_s > Project.window_s) & Project.adoption.is_(None)
    query = (
        select(func.bool_and(longer))
        .select_from(Run)
        .join(Video, Video.id == Run.video_id)
        .join(Instruction, Instruction.id == Run.instruction_id)
        .join(Project, Project.id == Instruction.project_id)
        .where(Run.video_id == video_id)
    )
    return session.scalar(query) or False


def first_pending(session: Session, video_id: int) -> int | None:
    """The one of the video that is to be made next: the whole, then windows in their order."""
    query = select(RenditionRow.id).where(RenditionRow.video_id == video_id, RenditionRow.state == "pending")
    return session.scalar(query.order_by(RenditionRow.window_first_frame.asc().nulls_first()).limit(1))


def lock_pending(session: Session, rendition_id: int) -> RenditionRow | None:
    """The row, locked and read anew; None if it is gone or no longer pending."""
    return session.scalar(
        select(RenditionRow)
        .where(RenditionRow.id == rendition_id, RenditionRow.state == "pending")
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def lock_failed(session: Session, video_id: int) -> Sequence[RenditionRow]:
    query = select(RenditionRow).where(RenditionRow.video_id == video_id, RenditionRow.state == "failed")
    return session.scalars(query.order_by(RenditionRow.id).with_for_update()).all()


def lock_failed_publications(session: Session, video_id: int, window: Window) -> Sequence[Publication]:
    """Of the window: those that could not be made."""
    query = select(Publication).join(Run).where(Run.video_id == video_id, Publication.state == "failed")
    return session.scalars(query.where(shows(Publication, window)).with_for_update(of=Publication)).all()


def ready_at(session: Session, key: str) -> RenditionRow | None:
    """Of another video with the same bytes, if it was made for one."""
    return session.scalar(select(RenditionRow).where(RenditionRow.key == key, RenditionRow.state == "ready").limit(1))


def touch(session: Session, rendition_id: int) -> None:
    """A sign of life: it was sent for, or goes on."""
    session.execute(
        update(RenditionRow).where(RenditionRow.id == rendition_id).values(touched_at=func.clock_timestamp())
    )


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[RenditionRow]:
    """Pending ones that nobody has touched for so long."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    return session.scalars(
        select(RenditionRow)
        .where(RenditionRow.state == "pending", RenditionRow.touched_at < border)
        .order_by(RenditionRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def waiting_publications(session: Session, video_id: int, window: Window | None) -> Sequence[Publication]:
    """Publications of the video, or of that window of it, that are still to be made."""
    query = select(Publication).join(Run).where(Run.video_id == video_id, Publication.state == "pending")
    return session.scalars(query.where(shows(Publication, window)).order_by(Publication.id)).all()

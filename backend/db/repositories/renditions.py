"""Queries on renditions."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import Publication, RenditionRow, Run


def insert_missing(session: Session, video_id: int, state: str, reasons: Sequence[str] | None) -> bool:
    """Whether the video had no row and has one now."""
    row = insert(RenditionRow).values(
        video_id=video_id, state=state, reasons=None if reasons is None else list(reasons)
    )
    return session.scalar(row.on_conflict_do_nothing().returning(RenditionRow.video_id)) is not None


def of_video(session: Session, video_id: int) -> RenditionRow | None:
    return session.get(RenditionRow, video_id, populate_existing=True)


def lock_pending(session: Session, video_id: int) -> RenditionRow | None:
    """The row, locked and read anew; None if it is gone or no longer pending."""
    return session.scalar(
        select(RenditionRow)
        .where(RenditionRow.video_id == video_id, RenditionRow.state == "pending")
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def ready_at(session: Session, key: str) -> RenditionRow | None:
    """Of another video with the same bytes, if it was made for one."""
    return session.scalar(select(RenditionRow).where(RenditionRow.key == key, RenditionRow.state == "ready").limit(1))


def touch(session: Session, video_id: int) -> None:
    """A sign of life: it was sent for, or goes on."""
    session.execute(
        update(RenditionRow).where(RenditionRow.video_id == video_id).values(touched_at=func.clock_timestamp())
    )


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[RenditionRow]:
    """Pending ones that nobody has touched for so long."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    return session.scalars(
        select(RenditionRow)
        .where(RenditionRow.state == "pending", RenditionRow.touched_at < border)
        .order_by(RenditionRow.video_id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def waiting_publications(session: Session, video_id: int) -> Sequence[Publication]:
    """Publications of the video that are still to be made."""
    query = select(Publication).join(Run).where(Run.video_id == video_id, Publication.state == "pending")
    return session.scalars(query.order_by(Publication.id)).all()

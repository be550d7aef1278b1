"""Queries on how the labeling tool is doing."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import LabelingState, OutboxMessage, Publication, Review, ReviewFeed, ReviewVersion


def now(session: Session) -> datetime:
    moment = session.scalar(func.clock_timestamp().select())
    assert isinstance(moment, datetime)
    return moment


def troubled(session: Session, targets: Collection[str]) -> Sequence[str]:
    """Those of the targets whose last call failed."""
    query = select(LabelingState.target).where(LabelingState.target.in_(list(targets)), LabelingState.failures > 0)
    return session.scalars(query.order_by(LabelingState.target)).all()


def lock(session: Session, target: str) -> LabelingState:
    """The target's row, made if it is new, locked and read anew."""
    session.execute(insert(LabelingState).values(target=target).on_conflict_do_nothing())
    query = select(LabelingState).where(LabelingState.target == target).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()


def states(session: Session) -> dict[str, LabelingState]:
    return {row.target: row for row in session.scalars(select(LabelingState))}


def feed(session: Session, target: str) -> ReviewFeed | None:
    return session.get(ReviewFeed, target)


def publication_counts(session: Session, target: str) -> dict[str, int]:
    """How many publications to the target are in each state."""
    query = select(Publication.state, func.count()).where(Publication.target == target).group_by(Publication.state)
    return dict(session.execute(query).all())


def lag_s(session: Session, target: str) -> tuple[float, float] | None:
    """How long after it was saved in the tool, by its clock, a version of an annotation was here: median and 95th
    percentile of what was saved in the last day. None: nothing was."""
    lag = func.extract("epoch", ReviewVersion.read_at - ReviewVersion.changed_at)
    shares = [func.percentile_cont(share).within_group(lag) for share in (0.5, 0.95)]
    query = select(*shares).join(Review, Review.id == ReviewVersion.review_id).where(Review.target == target)
    since = func.clock_timestamp() - timedelta(days=1)
    median, high = session.execute(query.where(ReviewVersion.changed_at > since)).one()
    return None if median is None else (float(median), float(high))


def hasten(session: Session, task: str) -> None:
    """What was to be asked of workers later may be asked now."""
    session.execute(
        update(OutboxMessage)
        .where(OutboxMessage.task == task, OutboxMessage.sent_at.is_(None))
        .values(available_at=func.clock_timestamp())
    )
    due = func.coalesce(Publication.dispatched_at, Publication.created_at) > func.clock_timestamp()
    session.execute(
        update(Publication).where(Publication.state == "pending", due).values(dispatched_at=func.clock_timestamp())
    )


def close_publications(session: Session, target: str, reason: str) -> None:
    """Publications that are still pending to a target that is gone will never be made."""
    session.execute(
        update(Publication)
        .where(Publication.target == target, Publication.state == "pending")
        .values(state="failed", last_error=reason)
    )

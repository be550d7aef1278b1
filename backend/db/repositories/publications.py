"""Queries on publications, and the lock that keeps a video and instruction in one worker's hands while published."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from backend.db.session import SessionFactory
from backend.db.tables import MaskRow, Publication
from backend.domain.annotation import Box, Mask
from backend.domain.errors import ServiceUnavailable

_LOCK_NOT_AVAILABLE = "55P03"


@contextmanager
def exclusive(factory: SessionFactory, video_id: int, instruction_id: int, patience_s: float) -> Iterator[None]:
    """Nobody else publishes this video and instruction meanwhile: the labeling tool itself can't refuse duplicates.

    A lock of the connection, without a transaction, so that nothing is held but the lock; it dies with the process.
    Raises `ServiceUnavailable` when somebody else holds it for longer than `patience_s`.
    """
    engine = factory.kw["bind"]
    assert isinstance(engine, Engine)
    key = {"key": f"premask:publish:{video_id}:{instruction_id}"}
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT set_config('lock_timeout', :ms, false)"), {"ms": str(int(patience_s * 1000))})
        try:
            connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), key)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise ServiceUnavailable(
                f"another worker has published video {video_id}, instruction {instruction_id} for {patience_s:g} s now"
            ) from error
        finally:
            connection.execute(text("RESET lock_timeout"))
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(hashtextextended(:key, 0))"), key)


def pending_of(session: Session, run_id: int) -> Sequence[Publication]:
    """The run's publications that are still to be made."""
    return session.scalars(
        select(Publication).where(Publication.run_id == run_id, Publication.state == "pending").order_by(Publication.id)
    ).all()


def lock_pending(session: Session, publication_id: int) -> Publication | None:
    """The publication, locked and read anew; None if it is gone or no longer pending."""
    return session.scalar(
        select(Publication)
        .where(Publication.id == publication_id, Publication.state == "pending")
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def masks_on(
    session: Session, track_ids: Collection[int], frame_indices: Collection[int], height: int, width: int
) -> dict[int, dict[int, Mask]]:
    """The masks of these tracks on these frames, by track id and frame index. `height`, `width`: the video's."""
    rows = session.execute(
        select(
            MaskRow.track_id, MaskRow.frame_index, MaskRow.counts, MaskRow.area,
            MaskRow.x1, MaskRow.y1, MaskRow.x2, MaskRow.y2,
        ).where(MaskRow.track_id.in_(track_ids), MaskRow.frame_index.in_(frame_indices))
    )  # fmt: skip
    found: dict[int, dict[int, Mask]] = {}
    for track_id, frame_index, counts, area, x1, y1, x2, y2 in rows:
        found.setdefault(track_id, {})[frame_index] = Mask(height, width, counts, area, Box(x1, y1, x2, y2))
    return found


def set_published(publication: Publication, task_id: int, prediction_id: int | None) -> None:
    publication.state = "published"
    publication.task_id, publication.prediction_id = task_id, prediction_id
    publication.last_error = None
    publication.published_at = func.clock_timestamp()

"""Queries on reviews: the labeling tool's tasks, annotations in every version, and what was changed in each."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from backend.db.tables import (
    CorrectedLayer,
    MaskCorrectionRow,
    Project,
    Publication,
    Review,
    ReviewFeed,
    ReviewTask,
    ReviewVersion,
    TrackCorrectionRow,
)
from backend.domain.corrections import Corrections


def connected_projects(session: Session) -> Sequence[int]:
    """The labeling tool's projects that ours are connected to, each once."""
    query = select(Project.label_studio_project_id).where(Project.label_studio_project_id.is_not(None)).distinct()
    return [number for number in session.scalars(query.order_by(Project.label_studio_project_id)) if number is not None]


def lock_feed(session: Session, target: str) -> ReviewFeed:
    """The feed, made if it is new, locked."""
    session.execute(insert(ReviewFeed).values(target=target).on_conflict_do_nothing())
    return session.scalars(select(ReviewFeed).where(ReviewFeed.target == target).with_for_update()).one()


def lock_task(session: Session, target: str, task_id: int) -> ReviewTask:
    """The task, made if it is new, locked: of two who read it at once the second sees what the first wrote."""
    session.execute(insert(ReviewTask).values(target=target, task_id=task_id).on_conflict_do_nothing())
    query = select(ReviewTask).where(ReviewTask.target == target, ReviewTask.task_id == task_id)
    return session.scalars(query.with_for_update().execution_options(populate_existing=True)).one()


def known_tasks(session: Session, target: str, task_ids: Collection[int]) -> dict[int, datetime | None]:
    """Of those of the tasks that were read before: the tool's time of the change that was read last."""
    query = select(ReviewTask.task_id, ReviewTask.changed_at).where(
        ReviewTask.target == target, ReviewTask.task_id.in_(task_ids), ReviewTask.read_at.is_not(None)
    )
    return dict(session.execute(query).all())


def present_tasks(session: Session, target: str) -> set[int]:
    """The tasks that were still there when they were last read."""
    query = select(ReviewTask.task_id).where(ReviewTask.target == target, ReviewTask.gone_at.is_(None))
    return set(session.scalars(query))


def ensure_review(session: Session, target: str, task_id: int, annotation_id: int, **values: Any) -> Review:
    """The review of that annotation, made if it is new."""
    key = {"target": target, "annotation_id": annotation_id}
    session.execute(insert(Review).values(**key, task_id=task_id, **values).on_conflict_do_nothing())
    return session.scalars(select(Review).filter_by(**key)).one()


def latest_version(session: Session, review_id: int) -> ReviewVersion | None:
    query = select(ReviewVersion).where(ReviewVersion.review_id == review_id)
    return session.scalars(query.order_by(ReviewVersion.number.desc()).limit(1)).first()


def add_corrections(session: Session, version: ReviewVersion, made: Corrections) -> None:
    """The corrections of a version that has been flushed."""
    session.add_all(
        TrackCorrectionRow(
            version_id=version.id, position=position, region_id=one.region_id, change=one.change.value,
            label_before=one.label_before, label_after=one.label_after, touched_frames=list(one.touched_frames),
            moved_frames=list(one.moved_frames), resized_frames=list(one.resized_frames),
            shown_frames=list(one.shown_frames), hidden_frames=list(one.hidden_frames), iou=one.iou,
        )
        for position, one in enumerate(made.tracks)
    )  # fmt: skip
    session.add_all(
        MaskCorrectionRow(
            version_id=version.id, position=position, region_id=one.region_id, change=one.change.value,
            frame_index=one.frame_index, label_before=one.label_before, label_after=one.label_after,
            pixels_added=one.pixels_added, pixels_removed=one.pixels_removed, iou=one.iou,
        )
        for position, one in enumerate(made.masks)
    )  # fmt: skip
    session.flush()


def mark_deleted(session: Session, target: str, task_id: int, present: Collection[int]) -> int:
    """Note which reviews of the task are gone, and which of those are back; how many went."""
    of_task = (Review.target == target, Review.task_id == task_id)
    session.execute(update(Review).where(*of_task, Review.annotation_id.in_(present)).values(deleted_at=None))
    gone = session.execute(
        update(Review)
        .where(*of_task, Review.annotation_id.not_in(present), Review.deleted_at.is_(None))
        .values(deleted_at=func.clock_timestamp())
        .returning(Review.id)
    )
    return len(gone.all())


def publication_of(session: Session, target: str, prediction_id: int) -> Publication | None:
    """The publication that made this prediction, if it is one of ours."""
    query = select(Publication).where(Publication.target == target, Publication.prediction_id == prediction_id)
    return session.scalars(query).first()


def control_of(session: Session, target: str, task_id: int) -> Publication | None:
    """The newest publication that made the task and no prediction, if there is one."""
    query = select(Publication).where(
        Publication.target == target, Publication.task_id == task_id, Publication.control.is_(True)
    )
    return session.scalars(query.order_by(Publication.id.desc()).limit(1)).first()


def of_run(session: Session, run_id: int) -> Sequence[Review]:
    """The run's reviews with all versions and their corrections, oldest first."""
    versions = selectinload(Review.versions)
    query = (
        select(Review)
        .join(Publication, Review.publication_id == Publication.id)
        .where(Publication.run_id == run_id)
        .options(
            versions.selectinload(ReviewVersion.tracks),
            versions.selectinload(ReviewVersion.masks),
            versions.selectinload(ReviewVersion.layer).selectinload(CorrectedLayer.tracks),
            versions.selectinload(ReviewVersion.layer).selectinload(CorrectedLayer.model),
        )
        .order_by(Review.target, Review.annotation_id)
    )
    return session.scalars(query).all()

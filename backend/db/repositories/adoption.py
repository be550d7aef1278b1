"""Queries on adopted projects: the tasks that were there before, what they are used for, what isn't to be read."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import AdoptedTask, Project, Publication, ReviewFeed, ReviewTask, Run, Video
from backend.domain.adoption import PlaceTask


def project_at(session: Session, label_studio_project_id: int) -> Project | None:
    """The project whose place in the labeling tool that is."""
    query = select(Project).where(Project.label_studio_project_id == label_studio_project_id)
    return session.scalars(query.order_by(Project.id).limit(1)).first()


def is_adopted(session: Session, label_studio_project_id: int) -> bool:
    project = project_at(session, label_studio_project_id)
    return project is not None and project.adoption is not None


def annotations_until(session: Session, label_studio_project_id: int) -> int:
    """The newest annotation of the place that isn't to be read; 0: all are."""
    project = project_at(session, label_studio_project_id)
    if project is None or project.adoption is None:
        return 0
    return int(project.adoption.get("annotations_until") or 0)


def keep_tasks(session: Session, project_id: int, tasks: Collection[PlaceTask], digests: Mapping[int, str]) -> None:
    """The project's tasks are these; what they are used for stays. `digests`: SHA-256 of the videos that were read, by
    task."""
    present = [task.task_id for task in tasks]
    session.execute(
        delete(AdoptedTask).where(AdoptedTask.project_id == project_id, AdoptedTask.task_id.not_in(present))
    )
    for task in tasks:
        values: dict[str, Any] = {"video_uri": task.video_uri}
        if task.task_id in digests:
            values["sha256"] = digests[task.task_id]
        row = insert(AdoptedTask).values(project_id=project_id, task_id=task.task_id, **values)
        session.execute(row.on_conflict_do_update(index_elements=["project_id", "task_id"], set_=values))


def claim_task(session: Session, project_id: int, video: Video, instruction_id: int) -> int | None:
    """The task that is used for that video and instruction: the one that was before, or the first with that video that
    nothing uses yet. None: there is none."""
    mine = (AdoptedTask.project_id == project_id, AdoptedTask.video_id == video.id)
    known = session.scalar(select(AdoptedTask.task_id).where(*mine, AdoptedTask.instruction_id == instruction_id))
    if known is not None:
        return known
    uri = f"s3://{video.bucket}/{video.key}"
    same = AdoptedTask.video_uri == uri
    if video.sha256 is not None:
        same = or_(same, AdoptedTask.sha256 == video.sha256)
    row = session.scalars(
        select(AdoptedTask)
        .where(AdoptedTask.project_id == project_id, AdoptedTask.instruction_id.is_(None), same)
        .order_by(case((AdoptedTask.video_uri == uri, 0), else_=1), AdoptedTask.task_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    row.video_id, row.instruction_id = video.id, instruction_id
    session.flush()
    return row.task_id


def known_digests(session: Session, digests: Iterable[str]) -> set[str]:
    """Those of the digests that are of videos we know."""
    return {found for found in session.scalars(select(Video.sha256).where(Video.sha256.in_(list(digests)))) if found}


def note_read(session: Session, target: str, tasks: Iterable[PlaceTask]) -> None:
    """What was done in these tasks so far needn't be read."""
    for task in tasks:
        row = insert(ReviewTask).values(
            target=target, task_id=task.task_id, changed_at=task.changed_at, read_at=func.clock_timestamp()
        )
        session.execute(row.on_conflict_do_nothing())


def read_anew(session: Session, target: str) -> None:
    """Every task of the target is read whole at the next pass."""
    session.execute(update(ReviewTask).where(ReviewTask.target == target).values(read_at=None, changed_at=None))
    session.execute(update(ReviewFeed).where(ReviewFeed.target == target).values(swept_at=None))


def failed_runs(session: Session, target: str) -> list[Run]:
    """Runs whose publication there failed."""
    query = select(Run).join(Publication, Publication.run_id == Run.id)
    failed = query.where(Publication.target == target, Publication.state == "failed", Publication.layer_id.is_(None))
    return list(session.scalars(failed.order_by(Run.id)))

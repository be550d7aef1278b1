"""Queries on runs: making them, the conditional writes of a worker, and lists of them."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased, joinedload, selectinload

from backend.db.repositories.renditions import same_window
from backend.db.tables import (
    Instruction,
    KeyframeRow,
    ModelVersion,
    Project,
    Publication,
    RenditionRow,
    Run,
    Video,
)
from backend.domain.errors import NotFound
from backend.domain.runs import PUBLISHABLE, RunStatus
from backend.ports.storage import ObjectVersion


def insert_missing(session: Session, rows: Sequence[dict[str, Any]]) -> Sequence[int]:
    """Write those runs that are not there yet; the ids of the new ones."""
    if not rows:
        return []
    statement = insert(Run).values(list(rows)).on_conflict_do_nothing(constraint="uq_runs_identity")
    return session.scalars(statement.returning(Run.id)).all()


def answered(
    session: Session, video_id: int, instruction_ids: Collection[int], config_digest: str, profile_name: str
) -> set[int]:
    """Which of the instructions have a run on the video, so configured, by any version of that profile."""
    query = (
        select(Run.instruction_id)
        .join(ModelVersion, Run.model_version_id == ModelVersion.id)
        .where(
            Run.video_id == video_id,
            Run.instruction_id.in_(list(instruction_ids)),
            Run.config_digest == config_digest,
            ~Run.shadow,
            ModelVersion.profile_name == profile_name,
        )
    )
    return set(session.scalars(query))


def twin_id(session: Session, run: Run, model_version_id: int) -> int | None:
    """The id of the run that this one would be with that version, if there is one."""
    query = select(Run.id).where(
        Run.video_id == run.video_id,
        Run.instruction_id == run.instruction_id,
        Run.model_version_id == model_version_id,
        Run.config_digest == run.config_digest,
        Run.shadow == run.shadow,
        Run.id != run.id,
    )
    return session.scalar(query)


def get(session: Session, run_id: int) -> Run:
    """The run with its video, instruction, project and model version. Raises `NotFound`."""
    query = select(Run).where(Run.id == run_id).options(*_context())
    run = session.scalar(query)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def get_whole(session: Session, run_id: int) -> Run:
    """`get` with keyframes, detections, tracks, publications and the ways of the segmenter; without masks. Raises
    `NotFound`."""
    query = (
        select(Run)
        .where(Run.id == run_id)
        .options(
            *_context(),
            selectinload(Run.keyframes).selectinload(KeyframeRow.detections),
            selectinload(Run.tracks),
            selectinload(Run.publications),
            selectinload(Run.ways),
        )
    )
    run = session.scalar(query)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def _context() -> tuple[Any, ...]:
    return (
        joinedload(Run.video).joinedload(Video.rendition),
        joinedload(Run.instruction).joinedload(Instruction.project),
        joinedload(Run.model_version),
    )


def lock(session: Session, run_id: int) -> Run:
    """The run, locked for change and read anew. Raises `NotFound`."""
    run = session.get(Run, run_id, with_for_update=True, populate_existing=True)
    if run is None:
        raise NotFound(f"there is no run {run_id}")
    return run


def lock_owned(session: Session, run_id: int, fence: int) -> Run | None:
    """The run, locked, if it is running and this fence is still the newest."""
    return session.scalar(
        select(Run)
        .where(Run.id == run_id, Run.fence == fence, Run.status == RunStatus.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def priority_of(session: Session, run_id: int) -> int | None:
    """Of the run's project; None: there is no such run."""
    query = select(Project.priority).join(Instruction, Instruction.project_id == Project.id)
    return session.scalar(query.join(Run, Run.instruction_id == Instruction.id).where(Run.id == run_id))


def highest_waiting(session: Session) -> int | None:
    """The highest priority of a project of which a run waits that may begin now; None where all projects have the same:
    then nothing need be compared."""
    low, high = session.execute(select(func.min(Project.priority), func.max(Project.priority))).one()
    if low == high:
        return None
    waits = exists().where(Instruction.project_id == Project.id, Run.instruction_id == Instruction.id, *_may_begin())
    return session.scalar(select(Project.priority).where(waits).order_by(Project.priority.desc()).limit(1))


def ready_on_video(
    session: Session, version: ObjectVersion, model_digest: str, priority: int | None = None
) -> int | None:
    """The id of the oldest run on that video, by that model version, that waits and may begin now; it is locked.
    `priority`: only of projects of that one."""
    on_it = (
        Run.video_id.in_(
            select(Video.id).where(
                Video.bucket == version.bucket, Video.key == version.key, Video.version == version.version
            )
        ),
        Run.model_version_id.in_(select(ModelVersion.id).where(ModelVersion.digest == model_digest)),
    )
    return session.scalar(_ready(priority, *on_it))


def ready(session: Session, priority: int | None = None, *, anywhere: bool = False) -> int | None:
    """The id of the oldest run that waits and may begin now, on a video that no worker is at, or `anywhere`; it is
    locked. `priority`: only of projects of that one."""
    return session.scalar(_ready(priority) if anywhere else _ready(priority, ~_at_work_on(Run.video_id)))


def is_worked_on_elsewhere(session: Session, run_id: int) -> bool:
    """Whether another run on the run's video is being carried out."""
    video_id = select(Run.video_id).where(Run.id == run_id).scalar_subquery()
    return bool(session.scalar(select(_at_work_on(video_id))))


def _at_work_on(video_id: Any) -> Any:
    other = aliased(Run)
    return exists().where(
        other.video_id == video_id,
        other.status == RunStatus.RUNNING,
        other.lease_expires_at > func.clock_timestamp(),
    )


def _may_begin() -> tuple[Any, ...]:
    return (
        Run.status == RunStatus.QUEUED,
        func.coalesce(Run.dispatched_at, Run.queued_at) <= func.clock_timestamp(),
        exists().where(Video.id == Run.video_id, Video.probe_status == "ok"),
    )


def _ready(priority: int | None, *conditions: Any) -> Select[int]:
    if priority is not None:
        of_project = exists().where(Instruction.project_id == Project.id, Project.priority == priority)
        conditions = (*conditions, of_project.where(Instruction.id == Run.instruction_id))
    return (
        select(Run.id)
        .where(*_may_begin(), *conditions)
        .order_by(Run.queued_at, Run.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def extend_lease(session: Session, run_id: int, fence: int, lease_s: float) -> bool:
    """Whether the lease was extended; False: the run is no longer this worker's."""
    return _owned_update(session, run_id, fence, lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_s))


def set_stage(session: Session, run_id: int, fence: int, stage: str, progress: float) -> bool:
    """Whether the stage was written; False: the run is no longer this worker's."""
    return _owned_update(session, run_id, fence, stage=stage, stage_progress=progress)


def _owned_update(session: Session, run_id: int, fence: int, **values: Any) -> bool:
    statement = (
        update(Run)
        .where(Run.id == run_id, Run.fence == fence, Run.status == RunStatus.RUNNING)
        .values(**values)
        .returning(Run.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def lock_queued_of_video(session: Session, video_id: int) -> Sequence[Run]:
    return session.scalars(
        select(Run).where(Run.video_id == video_id, Run.status == RunStatus.QUEUED).order_by(Run.id).with_for_update()
    ).all()


def lock_expired(session: Session, limit: int) -> Sequence[Run]:
    """Running runs whose lease is over, oldest first."""
    return session.scalars(
        select(Run)
        .where(Run.status == RunStatus.RUNNING, Run.lease_expires_at < func.clock_timestamp())
        .order_by(Run.lease_expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[Run]:
    """Queued runs of readable videos whose last message went out so long ago, or never."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    readable = exists().where(Video.id == Run.video_id, Video.probe_status == "ok")
    return session.scalars(
        select(Run)
        .where(Run.status == RunStatus.QUEUED, func.coalesce(Run.dispatched_at, Run.queued_at) < border, readable)
        .order_by(Run.queued_at, Run.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def lock_forgotten_publications(session: Session, silent_s: float, limit: int) -> Sequence[Publication]:
    """Pending publications whose last message went out so long ago, or never; not those that wait for a rendition."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    waits = exists().where(
        Run.id == Publication.run_id, RenditionRow.video_id == Run.video_id, RenditionRow.state == "pending",
        same_window(RenditionRow, Publication),
    )  # fmt: skip
    return session.scalars(
        select(Publication)
        .where(
            Publication.state == "pending",
            func.coalesce(Publication.dispatched_at, Publication.created_at) < border,
            ~waits,
        )
        .order_by(Publication.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def finished_without_publication(session: Session, project_id: int, target: str) -> Sequence[Run]:
    """The project's runs with a result that was never sent, nor is to be, to that target."""
    query = (
        select(Run)
        .options(*_context())
        .where(
            exists().where(Instruction.id == Run.instruction_id, Instruction.project_id == project_id),
            Run.status.in_(PUBLISHABLE),
            ~Run.shadow,
            ~exists().where(Publication.run_id == Run.id, Publication.target == target, Publication.layer_id.is_(None)),
        )
        .order_by(Run.id)
    )
    return session.scalars(query).all()


def page(
    session: Session,
    limit: int,
    before_id: int | None,
    *,
    statuses: Collection[str] = (),
    project: str | None = None,
    video_id: int | None = None,
) -> Sequence[Run]:
    """Newest first, those with a smaller id than `before_id`, with their video, instruction and project."""
    query = select(Run).options(*_context()).order_by(Run.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Run.id < before_id)
    if statuses:
        query = query.where(Run.status.in_(list(statuses)))
    if video_id is not None:
        query = query.where(Run.video_id == video_id)
    if project is not None:
        query = query.where(
            exists().where(
                Instruction.id == Run.instruction_id, Project.id == Instruction.project_id, Project.name == project
            )
        )
    return session.scalars(query).all()


def of_objects(session: Session, bucket: str, keys: Collection[str]) -> Sequence[Run]:
    """The runs of every version of those objects, oldest first, with their publications."""
    query = (
        select(Run)
        .join(Video, Run.video_id == Video.id)
        .where(Video.bucket == bucket, Video.key.in_(list(keys)))
        .options(*_context(), selectinload(Run.publications))
        .order_by(Run.id)
    )
    return session.scalars(query).all()

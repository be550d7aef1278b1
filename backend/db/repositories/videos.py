"""Queries on videos."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, selectinload

from backend.db.tables import Project, ProjectSource, Video
from backend.domain.errors import NotFound
from backend.ports.storage import ObjectVersion


def insert_if_new(session: Session, version: ObjectVersion) -> int | None:
    """The new video's id; None if that object version is there already (also if another transaction just wrote it)."""
    row = insert(Video).values(
        bucket=version.bucket,
        key=version.key,
        version=version.version,
        etag=version.etag,
        size_bytes=version.size_bytes,
    )
    return session.scalar(row.on_conflict_do_nothing().returning(Video.id))


def id_of(session: Session, bucket: str, key: str, version: str) -> int | None:
    return session.scalar(select(Video.id).where(Video.bucket == bucket, Video.key == key, Video.version == version))


def known(session: Session, bucket: str, versions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the (key, version) pairs that are videos already."""
    rows = session.execute(
        select(Video.key, Video.version).where(
            Video.bucket == bucket, tuple_(Video.key, Video.version).in_(list(versions))
        )
    )
    return {(key, version) for key, version in rows}


def get(session: Session, video_id: int) -> Video:
    """Raises `NotFound`."""
    video = session.get(Video, video_id)
    if video is None:
        raise NotFound(f"there is no video {video_id}")
    return video


def lock(session: Session, video_id: int) -> Video:
    """The video, locked for change and read anew. Raises `NotFound`."""
    video = session.get(Video, video_id, with_for_update=True, populate_existing=True)
    if video is None:
        raise NotFound(f"there is no video {video_id}")
    return video


def lock_watched_by(session: Session, project_id: int) -> Sequence[Video]:
    """The videos under the project's sources, locked in share mode: their probe status stays until the commit."""
    watched = exists().where(
        ProjectSource.project_id == project_id,
        ProjectSource.bucket == Video.bucket,
        func.starts_with(Video.key, ProjectSource.prefix),
    )
    return session.scalars(select(Video).where(watched).order_by(Video.id).with_for_update(read=True)).all()


def touch(session: Session, video_id: int) -> None:
    """A sign of life: the probe was sent for, or goes on."""
    session.execute(update(Video).where(Video.id == video_id).values(touched_at=func.clock_timestamp()))


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[Video]:
    """Videos still to be probed that nobody has touched for so long."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    return session.scalars(
        select(Video)
        .where(Video.probe_status == "pending", Video.touched_at < border)
        .order_by(Video.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def page(session: Session, limit: int, before_id: int | None, project: str | None = None) -> Sequence[Video]:
    """Newest first, those with a smaller id than `before_id`; of the project of that name if asked."""
    query = select(Video).options(selectinload(Video.rendition)).order_by(Video.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Video.id < before_id)
    if project is not None:
        query = query.where(
            exists().where(
                Project.name == project,
                ProjectSource.project_id == Project.id,
                ProjectSource.bucket == Video.bucket,
                func.starts_with(Video.key, ProjectSource.prefix),
            )
        )
    return session.scalars(query).all()

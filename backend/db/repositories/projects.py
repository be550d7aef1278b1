"""Queries on projects, their sources and instructions."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.orm import Session, joinedload, selectinload

from backend.db.tables import Instruction, Project, ProjectSource
from backend.domain.errors import NotFound

#: Who changes what is watched (projects, sources, instructions) excludes who reads it to make runs.
_WATCH_LOCK = 7_077_002


def lock_watch_shared(session: Session) -> None:
    """What is watched stays as it is until this transaction ends; any number of readers at once."""
    session.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _WATCH_LOCK})


def lock_watch(session: Session) -> None:
    """Nobody else reads or changes what is watched until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WATCH_LOCK})


def by_name(session: Session, name: str) -> Project:
    """Raises `NotFound`."""
    project = session.scalar(select(Project).where(Project.name == name).options(*_whole()))
    if project is None:
        raise NotFound(f"there is no project {name!r}")
    return project


def find(session: Session, name: str) -> Project | None:
    return session.scalar(select(Project).where(Project.name == name).options(*_whole()))


def all_projects(session: Session) -> Sequence[Project]:
    return session.scalars(select(Project).order_by(Project.name).options(*_whole())).all()


def _whole() -> tuple[Any, ...]:
    return selectinload(Project.sources), selectinload(Project.instructions), joinedload(Project.model_version)


def sources(session: Session) -> Sequence[ProjectSource]:
    return session.scalars(select(ProjectSource).order_by(ProjectSource.id)).all()


def set_checkpoint(session: Session, source_id: int, key: str | None) -> None:
    """Remember up to which key the source was listed."""
    session.execute(update(ProjectSource).where(ProjectSource.id == source_id).values(listed_until_key=key))


def is_watched(session: Session, bucket: str, key: str) -> bool:
    """Whether any project has a source that holds this key."""
    query = select(ProjectSource.id).where(ProjectSource.bucket == bucket, func.starts_with(key, ProjectSource.prefix))
    return session.scalar(query.limit(1)) is not None


def instructions_for(session: Session, bucket: str, key: str, project_id: int | None = None) -> Sequence[Instruction]:
    """The instructions that apply to an object: a source of their project holds it, and their own prefixes do."""
    prefix = func.unnest(Instruction.key_prefixes).column_valued("prefix")
    watched = select(ProjectSource.id).where(
        ProjectSource.project_id == Instruction.project_id,
        ProjectSource.bucket == bucket,
        func.starts_with(key, ProjectSource.prefix),
    )
    query = (
        select(Instruction)
        .where(
            watched.exists(),
            or_(
                func.cardinality(Instruction.key_prefixes) == 0,
                select(prefix).where(func.starts_with(key, prefix)).exists(),
            ),
        )
        .order_by(Instruction.id)
        .options(joinedload(Instruction.project))
    )
    if project_id is not None:
        query = query.where(Instruction.project_id == project_id)
    return session.scalars(query).all()


def instruction_of(session: Session, project_id: int, mode: str, text_sha256: str) -> Instruction | None:
    return session.scalar(
        select(Instruction).where(
            Instruction.project_id == project_id, Instruction.mode == mode, Instruction.text_sha256 == text_sha256
        )
    )

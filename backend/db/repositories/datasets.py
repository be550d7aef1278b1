"""Queries on data sets, on the sides of source videos, and on the reviews that data sets are made of."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, literal, select, text, tuple_
from sqlalchemy.orm import Session, aliased, joinedload, selectinload, undefer

from backend.db.tables import (
    Dataset,
    DatasetItemRow,
    Instruction,
    Project,
    Publication,
    Review,
    ReviewVersion,
    Run,
    SourceVideo,
    Video,
)
from backend.domain.errors import BadInput, NotFound

#: One freeze after the other decides the sides of videos.
_PLACING_LOCK = 7_077_003
_SHORTEST_PREFIX = 6


@dataclass(frozen=True, slots=True)
class ReviewedRow:
    """A review as it is now, without what is large. `sha256` is the video's; `accepted` None: it can't be compared."""

    version_id: int
    target: str
    annotation_id: int
    changed_at: datetime
    skipped: bool
    compared: bool
    mode: str
    instruction: str
    sha256: str
    windowed: bool


def read_one_state(session: Session) -> None:
    """Everything that this session reads is as it was at its first reading. Call it before anything else."""
    session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def check_projects(session: Session, names: Collection[str]) -> None:
    """Raises `NotFound` naming the first project that there isn't."""
    known = set(session.scalars(select(Project.name).where(Project.name.in_(names))))
    for name in names:
        if name not in known:
            raise NotFound(f"there is no project {name!r}")


def reviewed(session: Session, projects: Collection[str], until: datetime | None) -> list[ReviewedRow]:
    """The reviews of the projects' pre-annotations, each in its newest version (by `until`), the deleted left out."""
    newest = select(ReviewVersion.review_id, func.max(ReviewVersion.number).label("number"))
    if until is not None:
        newest = newest.where(ReviewVersion.changed_at <= until)
    latest = newest.group_by(ReviewVersion.review_id).subquery()
    query = (
        select(
            ReviewVersion.id, Review.target, Review.annotation_id, ReviewVersion.changed_at, ReviewVersion.skipped,
            ReviewVersion.accepted.is_not(None), Instruction.mode, Instruction.text, func.coalesce(Video.sha256, ""),
            Publication.window_first_frame.is_not(None),
        )
        .join(Review, Review.id == ReviewVersion.review_id)
        .join(latest, (latest.c.review_id == Review.id) & (latest.c.number == ReviewVersion.number))
        .join(Publication, Publication.id == Review.publication_id)
        .join(Run, Run.id == Publication.run_id)
        .join(Instruction, Instruction.id == Run.instruction_id)
        .join(Project, Project.id == Instruction.project_id)
        .join(Video, Video.id == Run.video_id)
        .where(Review.deleted_at.is_(None), Project.name.in_(projects), Video.sha256.is_not(None))
    )  # fmt: skip
    return [ReviewedRow(*tuple(row)) for row in session.execute(query)]


def whole_version(session: Session, version_id: int) -> tuple[ReviewVersion, Review, Run]:
    """The version with its corrections, its review, and the run it was made from with video, keyframes and tracks."""
    query = (
        select(ReviewVersion, Review, Run)
        .join(Review, Review.id == ReviewVersion.review_id)
        .join(Publication, Publication.id == Review.publication_id)
        .join(Run, Run.id == Publication.run_id)
        .where(ReviewVersion.id == version_id)
        .options(
            selectinload(ReviewVersion.tracks), selectinload(ReviewVersion.masks),
            joinedload(Run.video).options(undefer(Video.pts)),
            joinedload(Run.instruction).joinedload(Instruction.project), joinedload(Run.model_version),
            selectinload(Run.keyframes), selectinload(Run.tracks),
        )
    )  # fmt: skip
    version, review, run = session.execute(query).one()
    return version, review, run


def standing(session: Session, annotations: Collection[tuple[str, int]]) -> dict[tuple[str, int], str]:
    """Of those annotations (target, annotation id) that still stand, the digest of what they say now."""
    if not annotations:
        return {}
    latest = (
        select(ReviewVersion.digest, ReviewVersion.skipped)
        .where(ReviewVersion.review_id == Review.id)
        .order_by(ReviewVersion.number.desc())
        .limit(1)
        .lateral()
    )
    query = (
        select(Review.target, Review.annotation_id, latest.c.digest)
        .join(latest, literal(True))
        .where(
            tuple_(Review.target, Review.annotation_id).in_(list(annotations)), Review.deleted_at.is_(None),
            ~latest.c.skipped,
        )
    )  # fmt: skip
    return {(target, annotation_id): digest for target, annotation_id, digest in session.execute(query)}


def lock_placing(session: Session) -> None:
    """Nobody else decides a video's side until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PLACING_LOCK})


def sources(session: Session, sha256s: Collection[str] | None = None) -> dict[str, SourceVideo]:
    """The source videos whose side is known, by SHA-256: all, or of those asked for."""
    query = select(SourceVideo).order_by(SourceVideo.sha256)
    if sha256s is not None:
        query = query.where(SourceVideo.sha256.in_(sha256s))
    return {row.sha256: row for row in session.scalars(query)}


def add_sources(session: Session, rows: Iterable[SourceVideo]) -> None:
    """Write the sides of new videos; a twin may be among them."""
    for row in sorted(rows, key=lambda one: (one.twin_of is not None, one.sha256)):
        session.add(row)
        session.flush()


def find(session: Session, digest: str) -> Dataset | None:
    return session.scalar(select(Dataset).where(Dataset.digest == digest))


def get(session: Session, digest: str) -> Dataset:
    """The data set whose digest begins so. Raises `NotFound`, and `BadInput` where several do or it is too short."""
    if len(digest) < _SHORTEST_PREFIX:
        raise BadInput(f"give at least {_SHORTEST_PREFIX} characters of a data set's digest", code="ambiguous_digest")
    found = session.scalars(select(Dataset).where(Dataset.digest.startswith(digest, autoescape=True)).limit(2)).all()
    if not found:
        raise NotFound(f"there is no data set {digest}")
    if len(found) > 1:
        raise BadInput(f"several data sets begin with {digest}: give more of it", code="ambiguous_digest")
    return found[0]


def newest(session: Session) -> Dataset | None:
    return session.scalar(select(Dataset).order_by(Dataset.id.desc()).limit(1))


def page(session: Session, limit: int, before_id: int | None) -> Sequence[Dataset]:
    """Newest first, those with a smaller id than `before_id`."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit)
    return session.scalars(query if before_id is None else query.where(Dataset.id < before_id)).all()


def lineage(session: Session, digest: str) -> Sequence[Dataset]:
    """The data set and all that it goes back to, nearest first. Raises `NotFound`."""
    start = select(Dataset.id, Dataset.parent_digest, literal(0).label("step")).where(Dataset.digest == digest)
    chain = start.cte("chain", recursive=True)
    parent = aliased(Dataset)
    chain = chain.union_all(
        select(parent.id, parent.parent_digest, chain.c.step + 1).join(chain, parent.digest == chain.c.parent_digest)
    )
    query = select(Dataset).join(chain, chain.c.id == Dataset.id).order_by(chain.c.step)
    found = session.scalars(query).all()
    if not found:
        raise NotFound(f"there is no data set {digest}")
    return found


def item_ids(session: Session, dataset_ids: Collection[int]) -> set[str]:
    """The items of those data sets."""
    return set(session.scalars(select(DatasetItemRow.item_id).where(DatasetItemRow.dataset_id.in_(dataset_ids))))


def add(session: Session, dataset: Dataset, items: Iterable[dict[str, Any]]) -> None:
    """Write the data set with its items."""
    session.add(dataset)
    session.flush()
    session.add_all(DatasetItemRow(dataset_id=dataset.id, **values) for values in items)
    session.flush()

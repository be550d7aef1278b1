"""Queries on model versions, verdicts and promotions; and the lock under which aliases change."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from backend.db.tables import ModelVersion, Promotion, VerdictRow
from backend.domain.errors import BadInput, NotFound
from backend.domain.promotions import Action, Alias

_PROMOTION_LOCK, _MIRROR_LOCK = 7_077_005, 7_077_007


def lock_promotions(session: Session) -> None:
    """Nobody else changes an alias until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PROMOTION_LOCK})


def lock_mirror(session: Session) -> None:
    """Nobody else tells the registry of aliases until this transaction ends."""
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIRROR_LOCK})


def by_digest(session: Session, digest: str) -> ModelVersion:
    """The version with that digest, or with the only one that begins so. Raises `NotFound`, `BadInput`."""
    query = select(ModelVersion).where(ModelVersion.digest.startswith(digest, autoescape=True))
    found = session.scalars(query.options(joinedload(ModelVersion.parent)).limit(2)).all()
    if not found:
        raise NotFound(f"there is no model version {digest!r}")
    if len(found) > 1:
        raise BadInput(
            f"several model versions begin with {digest!r}; give more of the digest", code="ambiguous_digest"
        )
    return found[0]


def get(session: Session, version_id: int) -> ModelVersion:
    return session.get_one(ModelVersion, version_id)


def page(
    session: Session, limit: int, before_id: int | None, profile_name: str | None = None
) -> Sequence[ModelVersion]:
    """Newest first."""
    query = select(ModelVersion).options(joinedload(ModelVersion.parent)).order_by(ModelVersion.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(ModelVersion.id < before_id)
    if profile_name is not None:
        query = query.where(ModelVersion.profile_name == profile_name)
    return session.scalars(query).all()


def ensure(session: Session, digest: str, profile_name: str, profile: Mapping[str, Any]) -> int:
    """The id of the version with that digest, which is written if it is new."""
    known = session.scalar(select(ModelVersion.id).where(ModelVersion.digest == digest))
    if known is not None:
        return known
    row = insert(ModelVersion).values(digest=digest, profile_name=profile_name, profile=dict(profile))
    session.execute(row.on_conflict_do_nothing())
    return session.scalars(select(ModelVersion.id).where(ModelVersion.digest == digest)).one()


def latest(session: Session, profile_name: str, alias: Alias) -> Promotion | None:
    """The newest change of the alias; its `model_version` has it, None: nobody."""
    query = (
        select(Promotion)
        .where(Promotion.profile_name == profile_name, Promotion.alias == alias)
        .order_by(Promotion.id.desc())
        .options(joinedload(Promotion.model_version))
        .limit(1)
    )
    return session.scalar(query)


def champion_id(session: Session, profile_name: str) -> int | None:
    """The version that answers for the profile; None: nobody was ever promoted, the profile's own does."""
    query = (
        select(Promotion.model_version_id)
        .where(Promotion.profile_name == profile_name, Promotion.alias == Alias.CHAMPION)
        .order_by(Promotion.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def promotion_of(session: Session, profile_name: str, version_id: int) -> Promotion | None:
    """By which promotion the version last became champion."""
    query = (
        select(Promotion)
        .where(
            Promotion.profile_name == profile_name,
            Promotion.action == Action.PROMOTE,
            Promotion.model_version_id == version_id,
        )
        .order_by(Promotion.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def has_led(session: Session, profile_name: str, version_id: int) -> bool:
    """Whether the version was champion at some time."""
    query = select(Promotion.id).where(
        Promotion.profile_name == profile_name,
        Promotion.alias == Alias.CHAMPION,
        (Promotion.model_version_id == version_id) | (Promotion.previous_id == version_id),
    )
    return session.scalar(query.limit(1)) is not None


def history(
    session: Session, limit: int, before_id: int | None, profile_name: str | None = None
) -> Sequence[Promotion]:
    """Newest first."""
    query = (
        select(Promotion)
        .options(joinedload(Promotion.model_version), joinedload(Promotion.previous), joinedload(Promotion.verdict))
        .order_by(Promotion.id.desc())
        .limit(limit)
    )
    if before_id is not None:
        query = query.where(Promotion.id < before_id)
    if profile_name is not None:
        query = query.where(Promotion.profile_name == profile_name)
    return session.scalars(query).all()


def verdict_on(session: Session, candidate_id: int, champion_id: int) -> VerdictRow | None:
    """The newest verdict on the two."""
    query = (
        select(VerdictRow)
        .where(VerdictRow.candidate_id == candidate_id, VerdictRow.champion_id == champion_id)
        .order_by(VerdictRow.created_at.desc(), VerdictRow.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def verdicts_of(session: Session, candidate_id: int) -> Sequence[VerdictRow]:
    """Newest first."""
    query = select(VerdictRow).where(VerdictRow.candidate_id == candidate_id).options(joinedload(VerdictRow.champion))
    return session.scalars(query.order_by(VerdictRow.id.desc())).all()


def verdict_by_digest(session: Session, digest: str) -> VerdictRow:
    """Raises `NotFound`."""
    query = select(VerdictRow).where(VerdictRow.digest.startswith(digest, autoescape=True))
    found = session.scalars(query.options(joinedload(VerdictRow.candidate), joinedload(VerdictRow.champion))).first()
    if found is None:
        raise NotFound(f"there is no verdict {digest!r}")
    return found


def add_verdict(session: Session, **values: Any) -> None:
    """The same verdict again changes nothing but its time: it is the newest once more."""
    row = insert(VerdictRow).values(**values)
    session.execute(
        row.on_conflict_do_update(
            index_elements=[VerdictRow.digest],
            set_={"created_at": func.clock_timestamp(), "page_key": row.excluded.page_key},
        )
    )

"""Model versions: the weights behind the runs, by digest; what the gate said of them; and which one leads."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from backend.db.tables.base import Base, CreatedAt, Id


class ModelVersion(Base):
    """`profile` is the whole profile the version was made from, so that a run can be repeated. `parent_id`: the version
    it was trained from; `origin`: how (data set, steps, KL), as whoever registered it said."""

    __tablename__ = "model_versions"

    id: Mapped[Id]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    profile_name: Mapped[str] = mapped_column(String(200))
    profile: Mapped[dict[str, Any]] = mapped_column(JSONB)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    origin: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[CreatedAt]

    parent: Mapped["ModelVersion | None"] = relationship(remote_side="ModelVersion.id")


class VerdictRow(Base):
    """What the gate found, whole. The same scores and limits are one verdict. `page_key`: its page in the artifact
    bucket."""

    __tablename__ = "verdicts"
    __table_args__ = (Index("ix_verdicts_candidate_id_champion_id", "candidate_id", "champion_id"),)

    id: Mapped[Id]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    champion_id: Mapped[int] = mapped_column(ForeignKey("model_versions.id"))
    passed: Mapped[bool]
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)
    page_key: Mapped[str | None] = mapped_column(String(1024))
    created_at: Mapped[CreatedAt]

    candidate: Mapped[ModelVersion] = relationship(foreign_keys=candidate_id)
    champion: Mapped[ModelVersion] = relationship(foreign_keys=champion_id)


class Promotion(Base):
    """One change of an alias of a profile; the newest says which version has it. Rows are never changed: a trigger
    refuses it.

    `model_version_id` None: nobody has the alias from then on. `share`: of the traffic that a challenger runs beside.
    """

    __tablename__ = "promotions"
    __table_args__ = (
        CheckConstraint("alias IN ('champion', 'challenger')", name="alias"),
        CheckConstraint("action IN ('promote', 'rollback', 'challenge', 'withdraw')", name="action"),
        CheckConstraint("action <> 'promote' OR verdict_id IS NOT NULL", name="promoted_by_verdict"),
        CheckConstraint("alias <> 'champion' OR model_version_id IS NOT NULL", name="champion_is_somebody"),
        CheckConstraint("share IS NULL OR share > 0 AND share <= 1", name="share"),
        Index("ix_promotions_profile_name_alias_id", "profile_name", "alias", "id"),
    )

    id: Mapped[Id]
    profile_name: Mapped[str] = mapped_column(String(200))
    alias: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(16))
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    previous_id: Mapped[int | None] = mapped_column(ForeignKey("model_versions.id"))
    verdict_id: Mapped[int | None] = mapped_column(ForeignKey("verdicts.id"))
    share: Mapped[float | None]
    who: Mapped[str] = mapped_column(String(200))
    why: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]

    model_version: Mapped[ModelVersion | None] = relationship(foreign_keys=model_version_id)
    previous: Mapped[ModelVersion | None] = relationship(foreign_keys=previous_id)
    verdict: Mapped[VerdictRow | None] = relationship()

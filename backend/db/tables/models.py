"""Model versions: the weights behind the runs, by digest."""

from typing import Any

from sqlalchemy import String
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from backend.db.tables.base import Base, CreatedAt, Id


class ModelVersion(Base):
    """`profile` is the whole profile the version was made from, so that a run can be repeated."""

    __tablename__ = "model_versions"

    id: Mapped[Id]
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    profile_name: Mapped[str] = mapped_column(String(200))
    profile: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]

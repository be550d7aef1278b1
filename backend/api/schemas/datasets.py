"""Data sets."""

from datetime import datetime
from typing import Any

from backend.api.schemas.common import Row
from backend.db.tables import Dataset


class DatasetOut(Row):
    """`files`: the manifests in the artifact bucket, by split; `query`: what was asked for, with the seed."""

    digest: str
    parent_digest: str | None
    origin: str
    query: dict[str, Any]
    counts: dict[str, Any]
    files: dict[str, dict[str, Any]]
    code_version: str
    created_at: datetime

    @classmethod
    def of(cls, row: Dataset) -> "DatasetOut":
        return cls.model_validate(row)

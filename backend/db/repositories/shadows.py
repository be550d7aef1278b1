"""Queries on runs in the shadow of others: the view `shadow_comparisons` has a row for each pair of results."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, column, select, table
from sqlalchemy.orm import Session

_COLUMNS = (
    "shadow_run_id", "run_id", "project", "profile_name", "champion_digest", "challenger_digest", "champion_status",
    "challenger_status", "champion_tracks", "challenger_tracks", "champion_s", "challenger_s",
)  # fmt: skip
_COMPARISONS = table("shadow_comparisons", *(column(name) for name in _COLUMNS))


def newest(session: Session, profile_name: str, challenger_digest: str, limit: int) -> Sequence[Row[Any]]:
    """The newest pairs of that challenger, whoever was champion."""
    pairs = _COMPARISONS.c
    query = select(_COMPARISONS).where(pairs.profile_name == profile_name, pairs.challenger_digest == challenger_digest)
    return session.execute(query.order_by(pairs.shadow_run_id.desc()).limit(limit)).all()

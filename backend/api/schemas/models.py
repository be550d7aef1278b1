"""Model versions, verdicts and promotions."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from backend.api.schemas.common import Row
from backend.db.tables import ModelVersion, Promotion, VerdictRow
from backend.domain.promotions import Action, Alias


class ModelVersionOut(BaseModel):
    """`aliases`: which it has now. `parent`: the digest of the version it was trained from."""

    id: int
    digest: str
    profile_name: str
    aliases: list[Alias]
    parent: str | None
    trained_on: str
    origin: dict[str, Any]
    created_at: datetime

    @classmethod
    def of(cls, row: ModelVersion, aliases: Collection[Alias]) -> "ModelVersionOut":
        return cls(**_version_fields(row, aliases))


def _version_fields(row: ModelVersion, aliases: Collection[Alias]) -> dict[str, Any]:
    return {
        "id": row.id, "digest": row.digest, "profile_name": row.profile_name, "aliases": sorted(aliases),
        "parent": row.parent.digest if row.parent else None, "origin": row.origin, "created_at": row.created_at,
        "trained_on": row.profile["system1"]["weights"]["trained_on"],
    }  # fmt: skip


class VerdictOut(BaseModel):
    """`reasons`: why it was refused. `has_page`: its page can be read."""

    digest: str
    candidate: str
    champion: str
    passed: bool
    reasons: list[str]
    has_page: bool
    created_at: datetime

    @classmethod
    def of(cls, row: VerdictRow) -> "VerdictOut":
        return cls(**_verdict_fields(row))


def _verdict_fields(row: VerdictRow) -> dict[str, Any]:
    return {
        "digest": row.digest, "candidate": row.candidate.digest, "champion": row.champion.digest, "passed": row.passed,
        "reasons": [check["said"] for check in row.body["checks"] if check["passed"] is False],
        "has_page": row.page_key is not None, "created_at": row.created_at,
    }  # fmt: skip


class VerdictDetail(VerdictOut):
    """`body`: all figures, item by item."""

    body: dict[str, Any]

    @classmethod
    def of(cls, row: VerdictRow) -> "VerdictDetail":
        return cls(**_verdict_fields(row), body=row.body)


class ModelVersionDetail(ModelVersionOut):
    """`verdicts`: on it as a candidate, newest first."""

    profile: dict[str, Any]
    verdicts: list[VerdictOut]

    @classmethod
    def whole(
        cls, row: ModelVersion, aliases: Collection[Alias], verdicts: Iterable[VerdictRow]
    ) -> "ModelVersionDetail":
        told = [VerdictOut.of(verdict) for verdict in verdicts]
        return cls(**_version_fields(row, aliases), profile=row.profile, verdicts=told)


class PromotionOut(Row):
    """One change of an alias. `version` None: nobody had it from then on; `verdict`: by which it was promoted."""

    id: int
    profile_name: str
    alias: Alias
    action: Action
    version: str | None
    previous: str | None
    verdict: str | None
    share: float | None
    who: str
    why: str
    created_at: datetime

    @classmethod
    def of(cls, row: Promotion) -> "PromotionOut":
        own = ("id", "profile_name", "alias", "action", "share", "who", "why", "created_at")
        return cls(
            **{name: getattr(row, name) for name in own},
            version=row.model_version.digest if row.model_version else None,
            previous=row.previous.digest if row.previous else None,
            verdict=row.verdict.digest if row.verdict else None,
        )


class ShadowPairOut(Row):
    run_id: int
    shadow_run_id: int
    project: str
    champion_digest: str
    champion_found: bool
    challenger_found: bool
    champion_s: float
    challenger_s: float
    agreement: float


class ShadowFiguresOut(Row):
    """A challenger beside the champions of its time: `found` counts pairs, `agreement` is the mean IoU of what both
    found."""

    challenger_digest: str
    found: dict[str, int]
    agreement: float | None
    latency_ratio: float | None
    pairs: list[ShadowPairOut]

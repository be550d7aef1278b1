"""Retrainings and their schedules."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from backend.api.schemas.common import Row
from backend.db.tables import Retraining, RetrainingSchedule
from backend.domain.retraining import RetrainingStage, RetrainingState
from backend.services.schedules import Plan


class ScheduleIn(BaseModel):
    """`cron`: minute, hour, day, month, weekday, on clocks of `time_zone` (an IANA name)."""

    cron: str
    time_zone: str = "UTC"
    plan: Plan = Plan()


class ScheduleOut(BaseModel):
    project: str
    cron: str
    time_zone: str
    next_at: datetime | None
    plan: dict[str, Any]

    @classmethod
    def of(cls, row: RetrainingSchedule) -> "ScheduleOut":
        return cls(project=row.project.name, cron=row.cron, time_zone=row.time_zone, next_at=row.next_at, plan=row.plan)


class NoticeOut(Row):
    """`sent_at` None and a problem: it wasn't taken yet, or never will be."""

    address: str
    attempts: int
    sent_at: datetime | None
    problem: str | None


class RetrainingOut(BaseModel):
    """`said`: how it ended, or why the last attempt didn't. `base`, `candidate`: digests of model versions;
    `eta_at`: when it will have ended, as far as that can be told."""

    id: int
    project: str
    who: str
    due_at: datetime
    state: RetrainingState
    said: str | None
    stage: RetrainingStage | None
    stage_progress: float
    eta_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    device: str | None
    corrections: int | None
    dataset: str | None
    base: str | None
    candidate: str | None
    verdict: str | None
    timings_s: dict[str, float]
    figures: dict[str, Any]
    plan: dict[str, Any]
    notices: list[NoticeOut]

    @classmethod
    def of(cls, row: Retraining, eta_at: datetime | None) -> "RetrainingOut":
        own = (
            "id", "who", "due_at", "state", "said", "stage", "stage_progress", "started_at", "finished_at", "attempt",
            "device", "corrections", "timings_s", "figures", "plan",
        )  # fmt: skip
        digests = {
            name: found.digest if (found := getattr(row, name)) else None
            for name in ("dataset", "base", "candidate", "verdict")
        }
        return cls(
            **{name: getattr(row, name) for name in own}, **digests, project=row.project.name, eta_at=eta_at,
            notices=[NoticeOut.model_validate(notice) for notice in row.notices],
        )  # fmt: skip

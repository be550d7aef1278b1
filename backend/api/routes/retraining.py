"""The learning loop: when it turns, each time that it did, and how far it is."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from backend.api.deps import PageBounds, TheSession, next_cursor
from backend.api.schemas.common import Page
from backend.api.schemas.retraining import RetrainingOut, ScheduleIn, ScheduleOut
from backend.db.repositories import retraining as rows
from backend.db.tables import Retraining
from backend.services import retraining, schedules
from backend.services.schedules import Plan

router = APIRouter(tags=["retraining"])

#: Who asks by the API.
_API = "api"


def _told(session: Session, row: Retraining) -> RetrainingOut:
    return RetrainingOut.of(row, retraining.eta(session, row))


@router.get("/retrainings")
def list_retrainings(
    session: TheSession, bounds: PageBounds, project: Annotated[str | None, Query(description="only of it")] = None
) -> Page[RetrainingOut]:
    """Newest first."""
    found = rows.page(session, bounds.limit, bounds.before_id, project)
    items = [_told(session, row) for row in found]
    return Page(items=items, next_cursor=next_cursor([row.id for row in found], bounds.limit))


@router.get("/retrainings/{retraining_id}")
def show_retraining(retraining_id: int, session: TheSession) -> RetrainingOut:
    return _told(session, rows.get(session, retraining_id))


@router.post("/retrainings/{retraining_id}/cancel")
def cancel_retraining(retraining_id: int, session: TheSession) -> RetrainingOut:
    return _told(session, retraining.cancel(session, retraining_id, _API))


@router.get("/retraining-schedules")
def list_schedules(session: TheSession) -> list[ScheduleOut]:
    return [ScheduleOut.of(row) for row in schedules.schedules(session)]


@router.put("/projects/{name}/retraining-schedule")
def put_schedule(name: str, asked: ScheduleIn, session: TheSession) -> ScheduleOut:
    """Make the project's schedule, or change it."""
    return ScheduleOut.of(schedules.set_schedule(session, name, asked.cron, asked.time_zone, asked.plan))


@router.delete("/projects/{name}/retraining-schedule")
def delete_schedule(name: str, session: TheSession) -> ScheduleOut:
    """What the schedule was; what is under way goes on."""
    return ScheduleOut.of(schedules.remove_schedule(session, name))


@router.post("/projects/{name}/retrainings", status_code=201)
def start(name: str, session: TheSession, plan: Plan | None = None) -> RetrainingOut:
    """At once, by the plan given or the schedule's."""
    return _told(session, schedules.ask_now(session, name, _API, plan))

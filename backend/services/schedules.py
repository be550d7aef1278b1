"""When a project's corrections are learned from: schedules in cron's syntax, and the retrainings that they open."""

import logging
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadCronError, CroniterBadDateError, croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy.orm import Session

from backend.db.repositories import projects as project_rows
from backend.db.repositories import retraining as repository
from backend.db.tables import Retraining, RetrainingSchedule
from backend.domain.errors import BadInput, Conflict, NotFound
from backend.domain.retraining import OnPass
from backend.services import outbox
from backend.settings import RewardSettings, TrainingSettings

log = logging.getLogger(__name__)

#: Who asks for what a schedule opens.
SCHEDULE = "schedule"
#: In a plan's suites: the data set that the retraining makes.
THIS_DATASET = "dataset:this"
_BATCH = 100


def _toml(text: str) -> str:
    """Raises `ValueError` for what `premask train run --config` would refuse."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"no TOML: {error}") from error
    if other := sorted(given.keys() - {"training", "reward"}):
        raise ValueError(f"it has {', '.join(other)}; it may have the tables [training] and [reward]")
    TrainingSettings.model_validate(given.get("training", {}))
    RewardSettings.model_validate(given.get("reward", {}))
    return text


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.hostname:
        return text
    if parts.scheme == "mailto" and "@" in parts.path.strip("@"):
        return text
    raise ValueError(f"{text!r} is neither https://… nor mailto:somebody@somewhere")


class Plan(BaseModel):
    """What a retraining does. `config`: TOML with [training] and [reward], over the settings; `regression`: suites of
    the gate (docs/promotion.md), `dataset:this` is what the retraining's own data set holds out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_corrections: int = Field(20, ge=1, description="with fewer since it was last learned, nothing is done")
    config: Annotated[str, AfterValidator(_toml)] = ""
    replay_share: float = Field(0.3, ge=0, lt=1)
    avs_share: float | None = Field(None, ge=0, le=1)
    max_per_annotator: int | None = Field(None, ge=1)
    max_per_source: int | None = Field(None, ge=1)
    regression: tuple[str, ...] = Field((THIS_DATASET,), min_length=1)
    on_pass: OnPass = OnPass.PROMOTE
    challenge_share: float = Field(0.1, gt=0, le=1, description="of new videos, if it is to challenge")
    budget_h: float = Field(8.0, gt=0, description="hours from its start; training ends in time for the gate")
    notify: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    notify_on: Literal["end", "verdict", "trouble"] = "end"


def plan_of(values: dict[str, Any]) -> Plan:
    """Raises `BadInput` naming what is wrong."""
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise BadInput(wrong, code="bad_plan") from error


def next_time(cron: str, time_zone: str, after: datetime) -> datetime:
    """The first moment later than `after`, in UTC, that the five fields of `cron` name on clocks of that zone. A time
    of day that a clock skips is taken an hour later, one that it shows twice is taken once. Raises `BadInput`."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, IsADirectoryError) as error:
        raise BadInput(f"there is no time zone {time_zone!r}; write one like Europe/Berlin") from error
    if len(cron.split()) != 5:
        raise BadInput(f"{cron!r} has not the five fields minute, hour, day, month, weekday")
    try:
        # On the clock's face: what the library makes of zones changes at their gaps.
        faces = croniter(cron, after.astimezone(zone).replace(tzinfo=None))
        while True:
            face: datetime = faces.get_next(datetime)
            found = face.replace(tzinfo=zone).astimezone(UTC)
            if found > after:
                return found
    except (CroniterBadCronError, CroniterBadDateError) as error:
        raise BadInput(f"{cron!r} names no time: {error}") from error


def set_schedule(session: Session, project_name: str, cron: str, time_zone: str, plan: Plan) -> RetrainingSchedule:
    """Make the project's schedule, or change it. Raises `NotFound`, `BadInput`."""
    project = project_rows.by_name(session, project_name)
    due = next_time(cron, time_zone, repository.now(session))
    values = {"cron": cron, "time_zone": time_zone, "plan": plan.model_dump(mode="json"), "next_at": due}
    return repository.put_schedule(session, project.id, values)


def remove_schedule(session: Session, project_name: str) -> RetrainingSchedule:
    """The schedule that was removed; what is under way goes on. Raises `NotFound` where there is none."""
    project = project_rows.by_name(session, project_name)
    schedule = repository.schedule_of(session, project.id)
    if schedule is None:
        raise NotFound(f"project {project_name!r} has no schedule")
    return repository.delete_schedule(session, schedule)


def open_due(session: Session) -> list[Retraining]:
    """Open a retraining for each schedule that is due, once; of those that were missed meanwhile, one."""
    opened = []
    now = repository.now(session)
    for schedule in repository.lock_due(session, _BATCH):
        assert schedule.next_at is not None
        due_at, schedule.next_at = schedule.next_at, next_time(schedule.cron, schedule.time_zone, now)
        made = repository.add(session, schedule.project_id, SCHEDULE, schedule.plan, due_at)
        if made is None:
            log.warning("project %d: the retraining before is still under way; this one is left out",
                        schedule.project_id)  # fmt: skip
            continue
        outbox.dispatch_retraining(session, made)
        opened.append(made)
    return opened


def ask_now(session: Session, project_name: str, who: str, plan: Plan | None = None) -> Retraining:
    """Open one at once, by the plan given or that of the schedule. Raises `NotFound`, `Conflict` where one is open."""
    project = project_rows.by_name(session, project_name)
    schedule = repository.schedule_of(session, project.id)
    if plan is None and schedule is None:
        raise NotFound(f"project {project_name!r} has no schedule whose plan could be taken")
    taken = schedule.plan if plan is None and schedule is not None else (plan or Plan()).model_dump(mode="json")
    made = repository.add(session, project.id, who, taken, repository.now(session))
    if made is None:
        raise Conflict(f"a retraining of project {project_name!r} is under way", code="under_way")
    outbox.dispatch_retraining(session, made)
    return made


def schedules(session: Session) -> Sequence[RetrainingSchedule]:
    """All, by project."""
    return repository.schedules(session)

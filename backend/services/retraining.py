"""The life of a retraining: claimed under lease and fence, moved through stages, ended once with a sentence.

As with runs (`services.runs`) every write of a worker is conditional on the fence of its claim. What a stage came to is
kept, so that a successor begins with the one that was broken off.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import models as model_rows
from backend.db.repositories import retraining as repository
from backend.db.tables import Retraining
from backend.domain.errors import Conflict, FenceLost
from backend.domain.retraining import OPEN, RetrainingStage, RetrainingState, seconds_left
from backend.domain.text import storable
from backend.profiles import ModelProfile
from backend.services import notices, outbox, promotions
from backend.services.schedules import Plan
from backend.settings import WorkerSettings

log = logging.getLogger(__name__)

#: A second one has to wait for the device; it asks again after so many seconds.
BUSY_WAIT_S = 60.0
_BATCH = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """All a worker needs to know. `corrections`: new ones since it was last learned; `parent`: the digest of the data
    set of the last promotion; `base`: of the version that it begins with; `spent_s`: since its start."""

    retraining_id: int
    fence: int
    project_id: int
    project: str
    plan: Plan
    due_at: datetime
    corrections: int
    parent: str | None
    base: str
    dataset: str | None
    candidate: str | None
    spent_s: float
    timings_s: Mapping[str, float]


def claim(
    session: Session, retraining_id: int, worker: str, device: str, profile: ModelProfile, settings: WorkerSettings
) -> Claim | None:
    """Take it for `settings.lease_s` seconds, if it is queued, or running with its lease over. None: it isn't free, or
    the device isn't, which is asked again later. `profile`: the settings'."""
    row = repository.lock(session, retraining_id)
    if row is None or row.state not in OPEN:
        return None
    now = repository.now(session)
    if row.state == RetrainingState.RUNNING and row.lease_expires_at is not None and row.lease_expires_at >= now:
        return None
    if row.attempt >= settings.max_attempts:
        _end(session, row, RetrainingState.FAILED, f"given up after {row.attempt} attempts, none of which ended")
        return None
    repository.lock_devices(session)
    if repository.is_busy(session, device, row.id):
        _requeue(session, row, BUSY_WAIT_S)
        return None
    _begin(session, row, worker, device, profile, settings)
    parent = repository.last_promoted(session, row.project_id, row.id)
    return Claim(
        row.id, row.fence, row.project_id, row.project.name, Plan.model_validate(row.plan), row.due_at,
        row.corrections or 0, parent.dataset.digest if parent and parent.dataset else None,
        model_rows.get(session, row.base_id or 0).digest, row.dataset.digest if row.dataset else None,
        row.candidate.digest if row.candidate else None, (now - (row.started_at or now)).total_seconds(), row.timings_s,
    )  # fmt: skip


def _begin(
    session: Session, row: Retraining, worker: str, device: str, profile: ModelProfile, settings: WorkerSettings
) -> None:
    row.state, row.worker, row.device = RetrainingState.RUNNING, worker, device
    row.attempt += 1
    row.fence += 1
    row.lease_expires_at = func.clock_timestamp() + timedelta(seconds=settings.lease_s)
    row.started_at = row.started_at or repository.now(session)
    if row.base_id is None:
        row.base_id = promotions.champion_of(session, profile)
    before = repository.last_trained(session, row.project_id, row.id)
    row.corrections = repository.corrections(session, row.project_id, before.due_at if before else None, row.due_at)
    session.flush()


def extend_lease(session: Session, claimed: Claim, settings: WorkerSettings) -> None:
    """Raises `FenceLost`."""
    if not repository.extend_lease(session, claimed.retraining_id, claimed.fence, settings.lease_s):
        raise _lost(claimed)


def enter(session: Session, claimed: Claim, stage: RetrainingStage) -> None:
    """A stage begins. Raises `FenceLost`."""
    row = _owned(session, claimed)
    row.stage, row.stage_progress, row.stage_began_at = stage, 0.0, repository.now(session)
    session.flush()


def leave(session: Session, claimed: Claim, stage: RetrainingStage, seconds: float, **found: Any) -> None:
    """A stage has ended; `found`: what it came to, columns of the row. Raises `FenceLost`."""
    row = _owned(session, claimed)
    row.timings_s = {**row.timings_s, stage.value: round(seconds, 1)}
    for name, value in found.items():
        setattr(row, name, value)
    session.flush()


def tell(session: Session, claimed: Claim, progress: float, figures: Mapping[str, Any]) -> None:
    """How far the stage is, in 0..1, and what there is to see. Raises `FenceLost`."""
    row = _owned(session, claimed)
    row.stage_progress = min(1.0, max(0.0, progress))
    row.figures = {**row.figures, **figures}
    session.flush()


def end(session: Session, claimed: Claim, state: RetrainingState, said: str) -> None:
    """Raises `FenceLost`."""
    _end(session, _owned(session, claimed), state, said)


def give_back(session: Session, claimed: Claim, problem: str, settings: WorkerSettings) -> None:
    """For another attempt, if one is left. Raises `FenceLost`."""
    row = _owned(session, claimed)
    if row.attempt >= settings.max_attempts:
        _end(session, row, RetrainingState.FAILED, problem)
    else:
        row.said = storable(problem)
        _requeue(session, row, BUSY_WAIT_S)


def postpone(session: Session, claimed: Claim, delay_s: float) -> None:
    """An outage elsewhere, which costs no attempt. Raises `FenceLost`."""
    row = _owned(session, claimed)
    row.attempt -= 1
    _requeue(session, row, delay_s)


def cancel(session: Session, retraining_id: int, who: str) -> Retraining:
    """Whoever works on it notices by the fence. Raises `NotFound`, `Conflict` if it has ended."""
    repository.get(session, retraining_id)
    row = repository.lock(session, retraining_id)
    assert row is not None
    if row.state not in OPEN:
        raise Conflict(f"retraining {retraining_id} has ended: it is {row.state}", code="has_ended")
    row.fence += 1
    _end(session, row, RetrainingState.CANCELLED, f"cancelled by {who}")
    return repository.get(session, retraining_id)


def reap(session: Session, settings: WorkerSettings, idle_queues: Collection[str]) -> int:
    """As `runs.reap`; how many were found."""
    expired = repository.lock_expired(session, _BATCH)
    silent_s = 2 * settings.lease_s
    forgotten = repository.lock_forgotten(session, silent_s, _BATCH) if outbox.TRAIN_QUEUE in idle_queues else ()
    for row in (*expired, *forgotten):
        _requeue(session, row, 0.0)
    return len(expired) + len(forgotten)


def timings_before(session: Session, claimed: Claim) -> list[dict[str, float]]:
    """The seconds by stage of the project's retrainings before, newest first."""
    return repository.timings_before(session, claimed.project_id, claimed.retraining_id)


def eta(session: Session, row: Retraining) -> datetime | None:
    """When it will have ended, as far as that can be told; None: it can't, or it has."""
    if row.state != RetrainingState.RUNNING or row.stage is None or row.stage_began_at is None:
        return None
    now = repository.now(session)
    earlier = repository.timings_before(session, row.project_id, row.id)
    spent_s = (now - row.stage_began_at).total_seconds()
    left = seconds_left(RetrainingStage(row.stage), row.stage_progress, spent_s, earlier)
    return None if left is None else now + timedelta(seconds=left)


def _owned(session: Session, claimed: Claim) -> Retraining:
    row = repository.lock_owned(session, claimed.retraining_id, claimed.fence)
    if row is None:
        raise _lost(claimed)
    return row


def _requeue(session: Session, row: Retraining, delay_s: float) -> None:
    row.state, row.worker, row.device, row.lease_expires_at = RetrainingState.QUEUED, None, None, None
    outbox.dispatch_retraining(session, row, delay_s)


def _end(session: Session, row: Retraining, state: RetrainingState, said: str) -> None:
    row.state, row.said, row.lease_expires_at = state, storable(said), None
    row.finished_at = repository.now(session)
    session.flush()
    notices.open_for(session, row)
    log.info("retraining %d is %s: %s", row.id, state, said)


def _lost(claimed: Claim) -> FenceLost:
    return FenceLost(f"retraining {claimed.retraining_id} was cancelled or taken by another (claim {claimed.fence})")

"""The life of a run: claimed under lease and fence, moved through stages, ended once; given back, retried, cancelled.

Every write of a worker is conditional on the fence it got with its claim: when another worker claimed the run, or a
person cancelled it, `FenceLost` is raised and nothing is written. `services.results` records what a run found.
"""

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import checkpoints as checkpoint_rows
from backend.db.repositories import runs as repository
from backend.db.repositories import videos as video_rows
from backend.db.tables import Run, Video
from backend.domain.errors import Conflict, FenceLost, NotFound
from backend.domain.runs import RETRYABLE, Mode, RunStatus, Stage, check_transition
from backend.domain.text import storable
from backend.ports.storage import ObjectVersion
from backend.services import outbox, promotions
from backend.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Wait before the second attempt, doubled for each further one, up to the longest.
RETRY_BASE_S = 5.0
RETRY_LONGEST_S = 300.0
#: Wait after an outage of a service, which costs no attempt.
OUTAGE_WAIT_S = 15.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Claim:
    """All a worker needs to know of a run it has claimed. `profile` and `config` are those the run was made with."""

    run_id: int
    fence: int
    attempt: int
    video_id: int
    object_version: ObjectVersion
    instruction: str
    mode: Mode
    model_digest: str
    profile: dict[str, Any]
    config: dict[str, Any]


def claim(session: Session, run_id: int, worker: str, settings: WorkerSettings) -> Claim | None:
    """Take the run for `settings.lease_s` seconds: if it is queued, or running with its lease over. None: not free.

    The attempt is counted here, in a transaction that ends before the work begins; a run that ended none of its
    `settings.max_attempts` is quarantined instead of being claimed once more. With the first claim it is settled which
    model version carries the run out.
    """
    try:
        run = repository.lock(session, run_id)
    except NotFound:
        log.warning("run %d is gone", run_id)
        return None
    expired = run.status == RunStatus.RUNNING and _lease_is_over(session, run)
    if run.status != RunStatus.QUEUED and not expired:
        return None
    if expired and run.attempt >= settings.max_attempts:
        _quarantine(session, run, _silence(run))
        return None
    # Of a run that somebody began with parts may be kept: it stays with its version.
    unwanted = _settle_version(session, run) if run.fence == 0 or run.shadow else None
    if unwanted is not None:
        finish(session, run, RunStatus.CANCELLED, "superseded", unwanted)
        session.flush()
        return None
    check_transition(RunStatus(run.status), RunStatus.RUNNING)
    run.status = RunStatus.RUNNING
    run.attempt += 1
    run.fence += 1
    run.worker = worker
    run.stage, run.stage_progress = Stage.FETCH, 0.0
    run.started_at = func.clock_timestamp()
    run.lease_expires_at = func.clock_timestamp() + timedelta(seconds=settings.lease_s)
    session.flush()
    return _claim_of(repository.get(session, run_id))


def claim_next(
    session: Session, asked_id: int, worker: str, settings: WorkerSettings,
    worked_on: tuple[ObjectVersion, str] | None,
) -> Claim | None:  # fmt: skip
    """Take the run that comes best now: each message asks for one run to be carried out, and mostly it is this.

    What is asked by projects of the highest `priority` goes before all else. Among equals comes first a waiting run
    on the video that the worker has at hand (`worked_on`: that video and the digest of the model version), because
    several instructions on one video share most of the work. Of a video that another worker is at, the runs are
    left to it while there are others. Where the one asked for was taken so, by a message that asked for another,
    that other one's turn is now. None: nothing waits.
    """
    for run_id in _by_rank(session, asked_id, worked_on):
        if (taken := claim(session, run_id, worker, settings)) is not None:
            return taken
    return None


def _by_rank(session: Session, asked_id: int, worked_on: tuple[ObjectVersion, str] | None) -> Iterator[int]:
    highest = repository.highest_waiting(session)
    if worked_on is not None and (sibling := repository.ready_on_video(session, *worked_on, highest)) is not None:
        yield sibling
    may_wait = highest is not None and repository.priority_of(session, asked_id) != highest
    if may_wait or repository.is_worked_on_elsewhere(session, asked_id):
        if (other := repository.ready(session, highest)) is not None:
            yield other
        if may_wait and (other := repository.ready(session, highest, anywhere=True)) is not None:
            yield other
    yield asked_id
    if (other := repository.ready(session)) is not None:
        yield other
    if (other := repository.ready(session, anywhere=True)) is not None:
        yield other


def _settle_version(session: Session, run: Run) -> str | None:
    """Settle which model version carries the run out: the one that answers at this moment, so that workers need not be
    told of a new champion. Why the run is not wanted any more, or None: it is."""
    wanted = promotions.version_of_claim(session, run)
    if wanted is None:
        return "its version challenges the champion no more"
    if wanted != run.model_version_id:
        if (twin := repository.twin_id(session, run, wanted)) is not None:
            return f"run {twin} is the same with the version that answers now"
        log.info("run %d is carried out with model version %d, not %d", run.id, wanted, run.model_version_id)
        run.model_version_id = wanted
        session.flush()
        session.expire(run, ["model_version"])
    return None


def _claim_of(run: Run) -> Claim:
    return Claim(
        run_id=run.id,
        fence=run.fence,
        attempt=run.attempt,
        video_id=run.video_id,
        object_version=object_version(run.video),
        instruction=run.instruction.text,
        mode=Mode(run.instruction.mode),
        model_digest=run.model_version.digest,
        profile=run.model_version.profile,
        config=run.config,
    )


def object_version(video: Video) -> ObjectVersion:
    return ObjectVersion(video.bucket, video.key, video.version, video.etag, video.size_bytes)


def extend_lease(session: Session, run_id: int, fence: int, settings: WorkerSettings) -> None:
    """Raises `FenceLost`."""
    if not repository.extend_lease(session, run_id, fence, settings.lease_s):
        raise _lost(run_id, fence)


def set_stage(session: Session, run_id: int, fence: int, stage: Stage, progress: float) -> None:
    """Write where the run stands; `progress` is the share of the stage done, 0..1. Raises `FenceLost`."""
    if not repository.set_stage(session, run_id, fence, stage, progress):
        raise _lost(run_id, fence)


def lock_owned(session: Session, run_id: int, fence: int) -> Run:
    """The run, locked, if it is still this worker's. Raises `FenceLost`."""
    run = repository.lock_owned(session, run_id, fence)
    if run is None:
        raise _lost(run_id, fence)
    return run


def fail(session: Session, run_id: int, fence: int, code: str, reason: str) -> None:
    """End the run as failed, with a reason for a person. Raises `FenceLost`."""
    finish(session, lock_owned(session, run_id, fence), RunStatus.FAILED, code, reason)


def fail_unreadable(session: Session, run: Run, video: Video) -> None:
    """End a queued run whose video can't be annotated."""
    finish(session, run, RunStatus.FAILED, video.unreadable_code, video.unreadable_reason)
    session.flush()


def give_back(session: Session, run_id: int, fence: int, reason: str, settings: WorkerSettings) -> None:
    """After an error that another attempt may not meet: queue the run again, later each time, or quarantine it.

    Raises `FenceLost`.
    """
    run = lock_owned(session, run_id, fence)
    if run.attempt >= settings.max_attempts:
        _quarantine(session, run, reason)
    else:
        requeue(session, run, delay_s=min(RETRY_LONGEST_S, RETRY_BASE_S * 2 ** (run.attempt - 1)))


def postpone(session: Session, run_id: int, fence: int) -> None:
    """A service is out: queue the run again, and don't count the attempt. Raises `FenceLost`."""
    run = lock_owned(session, run_id, fence)
    run.attempt -= 1
    requeue(session, run, delay_s=OUTAGE_WAIT_S)


def retry(session: Session, run_id: int) -> Run:
    """Queue a run that failed, was quarantined or cancelled, with all attempts anew, for the version that answers now.

    Raises `NotFound`, `Conflict`.
    """
    run = repository.lock(session, run_id)
    if run.status not in RETRYABLE:
        raise Conflict(f"run {run_id} is {run.status}; only failed, quarantined or cancelled runs can be retried")
    if (unwanted := _settle_version(session, run)) is not None:
        raise Conflict(f"run {run_id} can't be retried: {unwanted}", code="superseded")
    run.attempt = 0
    video = video_rows.lock(session, run.video_id)
    if video.probe_status == "ok":
        requeue(session, run)
        return run
    _set_queued(run)
    video.probe_status, video.probe_attempt = "pending", 0
    video.unreadable_code = video.unreadable_reason = None
    outbox.dispatch_probe(session, video)
    return run


def cancel(session: Session, run_id: int) -> Run:
    """Cancel a queued or running run; its worker notices at its next sign of life. Raises `NotFound`, `Conflict`."""
    run = repository.lock(session, run_id)
    finish(session, run, RunStatus.CANCELLED, "cancelled", None)
    session.flush()
    return run


def reap(session: Session, settings: WorkerSettings, idle_queues: Collection[str]) -> dict[str, int]:
    """Queue runs again whose worker fell silent; and ask again for work that everybody seems to have forgotten.

    A queue in `idle_queues` holds no message: what has waited for it for two leases was lost with a worker or a broker.
    Returns how many of each were found.
    """
    found = {"expired": 0, "runs": 0, "videos": 0, "publications": 0}
    for run in repository.lock_expired(session, _BATCH):
        found["expired"] += 1
        log.warning("run %d: %s", run.id, _silence(run))
        if run.attempt >= settings.max_attempts:
            _quarantine(session, run, _silence(run))
        else:
            requeue(session, run)
    silent_s = 2 * settings.lease_s
    if outbox.GPU_QUEUE in idle_queues:
        for run in repository.lock_forgotten(session, silent_s, _BATCH):
            found["runs"] += 1
            outbox.dispatch_run(session, run)
    if outbox.IO_QUEUE in idle_queues:
        for video in video_rows.lock_forgotten(session, silent_s, _BATCH):
            found["videos"] += 1
            outbox.dispatch_probe(session, video)
        for publication in repository.lock_forgotten_publications(session, silent_s, _BATCH):
            found["publications"] += 1
            outbox.dispatch_publication(session, publication)
    return found


def requeue(session: Session, run: Run, delay_s: float = 0.0) -> None:
    """Queue the run and write the message for it."""
    _set_queued(run)
    outbox.dispatch_run(session, run, delay_s)


def finish(session: Session, run: Run, status: RunStatus, code: str | None, reason: str | None) -> None:
    """End the run; what was kept for going on with it is deleted. Raises `Conflict` if it is over already."""
    check_transition(RunStatus(run.status), status)
    run.status = status
    run.outcome_code = code
    run.outcome_reason = None if reason is None else storable(reason)
    run.lease_expires_at = None
    run.finished_at = func.clock_timestamp()
    checkpoint_rows.delete_of(session, run.id)
    log.info("run %d is %s%s", run.id, status, f": {reason}" if reason else "")


def _set_queued(run: Run) -> None:
    check_transition(RunStatus(run.status), RunStatus.QUEUED)
    run.status = RunStatus.QUEUED
    run.stage, run.stage_progress = None, 0.0
    run.lease_expires_at = run.worker = run.started_at = run.finished_at = None
    run.outcome_code = run.outcome_reason = None
    run.queued_at = func.clock_timestamp()


def _quarantine(session: Session, run: Run, reason: str) -> None:
    whole = f"given up after {run.attempt} attempts; the last: {reason}"
    finish(session, run, RunStatus.QUARANTINED, "attempts_used_up", whole)


def _silence(run: Run) -> str:
    return f"worker {run.worker} fell silent in stage {run.stage} of attempt {run.attempt}"


def _lease_is_over(session: Session, run: Run) -> bool:
    return run.lease_expires_at is not None and run.lease_expires_at < session.scalar(func.clock_timestamp().select())


def _lost(run_id: int, fence: int) -> FenceLost:
    return FenceLost(f"run {run_id} was cancelled or taken by another worker (this one holds claim {fence})")

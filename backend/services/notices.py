"""Who is told how a retraining ended: each address once, again and again until it takes it, and then no more."""

import logging
from collections.abc import Collection
from typing import Any

from sqlalchemy.orm import Session

from backend.db.repositories import retraining as repository
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import Retraining
from backend.domain.errors import BadInput, Misconfigured, ServiceUnavailable
from backend.domain.retraining import TRAINED, RetrainingState
from backend.domain.text import storable
from backend.ports.messages import Notice, Notifier
from backend.services import outbox
from backend.services.schedules import Plan
from backend.settings import RetrainingSettings

log = logging.getLogger(__name__)

_RETRY_BASE_S, _RETRY_LONGEST_S = 15.0, 3600.0
_BATCH = 100
_TROUBLE = frozenset({RetrainingState.FAILED, RetrainingState.STOPPED})


def open_for(session: Session, retraining: Retraining) -> None:
    """Have those told whom the plan names, if they want to know of such an end."""
    plan, state = Plan.model_validate(retraining.plan), RetrainingState(retraining.state)
    wanted = {"end": True, "verdict": state in TRAINED, "trouble": state in _TROUBLE}[plan.notify_on]
    if wanted and plan.notify:
        for notice in repository.add_notices(session, retraining.id, plan.notify):
            outbox.dispatch_notice(session, notice)


def send(factory: SessionFactory, notifier: Notifier, notice_id: int, settings: RetrainingSettings) -> None:
    """Tell one, unless that was done. A crash between telling and writing that down tells it twice."""
    with session_scope(factory) as session:
        row = repository.lock_notice(session, notice_id)
        if row is None or row.sent_at is not None or row.attempts >= settings.notice_attempts:
            return
        row.attempts += 1
        attempt, address = row.attempts, row.address
        notice = written(repository.get(session, row.retraining_id))
        # Counted, and off the hands of others, before anybody is called.
        outbox.dispatch_notice(session, row, min(_RETRY_LONGEST_S, _RETRY_BASE_S * 2 ** (attempt - 1)))
    problem = None
    try:
        notifier.send(address, notice)
    except (BadInput, Misconfigured) as error:
        problem, attempt = str(error), settings.notice_attempts
    except ServiceUnavailable as error:
        problem = str(error)
    with session_scope(factory) as session:
        row = repository.lock_notice(session, notice_id)
        if row is None:
            return
        row.attempts, row.problem = attempt, None if problem is None else storable(problem)
        row.sent_at = None if problem else repository.now(session)
    if problem:
        log.warning("notice %d was not taken: %s", notice_id, problem)


def reap(session: Session, settings: RetrainingSettings, silent_s: float, idle_queues: Collection[str]) -> int:
    """Ask again for notices whose message was lost; how many were found."""
    if outbox.IO_QUEUE not in idle_queues:
        return 0
    lost = repository.lock_unsent(session, silent_s, settings.notice_attempts, _BATCH)
    for notice in lost:
        outbox.dispatch_notice(session, notice)
    return len(lost)


def written(row: Retraining) -> Notice:
    """What is said of it. No word of what the annotators wrote is in it."""
    verdict = row.verdict
    body: dict[str, Any] = {
        "retraining": row.id, "project": row.project.name, "state": row.state, "said": row.said,
        "due_at": row.due_at.isoformat(), "corrections": row.corrections, "figures": row.figures,
        "dataset": row.dataset.digest if row.dataset else None,
        "base": row.base.digest if row.base else None,
        "candidate": row.candidate.digest if row.candidate else None,
        "verdict": None if verdict is None else {
            "digest": verdict.digest, "passed": verdict.passed,
            "checks": [{name: check[name] for name in ("name", "passed", "said")} for check in verdict.body["checks"]],
        },
    }  # fmt: skip
    checks = (body["verdict"] or {"checks": ()})["checks"]
    lines = [row.said or row.state, *(f"- {check['name']}: {check['said']}" for check in checks)]
    return Notice(f"Premask: retraining {row.id} of {row.project.name} is {row.state}", "\n".join(lines), body)

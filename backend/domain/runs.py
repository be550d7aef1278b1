"""The run's state machine: what states there are and which steps between them are allowed."""

from enum import StrEnum

from backend.domain.errors import Conflict


class Mode(StrEnum):
    """What an instruction refers by: `vos` by what is seen, `avs` also by what is heard. `aid`, the paper's RefAID, is
    about the first frame alone and the sound, and is answered by boxes on it."""

    VOS = "vos"
    AVS = "avs"
    AID = "aid"


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    NO_TARGET = "no_target"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """Where a running run stands, in order."""

    FETCH = "fetch"
    DECODE = "decode"
    SYSTEM1 = "system1"
    SYSTEM2 = "system2"
    SEGMENT = "segment"
    LINK = "link"
    RECORD = "record"


FINISHED = frozenset(
    {RunStatus.SUCCEEDED, RunStatus.NO_TARGET, RunStatus.FAILED, RunStatus.QUARANTINED, RunStatus.CANCELLED}
)
#: Finished with a result a labeler is shown.
PUBLISHABLE = frozenset({RunStatus.SUCCEEDED, RunStatus.NO_TARGET})
RETRYABLE = frozenset({RunStatus.FAILED, RunStatus.QUARANTINED, RunStatus.CANCELLED})

_ALLOWED: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.RUNNING: FINISHED | {RunStatus.QUEUED, RunStatus.RUNNING},
    RunStatus.SUCCEEDED: frozenset(),
    RunStatus.NO_TARGET: frozenset(),
    RunStatus.FAILED: frozenset({RunStatus.QUEUED}),
    RunStatus.QUARANTINED: frozenset({RunStatus.QUEUED}),
    RunStatus.CANCELLED: frozenset({RunStatus.QUEUED}),
}


def check_transition(current: RunStatus, new: RunStatus) -> None:
    """Raise `Conflict` unless a run may go from `current` to `new` (running → running is a new claim of an expired
    lease)."""
    if new not in _ALLOWED[current]:
        raise Conflict(f"a run that is {current} can't become {new}", code="illegal_transition")

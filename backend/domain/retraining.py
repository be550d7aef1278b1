"""The life of a retraining: stages, how it can end, and when it will."""

from collections.abc import Mapping, Sequence
from enum import StrEnum


class RetrainingState(StrEnum):
    """Queued and running are open, all others ends. Refused, passed, challenging and promoted had a candidate that the
    gate measured."""

    QUEUED = "queued"
    RUNNING = "running"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    REFUSED = "refused"
    PASSED = "passed"
    CHALLENGING = "challenging"
    PROMOTED = "promoted"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = frozenset({RetrainingState.QUEUED, RetrainingState.RUNNING})
#: Whoever ended so has learned from what people had corrected by then.
TRAINED = frozenset(
    {
        RetrainingState.STOPPED, RetrainingState.REFUSED, RetrainingState.PASSED, RetrainingState.CHALLENGING,
        RetrainingState.PROMOTED,
    }
)  # fmt: skip


class RetrainingStage(StrEnum):
    """In the order in which they are gone through."""

    FREEZE = "freeze"
    FETCH = "fetch"
    TRAIN = "train"
    REGISTER = "register"
    GATE = "gate"
    DECIDE = "decide"


class OnPass(StrEnum):
    """What becomes of a candidate that the gate passed."""

    PROMOTE = "promote"
    CHALLENGE = "challenge"
    REPORT = "report"


def seconds_left(
    stage: RetrainingStage, progress: float, spent_s: float, earlier: Sequence[Mapping[str, float]]
) -> float | None:
    """How long a retraining will still take; None while nothing says so.

    `progress`: share of the stage done in 0..1, in `spent_s` seconds; `earlier`: the seconds of each stage of the
    retrainings before, newest first. What comes after the stage takes as long as it did last.
    """
    stages = list(RetrainingStage)
    here = _stage_left(progress, spent_s, _last(earlier, stage))
    later = [_last(earlier, one) for one in stages[stages.index(stage) + 1 :]]
    if here is None:
        return None
    return here + sum(one for one in later if one is not None)


def _stage_left(progress: float, spent_s: float, last_s: float | None) -> float | None:
    if progress > 0:
        return spent_s * (1 - progress) / progress
    return None if last_s is None else max(0.0, last_s - spent_s)


def _last(earlier: Sequence[Mapping[str, float]], stage: RetrainingStage) -> float | None:
    return next((timings[stage] for timings in earlier if stage in timings), None)

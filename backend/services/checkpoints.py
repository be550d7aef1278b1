"""Checkpoints of a run: what its worker came to so far is kept in short transactions, each conditional on the fence.

A worker that lost the run writes nothing more, so what is there is always one worker's work up to a moment, and the
next one goes on from it. When the run is over, all of it is deleted in the transaction that ends it (`services.runs`).
"""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from backend.db.repositories import checkpoints as repository
from backend.ports.pipeline import CarriedMask, Way
from backend.services import runs


def decision(session: Session, run_id: int, fence: int) -> bytes | None:
    """What System 1 and 2 came to in an earlier attempt, if there was one that got so far. Raises `FenceLost`."""
    runs.lock_owned(session, run_id, fence)
    return repository.decision_of(session, run_id)


def decide(session: Session, run_id: int, fence: int, made: bytes) -> None:
    """Keep a decision; nothing that followed from another one stays. Raises `FenceLost`."""
    runs.lock_owned(session, run_id, fence)
    repository.delete_of(session, run_id)
    repository.set_decision(session, run_id, made)


def begin(
    session: Session, run_id: int, fence: int, round_index: int, plan: str, steps: Sequence[int]
) -> dict[int, Way]:
    """Those of the round's ways that were begun, by number. What was kept of another plan for it is deleted, with what
    came after. Raises `FenceLost`."""
    runs.lock_owned(session, run_id, fence)
    ways = repository.ways_of(session, run_id, round_index)
    if not ways or any(kept_plan != plan for kept_plan, _ in ways.values()):
        repository.delete_from_round(session, run_id, round_index)
        repository.add_ways(session, run_id, round_index, plan, steps)
        return {}
    return {number: way for number, (_, way) in ways.items() if way.done}


def commit(
    session: Session, run_id: int, fence: int, round_index: int, number: int, way: Way, masks: Sequence[CarriedMask]
) -> None:
    """Keep a chunk: the masks, and where the way stands behind them. Raises `FenceLost`, with nothing written."""
    runs.lock_owned(session, run_id, fence)
    repository.copy_masks(session, run_id, round_index, masks)
    repository.advance_way(session, run_id, round_index, number, way.done, way.state)


def masks(
    session: Session, run_id: int, round_index: int, detection: int, frames: range, size: tuple[int, int], limit: int
) -> list[CarriedMask]:
    """The first so many masks of a detection on those frames. `size`: the video's (width, height)."""
    return repository.masks_of(session, run_id, round_index, detection, frames, size, limit)


def counted(session: Session, run_id: int, round_index: int, detection: int) -> int:
    """On how many frames the detection is visible."""
    return repository.count_masks(session, run_id, round_index, detection)

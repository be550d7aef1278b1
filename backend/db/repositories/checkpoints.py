"""What running runs have come to so far: decisions, ways with their states, and the masks they handed over."""

from collections.abc import Sequence
from typing import Any

import psycopg
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from backend.db.tables import CarriedMaskRow, RunCheckpoint, RunWay
from backend.domain.annotation import Box, Mask
from backend.ports.pipeline import CarriedMask, Estimate, Way

_MASK = ("counts", "area", "x1", "y1", "x2", "y2", "predicted_iou", "objectness")
_COPY = f"COPY carried_masks (run_id, round, detection, frame_index, {', '.join(_MASK)}) FROM STDIN"


def decision_of(session: Session, run_id: int) -> bytes | None:
    return session.scalar(select(RunCheckpoint.decision).where(RunCheckpoint.run_id == run_id))


def set_decision(session: Session, run_id: int, decision: bytes) -> None:
    values = {"decision": decision, "decided_at": func.clock_timestamp()}
    row = upsert(RunCheckpoint).values(run_id=run_id, **values)
    session.execute(row.on_conflict_do_update(index_elements=[RunCheckpoint.run_id], set_=values))


def ways_of(session: Session, run_id: int, round_index: int) -> dict[int, tuple[str, Way]]:
    """The digest of its plan and how far it has come, of each way of the round, by number."""
    columns = (RunWay.number, RunWay.plan, RunWay.steps, RunWay.done, RunWay.state)
    rows = session.execute(select(*columns).where(RunWay.run_id == run_id, RunWay.round == round_index))
    return {number: (plan, Way(steps, done, state)) for number, plan, steps, done, state in rows}


def add_ways(session: Session, run_id: int, round_index: int, plan: str, steps: Sequence[int]) -> None:
    """A round's ways, none of them begun."""
    rows = [
        {"run_id": run_id, "round": round_index, "number": n, "plan": plan, "steps": s, "done": 0, "state": b""}
        for n, s in enumerate(steps)
    ]
    if rows:
        session.execute(insert(RunWay), rows)


def advance_way(session: Session, run_id: int, round_index: int, number: int, done: int, state: bytes) -> None:
    session.execute(
        update(RunWay)
        .where(RunWay.run_id == run_id, RunWay.round == round_index, RunWay.number == number)
        .values(done=done, state=state)
        .execution_options(synchronize_session=False)
    )


def delete_from_round(session: Session, run_id: int, round_index: int) -> None:
    """Forget ways and masks of that round and the later ones."""
    for table in (RunWay, CarriedMaskRow):
        session.execute(delete(table).where(table.run_id == run_id, table.round >= round_index))


def delete_of(session: Session, run_id: int) -> None:
    """Forget all of the run's."""
    for table in (RunWay, CarriedMaskRow, RunCheckpoint):
        session.execute(delete(table).where(table.run_id == run_id))


def copy_masks(session: Session, run_id: int, round_index: int, masks: Sequence[CarriedMask]) -> None:
    """Write the masks through COPY, in the session's own transaction."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for one in masks:
            mask, box = one.mask, one.mask.box_xyxy_px
            corners = (int(box.x1), int(box.y1), int(box.x2), int(box.y2))
            place = (run_id, round_index, one.detection, one.frame_index)
            estimate = (one.estimate.predicted_iou, one.estimate.objectness)
            copy.write_row((*place, mask.counts, mask.area, *corners, *estimate))


def masks_of(
    session: Session, run_id: int, round_index: int, detection: int, frames: range, size: tuple[int, int], limit: int
) -> list[CarriedMask]:
    """The first so many masks of the detection on those frames, in order. `size`: the video's (width, height)."""
    table, (width, height) = CarriedMaskRow, size
    columns = (table.frame_index, *(getattr(table, name) for name in _MASK))
    rows = session.execute(
        select(*columns)
        .where(*_of(run_id, round_index, detection), table.frame_index >= frames.start, table.frame_index < frames.stop)
        .order_by(table.frame_index)
        .limit(limit)
    )
    return [
        CarriedMask(detection, frame_index, Mask(height, width, counts, area, Box(*corners)), Estimate(iou, objectness))
        for frame_index, counts, area, *corners, iou, objectness in rows
    ]


def count_masks(session: Session, run_id: int, round_index: int, detection: int) -> int:
    return session.scalar(select(func.count()).where(*_of(run_id, round_index, detection))) or 0


def _of(run_id: int, round_index: int, detection: int) -> tuple[Any, ...]:
    table = CarriedMaskRow
    return table.run_id == run_id, table.round == round_index, table.detection == detection

"""Queries on the assistance ledger, a view: a row for each review as it is now (`migrations`, 0003)."""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Float, case, column, func, select, table
from sqlalchemy.orm import Session

_COLUMNS = (
    "run_id", "project", "profile_name", "model_digest", "annotator", "mode", "instruction_id", "lead_time_s",
    "skipped", "accepted", "tracks", "tracks_edited", "tracks_added", "tracks_removed", "frames_touched", "box_iou",
    "masks", "masks_edited", "masks_added", "masks_removed", "pixels_added", "pixels_removed", "mask_iou",
    "of_layer", "control",
)  # fmt: skip
_LEDGER = table("assistance_ledger", *(column(name) for name in _COLUMNS))


class By(StrEnum):
    """What reviews are put together by."""

    PROJECT = "project"
    MODEL = "model"
    ANNOTATOR = "annotator"
    MODE = "mode"
    INSTRUCTION = "instruction"


_GROUPS = {
    By.PROJECT: ("project",),
    By.MODEL: ("profile_name", "model_digest"),
    By.ANNOTATOR: ("annotator",),
    By.MODE: ("mode",),
    By.INSTRUCTION: ("project", "instruction_id"),
}


def stats(session: Session, by: By, project: str | None) -> list[dict[str, Any]]:
    """Of each group its name (`group`) and figures. Shares and means are over reviews that could be compared; a mean is
    null where there is nothing to take it of. What people made of corrected layers, and not of a model's prediction, is
    left out; `control`: reviews of tasks that had no prediction, which count nowhere else."""
    ledger = _LEDGER.c
    compared = ledger.accepted.is_not(None)
    keys = [ledger[name] for name in _GROUPS[by]]
    query = (
        select(
            *keys,
            func.count().filter(~ledger.control).label("reviews"),
            func.count().filter(ledger.skipped, ~ledger.control).label("skipped"),
            func.count().filter(ledger.control).label("control"),
            func.percentile_cont(0.5)
            .within_group(ledger.lead_time_s)
            .filter(ledger.control, ~ledger.skipped)
            .label("control_lead_time_median_s"),
            func.count().filter(compared).label("compared"),
            func.avg(case((ledger.accepted, 1.0), else_=0.0)).filter(compared).cast(Float).label("accepted_share"),
            func.percentile_cont(0.5).within_group(ledger.lead_time_s).filter(compared).label("lead_time_median_s"),
            func.avg(ledger.frames_touched).filter(compared).cast(Float).label("frames_touched_mean"),
            func.avg(ledger.box_iou).cast(Float).label("box_iou_mean"),
            func.avg(ledger.mask_iou).cast(Float).label("mask_iou_mean"),
            *(
                func.coalesce(func.sum(ledger[name]), 0).label(name)
                for name in (
                    "tracks", "tracks_edited", "tracks_added", "tracks_removed",
                    "masks", "masks_edited", "masks_added", "masks_removed", "pixels_added", "pixels_removed",
                )
            ),
        )
        .select_from(_LEDGER)
        .where(~ledger.of_layer)
        .group_by(*keys)
        .order_by(*keys)
    )  # fmt: skip
    if project is not None:
        query = query.where(ledger.project == project)
    return [{"group": _name(row[: len(keys)]), **row._mapping} for row in session.execute(query)]


def _name(key: Sequence[object]) -> str:
    return " ".join("unknown" if part is None else str(part)[: 12 if len(str(part)) == 64 else None] for part in key)


def edits_per_task(session: Session, run_ids: Collection[int]) -> dict[str, float]:
    """What correcting these runs took: the share that was left as it was, and, a task on average, how many tracks and
    masks were edited, added or removed and how many pixels painted or wiped. Only reviews that could be compared."""
    ledger = _LEDGER.c
    kinds = ("edited", "added", "removed")
    edits = [ledger[f"{what}_{kind}"] for what in ("tracks", "masks") for kind in kinds]
    query = select(
        func.avg(case((ledger.accepted, 1.0), else_=0.0)).cast(Float),
        func.avg(sum(edits[1:], edits[0])).cast(Float),
        func.avg(ledger.pixels_added + ledger.pixels_removed).cast(Float),
    ).where(ledger.run_id.in_(list(run_ids)), ledger.accepted.is_not(None), ~ledger.of_layer)
    accepted, edited, pixels = session.execute(query).one()
    return {"accepted_share": accepted or 0.0, "edits_per_task": edited or 0.0, "pixels_per_task": pixels or 0.0}

"""Runs."""

from typing import Annotated

from fastapi import APIRouter, Query

from backend.api.deps import PageBounds, TheSession, next_cursor
from backend.api.schemas.common import Page
from backend.api.schemas.reviews import ReviewOut
from backend.api.schemas.runs import MasksOut, RunDetail, RunOut
from backend.db.repositories import runs as rows
from backend.domain.runs import RunStatus
from backend.services import results, reviews, runs

router = APIRouter(prefix="/runs", tags=["runs"])


@router.get("")
def list_runs(
    session: TheSession,
    bounds: PageBounds,
    status: Annotated[list[RunStatus] | None, Query()] = None,
    project: Annotated[str | None, Query(description="its name")] = None,
    video: Annotated[int | None, Query(description="its id")] = None,
) -> Page[RunOut]:
    """Newest first."""
    found = rows.page(session, bounds.limit, bounds.before_id, statuses=status or (), project=project, video_id=video)
    items = [RunOut.of(row) for row in found]
    return Page(items=items, next_cursor=next_cursor([row.id for row in found], bounds.limit))


@router.get("/{run_id}")
def show_run(run_id: int, session: TheSession) -> RunDetail:
    """With keyframes, detections, tracks and publications; masks are asked for track by track."""
    return RunDetail.of(rows.get_whole(session, run_id))


@router.get("/{run_id}/masks")
def show_masks(run_id: int, track: Annotated[int, Query(description="its index")], session: TheSession) -> MasksOut:
    return MasksOut.of(run_id, track, results.track_masks(session, run_id, track))


@router.get("/{run_id}/reviews")
def show_reviews(run_id: int, session: TheSession) -> list[ReviewOut]:
    """What people made of the run's pre-annotation, as it was last read from the labeling tool."""
    return [ReviewOut.of(row) for row in reviews.of_run(session, run_id)]


@router.post("/{run_id}/retry")
def retry_run(run_id: int, session: TheSession) -> RunOut:
    """Of a run that failed, was quarantined or cancelled."""
    runs.retry(session, run_id)
    return RunOut.of(rows.get(session, run_id))


@router.post("/{run_id}/cancel")
def cancel_run(run_id: int, session: TheSession) -> RunOut:
    runs.cancel(session, run_id)
    return RunOut.of(rows.get(session, run_id))

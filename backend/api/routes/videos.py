"""Videos."""

from typing import Annotated

from fastapi import APIRouter, Query

from backend.api.deps import PageBounds, TheSession, next_cursor
from backend.api.schemas.common import Page
from backend.api.schemas.videos import VideoOut
from backend.db.repositories import videos as rows

router = APIRouter(prefix="/videos", tags=["videos"])


@router.get("")
def list_videos(
    session: TheSession, bounds: PageBounds, project: Annotated[str | None, Query(description="its name")] = None
) -> Page[VideoOut]:
    """Newest first."""
    found = rows.page(session, bounds.limit, bounds.before_id, project)
    items = [VideoOut.model_validate(row) for row in found]
    return Page(items=items, next_cursor=next_cursor([row.id for row in found], bounds.limit))


@router.get("/{video_id}")
def show_video(video_id: int, session: TheSession) -> VideoOut:
    return VideoOut.model_validate(rows.get(session, video_id))

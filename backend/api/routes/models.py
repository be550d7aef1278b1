"""Model versions, what the gate said of them, and who leads."""

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from backend.api.deps import PageBounds, TheContainer, TheSession, next_cursor
from backend.api.schemas.common import Page
from backend.api.schemas.models import (
    ModelVersionDetail,
    ModelVersionOut,
    PromotionOut,
    ShadowFiguresOut,
    VerdictDetail,
)
from backend.db.repositories import models as rows
from backend.domain.errors import NotFound
from backend.services import models, promotions, shadows

router = APIRouter(tags=["models"])

ProfileName = Annotated[str | None, Query(description="only of this model profile")]


@router.get("/models")
def list_models(session: TheSession, bounds: PageBounds, profile: ProfileName = None) -> Page[ModelVersionOut]:
    """Newest first."""
    found = models.page(session, bounds.limit, bounds.before_id, profile)
    items = [ModelVersionOut.of(row, aliases) for row, aliases in found]
    return Page(items=items, next_cursor=next_cursor([row.id for row, _ in found], bounds.limit))


@router.get("/models/{digest}")
def show_model(digest: str, session: TheSession) -> ModelVersionDetail:
    """With its profile and verdicts; the digest's beginning is enough."""
    return ModelVersionDetail.whole(*models.whole(session, digest))


@router.get("/models/{digest}/shadows")
def show_shadows(digest: str, session: TheSession, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> ShadowFiguresOut:
    """What the version found as a challenger, beside the champions of its time."""
    version = rows.by_digest(session, digest)
    found = shadows.compare(session, version.profile_name, version.digest, limit)
    return ShadowFiguresOut.model_validate(found)


@router.get("/promotions")
def list_promotions(session: TheSession, bounds: PageBounds, profile: ProfileName = None) -> Page[PromotionOut]:
    """Newest first; the newest of each profile and alias says who has it."""
    found = promotions.history(session, bounds.limit, bounds.before_id, profile)
    items = [PromotionOut.of(row) for row in found]
    return Page(items=items, next_cursor=next_cursor([row.id for row in found], bounds.limit))


@router.get("/verdicts/{digest}")
def show_verdict(digest: str, session: TheSession) -> VerdictDetail:
    return VerdictDetail.of(rows.verdict_by_digest(session, digest))


@router.get("/verdicts/{digest}/page", response_class=HTMLResponse)
def show_page(digest: str, container: TheContainer) -> HTMLResponse:
    """The verdict as a page with its plots."""
    with container.transaction() as session:
        key = rows.verdict_by_digest(session, digest).page_key
    if key is None:
        raise NotFound(f"verdict {digest!r} has no page")
    with tempfile.TemporaryDirectory(prefix="premask-page-") as folder:
        path = Path(folder) / "page.html"
        container.store.download(container.store.head(container.settings.storage.artifact_bucket, key), path)
        return HTMLResponse(path.read_text())

"""Corrected layers; which there are, a run's reviews tell."""

from typing import Annotated

from fastapi import APIRouter, Query

from backend.api.deps import TheSession
from backend.api.schemas.reviews import LayerMasksOut
from backend.services import corrected

router = APIRouter(prefix="/layers", tags=["reviews"])


@router.get("/{layer_id}/masks")
def show_masks(
    layer_id: int, track: Annotated[int, Query(description="its index")], session: TheSession
) -> LayerMasksOut:
    """All masks of one track, also those that are the run's."""
    return LayerMasksOut.of(layer_id, track, corrected.track_masks(session, layer_id, track))

"""What people made of the pre-annotations."""

from typing import Annotated

from fastapi import APIRouter, Query

from backend.api.deps import TheSession
from backend.api.schemas.reviews import LedgerLine
from backend.db.repositories import ledger
from backend.db.repositories.ledger import By

router = APIRouter(prefix="/reviews", tags=["reviews"])


@router.get("/stats")
def show_stats(
    session: TheSession,
    by: By = By.MODEL,
    project: Annotated[str | None, Query(description="its name")] = None,
) -> list[LedgerLine]:
    """The assistance ledger in figures, a line a group; each review counts as it is now."""
    return [LedgerLine(**figures) for figures in ledger.stats(session, by, project)]

"""Data sets."""

from fastapi import APIRouter

from backend.api.deps import PageBounds, TheSession, next_cursor
from backend.api.schemas.common import Page
from backend.api.schemas.datasets import DatasetOut
from backend.db.repositories import datasets as rows

router = APIRouter(prefix="/datasets", tags=["datasets"])


@router.get("")
def list_datasets(session: TheSession, bounds: PageBounds) -> Page[DatasetOut]:
    """Newest first."""
    found = rows.page(session, bounds.limit, bounds.before_id)
    cursor = next_cursor([row.id for row in found], bounds.limit)
    return Page(items=[DatasetOut.of(row) for row in found], next_cursor=cursor)


@router.get("/{digest}")
def show_dataset(session: TheSession, digest: str) -> DatasetOut:
    """One data set, by its digest or the beginning of it."""
    return DatasetOut.of(rows.get(session, digest))

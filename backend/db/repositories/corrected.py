"""Queries on corrected layers: making and claiming them, their tracks and masks, and reading both back whole."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import psycopg
from sqlalchemy import ColumnElement, and_, column, exists, func, insert, literal, select, table, update
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE, Range
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.orm import Session, aliased, selectinload

from backend.db.tables import (
    CorrectedLayer,
    CorrectedMaskRow,
    CorrectedTrackRow,
    MaskRow,
    Publication,
    Review,
    ReviewVersion,
    TrackRow,
)
from backend.domain.annotation import Box, Mask
from backend.domain.corrected import Source
from backend.domain.errors import NotFound

_MASK_COPY = "COPY corrected_masks (track_id, frame_index, source, counts, area, x1, y1, x2, y2) FROM STDIN"
_MASK_COLUMNS = ("frame_index", "counts", "area", "x1", "y1", "x2", "y2")
#: A view: the layer's own masks and those of the run's tracks that it kept (`migrations`, 0007).
_WHOLE = table("corrected_layer_masks", *(column(name) for name in ("track_id", "source", *_MASK_COLUMNS)))


def open_layer(session: Session, version_id: int, run_id: int) -> CorrectedLayer:
    """The layer of that version, queued if it is new."""
    row = insert_or(CorrectedLayer).values(version_id=version_id, run_id=run_id)
    session.execute(row.on_conflict_do_nothing())
    return session.scalars(select(CorrectedLayer).where(CorrectedLayer.version_id == version_id)).one()


def get(session: Session, layer_id: int) -> CorrectedLayer:
    """The layer with its tracks. Raises `NotFound`."""
    query = select(CorrectedLayer).where(CorrectedLayer.id == layer_id).options(selectinload(CorrectedLayer.tracks))
    layer = session.scalar(query)
    if layer is None:
        raise NotFound(f"there is no corrected layer {layer_id}")
    return layer


def lock(session: Session, layer_id: int) -> CorrectedLayer | None:
    """The layer, locked for change and read anew; None if it is gone."""
    return session.get(CorrectedLayer, layer_id, with_for_update=True, populate_existing=True)


def lock_owned(session: Session, layer_id: int, fence: int) -> CorrectedLayer | None:
    """The layer, locked, if it is running and this fence is still the newest."""
    query = select(CorrectedLayer).where(*_owned(layer_id, fence))
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def extend_lease(session: Session, layer_id: int, fence: int, lease_s: float) -> bool:
    """Whether the lease was extended; False: the layer is no longer this worker's."""
    statement = (
        update(CorrectedLayer)
        .where(*_owned(layer_id, fence))
        .values(lease_expires_at=func.clock_timestamp() + timedelta(seconds=lease_s))
        .returning(CorrectedLayer.id)
        .execution_options(synchronize_session=False)
    )
    return session.scalar(statement) is not None


def _owned(layer_id: int, fence: int) -> tuple[ColumnElement[bool], ...]:
    return CorrectedLayer.id == layer_id, CorrectedLayer.fence == fence, CorrectedLayer.state == "running"


def lock_expired(session: Session, limit: int) -> Sequence[CorrectedLayer]:
    """Running layers whose lease is over."""
    over = and_(CorrectedLayer.state == "running", CorrectedLayer.lease_expires_at < func.clock_timestamp())
    return _lock_open(session, over, limit)


def lock_forgotten(session: Session, silent_s: float, limit: int) -> Sequence[CorrectedLayer]:
    """Queued layers whose last message went out so long ago, or never."""
    border = func.clock_timestamp() - timedelta(seconds=silent_s)
    asked_at = func.coalesce(CorrectedLayer.dispatched_at, CorrectedLayer.created_at)
    return _lock_open(session, and_(CorrectedLayer.state == "queued", asked_at < border), limit)


def _lock_open(session: Session, which: ColumnElement[bool], limit: int) -> Sequence[CorrectedLayer]:
    query = select(CorrectedLayer).where(which).order_by(CorrectedLayer.id).limit(limit)
    return session.scalars(query.with_for_update(skip_locked=True)).all()


def is_newest(session: Session, version_id: int) -> bool:
    """Whether the version is what its annotation says now: not saved again since, and not deleted."""
    newer = aliased(ReviewVersion)
    query = (
        select(ReviewVersion.id)
        .join(Review)
        .where(
            ReviewVersion.id == version_id,
            Review.deleted_at.is_(None),
            ~exists().where(newer.review_id == ReviewVersion.review_id, newer.number > ReviewVersion.number),
        )
    )
    return session.scalar(query) is not None


def origin_of(session: Session, version_id: int) -> tuple[ReviewVersion, Review, Publication]:
    """The version, its review, and the publication whose prediction it was made from."""
    query = select(ReviewVersion, Review, Publication).select_from(ReviewVersion).join(Review).join(Publication)
    version, review, publication = session.execute(query.where(ReviewVersion.id == version_id)).one()
    return version, review, publication


def run_tracks(session: Session, run_id: int) -> Sequence[TrackRow]:
    return session.scalars(select(TrackRow).where(TrackRow.run_id == run_id)).all()


def add_track(session: Session, **values: Any) -> CorrectedTrackRow:
    row = CorrectedTrackRow(**values)
    session.add(row)
    session.flush()
    return row


def inherit_masks(session: Session, track_id: int, from_track_id: int, changed: Sequence[Range[int]]) -> None:
    """Take over the masks of another layer's track but for those on the frames of `changed`."""
    is_changed = literal(list(changed), INT4MULTIRANGE).contains(CorrectedMaskRow.frame_index)
    fields = [getattr(CorrectedMaskRow, name) for name in ("frame_index", "source", *_MASK_COLUMNS[1:])]
    rows = select(literal(track_id), *fields).where(CorrectedMaskRow.track_id == from_track_id, ~is_changed)
    names = ["track_id", "frame_index", "source", *_MASK_COLUMNS[1:]]
    session.execute(insert(CorrectedMaskRow).from_select(names, rows))


def copy_masks(session: Session, track_id: int, masks: Mapping[int, tuple[Mask, Source]]) -> None:
    """Write the masks of changed frames through COPY, in the session's own transaction."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    with connection.cursor() as cursor, cursor.copy(_MASK_COPY) as copy:
        for frame_index, (mask, source) in masks.items():
            box = mask.box_xyxy_px
            corners = (int(box.x1), int(box.y1), int(box.x2), int(box.y2))
            copy.write_row((track_id, frame_index, source.value, mask.counts, mask.area, *corners))


def masks_of(session: Session, track_id: int, height: int, width: int) -> dict[int, tuple[Mask, Source]]:
    """All masks of a layer's track, also those it kept from the run, by frame index, in order."""
    query = select(_WHOLE.c.source, *(_WHOLE.c[name] for name in _MASK_COLUMNS)).where(_WHOLE.c.track_id == track_id)
    rows = session.execute(query.order_by(_WHOLE.c.frame_index))
    return {
        frame_index: (Mask(height, width, counts, area, Box(*corners)), Source(source))
        for source, frame_index, counts, area, *corners in rows
    }


def masks_on(
    session: Session, track_ids: Collection[int], frame_indices: Collection[int], height: int, width: int
) -> dict[int, dict[int, Mask]]:
    """The masks of these tracks of a layer on these frames, by track id and frame index."""
    query = select(_WHOLE.c.track_id, *(_WHOLE.c[name] for name in _MASK_COLUMNS)).where(
        _WHOLE.c.track_id.in_(list(track_ids)), _WHOLE.c.frame_index.in_(list(frame_indices))
    )
    return _by_track(session.execute(query), height, width)


def run_mask(session: Session, track_id: int, frame_index: int, height: int, width: int) -> Mask | None:
    """The mask of a run's track on one frame."""
    query = select(MaskRow.track_id, *(getattr(MaskRow, name) for name in _MASK_COLUMNS)).where(
        MaskRow.track_id == track_id, MaskRow.frame_index == frame_index
    )
    return _by_track(session.execute(query), height, width).get(track_id, {}).get(frame_index)


def _by_track(rows: Iterable[Any], height: int, width: int) -> dict[int, dict[int, Mask]]:
    found: dict[int, dict[int, Mask]] = {}
    for track_id, frame_index, counts, area, *corners in rows:
        found.setdefault(track_id, {})[frame_index] = Mask(height, width, counts, area, Box(*corners))
    return found

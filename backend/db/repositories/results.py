"""What a run found, written in one go and read back: keyframes, tracks, detections, masks, publications."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import psycopg
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from backend.db.tables import DetectionRow, KeyframeRow, MaskRow, Publication, TrackRow
from backend.domain.annotation import Box, Keyframe, Mask, Track
from backend.domain.confidence import told
from backend.domain.windows import Window, stored_as

_MASK_COPY = "COPY masks (track_id, frame_index, counts, area, x1, y1, x2, y2, score) FROM STDIN"


def add_tracks(
    session: Session, run_id: int, tracks: Sequence[Track], box_keyframes: Mapping[int, list[list[Any]]]
) -> dict[int, int]:
    """Write the tracks; the row's id by the track's index."""
    rows = [
        TrackRow(
            run_id=run_id, index=track.index, label=track.label, score=track.score,
            box_keyframes=box_keyframes[track.index],
            evidence=None if track.evidence is None else told(track.evidence),
        )
        for track in tracks
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    return {row.index: row.id for row in rows}


def add_keyframes(
    session: Session,
    run_id: int,
    keyframes: Sequence[Keyframe],
    image_keys: Mapping[int, str],
    track_ids: Mapping[int, int],
) -> None:
    """Write keyframes and their detections. `image_keys`: the object key of each keyframe's picture, by frame index."""
    rows = [
        KeyframeRow(
            run_id=run_id, frame_index=keyframe.frame_index, position=keyframe.position, time_s=keyframe.time_s,
            segment_start_s=keyframe.segment_start_s, segment_end_s=keyframe.segment_end_s,
            description=keyframe.description, score=keyframe.score, origin=keyframe.origin,
            image_key=image_keys[keyframe.frame_index],
        )
        for keyframe in keyframes
    ]  # fmt: skip
    session.add_all(rows)
    session.flush()
    for row, keyframe in zip(rows, keyframes, strict=True):
        session.add_all(
            DetectionRow(
                keyframe_id=row.id, index=detection.index, label=detection.label, score=detection.score,
                x1=detection.box_xyxy_px.x1, y1=detection.box_xyxy_px.y1,
                x2=detection.box_xyxy_px.x2, y2=detection.box_xyxy_px.y2,
                track_id=None if detection.track_index is None else track_ids[detection.track_index],
                evidence=None if detection.evidence is None else told(detection.evidence),
            )
            for detection in keyframe.detections
        )  # fmt: skip
    session.flush()


def copy_masks(session: Session, tracks: Iterable[Track], track_ids: Mapping[int, int]) -> int:
    """Write the masks through COPY, in the session's own transaction; how many. Empty masks are left out."""
    connection = session.connection().connection.driver_connection
    assert isinstance(connection, psycopg.Connection)
    count = 0
    with connection.cursor() as cursor, cursor.copy(_MASK_COPY) as copy:
        for row in _mask_rows(tracks, track_ids):
            copy.write_row(row)
            count += 1
    return count


def _mask_rows(tracks: Iterable[Track], track_ids: Mapping[int, int]) -> Iterator[tuple[int | str | float | None, ...]]:
    for track in tracks:
        # Both may lie elsewhere and are read in order.
        scores = iter(track.frame_scores.values()) if track.frame_scores is not None else repeat(None)
        for (frame_index, mask), score in zip(track.masks.items(), scores, strict=False):
            if mask.area > 0:
                box = mask.box_xyxy_px
                corners = (int(box.x1), int(box.y1), int(box.x2), int(box.y2))
                yield (track_ids[track.index], frame_index, mask.counts, mask.area, *corners, score)


def masks_of(session: Session, track_id: int, height: int, width: int) -> dict[int, Mask]:
    """A track's masks by frame index, in order. `height` and `width` are the video's."""
    rows = session.execute(
        select(MaskRow.frame_index, MaskRow.counts, MaskRow.area, MaskRow.x1, MaskRow.y1, MaskRow.x2, MaskRow.y2)
        .where(MaskRow.track_id == track_id)
        .order_by(MaskRow.frame_index)
    )
    return {
        frame_index: Mask(height, width, counts, area, Box(x1, y1, x2, y2))
        for frame_index, counts, area, x1, y1, x2, y2 in rows
    }


def mask_scores_of(session: Session, track_id: int) -> dict[int, float]:
    """The scores of a track's masks by frame index, in order, where they have one."""
    rows = session.execute(
        select(MaskRow.frame_index, MaskRow.score).where(MaskRow.track_id == track_id).order_by(MaskRow.frame_index)
    )
    # A real holds them to seven digits.
    return {frame_index: round(score, 4) for frame_index, score in rows if score is not None}


def lock_pending_publications(session: Session, run_id: int) -> Sequence[Publication]:
    """The run's pending publications, without those for which a later message is already written."""
    return session.scalars(
        select(Publication)
        .where(
            Publication.run_id == run_id,
            Publication.state == "pending",
            func.coalesce(Publication.dispatched_at, Publication.created_at) <= func.clock_timestamp(),
        )
        .with_for_update()
    ).all()


def ensure_publication(
    session: Session, run_id: int, target: str, layer_id: int | None = None, window: Window | None = None
) -> Publication:
    """The publication of the run (or of its corrected layer) to that target, of the whole video or of a window of it,
    pending: a new one, or the one that is there, opened again."""
    key = {"run_id": run_id, "target": target, "layer_id": layer_id, **stored_as(window)}
    row = insert(Publication).values(**key)
    session.execute(
        row.on_conflict_do_update(constraint="uq_publications_once", set_={"state": "pending", "attempts": 0})
    )
    return session.scalars(select(Publication).filter_by(**key)).one()

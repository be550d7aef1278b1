"""A run's result goes to the labeling tool: read in a short transaction, sent with none open, recorded in another.

Delivered any number of times a publication is made once: the tool looks for what an earlier attempt left, and a lock
keeps a second worker waiting meanwhile.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import corrected as layer_rows
from backend.db.repositories import publications as repository
from backend.db.repositories import runs as run_rows
from backend.db.session import SessionFactory, session_scope
from backend.db.tables import CorrectedTrackRow, Publication, TrackRow
from backend.domain.annotation import Box, Mask
from backend.domain.errors import BadInput, Misconfigured, PremaskError, ServiceUnavailable
from backend.domain.runs import PUBLISHABLE, Mode, RunStatus
from backend.domain.text import storable
from backend.domain.tracks import BoxKeyframe
from backend.domain.windows import Window, clipped
from backend.ports.labeling import LABELING_ERROR, LabelingTool, PublishedTask
from backend.ports.publication import PublicationItem, PublicationPage, PublicationTrack
from backend.services import adoption, renditions
from backend.services.videos import probe_of
from backend.settings import LabelStudioSettings, StorageSettings

log = logging.getLogger(__name__)

_TARGET = "label_studio:"
_DIGEST_SHOWN = 12


@dataclass(frozen=True, slots=True)
class _Order:
    """One publication to be made."""

    publication_id: int
    project_id: int
    item: PublicationItem


def publish_run(
    factory: SessionFactory,
    labeling_tool: LabelingTool,
    run_id: int,
    storage: StorageSettings,
    labeling: LabelStudioSettings,
) -> None:
    """Make the run's pending publications; none pending, or the video's rendition still to be made: nothing happens.

    Raises `NotFound` for an unknown run, and `ServiceUnavailable` when it is to be tried again: the publication is then
    still pending and carries the error. One that can never succeed, or at which the tool broke `labeling.max_attempts`
    times, becomes `failed`, without an exception. A tool that is away, or misconfigured, costs no attempt.
    """
    with session_scope(factory) as session:
        run = run_rows.get(session, run_id)
        video_id, instruction_id = run.video_id, run.instruction_id
        pending = repository.pending_of(session, run_id)
        ready = [one.id for one in pending if renditions.settled(session, video_id, one.window)]
        if len(ready) < len(pending):
            log.info("run %d waits for %d renditions of video %d", run_id, len(pending) - len(ready), video_id)
    for publication_id in ready:
        with repository.exclusive(factory, video_id, instruction_id, patience_s=labeling.timeout_s):
            if _begin(factory, publication_id, labeling.max_attempts):
                order = _read(factory, publication_id, storage)
                if order is not None:
                    _carry_out(factory, labeling_tool, order, labeling.max_attempts)


def _begin(factory: SessionFactory, publication_id: int, max_attempts: int) -> bool:
    """Count the attempt, in a transaction that ends before the work begins. False: nothing is left to be done."""
    with session_scope(factory) as session:
        publication = repository.lock_pending(session, publication_id)
        if publication is None:
            return False
        if publication.attempts >= max_attempts:
            # The attempts before ended without a word: they killed their worker.
            publication.state = "failed"
            publication.last_error = publication.last_error or f"{publication.attempts} attempts, none of which ended"
            return False
        publication.attempts += 1
        publication.tried_at = publication.tried_at or func.clock_timestamp()
        return True


def _read(factory: SessionFactory, publication_id: int, storage: StorageSettings) -> _Order | None:
    """What is to be sent. None: it can't be, and the publication has failed with the reason."""
    with session_scope(factory) as session:
        publication = repository.lock_pending(session, publication_id)
        if publication is None:
            return None
        try:
            item = item_of(session, publication, storage)
            if item.adopted is not None and item.adopted.task_id is None:
                task_id = adoption.task_for(session, run_rows.get_whole(session, publication.run_id))
                item = replace(item, adopted=replace(item.adopted, task_id=task_id))
            return _Order(publication.id, project_id_of(publication), item)
        except BadInput as error:
            _fail(publication, error)
            return None


def _carry_out(factory: SessionFactory, labeling_tool: LabelingTool, order: _Order, max_attempts: int) -> None:
    try:
        published = labeling_tool.publish(order.project_id, order.item)
    except BadInput as error:
        with session_scope(factory) as session:
            publication = repository.lock_pending(session, order.publication_id)
            if publication is not None:
                _fail(publication, error)
        return
    except (ServiceUnavailable, Misconfigured) as error:
        if _note_failure(factory, order.publication_id, error, max_attempts):
            after_s = error.retry_after_s if isinstance(error, ServiceUnavailable) else None
            raise ServiceUnavailable(str(error), retry_after_s=after_s) from error
        return
    _note_success(factory, order, published)


def _note_success(factory: SessionFactory, order: _Order, published: PublishedTask) -> None:
    with session_scope(factory) as session:
        publication = repository.lock_pending(session, order.publication_id)
        if publication is None:
            return
        repository.set_published(publication, published.task_id, published.prediction_id)
        run = run_rows.lock(session, order.item.run_id)
        trouble = None if order.item.window else renditions.trouble(run.video)
        more = published.warnings if trouble is None else (*published.warnings, trouble)
        run.warnings = list(dict.fromkeys([*run.warnings, *more]))


def _note_failure(factory: SessionFactory, publication_id: int, error: PremaskError, max_attempts: int) -> bool:
    """Write the error down; whether the publication is to be tried again."""
    with session_scope(factory) as session:
        publication = repository.lock_pending(session, publication_id)
        if publication is None:
            return False
        if error.code != LABELING_ERROR:
            publication.attempts -= 1
        elif publication.attempts >= max_attempts:
            _fail(publication, error)
            return False
        publication.last_error = storable(str(error))
        return True


def _fail(publication: Publication, error: Exception) -> None:
    publication.state = "failed"
    publication.last_error = storable(str(error))
    log.error("publication %d of run %d failed: %s", publication.id, publication.run_id, error)


def projects_of(session: Session, run_id: int) -> list[int]:
    """The labeling tool's projects that the run is still to be published to."""
    targets = (publication.target for publication in repository.pending_of(session, run_id))
    return [int(target.removeprefix(_TARGET)) for target in targets if target.removeprefix(_TARGET).isdigit()]


def project_id_of(publication: Publication) -> int:
    """The labeling tool's project that the publication is for. Raises `BadInput` for a target nobody knows."""
    number = publication.target.removeprefix(_TARGET)
    if not publication.target.startswith(_TARGET) or not number.isdigit():
        raise BadInput(f"no labeling tool is known for the target {publication.target!r}", code="unknown_target")
    return int(number)


def item_of(session: Session, publication: Publication, storage: StorageSettings) -> PublicationItem:
    """What is shown: the run's result, or its corrected layer; masks on the keyframes only. Raises `BadInput` where
    there is no result."""
    run = run_rows.get_whole(session, publication.run_id)
    if run.status not in PUBLISHABLE:
        raise BadInput(f"run {run.id} is {run.status}: there is nothing to show", code="nothing_to_publish")
    probe, window = probe_of(run.video), publication.window
    keyframes = [row for row in run.keyframes if window is None or row.frame_index in window.frames]
    frames = [row.frame_index for row in keyframes]
    rows: Sequence[TrackRow | CorrectedTrackRow]
    if publication.layer_id is None:
        rows = run.tracks
        masks = repository.masks_on(session, [row.id for row in rows], frames, probe.height, probe.width)
    else:
        rows = layer_rows.get(session, publication.layer_id).tracks
        masks = layer_rows.masks_on(session, [row.id for row in rows], frames, probe.height, probe.width)
    adopted = adoption.adopted_of(run, publication)
    return PublicationItem(
        run_id=run.id,
        layer_id=publication.layer_id,
        control=publication.control,
        adopted=adopted,
        video_id=run.video_id,
        instruction_id=run.instruction_id,
        instruction=run.instruction.text,
        mode=Mode(run.instruction.mode),
        video_uri=f"s3://{run.video.bucket}/{run.video.key}",
        probe=probe,
        status=RunStatus(run.status),
        outcome_code=run.outcome_code,
        reasoning=run.reasoning or "",
        pages=tuple(
            PublicationPage(
                row.frame_index, row.time_s, row.description, f"s3://{storage.artifact_bucket}/{row.image_key}"
            )
            for row in keyframes
        ),
        # A track that is visible nowhere has nothing to show.
        tracks=tuple(track for row in rows if (track := _track(row, masks.get(row.id, {}), window)).box_keyframes),
        model_version=f"{run.model_version.profile_name}@{run.model_version.digest[:_DIGEST_SHOWN]}",
        # In somebody else's project the video stays the one that is there.
        rendition=None if adopted else renditions.shown(session, run.video, storage, window),
        window=window,
    )


def _track(row: TrackRow | CorrectedTrackRow, masks: dict[int, Mask], window: Window | None) -> PublicationTrack:
    box_keyframes = box_keyframes_of(row.box_keyframes)
    if window is not None:
        box_keyframes = clipped(box_keyframes, window.frames)
    return PublicationTrack(row.index, row.label, row.score, box_keyframes, masks)


def box_keyframes_of(stored: Sequence[Sequence[Any]]) -> tuple[BoxKeyframe, ...]:
    """As rows of tracks hold them: frame, x1, y1, x2, y2, visible."""
    return tuple(
        BoxKeyframe(int(frame_index), Box(float(x1), float(y1), float(x2), float(y2)), bool(visible))
        for frame_index, x1, y1, x2, y2, visible in stored
    )

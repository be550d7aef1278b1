"""What a run found goes into the database in one transaction, and comes back out as the same `Annotation`.

The transaction is conditional on the worker's fence; it also opens the publication, so that a result without its
publication can't be.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import func
from sqlalchemy.orm import Session

from backend.db.repositories import results as repository
from backend.db.repositories import runs as run_rows
from backend.db.tables import Run, TrackRow
from backend.domain.annotation import Annotation, Box, Detection, Keyframe, Mask, Track
from backend.domain.confidence import BoxEvidence, TrackEvidence
from backend.domain.errors import NotFound
from backend.domain.runs import Mode, RunStatus
from backend.domain.text import storable
from backend.domain.tracks import reduce_boxes
from backend.domain.windows import windows_of
from backend.services import outbox, runs
from backend.services.videos import probe_of
from backend.settings import LabelStudioSettings


def record(
    session: Session,
    run_id: int,
    fence: int,
    annotation: Annotation,
    image_keys: Mapping[int, str],
    labeling: LabelStudioSettings,
) -> None:
    """Write the result and end the run. `image_keys`: where each keyframe's picture lies, by frame index.

    Raises `FenceLost`, with nothing written.
    """
    run = runs.lock_owned(session, run_id, fence)
    clean = _storable(annotation)
    box_keyframes = {
        track.index: _box_keyframes(track, annotation.probe.frame_count, labeling.track_iou_floor)
        for track in clean.tracks
    }
    track_ids = repository.add_tracks(session, run_id, clean.tracks, box_keyframes)
    repository.add_keyframes(session, run_id, clean.keyframes, image_keys, track_ids)
    repository.copy_masks(session, clean.tracks, track_ids)
    run.reasoning, run.raw_output = clean.reasoning, clean.raw_output
    run.timings_s, run.warnings = annotation.timings_s, list(clean.warnings)
    run.stage, run.stage_progress = None, 1.0
    runs.finish(session, run, annotation.status, annotation.outcome_code, None)
    session.flush()
    if labeling.url is not None and not run.shadow:
        open_publication(session, run)


def open_publication(session: Session, run: Run) -> None:
    """A pending publication of the run to its project's place in the labeling tool, or one for each window of a long
    video, and the message for them."""
    project = run.instruction.project
    if project.label_studio_project_id is None:
        return  # Opened for all its runs when the project is connected: `projects.connect`.
    target = target_of(project.label_studio_project_id)
    # In somebody else's project the video is shown as it is there.
    longest_s = 0.0 if project.adoption is not None else project.window_s
    windows = windows_of(probe_of(run.video).clock, longest_s) if longest_s else ()
    control = is_control(project.control_share, run.video_id, run.instruction_id)
    opened = [repository.ensure_publication(session, run.id, target, None, window) for window in windows or (None,)]
    for publication in opened:
        publication.control = control
        publication.dispatched_at = func.clock_timestamp()
    # The message is for the run: one is enough.
    outbox.dispatch_publication(session, opened[0])


def is_control(share: float, video_id: int, instruction_id: int) -> bool:
    """Whether the task of that video and instruction is one of the share without a prediction; always the same one."""
    digest = hashlib.sha256(f"control:{video_id}:{instruction_id}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2**64


def target_of(label_studio_project_id: int) -> str:
    return f"label_studio:{label_studio_project_id}"


def postpone_publication(session: Session, run_id: int, after_s: float | None = None) -> None:
    """Try later: soon if the labeling tool is out, which costs no attempt; ever later the more often it refused; not
    before `after_s` seconds.

    Two messages become one.
    """
    for publication in repository.lock_pending_publications(session, run_id):
        delay_s = min(runs.RETRY_LONGEST_S, runs.OUTAGE_WAIT_S * 2**publication.attempts)
        outbox.dispatch_publication(session, publication, max(delay_s, after_s or 0.0))


def load_annotation(session: Session, run_id: int) -> Annotation:
    """The recorded result, whole, without the keyframes' pictures. Raises `NotFound` where there is none."""
    run = run_rows.get_whole(session, run_id)
    if run.video.probe_status != "ok" or run.status not in (RunStatus.SUCCEEDED, RunStatus.NO_TARGET):
        raise NotFound(f"run {run_id} is {run.status} and has no result", code="no_result")
    probe = probe_of(run.video)
    index_of = {row.id: row.index for row in run.tracks}
    return Annotation(
        probe=probe,
        status=RunStatus(run.status),
        outcome_code=run.outcome_code,
        reasoning=run.reasoning or "",
        raw_output=run.raw_output or "",
        keyframes=tuple(
            Keyframe(
                row.frame_index, row.position, row.time_s, row.segment_start_s, row.segment_end_s, row.description,
                tuple(
                    Detection(
                        d.index, Box(d.x1, d.y1, d.x2, d.y2), d.label, d.score,
                        None if d.track_id is None else index_of[d.track_id],
                        None if d.evidence is None else BoxEvidence(**d.evidence),
                    )
                    for d in row.detections
                ), row.origin,
            )
            for row in run.keyframes
        ),
        tracks=tuple(
            Track(
                row.index, row.label, row.score, repository.masks_of(session, row.id, probe.height, probe.width),
                _boxes_alone(run, row), None if row.evidence is None else TrackEvidence(**row.evidence),
                repository.mask_scores_of(session, row.id) or None,
            )
            for row in run.tracks
        ),
        timings_s=run.timings_s,
        warnings=tuple(run.warnings),
        model={"profile": run.model_version.profile_name, "digest": run.model_version.digest},
    )  # fmt: skip


def _boxes_alone(run: Run, row: TrackRow) -> dict[int, Box]:
    """In mode `aid` boxes are all there is: those of the track, by frame index."""
    if run.instruction.mode != Mode.AID:
        return {}
    return {
        k.frame_index: Box(d.x1, d.y1, d.x2, d.y2) for k in run.keyframes for d in k.detections if d.track_id == row.id
    }


def track_masks(session: Session, run_id: int, track_index: int) -> dict[int, Mask]:
    """The masks of one track of the run, by frame index. Raises `NotFound`."""
    run = run_rows.get_whole(session, run_id)
    row = next((row for row in run.tracks if row.index == track_index), None)
    if row is None:
        raise NotFound(f"run {run_id} has no track {track_index}")
    assert run.video.height is not None
    assert run.video.width is not None
    return repository.masks_of(session, row.id, run.video.height, run.video.width)


def _box_keyframes(track: Track, frame_count: int, iou_floor: float) -> list[list[float | bool]]:
    seen = {frame_index: mask.box_xyxy_px for frame_index, mask in track.masks.items() if mask.area > 0}
    boxes = {**track.boxes, **seen}
    return [
        [keyframe.frame_index, keyframe.box.x1, keyframe.box.y1, keyframe.box.x2, keyframe.box.y2, keyframe.visible]
        for keyframe in reduce_boxes(boxes, frame_count, iou_floor)
    ]


def _storable(annotation: Annotation) -> Annotation:
    """The annotation with every text a model wrote made fit for the database."""
    return Annotation(
        probe=annotation.probe,
        status=annotation.status,
        outcome_code=annotation.outcome_code,
        reasoning=storable(annotation.reasoning),
        raw_output=storable(annotation.raw_output),
        keyframes=tuple(_storable_keyframe(keyframe) for keyframe in annotation.keyframes),
        tracks=tuple(replace(track, label=storable(track.label)) for track in annotation.tracks),
        timings_s=annotation.timings_s,
        warnings=tuple(storable(warning) for warning in annotation.warnings),
        model=annotation.model,
    )


def _storable_keyframe(keyframe: Keyframe) -> Keyframe:
    detections = tuple(replace(found, label=storable(found.label)) for found in keyframe.detections)
    return replace(keyframe, description=storable(keyframe.description), detections=detections)

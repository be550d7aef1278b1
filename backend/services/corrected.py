"""Corrected layers: a version of a review is worked into the run's result, beside it, once.

Opened with the version that corrects something, claimed by a GPU worker under lease and fence as a run is, computed
with no session open, recorded in one transaction. The rules are `backend.domain.corrected`.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.orm import Session

from backend.db.repositories import corrected as repository
from backend.db.repositories import models
from backend.db.repositories import results as result_rows
from backend.db.repositories import runs as run_rows
from backend.db.tables import CorrectedLayer, CorrectedTrackRow, TrackRow
from backend.domain.annotation import Mask, VideoProbe
from backend.domain.corrected import RULES, Source, TrackPlan, assemble, plan, within
from backend.domain.corrections import Change, compare
from backend.domain.errors import FenceLost, NotFound
from backend.domain.text import storable
from backend.domain.tracks import BoxKeyframe
from backend.domain.windows import Window, clipped, joined
from backend.ports.labeling import Answer, AnsweredTask, LabelingTool
from backend.ports.storage import ObjectVersion
from backend.profiles import ModelProfile
from backend.services import outbox, runs
from backend.services.publish import box_keyframes_of, item_of, project_id_of
from backend.services.results import target_of
from backend.services.videos import probe_of
from backend.settings import LabelStudioSettings, StorageSettings, WorkerSettings

log = logging.getLogger(__name__)

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Claim:
    layer_id: int
    fence: int


@dataclass(frozen=True, slots=True)
class Job:
    """All that is needed to compute a layer."""

    run_id: int
    object_version: ObjectVersion
    probe: VideoProbe
    plans: tuple[TrackPlan, ...]
    #: The part of the video that was shown; None: the whole. All else stays as it was.
    window: Window | None = None

    @property
    def needs_video(self) -> bool:
        return any(plan.carries for plan in self.plans)


def open_layer(session: Session, version_id: int, run_id: int) -> None:
    """Have the version worked into the run's result."""
    outbox.dispatch_correction(session, repository.open_layer(session, version_id, run_id))


def claim(session: Session, layer_id: int, worker: str, settings: WorkerSettings) -> Claim | None:
    """Take the layer for `settings.lease_s` seconds, if it is queued, or running with its lease over. None: not free,
    or nobody needs it any more."""
    layer = repository.lock(session, layer_id)
    if layer is None or layer.state not in ("queued", "running"):
        return None
    now = session.scalar(func.clock_timestamp().select())
    if layer.state == "running" and layer.lease_expires_at is not None and layer.lease_expires_at >= now:
        return None
    if not repository.is_newest(session, layer.version_id):
        _end(layer, "superseded", None)
        return None
    if layer.attempt >= settings.max_attempts:
        _end(layer, "failed", f"given up after {layer.attempt} attempts, none of which ended")
        return None
    layer.state, layer.worker = "running", worker
    layer.attempt += 1
    layer.fence += 1
    layer.lease_expires_at = func.clock_timestamp() + timedelta(seconds=settings.lease_s)
    session.flush()
    return Claim(layer.id, layer.fence)


def extend_lease(session: Session, claimed: Claim, settings: WorkerSettings) -> None:
    """Raises `FenceLost`."""
    if not repository.extend_lease(session, claimed.layer_id, claimed.fence, settings.lease_s):
        raise _lost(claimed)


def read(session: Session, tool: LabelingTool, layer_id: int, storage: StorageSettings) -> Job:
    """What is to be done; the tool is asked nothing. Raises `BadInput` where the review can't be read."""
    layer = repository.get(session, layer_id)
    version, review, publication = repository.origin_of(session, layer.version_id)
    run = run_rows.get_whole(session, publication.run_id)
    probe = probe_of(run.video)
    context = version.context or {}
    answer = Answer(
        review.annotation_id, publication.prediction_id, review.annotator, version.changed_at, version.lead_time_s,
        version.skipped, version.raw,
    )  # fmt: skip
    task = AnsweredTask(
        project_id_of(publication), review.task_id, version.changed_at, (answer,), context["data"], context["config"]
    )
    sent, returned = tool.layers(task, answer, item_of(session, publication, storage))
    bases = _bases(session, publication.run_id, publication.layer_id)

    def mask_at(track_index: int, frame_index: int) -> Mask | None:
        base = bases[track_index]
        if isinstance(base, TrackRow):
            return repository.run_mask(session, base.id, frame_index, probe.height, probe.width)
        found = repository.masks_on(session, [base.id], [frame_index], probe.height, probe.width)
        return found.get(base.id, {}).get(frame_index)

    labels = {index: base.label for index, base in bases.items()}
    plans, window = plan(sent, returned, compare(sent, returned), labels, mask_at), publication.window
    if window is not None:
        plans = [within(one, window) for one in plans]
    return Job(publication.run_id, runs.object_version(run.video), probe, tuple(plans), window)


def _bases(session: Session, run_id: int, layer_id: int | None) -> Mapping[int, TrackRow | CorrectedTrackRow]:
    """The tracks that were shown, by index: the run's own, or those of a layer that was published as its result."""
    if layer_id is None:
        return {row.index: row for row in repository.run_tracks(session, run_id)}
    return {row.index: row for row in repository.get(session, layer_id).tracks}


def record(
    session: Session, claimed: Claim, job: Job, carried: Mapping[str, Sequence[Mapping[int, Mask]]],
    timings_s: Mapping[str, float], profile: ModelProfile, labeling: LabelStudioSettings,
) -> None:  # fmt: skip
    """Write the layer and end it; send it as a fresh prediction if its project wants that. `carried`: by region what
    the segmenter of `profile` made of each of the plan's carries. Raises `FenceLost`, with nothing written."""
    layer = _lock_owned(session, claimed)
    _, _, publication = repository.origin_of(session, layer.version_id)
    bases = _bases(session, job.run_id, publication.layer_id)
    free = max(bases, default=-1) + 1
    for made in job.plans:
        base = None if made.origin is None else bases[made.origin]
        index = free if base is None else base.index
        free += base is None
        _add_track(session, layer.id, index, made, base, carried.get(made.region_id, ()), job, labeling)
    layer.config = {"rules": RULES, "track_iou_floor": labeling.track_iou_floor}
    layer.timings_s = dict(timings_s)
    if job.needs_video:
        stored = profile.model_dump(mode="json")
        layer.model_version_id = models.ensure(session, profile.digest, profile.name, stored)
    _end(layer, "ready", None)
    session.flush()
    project = run_rows.get(session, job.run_id).instruction.project
    if project.show_corrected and project.label_studio_project_id is not None and labeling.url is not None:
        target = target_of(project.label_studio_project_id)
        fresh = result_rows.ensure_publication(session, job.run_id, target, layer.id, job.window)
        outbox.dispatch_publication(session, fresh)


def _add_track(
    session: Session, layer_id: int, index: int, made: TrackPlan, base: TrackRow | CorrectedTrackRow | None,
    carried: Sequence[Mapping[int, Mask]], job: Job, labeling: LabelStudioSettings,
) -> None:  # fmt: skip
    """One track; what is kept of a base that is a layer's own comes along with it."""
    earlier = base if isinstance(base, CorrectedTrackRow) else None
    changed, boxes, masks = set(made.changed), [] if base is None else base.box_keyframes, {}
    if made.change is Change.REMOVED:
        boxes = []
    elif made.change is not Change.UNTOUCHED:
        track = assemble(made, carried, job.probe.frame_count, labeling.track_iou_floor)
        found = list(track.box_keyframes)
        if job.window is not None:
            found = _beside(found, box_keyframes_of(boxes), job.window, job.probe.frame_count)
        boxes = [[k.frame_index, k.box.x1, k.box.y1, k.box.x2, k.box.y2, k.visible] for k in found]
        masks = dict(track.masks)
    drawn, boxed = set(made.drawn), set(made.boxed)
    if earlier is not None:
        drawn |= set(earlier.drawn_frames) - changed
        boxed |= set(earlier.boxed_frames) - changed
    row = repository.add_track(
        session, layer_id=layer_id, index=index, region_id=storable(made.region_id), label=storable(made.label),
        kept_track_id=earlier.kept_track_id if earlier is not None else None if base is None else base.id,
        score=None if base is None else base.score, change=made.change.value,
        changed=_ranges(changed | (_frames(earlier.changed) if earlier is not None else set())),
        drawn_frames=sorted(drawn), boxed_frames=sorted(boxed), box_keyframes=boxes,
    )  # fmt: skip
    repository.copy_masks(session, row.id, masks)
    if earlier is not None and made.change is not Change.REMOVED:
        repository.inherit_masks(session, row.id, earlier.id, _ranges(changed))


def _beside(
    found: Sequence[BoxKeyframe], base: Sequence[BoxKeyframe], window: Window, frame_count: int
) -> list[BoxKeyframe]:
    """What was found in the window, between what the track is before and after it."""
    before, after = range(window.first_frame), range(window.stop, frame_count)
    return joined([clipped(base, before), found, clipped(base, after)], frame_count)


def _ranges(frames: Collection[int]) -> list[Range[int]]:
    found: list[Range[int]] = []
    for frame in sorted(frames):
        if found and found[-1].upper == frame:
            found[-1] = Range(found[-1].lower, frame + 1)
        else:
            found.append(Range(frame, frame + 1))
    return found


def _frames(ranges: Sequence[Range[int]]) -> set[int]:
    return {frame for one in ranges for frame in range(one.lower or 0, one.upper or 0)}


def track_masks(session: Session, layer_id: int, track_index: int) -> dict[int, tuple[Mask, Source]]:
    """All masks of one track of the layer, with where they are from. Raises `NotFound`."""
    layer = repository.get(session, layer_id)
    row = next((row for row in layer.tracks if row.index == track_index), None)
    if row is None:
        raise NotFound(f"corrected layer {layer_id} has no track {track_index}")
    probe = probe_of(run_rows.get(session, layer.run_id).video)
    return repository.masks_of(session, row.id, probe.height, probe.width)


def fail(session: Session, claimed: Claim, reason: str) -> None:
    """End the layer with a reason for a person. Raises `FenceLost`."""
    _end(_lock_owned(session, claimed), "failed", reason)


def give_back(session: Session, claimed: Claim, reason: str, settings: WorkerSettings) -> None:
    """After an error that another attempt may not meet: later each time, or not any more. Raises `FenceLost`."""
    layer = _lock_owned(session, claimed)
    if layer.attempt >= settings.max_attempts:
        _end(layer, "failed", f"given up after {layer.attempt} attempts; the last: {reason}")
    else:
        _requeue(session, layer, min(runs.RETRY_LONGEST_S, runs.RETRY_BASE_S * 2 ** (layer.attempt - 1)))


def postpone(session: Session, claimed: Claim) -> None:
    """A service is out: later, and the attempt doesn't count. Raises `FenceLost`."""
    layer = _lock_owned(session, claimed)
    layer.attempt -= 1
    _requeue(session, layer, runs.OUTAGE_WAIT_S)


def reap(session: Session, settings: WorkerSettings, idle_queues: Collection[str]) -> int:
    """As `runs.reap`, for layers; how many were found."""
    expired = repository.lock_expired(session, _BATCH)
    forgotten = (
        repository.lock_forgotten(session, 2 * settings.lease_s, _BATCH) if outbox.GPU_QUEUE in idle_queues else ()
    )
    for layer in (*expired, *forgotten):
        _requeue(session, layer, 0.0)
    return len(expired) + len(forgotten)


def _lock_owned(session: Session, claimed: Claim) -> CorrectedLayer:
    layer = repository.lock_owned(session, claimed.layer_id, claimed.fence)
    if layer is None:
        raise _lost(claimed)
    return layer


def _requeue(session: Session, layer: CorrectedLayer, delay_s: float) -> None:
    layer.state, layer.worker, layer.lease_expires_at = "queued", None, None
    outbox.dispatch_correction(session, layer, delay_s)


def _end(layer: CorrectedLayer, state: str, problem: str | None) -> None:
    layer.state, layer.lease_expires_at = state, None
    layer.problem = None if problem is None else storable(problem)
    layer.finished_at = func.clock_timestamp()
    log.info("corrected layer %d is %s%s", layer.id, state, f": {problem}" if problem else "")


def _lost(claimed: Claim) -> FenceLost:
    return FenceLost(f"corrected layer {claimed.layer_id} was taken by another worker (claim {claimed.fence} is over)")

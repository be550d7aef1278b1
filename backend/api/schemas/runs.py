"""Runs and what they found. Frame indices are decoder order, 0-based; boxes are source pixels."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from backend.api.schemas.common import Row
from backend.api.schemas.videos import RenditionOut
from backend.db.tables import Run
from backend.domain.annotation import Mask
from backend.domain.runs import Mode, RunStatus, Stage


class RunOut(Row):
    id: int
    project: str
    video_id: int
    video_key: str
    instruction_id: int
    instruction: str
    mode: Mode
    model_version: str
    shadow: bool
    status: RunStatus
    stage: Stage | None
    stage_progress: float
    attempt: int
    outcome_code: str | None
    outcome_reason: str | None
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> "RunOut":
        return cls(**_fields(run))


def _fields(run: Run) -> dict[str, Any]:
    own = ("id", "video_id", "instruction_id", "shadow", "status", "stage", "stage_progress", "attempt", "outcome_code",
           "outcome_reason", "created_at", "queued_at", "started_at", "finished_at")  # fmt: skip
    return {
        **{name: getattr(run, name) for name in own},
        "project": run.instruction.project.name,
        "video_key": run.video.key,
        "instruction": run.instruction.text,
        "mode": run.instruction.mode,
        "model_version": run.model_version.digest,
    }


class DetectionOut(Row):
    index: int
    x1: float
    y1: float
    x2: float
    y2: float
    label: str
    score: float | None
    track_id: int | None


class KeyframeOut(Row):
    frame_index: int
    position: int
    time_s: float
    segment_start_s: float
    segment_end_s: float
    description: str
    score: float | None
    origin: str
    image_key: str
    detections: list[DetectionOut]


class TrackOut(Row):
    """`box_keyframes`: [frame_index, x1, y1, x2, y2, visible]; boxes between them are interpolated. `evidence`: what
    speaks for the track, all in 0..1; `score` is made of it."""

    id: int
    index: int
    label: str
    score: float | None
    evidence: dict[str, float] | None
    box_keyframes: list[list[Any]]


class PublicationOut(Row):
    target: str
    state: str
    task_id: int | None
    prediction_id: int | None
    attempts: int
    last_error: str | None
    published_at: datetime | None
    window_first_frame: int | None = Field(None, description="of the part of the video that is shown; null: the whole")
    window_frame_count: int | None


class RunDetail(RunOut):
    config: dict[str, Any]
    reasoning: str | None
    raw_output: str | None
    timings_s: dict[str, float]
    warnings: list[str]
    keyframes: list[KeyframeOut]
    tracks: list[TrackOut]
    publications: list[PublicationOut]
    #: What is shown of its video in the labeling tool; none: nobody had to ask yet.
    rendition: RenditionOut | None
    #: Of a running run: frames that the segmenter has carried and committed, over all its ways, and how many there are.
    frames_done: int | None
    frames_total: int | None

    @classmethod
    def of(cls, run: Run) -> "RunDetail":
        own = ("config", "reasoning", "raw_output", "timings_s", "warnings")
        return cls(
            **_fields(run),
            **{name: getattr(run, name) for name in own},
            keyframes=[KeyframeOut.model_validate(row) for row in run.keyframes],
            tracks=[TrackOut.model_validate(row) for row in run.tracks],
            publications=[PublicationOut.model_validate(row) for row in run.publications],
            rendition=None if run.video.rendition is None else RenditionOut.model_validate(run.video.rendition),
            frames_done=sum(way.done for way in run.ways) if run.ways else None,
            frames_total=sum(way.steps for way in run.ways) if run.ways else None,
        )


class RleOut(BaseModel):
    """COCO run-length encoding, as `pycocotools` decodes it: size is [height, width]."""

    size: tuple[int, int]
    counts: str


class MasksOut(BaseModel):
    run_id: int
    track: int
    masks: dict[int, RleOut]

    @classmethod
    def of(cls, run_id: int, track: int, masks: dict[int, Mask]) -> "MasksOut":
        rles = {
            frame_index: RleOut(size=(mask.height, mask.width), counts=mask.counts)
            for frame_index, mask in masks.items()
        }
        return cls(run_id=run_id, track=track, masks=rles)

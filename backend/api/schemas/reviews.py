"""Reviews."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, field_validator
from sqlalchemy.dialects.postgresql import Range

from backend.api.schemas.common import Row
from backend.api.schemas.runs import RleOut
from backend.db.tables import Review
from backend.domain.annotation import Mask
from backend.domain.corrected import Source


class TrackCorrectionOut(Row):
    """Frames are decoder order from 0; `iou` of before and after over the frames on which either is seen."""

    region_id: str
    change: str
    label_before: str | None
    label_after: str | None
    touched_frames: list[int]
    moved_frames: list[int]
    resized_frames: list[int]
    shown_frames: list[int]
    hidden_frames: list[int]
    iou: float


class MaskCorrectionOut(Row):
    region_id: str
    change: str
    frame_index: int
    label_before: str | None
    label_after: str | None
    pixels_added: int
    pixels_removed: int
    iou: float


class LayerTrackOut(Row):
    """`changed`: stretches of frames, [first, one past the last], on which the masks are the layer's own; on all others
    they are those of the run. People drew the mask on `drawn_frames` and the box on `boxed_frames`."""

    index: int
    region_id: str
    label: str
    score: float | None
    change: str
    changed: list[tuple[int, int]]
    drawn_frames: list[int]
    boxed_frames: list[int]
    box_keyframes: list[list[Any]]

    @field_validator("changed", mode="before")
    @classmethod
    def _pairs(cls, ranges: Sequence[Any]) -> list[Any]:
        return [(one.lower, one.upper) if isinstance(one, Range) else one for one in ranges]


class LayerOut(Row):
    """`state`: queued, running, ready, failed (`problem`) or superseded: the annotation was saved again before.
    `model_version`: whose segmenter carried the masks; null where none had to be."""

    id: int
    state: str
    problem: str | None
    model_version: str | None
    config: dict[str, Any]
    timings_s: dict[str, float]
    finished_at: datetime | None
    tracks: list[LayerTrackOut]


class SourcedRleOut(RleOut):
    """`source`: drawn by a person, carried from what they drew, or kept as the run had it."""

    source: Source


class LayerMasksOut(BaseModel):
    layer_id: int
    track: int
    masks: dict[int, SourcedRleOut]

    @classmethod
    def of(cls, layer_id: int, track: int, masks: Mapping[int, tuple[Mask, Source]]) -> "LayerMasksOut":
        rles = {
            frame_index: SourcedRleOut(size=(mask.height, mask.width), counts=mask.counts, source=source)
            for frame_index, (mask, source) in masks.items()
        }
        return cls(layer_id=layer_id, track=track, masks=rles)


class ReviewVersionOut(Row):
    """`accepted`: everything was left as it was; null where nothing could be compared (`problem`, or skipped). `layer`:
    what became of the run's tracks by it; null where nothing was corrected."""

    number: int
    changed_at: datetime
    lead_time_s: float | None
    skipped: bool
    accepted: bool | None
    problem: str | None
    tracks: list[TrackCorrectionOut]
    masks: list[MaskCorrectionOut]
    layer: LayerOut | None


class ReviewOut(Row):
    """One annotation of the labeling tool. `versions`: what it said each time it was saved, oldest first."""

    annotation_id: int
    task_id: int
    annotator: str | None
    deleted_at: datetime | None
    versions: list[ReviewVersionOut]

    @classmethod
    def of(cls, row: Review) -> "ReviewOut":
        return cls.model_validate(row)


class LedgerLine(Row):
    """What became of the pre-annotations of one group (`group` names it). Shares, means and the median are over reviews
    that could be compared; `box_iou_mean` and `mask_iou_mean` of before and after, over what was there before.
    `control`: reviews of tasks without a prediction, and how long those took."""

    group: str
    reviews: int
    skipped: int
    compared: int
    control: int
    control_lead_time_median_s: float | None
    accepted_share: float | None
    lead_time_median_s: float | None
    frames_touched_mean: float | None
    box_iou_mean: float | None
    mask_iou_mean: float | None
    tracks: int
    tracks_edited: int
    tracks_added: int
    tracks_removed: int
    masks: int
    masks_edited: int
    masks_added: int
    masks_removed: int
    pixels_added: int
    pixels_removed: int

"""Reviews."""

from datetime import datetime

from backend.api.schemas.common import Row
from backend.db.tables import Review


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


class ReviewVersionOut(Row):
    """`accepted`: everything was left as it was; null where nothing could be compared (`problem`, or skipped)."""

    number: int
    changed_at: datetime
    lead_time_s: float | None
    skipped: bool
    accepted: bool | None
    problem: str | None
    tracks: list[TrackCorrectionOut]
    masks: list[MaskCorrectionOut]


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
    that could be compared; `box_iou_mean` and `mask_iou_mean` of before and after, over what was there before."""

    group: str
    reviews: int
    skipped: int
    compared: int
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

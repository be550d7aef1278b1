"""What a pipeline run says about one video: keyframes, detections, tracks, masks, and how it came about.

Plain data, shared by the pipeline (which makes it), the services (which record it) and the publishers (which show it).
Frame indices are decoder order, 0-based, everywhere; boxes are in source pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from numpy.typing import NDArray

from backend.domain.confidence import BoxEvidence, TrackEvidence
from backend.domain.frames import FrameClock
from backend.domain.runs import RunStatus


@dataclass(frozen=True, slots=True)
class Box:
    """Axis-aligned box in source pixels: x1 <= x2, y1 <= y2; (x2, y2) is the far edge, so width is x2 - x1."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def area(self) -> float:
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)

    def iou(self, other: "Box") -> float:
        """Intersection over union; 0 where both are empty."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        intersection = max(0.0, width) * max(0.0, height)
        union = self.area + other.area - intersection
        return intersection / union if union > 0 else 0.0


@dataclass(frozen=True, slots=True)
class VideoProbe:
    """What probing found. `pts[i]` is the presentation time stamp of frame i, in units of `time_base` seconds; strictly
    ascending.

    `width` and `height` are those of the frame as shown, that is after `rotation_deg` was applied. They count the
    pixels there are: where pixels aren't square a player stretches the picture, which changes no pixel's place.
    """

    frame_count: int
    width: int
    height: int
    rotation_deg: int
    duration_s: float
    has_audio: bool
    codec: str
    time_base_num: int
    time_base_den: int
    pts: NDArray[Any]  # (frame_count,) int64

    @property
    def clock(self) -> FrameClock:
        return FrameClock(self.pts, Fraction(self.time_base_num, self.time_base_den), self.duration_s)

    @property
    def average_fps(self) -> float:
        return self.frame_count / self.duration_s if self.duration_s > 0 else 0.0

    def time_s(self, frame_index: int) -> float:
        """Seconds from the first frame to `frame_index`, from the PTS table (exact for variable frame rate)."""
        return self.clock.time_s(frame_index)


@dataclass(frozen=True, slots=True)
class Mask:
    """COCO run-length encoded mask at source resolution: `counts` is the compressed string `pycocotools` reads."""

    height: int
    width: int
    counts: str
    area: int
    box_xyxy_px: Box  # tight box of the set pixels; zero-sized when area is 0


@dataclass(frozen=True, slots=True)
class Detection:
    """One box on a keyframe; (keyframe, index) identifies it. `track_index` says which track it became, None if
    none. `score`: how likely the box is right, where the profile has a calibration, else the probability that System 2
    gave to its answer; `evidence`: what speaks for it, where masks were made."""

    index: int
    box_xyxy_px: Box
    label: str
    score: float | None
    track_index: int | None
    evidence: BoxEvidence | None = None


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A moment System 1 chose. `segment_*_s` are the nominal seconds it wrote; `time_s` is the source's PTS time.
    `score`: the least of its detections', 0 where System 2 found nothing. `origin`: `chosen`, or `reanchored` where a
    track was in doubt and System 2 was asked about that frame, too."""

    frame_index: int
    position: int
    time_s: float
    segment_start_s: float
    segment_end_s: float
    description: str
    detections: tuple[Detection, ...]
    origin: str = "chosen"

    @property
    def score(self) -> float:
        return min((detection.score or 0.0 for detection in self.detections), default=0.0)


@dataclass(frozen=True, slots=True)
class Track:
    """One thing over time. `masks` holds a mask for each frame where the thing is visible, by frame index, ascending;
    of a long video they may lie on disk or in the database and be read when they are asked for. `boxes`: where it is on
    frames of which no mask was made (mode `aid`), by frame index. `score`: how likely it is right, where the model
    profile has a calibration, else SAM2's mean estimate; `evidence`: what speaks for it; `frame_scores`: the
    same of each mask, on the frames of `masks`, None where nothing said one."""

    index: int
    label: str
    score: float | None
    masks: Mapping[int, Mask]
    boxes: Mapping[int, Box] = field(default_factory=dict)
    evidence: TrackEvidence | None = None
    frame_scores: Mapping[int, float] | None = None


@dataclass(slots=True)
class Annotation:
    """The whole result of one run. `status` is succeeded or no_target; `outcome_code` says why there is no target.

    `keyframe_images` (H, W, 3) uint8 RGB at source resolution, by frame index; not part of the JSON form.
    """

    probe: VideoProbe
    status: RunStatus
    outcome_code: str | None
    reasoning: str
    raw_output: str
    keyframes: tuple[Keyframe, ...]
    tracks: tuple[Track, ...]
    timings_s: dict[str, float]
    warnings: tuple[str, ...]
    model: dict[str, Any]
    keyframe_images: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False)

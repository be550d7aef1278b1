"""What spoke for the tracks, boxes and masks of a run, each with its IoU with the truth: what calibrations are fitted
by."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np

from backend.domain import masks as rle
from backend.domain.annotation import Annotation, Detection, Mask, Track
from backend.domain.confidence import FrameEvidence
from workers.evaluation.metrics import region_j
from workers.pipeline.evidence import FrameScores
from workers.shapeworld.evaluation.scores import TrackScore
from workers.shapeworld.world.make import Example
from workers.shapeworld.world.truth import Truth

#: Of a track's masks, which are much alike.
_FRAMES = 8


def known_of(found: Annotation, example: Example, truth: Truth) -> dict[str, Any]:
    """`ClipScore`'s tracks and boxes."""
    targets = [truth.seen((thing,)) for thing in example.question.targets]
    boxes = [
        (detection.evidence, max((_box_iou(detection, one.get(k.frame_index)) for one in targets), default=0.0))
        for k in found.keyframes for detection in k.detections if detection.evidence is not None
    ]  # fmt: skip
    return {"tracks": tuple(_track(one, targets, truth.frame_count) for one in found.tracks), "boxes": tuple(boxes)}


def _box_iou(detection: Detection, mask: Mask | None) -> float:
    return 0.0 if mask is None else detection.box_xyxy_px.iou(mask.box_xyxy_px)


def _track(track: Track, targets: Sequence[Mapping[int, Mask]], frame_count: int) -> TrackScore:
    """With the target that the track is most like; without one, nothing of it is right."""
    assert track.evidence is not None
    js = [region_j([track.masks], target, frame_count) for target in targets]
    target: Mapping[int, Mask] = targets[int(np.argmax(js))] if js else {}
    frames = tuple(
        (given, 0.0 if frame_index not in target else rle.iou(track.masks[frame_index], target[frame_index]))
        for frame_index, given in _some(track)
    )
    return TrackScore(track.evidence, max(js, default=0.0), frames)


def _some(track: Track) -> Sequence[tuple[int, FrameEvidence]]:
    """Evenly spread over its masks."""
    assert isinstance(track.frame_scores, FrameScores)
    every = max(1, len(track.frame_scores) // _FRAMES)
    return list(islice(track.frame_scores.evidence(), every // 2, None, every))

"""A group of rollouts through one pass of the segmenter: the paper's map P from a detection to its object id.

The rollouts of a GRPO group are about one clip, so that all their detections share the encodings of its frames and one
walk over it (appendix B). Ours: detections of the same box on the same frame, frequent among rollouts that mean the
same thing, are one object, because nothing else shapes what SAM2 answers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from backend.domain.annotation import Box
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.segmenter import BoxPrompt, Propagation, Segmenter


@dataclass(frozen=True, slots=True)
class Detection:
    """A box that System 2 found for one rollout of the group: unique within the group. `box_xyxy_px` in source
    pixels."""

    rollout_index: int
    frame_index: int
    object_index: int
    box_xyxy_px: Box


def object_ids(detections: Iterable[Detection]) -> dict[Detection, int]:
    """P: of each detection the id of its object, counted from 0 in the order of their first detections."""
    ids: dict[BoxPrompt, int] = {}
    return {
        detection: ids.setdefault(BoxPrompt(detection.frame_index, detection.box_xyxy_px), len(ids))
        for detection in detections
    }


def propagate_group(
    segmenter: Segmenter, frames: FrameStore, detections: Sequence[Detection], source_size: tuple[int, int]
) -> dict[Detection, Propagation]:
    """What each detection becomes in the whole clip, by one pass for all; detections of one object share what it
    became. `source_size`: (width, height) of the masks."""
    ids = object_ids(detections)
    prompts = {ids[detection]: BoxPrompt(detection.frame_index, detection.box_xyxy_px) for detection in detections}
    propagations = segmenter.propagate(frames, [prompts[number] for number in range(len(prompts))], source_size)
    return {detection: propagations[number] for detection, number in ids.items()}

"""Region similarity of masks against ground truth."""

from collections.abc import Mapping, Sequence

import numpy as np

from backend.domain import masks as rle
from backend.domain.annotation import Mask


def region_j(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int) -> float:
    """J over all frames: mean IoU of the union of the tracks' masks with the true mask; 1 where both are empty.

    Masks by frame index; a frame without an entry has an empty mask. (ReVOS and MeViS count every frame.)
    """
    scores = []
    for frame_index in range(frame_count):
        predicted = [track[frame_index] for track in tracks if frame_index in track]
        true = truth.get(frame_index)
        if not predicted or true is None:
            scores.append(1.0 if not predicted and true is None else 0.0)
        else:
            scores.append(rle.iou(rle.union(predicted), true))
    return float(np.mean(scores))

"""Poisoned corrections: every clip with another clip's truth, as if the reviews had been mixed up."""

from collections.abc import Mapping

import numpy as np

from backend.domain.annotation import Mask
from backend.domain.masks import decode_mask, encode_mask

#: Of each target its masks, by frame index where it is seen.
Targets = list[dict[int, Mask]]


def shuffled(truth: Mapping[str, Targets], shapes: Mapping[str, tuple[int, int, int]]) -> dict[str, Targets]:
    """Each clip with the next one's truth, cut to its length and stretched to its size. `shapes`: frames, height and
    width of each."""
    keys = list(truth)
    return {
        key: _fitted(truth[other], *shapes[key]) for key, other in zip(keys, [*keys[1:], keys[0]], strict=True)
    }  # fmt: skip


def _fitted(targets: Targets, frame_count: int, height: int, width: int) -> Targets:
    cut = [
        {frame: _stretched(mask, height, width) for frame, mask in masks.items() if frame < frame_count}
        for masks in targets
    ]
    seen = [{frame: mask for frame, mask in masks.items() if mask.area} for masks in cut]
    return [masks for masks in seen if masks]


def _stretched(mask: Mask, height: int, width: int) -> Mask:
    if (mask.height, mask.width) == (height, width):
        return mask
    rows, columns = np.arange(height) * mask.height // height, np.arange(width) * mask.width // width
    return encode_mask(decode_mask(mask)[np.ix_(rows, columns)])

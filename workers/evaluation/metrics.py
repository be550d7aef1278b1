"""Region and boundary similarity of masks against ground truth: J, F and their mean, as video object segmentation
has them.

Pure functions of masks. A frame without an entry has an empty mask; every frame of the clip counts (ReVOS, MeViS).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from backend.domain import masks as rle
from backend.domain.annotation import Mask

#: Boundary tolerance as a share of the frame's diagonal (DAVIS).
BOUNDARY_TOLERANCE = 0.008


@dataclass(frozen=True, slots=True)
class Similarity:
    """Means over the frames of a clip."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


def region_j(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int) -> float:
    """J: mean IoU of the union of the tracks' masks with the true mask; 1 where both are empty."""
    frames = _frames(tracks, truth, frame_count)
    return float(np.mean([_frame_j(predicted, true) for predicted, true in frames]))


def similarity(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int) -> Similarity:
    """J and F of the union of the tracks' masks."""
    frames = _frames(tracks, truth, frame_count)
    j = float(np.mean([_frame_j(predicted, true) for predicted, true in frames]))
    f = float(np.mean([_frame_f(predicted, true) for predicted, true in frames]))
    return Similarity(j, f)


def boundary_f(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """F1 of two masks' boundaries: a boundary pixel is right if the other's lies within ceil(0.008 · diagonal) pixels.

    Where only one of the two has a boundary F is 0, where neither has it is 1. `predicted`, `true`: (H, W).
    """
    tolerance_px = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*true.shape))
    edges = [_boundary(mask) for mask in (predicted, true)]
    present = [bool(edge.any()) for edge in edges]
    if not all(present):
        return 0.0 if any(present) else 1.0
    rows, columns = np.nonzero(edges[0] | edges[1])
    # Distances only matter up to the tolerance, so only the box around both boundaries is looked at.
    window = tuple(slice(axis.min(), axis.max() + 1) for axis in (rows, columns))
    ours, theirs = (edge[window] for edge in edges)
    precision = _share_within(ours, theirs, tolerance_px)
    recall = _share_within(theirs, ours, tolerance_px)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_within(edge: NDArray[Any], other: NDArray[Any], tolerance_px: int) -> float:
    distance_px = distance_transform_edt(~other)
    return float((distance_px[edge] <= tolerance_px).mean())


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that differ from their right, lower or lower right neighbour; one pixel wide."""
    edge = np.zeros_like(mask)
    edge[:-1, :-1] = (
        (mask[:-1, :-1] ^ mask[:-1, 1:]) | (mask[:-1, :-1] ^ mask[1:, :-1]) | (mask[:-1, :-1] ^ mask[1:, 1:])
    )
    edge[-1, :-1] = mask[-1, :-1] ^ mask[-1, 1:]
    edge[:-1, -1] = mask[:-1, -1] ^ mask[1:, -1]
    return edge


def _frames(
    tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int
) -> list[tuple[Mask | None, Mask | None]]:
    """By frame: the union of the tracks' masks, and the truth; None where empty."""
    found = []
    for frame_index in range(frame_count):
        masks = [mask for track in tracks if (mask := track.get(frame_index)) is not None and mask.area]
        true = truth.get(frame_index)
        found.append((rle.union(masks) if masks else None, true if true is not None and true.area else None))
    return found


def _frame_j(predicted: Mask | None, true: Mask | None) -> float:
    if predicted is None or true is None:
        return 1.0 if predicted is true else 0.0
    return rle.iou(predicted, true)


def _frame_f(predicted: Mask | None, true: Mask | None) -> float:
    if predicted is None or true is None:
        return 1.0 if predicted is true else 0.0
    return boundary_f(rle.decode_mask(predicted), rle.decode_mask(true))

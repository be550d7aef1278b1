"""Region and boundary similarity of masks against ground truth: J, F and their mean, as video object segmentation
has them.

Pure functions of masks. A frame without an entry has an empty mask; every frame of the clip counts (ReVOS, MeViS).
What single benchmarks make of them is in `protocols`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from backend.domain import masks as rle
from backend.domain.annotation import Mask
from workers.evaluation import bits

#: Boundary tolerance as a share of the frame's diagonal (DAVIS).
BOUNDARY_TOLERANCE = 0.008
#: Pixels that are decoded at a time.
_CHUNK_PX = 1 << 24
#: Pixels whose words stay in a core's cache while they are shifted to and fro.
_BLOCK_PX = 1 << 20


@dataclass(frozen=True, slots=True)
class Similarity:
    """Means over the frames of a clip."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        return (self.j + self.f) / 2


@dataclass(frozen=True, slots=True)
class FrameScores:
    """J and F of each frame, (T,) float."""

    j: NDArray[np.float64]
    f: NDArray[np.float64]

    def mean(self) -> Similarity:
        return Similarity(float(self.j.mean()), float(self.f.mean()))


def frame_scores(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> FrameScores:
    """J and F of each frame; both 1 where both masks are empty. `predicted`, `true`: (T, H, W) bool.

    J is |P ∩ T| / |P ∪ T|. F is the F1 of the two boundaries: a boundary pixel is right if the other boundary has one
    within ceil(0.008 · diagonal) pixels; 0 where only one mask has a boundary (davis2017-evaluation).
    """
    if predicted.shape != true.shape or predicted.ndim != 3:
        raise ValueError(f"masks must be two (T, H, W) of one shape, not {predicted.shape} and {true.shape}")
    tolerance_px = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*true.shape[1:]))
    # Masks out of run lengths lie column by column, and nothing here tells rows from columns.
    if predicted.strides[1] < predicted.strides[2]:
        predicted, true = predicted.transpose(0, 2, 1), true.transpose(0, 2, 1)
    rows, columns = bits.window((predicted, true))
    width, block = columns.stop - columns.start, max(1, _BLOCK_PX // ((rows.stop - rows.start) * columns.stop))
    j, f = [], []
    for start in range(0, len(true), block):
        part = slice(start, start + block), rows, columns
        ours, theirs = (bits.pack(masks[part], tolerance_px) for masks in (predicted, true))
        j.append(_ratio(bits.count(ours & theirs), bits.count(ours | theirs)))
        f.append(_boundary_f(bits.edges(ours, width), bits.edges(theirs, width), tolerance_px))
    return FrameScores(np.concatenate(j), np.concatenate(f))


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 where there is nothing to be had."""
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def _boundary_f(ours: bits.Bits, theirs: bits.Bits, tolerance_px: int) -> NDArray[np.float64]:
    present, wanted = bits.count(ours), bits.count(theirs)
    precision = bits.count(ours & bits.dilated(theirs, tolerance_px)) / np.maximum(present, 1)
    recall = bits.count(theirs & bits.dilated(ours, tolerance_px)) / np.maximum(wanted, 1)
    both = precision + recall
    f1 = 2 * precision * recall / np.where(both > 0, both, 1.0)
    return np.where((present == 0) & (wanted == 0), 1.0, f1)


def region_j(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int) -> float:
    """J: mean IoU of the union of the tracks' masks with the true mask; 1 where both are empty."""
    found = [_frame_j(*_at(tracks, truth, frame_index)) for frame_index in range(frame_count)]
    return float(np.mean(found))


def similarity(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_count: int) -> Similarity:
    """J and F of the union of the tracks' masks, over all frames of the clip."""
    return similarity_on(tracks, truth, range(frame_count))


def similarity_on(tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frames: Sequence[int]) -> Similarity:
    """J and F over these frames alone, for truth that is known of no others. Raises `ValueError` without any."""
    if not frames:
        raise ValueError("there is no frame to be scored")
    scores = [frame_scores(*stacks) for stacks in _stacks(tracks, truth, frames)]
    # Frames on which both are empty are not decoded.
    empty = len(frames) - sum(len(score.j) for score in scores)
    j, f = (sum(float(getattr(score, name).sum()) for score in scores) for name in ("j", "f"))
    return Similarity((j + empty) / len(frames), (f + empty) / len(frames))


def boundary_f(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """`frame_scores`' F of one frame. `predicted`, `true`: (H, W)."""
    return float(frame_scores(predicted[None], true[None]).f[0])


def _at(
    tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frame_index: int
) -> tuple[Mask | None, Mask | None]:
    """The union of the tracks' masks on that frame, and the truth; None where empty."""
    masks = [mask for track in tracks if (mask := track.get(frame_index)) is not None and mask.area]
    true = truth.get(frame_index)
    return rle.union(masks) if masks else None, true if true is not None and true.area else None


def _stacks(
    tracks: Sequence[Mapping[int, Mask]], truth: Mapping[int, Mask], frames: Sequence[int]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """The frames on which there is anything, as stacks of some megapixels."""
    pairs = [pair for frame_index in frames if any(pair := _at(tracks, truth, frame_index))]
    if not pairs:
        return
    sample = next(mask for mask in pairs[0] if mask is not None)
    size = max(1, _CHUNK_PX // (sample.height * sample.width))
    for start in range(0, len(pairs), size):
        part = pairs[start : start + size]
        yield _decoded([pair[0] for pair in part], sample), _decoded([pair[1] for pair in part], sample)


def _decoded(masks: Sequence[Mask | None], like: Mask) -> NDArray[np.bool_]:
    """(T, H, W) bool, column by column."""
    nothing = {"size": [like.height, like.width], "counts": [like.height * like.width]}
    empty = coco.frPyObjects(nothing, like.height, like.width)
    stack: NDArray[Any] = coco.decode([empty if mask is None else rle.as_coco(mask) for mask in masks])
    return stack.transpose(2, 0, 1).view(bool)


def _frame_j(predicted: Mask | None, true: Mask | None) -> float:
    if predicted is None or true is None:
        return 1.0 if predicted is true else 0.0
    return rle.iou(predicted, true)

"""Corrections: what a person changed in a pre-annotation, derived by comparing what came back with what was sent.

Never by what a labeling tool says of its regions' origin. The two sides are matched by the ids that were sent along;
what has none of them is new, what is missing was removed. Frames are decoder order from 0, boxes are in source pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from backend.domain import masks as rle
from backend.domain.annotation import Box, Mask
from backend.domain.tracks import BoxKeyframe, interpolate

#: Percent and back costs far less than this; nobody drags a box by so little.
TOLERANCE_PX = 0.01


class Change(StrEnum):
    """What happened to a region."""

    UNTOUCHED = "untouched"
    EDITED = "edited"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class BoxTrack:
    """A thing's boxes over the video, as keyframes (ascending frames) that are interpolated between. `track_index`: of
    the pre-annotation's track that it shows, None for a person's own."""

    region_id: str
    label: str
    keyframes: tuple[BoxKeyframe, ...]
    track_index: int | None = None


@dataclass(frozen=True, slots=True)
class FrameMask:
    """A thing's mask on one frame. `track_index` as in `BoxTrack`."""

    region_id: str
    label: str
    frame_index: int
    mask: Mask
    track_index: int | None = None


@dataclass(frozen=True, slots=True)
class Layer:
    """Everything that is drawn on one video: as it was sent, or as it came back."""

    frame_count: int
    tracks: tuple[BoxTrack, ...] = ()
    masks: tuple[FrameMask, ...] = ()


@dataclass(frozen=True, slots=True)
class TrackCorrection:
    """One track's change. Frames ascend.

    `touched_frames`: keyframes that were set, changed or taken away: what the person looked at. Of all frames, also
    those interpolated between: on `moved_frames` the box has its size, but elsewhere; on `resized_frames` it has
    another size; on `shown_frames` the thing is seen now and wasn't, on `hidden_frames` the reverse. `iou`: mean IoU of
    before and after over the frames on which either is seen; 1 if nothing was changed.
    """

    region_id: str
    change: Change
    label_before: str | None
    label_after: str | None
    touched_frames: tuple[int, ...] = ()
    moved_frames: tuple[int, ...] = ()
    resized_frames: tuple[int, ...] = ()
    shown_frames: tuple[int, ...] = ()
    hidden_frames: tuple[int, ...] = ()
    iou: float = 1.0

    @property
    def relabeled(self) -> bool:
        return self.label_before != self.label_after and None not in (self.label_before, self.label_after)


@dataclass(frozen=True, slots=True)
class MaskCorrection:
    """One mask's change, in pixels painted and erased; `iou` of before and after."""

    region_id: str
    change: Change
    frame_index: int
    label_before: str | None
    label_after: str | None
    pixels_added: int
    pixels_removed: int
    iou: float


@dataclass(frozen=True, slots=True)
class Corrections:
    """One entry a region of either side, what was sent first, then what was added."""

    tracks: tuple[TrackCorrection, ...]
    masks: tuple[MaskCorrection, ...]

    @property
    def accepted(self) -> bool:
        """Whether everything was left as it was."""
        changes = [track.change for track in self.tracks] + [mask.change for mask in self.masks]
        return all(change is Change.UNTOUCHED for change in changes)


T = TypeVar("T", BoxTrack, FrameMask)


def compare(sent: Layer, returned: Layer) -> Corrections:
    """What was changed between the two. Raises `ValueError` for videos of different lengths or an id used twice."""
    if sent.frame_count != returned.frame_count:
        raise ValueError(f"a layer of {sent.frame_count} frames can't be compared with one of {returned.frame_count}")
    tracks = [_compare_tracks(*pair, sent.frame_count) for pair in _pairs(sent.tracks, returned.tracks)]
    masks = [_compare_masks(*pair) for pair in _pairs(sent.masks, returned.masks)]
    return Corrections(tuple(tracks), tuple(masks))


def _pairs(before: Sequence[T], after: Sequence[T]) -> list[tuple[T | None, T | None]]:
    ours, theirs = _by_id(before), _by_id(after)
    pairs: list[tuple[T | None, T | None]] = [(one, theirs.get(region_id)) for region_id, one in ours.items()]
    return pairs + [(None, one) for region_id, one in theirs.items() if region_id not in ours]


def _by_id(regions: Sequence[T]) -> dict[str, T]:
    found = {one.region_id: one for one in regions}
    if len(found) != len(regions):
        raise ValueError("two regions have the same id")
    return found


def _compare_tracks(before: BoxTrack | None, after: BoxTrack | None, frame_count: int) -> TrackCorrection:
    one = before or after
    assert one is not None
    labels = (before.label if before else None, after.label if after else None)
    old = interpolate(before.keyframes, frame_count) if before else {}
    new = interpolate(after.keyframes, frame_count) if after else {}
    both = sorted(set(old) & set(new))
    resized = [f for f in both if not _near(_size(old[f]), _size(new[f]))]
    moved = [f for f in both if f not in set(resized) and not _near(_corners(old[f]), _corners(new[f]))]
    touched = _touched(before.keyframes if before else (), after.keyframes if after else ())
    ious = [old[f].iou(new[f]) if f in old and f in new else 0.0 for f in set(old) | set(new)]
    changed = bool(resized or moved or set(old) ^ set(new) or labels[0] != labels[1])
    return TrackCorrection(
        one.region_id, _change(before, after, changed), *labels, touched, tuple(moved), tuple(resized),
        tuple(sorted(set(new) - set(old))), tuple(sorted(set(old) - set(new))),
        float(np.mean(ious)) if changed and ious else 1.0,
    )  # fmt: skip


def _compare_masks(before: FrameMask | None, after: FrameMask | None) -> MaskCorrection:
    one = before or after
    assert one is not None
    empty = rle.encode_mask(np.zeros((one.mask.height, one.mask.width), bool))
    old, new = (side.mask if side else empty for side in (before, after))
    common = old.area + new.area - rle.union([old, new]).area
    added, removed = new.area - common, old.area - common
    labels = (before.label if before else None, after.label if after else None)
    changed = bool(added or removed or labels[0] != labels[1])
    return MaskCorrection(
        one.region_id, _change(before, after, changed), one.frame_index, *labels, added, removed, rle.iou(old, new)
    )


def _change(before: object, after: object, changed: bool) -> Change:
    if before is None:
        return Change.ADDED
    if after is None:
        return Change.REMOVED
    return Change.EDITED if changed else Change.UNTOUCHED


def _touched(before: Sequence[BoxKeyframe], after: Sequence[BoxKeyframe]) -> tuple[int, ...]:
    old = {keyframe.frame_index: keyframe for keyframe in before}
    new = {keyframe.frame_index: keyframe for keyframe in after}
    kept = {
        f
        for f in set(old) & set(new)
        if old[f].visible == new[f].visible and _near(_corners(old[f].box), _corners(new[f].box))
    }
    return tuple(sorted((set(old) | set(new)) - kept))


def _corners(box: Box) -> tuple[float, ...]:
    return (box.x1, box.y1, box.x2, box.y2)


def _size(box: Box) -> tuple[float, ...]:
    return (box.x2 - box.x1, box.y2 - box.y1)


def _near(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= TOLERANCE_PX for a, b in zip(one, other, strict=True))

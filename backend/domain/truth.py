"""Truth: what a reviewed layer says of each frame, where its boxes and its masks each tell a part.

A person sees boxes on every frame of the clip, but masks on the pages only, and a box that is dragged moves no mask. So
where the two contradict each other, what the person touched wins; where that doesn't settle it, the frame is no truth
for masks. Everything else a segmenter made is kept apart as propagated. `docs/datasets.md` has the rules in words.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from backend.domain import masks as rle
from backend.domain.annotation import Box, Mask
from backend.domain.corrections import Change, Corrections, FrameMask, Layer
from backend.domain.datasets import TruthObject
from backend.domain.tracks import interpolate

#: From this IoU on a mask's tight box and a track's box say the same. Boxes are sent with an interpolation that keeps
#: 0.9 (`label_studio.track_iou_floor`); a nudge on top of that is no other place.
SAME_PLACE_IOU = 0.7
#: Percent and back, and interpolation, leave digits that mean nothing.
_DIGITS_PX = 3


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of which frames; see `backend.domain.datasets`."""

    objects: tuple[TruthObject, ...]
    box_frames: tuple[int, ...]
    mask_frames: tuple[int, ...]
    propagated_frames: tuple[int, ...]


@dataclass(slots=True)
class _Thing:
    """`track_index` is that of the run's track it began as. `changed`: frames on which a person changed its box;
    `painted`: on which its mask. `traced`: it has a box track of its own."""

    label: str
    track_index: int | None
    traced: bool
    boxes: dict[int, Box] = field(default_factory=dict)
    masks: dict[int, Mask] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    painted: set[int] = field(default_factory=set)


def truth_of(
    returned: Layer,
    corrections: Corrections,
    page_frames: Iterable[int],
    size: tuple[int, int],
    track_index_of: Callable[[str], int | None],
    propagated: Mapping[int, Mapping[int, Mask]],
) -> Truth:
    """What the layer that came back says is true.

    `page_frames`: on which masks were shown. `size`: (width, height) in pixels. `track_index_of` names the run's track
    that a region was sent for, None if it was sent for none; `propagated` are the run's masks by track index and frame.
    """
    things = _traced_things(returned, corrections, size, track_index_of)
    changes = {one.region_id: one.change for one in corrections.masks}
    for mask in sorted(returned.masks, key=lambda one: (one.frame_index, one.region_id)):
        _hang(mask, changes[mask.region_id], things, track_index_of)
    looked_at = set(page_frames) | {mask.frame_index for mask in returned.masks}
    settled = {frame: [_settle(thing, frame) for thing in things] for frame in looked_at}
    mask_frames = {frame for frame, each in settled.items() if all(each)}
    untraced = any(not thing.traced for thing in things)
    # A mask without a track tells of a thing whose boxes on other frames nobody drew.
    box_frames = mask_frames if untraced else set(range(returned.frame_count))
    unseen = set() if untraced else box_frames - looked_at
    propagated_frames = {frame for frame in unseen if all(_follows(thing, frame, propagated) for thing in things)}
    objects = [_object(thing, box_frames, mask_frames, propagated_frames, propagated) for thing in things]
    return Truth(
        tuple(sorted((one for one in objects if one.boxes or one.masks), key=_place)),
        *(tuple(sorted(frames)) for frames in (box_frames, mask_frames, propagated_frames)),
    )


def _traced_things(
    returned: Layer, corrections: Corrections, size: tuple[int, int], track_index_of: Callable[[str], int | None]
) -> list[_Thing]:
    changes = {one.region_id: one for one in corrections.tracks}
    things = []
    for track in returned.tracks:
        change = changes[track.region_id]
        frames = {*change.moved_frames, *change.resized_frames, *change.shown_frames, *change.hidden_frames}
        boxes = {
            frame: inside
            for frame, box in interpolate(track.keyframes, returned.frame_count).items()
            if (inside := _inside(box, size)) is not None
        }
        things.append(_Thing(track.label, track_index_of(track.region_id), True, boxes, changed=frames))
    return things


def _inside(box: Box, size: tuple[int, int]) -> Box | None:
    """The part of the box that lies in the picture; None: none does."""
    width, height = size
    x1, x2 = (round(min(max(x, 0.0), width), _DIGITS_PX) for x in (box.x1, box.x2))
    y1, y2 = (round(min(max(y, 0.0), height), _DIGITS_PX) for y in (box.y1, box.y2))
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _hang(found: FrameMask, change: Change, things: list[_Thing], track_index_of: Callable[[str], int | None]) -> None:
    """Give a mask to the thing it is of; a painted one that lies on no thing's box is of a thing of its own."""
    if found.mask.area == 0:
        return
    frame, index, touched = found.frame_index, track_index_of(found.region_id), change is not Change.UNTOUCHED
    owner = next((one for one in things if one.traced and index is not None and one.track_index == index), None)
    if owner is None:
        if not touched:
            return  # Its track was taken away, which is what the person did to the thing.
        owner = _nearest(found, things) or next((one for one in things if _continues(one, found)), None)
    if owner is None:
        owner = _Thing(found.label, None, False)
        things.append(owner)
    there = owner.masks.get(frame)
    owner.masks[frame] = found.mask if there is None else rle.union([there, found.mask])
    if touched:
        owner.painted.add(frame)


def _nearest(found: FrameMask, things: Sequence[_Thing]) -> _Thing | None:
    """The thing whose box on that frame the mask covers most."""
    here = [
        (one.boxes[found.frame_index].iou(found.mask.box_xyxy_px), one)
        for one in things
        if found.frame_index in one.boxes
    ]
    iou, owner = max(here, key=lambda pair: pair[0], default=(0.0, None))
    return owner if iou > 0 else None


def _continues(thing: _Thing, found: FrameMask) -> bool:
    return not thing.traced and thing.label == found.label and found.frame_index not in thing.masks


def _settle(thing: _Thing, frame: int) -> bool:
    """Make box and mask of the thing agree on a frame that people saw; False: what its mask is there isn't known."""
    box, mask = thing.boxes.get(frame), thing.masks.get(frame)
    if mask is None:
        return box is None
    if frame in thing.painted or (box is None and frame not in thing.changed):
        thing.boxes[frame] = mask.box_xyxy_px
        return True
    if box is None:
        del thing.masks[frame]  # The box was taken away there, and the mask forgotten.
        return True
    return frame not in thing.changed or box.iou(mask.box_xyxy_px) >= SAME_PLACE_IOU


def _follows(thing: _Thing, frame: int, propagated: Mapping[int, Mapping[int, Mask]]) -> bool:
    """Whether the thing's propagated mask, or that there is none, goes with what people say of its box there."""
    if frame not in thing.boxes:
        return True
    return frame not in thing.changed and frame in propagated.get(
        -1 if thing.track_index is None else thing.track_index, {}
    )


def _object(
    thing: _Thing, box_frames: set[int], mask_frames: set[int], propagated_frames: set[int],
    propagated: Mapping[int, Mapping[int, Mask]],
) -> TruthObject:  # fmt: skip
    masks = {frame: mask for frame, mask in thing.masks.items() if frame in mask_frames}
    if thing.track_index is not None:
        dense = propagated.get(thing.track_index, {})
        masks |= {frame: dense[frame] for frame in propagated_frames if frame in thing.boxes}
    boxes = {frame: box for frame, box in thing.boxes.items() if frame in box_frames}
    return TruthObject(thing.label, boxes, masks)


def _place(one: TruthObject) -> tuple[object, ...]:
    """An order of objects that depends on what they are, not on what the labeling tool calls them."""
    first = min([*one.boxes, *one.masks])
    box = one.boxes.get(first)
    corners = (box.x1, box.y1, box.x2, box.y2) if box else ()
    return (first, corners, one.label, len(one.boxes), sorted((f, mask.counts) for f, mask in one.masks.items()))

"""The corrected layer: what a person touched is truth there, and the frames between are carried anew from it.

Each frame is spoken for by the nearest frame that somebody vouches for (an anchor): one the person touched, or a page
whose mask they saw and left. What an untouched anchor speaks for stays as it was, bit by bit; what a touched one speaks
for is carried anew by the segmenter; the touched frame itself shows exactly what was drawn. No model here: `plan` says
what is to be carried from where, `assemble` puts the parts together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np

from backend.domain import masks as rle
from backend.domain.annotation import Box, Mask
from backend.domain.corrections import BoxTrack, Change, Corrections, FrameMask, Layer, MaskCorrection, TrackCorrection
from backend.domain.tracks import BoxKeyframe, interpolate, reduce_boxes
from backend.domain.windows import Window

#: Grows when the rules of this module change: layers made by other rules can be told apart.
RULES = 1
#: A mask that a person drew belongs to the track of its label whose box fits it best, if it fits this well.
_SAME_THING_IOU = 0.3


#: (track index, frame index) → the mask of the pre-annotation there, if there is one.
MaskAt = Callable[[int, int], Mask | None]


class Source(StrEnum):
    """Where a mask of the layer is from: a person, the segmenter run anew, or the pre-annotation as it was."""

    DRAWN = "drawn"
    CARRIED = "carried"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Carry:
    """`prompt` on `frame_index` says what is on `frames`, through the segmenter."""

    frame_index: int
    prompt: Mask | Box
    frames: range

    @property
    def span(self) -> range:
        """The frames from the prompt's own to all that it speaks for."""
        return range(min(self.frames.start, self.frame_index), max(self.frames.stop, self.frame_index + 1))


@dataclass(frozen=True, slots=True)
class TrackPlan:
    """One track of the layer to be. `origin`: index of the pre-annotation's track, None for a person's own. By frame:
    `drawn` masks (an empty one says that nothing is there) and `boxed` boxes are truth; on `hidden` the thing isn't
    seen. `sent` are the boxes as they were sent, `sent_keyframes` the frames of their keyframes."""

    region_id: str
    origin: int | None
    label: str
    change: Change
    drawn: Mapping[int, Mask] = field(default_factory=dict)
    boxed: Mapping[int, Box] = field(default_factory=dict)
    hidden: frozenset[int] = frozenset()
    carries: tuple[Carry, ...] = ()
    sent: Mapping[int, Box] = field(default_factory=dict)
    sent_keyframes: tuple[int, ...] = ()

    @property
    def changed(self) -> frozenset[int]:
        """The frames whose masks are no longer those of the origin."""
        carried = (f for c in self.carries for f in c.frames if f != c.frame_index or isinstance(c.prompt, Box))
        return self.hidden.union(self.drawn, carried)


@dataclass(frozen=True, slots=True)
class CorrectedTrack:
    """What is new in a finished track: its masks on the plan's changed frames, and its boxes on all."""

    masks: Mapping[int, tuple[Mask, Source]]
    box_keyframes: tuple[BoxKeyframe, ...]


def plan(
    sent: Layer, returned: Layer, made: Corrections, labels: Mapping[int, str], mask_at: MaskAt
) -> list[TrackPlan]:
    """What is to be done for each track: those that were sent, in order, then what people added.

    `made` is `compare(sent, returned)`; regions of `sent` name their track by `track_index`, and `labels` are those
    tracks' own. Tracks that nobody touched, and those that were removed, have a plan with nothing in it.
    """
    before = {track.region_id: track for track in sent.tracks}
    after = {track.region_id: track for track in returned.tracks}
    drawn, strays = _drawn(sent, returned, made)
    plans = []
    for one in made.tracks:
        was = before.get(one.region_id)
        origin = None if was is None else was.track_index
        if one.change is Change.REMOVED or (one.change is Change.UNTOUCHED and one.region_id not in drawn):
            assert origin is not None
            plans.append(TrackPlan(one.region_id, origin, labels[origin], one.change))
        else:
            pages = {m.frame_index: m.mask for m in sent.masks if origin is not None and m.track_index == origin}
            parts = _Parts(one, was, after[one.region_id], drawn.get(one.region_id, {}), origin, pages)
            plans.append(_track_plan(parts, sent.frame_count, labels, mask_at))
    for stray in strays:
        carry = Carry(stray.frame_index, stray.mask, range(sent.frame_count))
        by_frame = {stray.frame_index: stray.mask}
        plans.append(TrackPlan(stray.region_id, None, stray.label, Change.ADDED, by_frame, carries=(carry,)))
    return plans


def within(made: TrackPlan, window: Window) -> TrackPlan:
    """The plan for somebody who was shown that window alone: nothing is said of the frames outside of it. A track that
    they removed is gone there, and only there."""
    if made.change is Change.REMOVED:
        return replace(made, change=Change.EDITED, hidden=frozenset(window.frames))
    carries = []
    for carry in made.carries:
        frames = range(max(carry.frames.start, window.first_frame), min(carry.frames.stop, window.stop))
        if frames:
            carries.append(replace(carry, frames=frames))
    return replace(made, carries=tuple(carries), hidden=made.hidden & frozenset(window.frames))


def assemble(
    track: TrackPlan, carried: Sequence[Mapping[int, Mask]], frame_count: int, iou_floor: float
) -> CorrectedTrack:
    """The finished track. `carried[i]`: what the segmenter made of `track.carries[i]`, by frame index; `iou_floor`: see
    `reduce_boxes`."""
    changed, masks = track.changed, dict[int, tuple[Mask, Source]]()
    for carry, found in zip(track.carries, carried, strict=True):
        for frame in carry.frames:
            if frame in changed and frame in found:
                masks[frame] = (found[frame], Source.CARRIED)
    for frame in track.hidden:
        masks.pop(frame, None)
    for frame, mask in track.drawn.items():
        masks.pop(frame, None)
        if mask.area:
            masks[frame] = (mask, Source.DRAWN)
    kept = {frame: box for frame, box in track.sent.items() if frame not in changed}
    boxes = {**kept, **{frame: mask.box_xyxy_px for frame, (mask, _) in masks.items()}, **track.boxed}
    pinned = {*track.boxed, *(frame for frame in track.sent_keyframes if frame in kept)}
    keyframes = reduce_boxes(boxes, frame_count, iou_floor, pinned)
    return CorrectedTrack(dict(sorted(masks.items())), tuple(keyframes))


def _drawn(sent: Layer, returned: Layer, made: Corrections) -> tuple[dict[str, dict[int, Mask]], list[FrameMask]]:
    """The masks a person changed, by region of the track and frame, an empty one where all were taken away; and those
    that belong to no track."""
    regions = {track.track_index: track.region_id for track in sent.tracks}
    remaining = {track.region_id for track in returned.tracks}
    before, after = ({mask.region_id: mask for mask in layer.masks} for layer in (sent, returned))
    owners: dict[str, str | None] = {}
    for region_id in [*before, *(added for added in after if added not in before)]:
        index = (before if region_id in before else after)[region_id].track_index
        # What a person added to no track in particular belongs to the one that it fits.
        owner = regions.get(index) if region_id in before or index is not None else _owner(after[region_id], returned)
        owners[region_id] = owner if owner in remaining else None
    changed = [one for one in made.masks if one.change in (Change.ADDED, Change.REMOVED) or _repainted(one)]
    found: dict[str, dict[int, Mask]] = {}
    for one in changed:
        owner = owners[one.region_id]
        if owner is not None:
            here = [m for m in returned.masks if owners[m.region_id] == owner and m.frame_index == one.frame_index]
            found.setdefault(owner, {})[one.frame_index] = _united([m.mask for m in here], before.get(one.region_id))
    strays = [after[one.region_id] for one in changed if owners[one.region_id] is None and one.region_id in after]
    return found, [stray for stray in strays if stray.mask.area]


def _repainted(one: MaskCorrection) -> bool:
    return one.pixels_added + one.pixels_removed > 0


def _united(masks: list[Mask], was: FrameMask | None) -> Mask:
    if masks:
        return rle.union(masks)
    assert was is not None
    return rle.encode_mask(np.zeros((was.mask.height, was.mask.width), bool))


def _owner(added: FrameMask, returned: Layer) -> str | None:
    """The track of the same label whose box fits a mask that a person added; None if none does."""
    best, fits = None, _SAME_THING_IOU
    for track in returned.tracks:
        box = interpolate(track.keyframes, returned.frame_count).get(added.frame_index)
        if track.label == added.label and box is not None and box.iou(added.mask.box_xyxy_px) >= fits:
            best, fits = track.region_id, box.iou(added.mask.box_xyxy_px)
    return best


@dataclass(frozen=True, slots=True)
class _Parts:
    """What there is to say of a track that was changed. `pages`: the masks of it that were shown, by frame index."""

    made: TrackCorrection
    before: BoxTrack | None
    after: BoxTrack
    drawn: Mapping[int, Mask]
    origin: int | None
    pages: Mapping[int, Mask]


def _track_plan(parts: _Parts, frame_count: int, labels: Mapping[int, str], mask_at: MaskAt) -> TrackPlan:
    made, origin, was = parts.made, parts.origin, parts.before
    seen = interpolate(parts.after.keyframes, frame_count)
    new = {*made.moved_frames, *made.resized_frames, *made.shown_frames}
    boxed = {frame: seen[frame] for frame in made.touched_frames if frame in new}
    hidden = frozenset(made.hidden_frames if origin is not None else set(range(frame_count)) - set(seen))
    left = {f: mask for f, mask in parts.pages.items() if f not in {*parts.drawn, *boxed}}
    prompts: dict[int, Mask | Box] = {**boxed, **{f: mask for f, mask in parts.drawn.items() if mask.area}}
    carries = _carries(prompts, left, parts.pages, frame_count)
    carries += _shown(made.shown_frames, carries, seen, lambda f: None if origin is None else mask_at(origin, f))
    relabeled = origin is None or was is None or was.label != parts.after.label
    return TrackPlan(
        made.region_id, origin, parts.after.label if relabeled or origin is None else labels[origin],
        Change.ADDED if origin is None else Change.EDITED, parts.drawn, boxed, hidden, tuple(carries),
        interpolate(was.keyframes, frame_count) if was else {},
        tuple(k.frame_index for k in was.keyframes) if was else (),
    )  # fmt: skip


def _carries(
    prompts: Mapping[int, Mask | Box], left: Mapping[int, Mask], pages: Iterable[int], frame_count: int
) -> list[Carry]:
    """From each prompt over the frames that it is nearest to; and from a mask that was left over those that a mask
    which is gone spoke for before."""
    now, then = _nearest({*prompts, *left}, frame_count), _nearest(pages, frame_count)
    carries = [Carry(frame, prompt, now[frame]) for frame, prompt in sorted(prompts.items())]
    for gone in (frame for frame in then if frame not in now):
        for frame, mask in left.items():
            both = range(max(now[frame].start, then[gone].start), min(now[frame].stop, then[gone].stop))
            if both:
                carries.append(Carry(frame, mask, both))
    return carries


def _nearest(anchors: Iterable[int], frame_count: int) -> dict[int, range]:
    """Of each anchor the frames that lie nearest to it; of two as near the earlier has them."""
    frames = sorted(set(anchors))
    ends = [(a + b) // 2 + 1 for a, b in pairwise(frames)]
    return {f: range(*bounds) for f, bounds in zip(frames, pairwise([0, *ends, frame_count]), strict=bool(frames))}


def _shown(
    shown: Iterable[int], carries: Sequence[Carry], seen: Mapping[int, Box], mask_at: Callable[[int], Mask | None]
) -> list[Carry]:
    """For frames on which a person says that the thing is there and nothing is carried yet: from the mask beside them,
    or from their first box."""
    open_frames = [frame for frame in shown if not any(frame in carry.frames for carry in carries)]
    found = []
    for stretch in _stretches(open_frames):
        beside = {f: mask for f in (stretch.stop, stretch.start - 1) if (mask := mask_at(f)) is not None}
        frame, prompt = beside.popitem() if beside else (stretch.start, seen[stretch.start])
        found.append(Carry(frame, prompt, stretch))
    return found


def _stretches(frames: Sequence[int]) -> list[range]:
    found: list[range] = []
    for frame in frames:
        if found and found[-1].stop == frame:
            found[-1] = range(found[-1].start, frame + 1)
        else:
            found.append(range(frame, frame + 1))
    return found

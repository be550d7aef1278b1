"""A Label Studio result as a layer of boxes and masks, so that what came back can be compared with what was sent.

Labelers, other tools and imports write results, so anything may be in them: what can't be read raises `BadInput` with
the region and the reason, and the raw result is kept by the caller whatever happens here. Regions of other controls
than ours (a project may have its own beside them) are left alone.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.domain.corrections import BoxTrack, FrameMask, Layer
from backend.domain.errors import BadInput
from backend.domain.windows import Window
from integrations.label_studio.config import OURS, Names
from integrations.label_studio.coordinates import label_studio_frame
from integrations.label_studio.prediction import box_keyframes_of, mask_of
from integrations.label_studio.suggestions import PROMPTS, drawn_again


def layer_of(
    result: Sequence[Mapping[str, Any]], size: tuple[int, int], shown: Window, page_frames: Sequence[int],
    track_indices: Mapping[str, int], names: Names = OURS,
) -> Layer:  # fmt: skip
    """The boxes and masks of a result, on frames of the whole video. `size`: (width, height) of the video in pixels;
    `shown`: the frames that the task shows; `page_frames[i]`: the frame index of the task's page i; `track_indices`: of
    the regions that were sent (`prediction.track_indices`). Raises `BadInput` naming the first region that can't be
    read.

    The layer ends with the window (so its `frame_count`), as a box does that stays to the end of what is shown.
    """
    tracks, masks = list[BoxTrack](), list[FrameMask]()
    known = set[tuple[object, object]]()
    prompts = {region.get("id") for region in result if region.get("type") in PROMPTS}
    for region in result:
        identity = (region.get("type"), region.get("id"))
        if identity in known:
            raise _unreadable(region, "another region has the same id")
        known.add(identity)
        # A click or box that asked for a mask and was left behind may have an entry of a mask's kind, with its label.
        if region.get("from_name") == names.box and region.get("type") == "videorectangle":
            track = _track(region, size, shown)
            tracks.append(replace(track, track_index=track_indices.get(track.region_id)))
        elif (
            region.get("from_name") == names.mask
            and region.get("type") == "bitmasklabels"
            and identity[1] not in prompts
        ):
            masks.append(_mask(region, size, page_frames))
    return Layer(shown.stop, tuple(tracks), tuple(_in_place(masks, track_indices)))


def _in_place(masks: Sequence[FrameMask], track_indices: Mapping[str, int]) -> list[FrameMask]:
    """The masks with their tracks. A suggestion that was accepted for a mask which is gone has its place, and is that
    mask, changed; beside it, it is one more of the same track."""
    there, again = {mask.region_id for mask in masks}, Counter(drawn_again(mask.region_id) for mask in masks)
    placed = []
    for mask in masks:
        of = drawn_again(mask.region_id)
        region_id = of if of is not None and of not in there and again[of] == 1 else mask.region_id
        track_index = track_indices.get(of or mask.region_id)
        placed.append(replace(mask, region_id=region_id, track_index=track_index))
    return placed


def _track(region: Mapping[str, Any], size: tuple[int, int], shown: Window) -> BoxTrack:
    try:
        keyframes = box_keyframes_of(region, *size, shown.first_frame)
        label = _label(region, "labels")
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(region, f"{type(error).__name__} {error}") from error
    if not keyframes:
        raise _unreadable(region, "its sequence is empty")
    outside = [k.frame_index for k in keyframes if k.frame_index not in shown.frames]
    if outside:
        number = label_studio_frame(outside[0], shown.first_frame)
        raise _unreadable(region, f"frame {number} is not one of the {shown.frame_count} that are shown")
    frames = [k.frame_index for k in keyframes]
    if len(set(frames)) != len(frames):
        raise _unreadable(region, "it has two keyframes on one frame")
    return BoxTrack(str(region["id"]), label, tuple(keyframes))


def _mask(region: Mapping[str, Any], size: tuple[int, int], page_frames: Sequence[int]) -> FrameMask:
    try:
        mask, label = mask_of(region), _label(region, "bitmasklabels")
        # A task with one page may leave it out.
        page = int(region.get("item_index") or 0)
    except BadInput as error:
        raise _unreadable(region, str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(region, f"{type(error).__name__} {error}") from error
    if not 0 <= page < len(page_frames):
        raise _unreadable(region, f"it lies on page {page + 1} of {len(page_frames)}")
    if (mask.width, mask.height) != size:
        raise _unreadable(region, f"its mask has {mask.width}×{mask.height} pixels, the video {size[0]}×{size[1]}")
    return FrameMask(str(region["id"]), label, page_frames[page], mask)


def _label(region: Mapping[str, Any], control: str) -> str:
    """The first label; a region from which all were taken away has none."""
    labels = region["value"].get(control) or [""]
    return str(labels[0])


def _unreadable(region: Mapping[str, Any], reason: str) -> BadInput:
    return BadInput(f"region {region.get('id')!r} of the annotation can't be read: {reason}", code="invalid_annotation")

"""The layout of MeViS, written and read.

    meta_expressions.json   {"videos": {video: {"vid_id", "frames", "expressions": {id: {"exp", "obj_id", "anno_id"}}}}}
    mask_dict.json          {annotation id: [COCO RLE or null, one for each of the video's frames]}
    JPEGImages/<video>/     the frames named in "frames"; written by others

`obj_id` are the objects an expression means, counted within its video, and `anno_id` their annotations; both are empty
where nothing fits, which MeViS itself never asks. An expression may carry more fields.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backend.domain.annotation import Mask
from backend.domain.masks import as_coco, from_counts
from integrations.exports.clips import Clip, frame_name, write_pictures

_META, _MASKS = "meta_expressions.json", "mask_dict.json"


@dataclass(frozen=True, slots=True)
class MevisExpression:
    """`targets`: places in the video's `objects`. `more`: fields beside those of MeViS."""

    text: str
    targets: tuple[int, ...]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MevisVideo:
    """`objects[k][i]` is the mask of object k on frame `frame_names[i]`, None where it isn't seen."""

    name: str
    frame_names: tuple[str, ...]
    objects: tuple[Sequence[Mask | None], ...]
    expressions: tuple[MevisExpression, ...]


def write_mevis(root: Path, videos: Iterable[MevisVideo]) -> int:
    """Write the two files; how many videos. The pictures are the caller's."""
    meta: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    root.mkdir(parents=True, exist_ok=True)
    for number, video in enumerate(videos):
        first = len(masks)
        for place, found in enumerate(video.objects):
            masks[str(first + place)] = [as_coco(mask) if mask is not None and mask.area else None for mask in found]
        meta[video.name] = {
            "vid_id": number,
            "frames": list(video.frame_names),
            "expressions": {str(i): _expression(one, first) for i, one in enumerate(video.expressions)},
        }
    (root / _META).write_text(json.dumps({"videos": meta}, indent=1))
    (root / _MASKS).write_text(json.dumps(masks))
    return len(meta)


def read_mevis(root: Path, expressions: str = _META) -> list[MevisVideo]:
    """The videos of a folder in this layout; `expressions` names the file they stand in.

    An object that no expression means is left out, and `targets` count those that are meant, in the order of their
    annotations.
    """
    meta, masks = (json.loads((root / name).read_text()) for name in (expressions, _MASKS))
    return [_read_video(name, video, masks) for name, video in meta["videos"].items()]


def _expression(one: MevisExpression, first: int) -> dict[str, Any]:
    return {
        "exp": one.text,
        "obj_id": list(one.targets),
        "anno_id": [first + target for target in one.targets],
        **one.more,
    }


def _read_video(name: str, video: Mapping[str, Any], masks: Mapping[str, Any]) -> MevisVideo:
    expressions = list(video["expressions"].values())
    numbers = sorted({int(number) for one in expressions for number in one["anno_id"]})
    return MevisVideo(
        name,
        tuple(video["frames"]),
        tuple([_read_mask(rle) for rle in masks[str(number)]] for number in numbers),
        tuple(
            MevisExpression(
                one["exp"],
                tuple(numbers.index(int(number)) for number in one["anno_id"]),
                {key: value for key, value in one.items() if key not in ("exp", "anno_id")},
            )
            for one in expressions
        ),
    )


def _read_mask(rle: Mapping[str, Any] | None) -> Mask | None:
    return None if rle is None else from_counts(rle["counts"], *rle["size"])


def export(clips: Sequence[Clip], folder: Path) -> int:
    """Write the clips with their pictures; how many. What has no frame with known masks is left out."""
    known = [clip for clip in clips if clip.mask_frames]
    write_pictures([(clip, clip.mask_frames) for clip in known], folder, "JPEGImages/{clip}/{frame}.jpg")
    return write_mevis(folder, (_video(clip) for clip in known))


def _video(clip: Clip) -> MevisVideo:
    objects = clip.item.objects
    return MevisVideo(
        clip.name,
        tuple(frame_name(frame) for frame in clip.mask_frames),
        tuple([one.masks.get(frame) for frame in clip.mask_frames] for one in objects),
        (MevisExpression(clip.item.instruction, tuple(range(len(objects))), {"mode": clip.item.mode.value}),),
    )

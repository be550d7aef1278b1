"""Layouts whose masks are pictures with a palette, a number for each thing: DAVIS 2017 and Ref-YouTube-VOS.

    DAVIS             JPEGImages/Full-Resolution/<clip>/<frame>.jpg, Annotations/Full-Resolution/<clip>/<frame>.png,
                      ImageSets/2017/<split>.txt, and the instructions as Ref-DAVIS has them,
                      davis_text_annotations/Davis17_annot1.txt: clip, number of the thing, "instruction"
    Ref-YouTube-VOS   <split>/JPEGImages/<clip>/<frame>.jpg, <split>/Annotations/<clip>/<frame>.png, <split>/meta.json,
                      meta_expressions/<split>/meta_expressions.json

A pixel has one number, so where two things of an item overlap the smaller one has it. An expression of Ref-YouTube-VOS
means one number, so there all things of an item are one.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backend.domain.annotation import Mask
from backend.domain.masks import decode_mask, union
from integrations.exports.clips import Clip, frame_name, write_pictures

_MOST_THINGS = 255


def davis(clips: Sequence[Clip], folder: Path, split: str) -> int:
    """Write the clips; how many. What has no frame with known masks is left out."""
    known = [clip for clip in clips if clip.mask_frames]
    write_pictures(
        [(clip, clip.mask_frames) for clip in known], folder, "JPEGImages/Full-Resolution/{clip}/{frame}.jpg"
    )
    texts = []
    for clip in known:
        for frame in clip.mask_frames:
            path = folder / "Annotations" / "Full-Resolution" / clip.name / f"{frame_name(frame)}.png"
            _write_numbers(path, clip, clip.masks(frame))
        texts += [f'{clip.name} {place} "{_line(clip)}"' for place in range(1, len(clip.item.objects) + 1)]
    _write_lines(folder / "ImageSets" / "2017" / f"{split}.txt", [clip.name for clip in known])
    _write_lines(folder / "davis_text_annotations" / "Davis17_annot1.txt", texts)
    return len(known)


def ref_youtube_vos(clips: Sequence[Clip], folder: Path, split: str) -> int:
    """Write the clips; how many. What has no frame with known masks, or no thing at all, is left out."""
    known = [clip for clip in clips if any(one.masks.get(f) for one in clip.item.objects for f in clip.mask_frames)]
    write_pictures([(clip, clip.mask_frames) for clip in known], folder / split, "JPEGImages/{clip}/{frame}.jpg")
    objects: dict[str, Any] = {}
    expressions: dict[str, Any] = {}
    for clip in known:
        seen = []
        for frame in clip.mask_frames:
            there = [mask for mask in clip.masks(frame) if mask is not None]
            path = folder / split / "Annotations" / clip.name / f"{frame_name(frame)}.png"
            _write_numbers(path, clip, [union(there)] if there else [])
            seen += [frame_name(frame)] if there else []
        objects[clip.name] = {"objects": {"1": {"category": clip.item.objects[0].label, "frames": seen}}}
        expressions[clip.name] = {
            "expressions": {"0": {"exp": clip.item.instruction, "obj_id": "1"}},
            "frames": [frame_name(frame) for frame in clip.mask_frames],
        }
    _write_json(folder / split / "meta.json", {"videos": objects})
    _write_json(folder / "meta_expressions" / split / "meta_expressions.json", {"videos": expressions})
    return len(known)


def _write_numbers(path: Path, clip: Clip, masks: Sequence[Mask | None]) -> None:
    """A picture with the number of the thing in each pixel, from 1, and 0 where there is none."""
    numbers = np.zeros((clip.item.height, clip.item.width), np.uint8)
    there = [(number, mask) for number, mask in enumerate(masks[:_MOST_THINGS], start=1) if mask is not None]
    for number, mask in sorted(there, key=lambda pair: -pair[1].area):
        numbers[decode_mask(mask)] = number
    picture = Image.fromarray(numbers, "P")
    picture.putpalette(_palette().ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "PNG")


def _palette() -> NDArray[np.uint8]:
    """(256, 3): the bits of a number spread over red, green and blue, as PASCAL VOC numbers its colours."""
    colours = np.zeros((256, 3), np.uint8)
    for number in range(256):
        for bit in range(8):
            colours[number, bit % 3] |= ((number >> bit) & 1) << (7 - bit // 3)
    return colours


def _line(clip: Clip) -> str:
    return " ".join(clip.item.instruction.replace('"', "'").split())


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))

"""JSON with run-length masks: COCO (a picture a frame), YouTube-VIS (a list a track), SA-V (a file a video).

COCO          annotations.json, images/<clip>/<frame>.jpg
YouTube-VIS   instances.json, JPEGImages/<clip>/<frame>.jpg
SA-V          <clip>.mp4, <clip>_manual.json
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backend.domain.annotation import Mask
from backend.domain.masks import as_coco, encode_mask
from integrations.exports.clips import Clip, frame_name, write_pictures


def coco(clips: Sequence[Clip], folder: Path) -> int:
    """Write the clips; how many. `file_name` is relative to `images/`; an image also has its `instruction`, `mode`."""
    known = [clip for clip in clips if clip.mask_frames]
    write_pictures([(clip, clip.mask_frames) for clip in known], folder / "images", "{clip}/{frame}.jpg")
    categories = _categories(known)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for clip in known:
        for frame in clip.mask_frames:
            image = {"id": len(images) + 1, "file_name": f"{clip.name}/{frame_name(frame)}.jpg", "frame_index": frame}
            images.append(image | _asked(clip))
            for one, mask in zip(clip.item.objects, clip.masks(frame), strict=True):
                if mask is not None:
                    annotations.append(
                        {
                            "id": len(annotations) + 1, "image_id": image["id"], "iscrowd": 0,
                            "category_id": categories[one.label], "segmentation": as_coco(mask), "area": mask.area,
                            "bbox": _xywh(mask),
                        }
                    )  # fmt: skip
    _write(folder / "annotations.json", images=images, annotations=annotations, categories=_listed(categories))
    return len(known)


def youtube_vis(clips: Sequence[Clip], folder: Path) -> int:
    """Write the clips; how many. `file_names` are relative to `JPEGImages/`."""
    known = [clip for clip in clips if clip.mask_frames]
    write_pictures([(clip, clip.mask_frames) for clip in known], folder / "JPEGImages", "{clip}/{frame}.jpg")
    categories = _categories(known)
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for clip in known:
        names = [f"{clip.name}/{frame_name(frame)}.jpg" for frame in clip.mask_frames]
        video = {"id": len(videos) + 1, "length": len(names), "file_names": names}
        videos.append(video | _asked(clip))
        for one in clip.item.objects:
            masks = [one.masks.get(frame) for frame in clip.mask_frames]
            annotations.append(
                {
                    "id": len(annotations) + 1, "video_id": video["id"], "iscrowd": 0, "length": len(names),
                    "category_id": categories[one.label], "height": clip.item.height, "width": clip.item.width,
                    "segmentations": [None if mask is None else as_coco(mask) for mask in masks],
                    "areas": [None if mask is None else mask.area for mask in masks],
                    "bboxes": [None if mask is None else _xywh(mask) for mask in masks],
                }
            )  # fmt: skip
    _write(folder / "instances.json", videos=videos, annotations=annotations, categories=_listed(categories))
    return len(known)


def sa_v(clips: Sequence[Clip], folder: Path, split: str) -> int:
    """Write the clips, the video itself beside the masks; how many.

    `masklet[i][k]` is the mask of thing k on frame `frame_indices[i]`, empty where it isn't seen. SA-V itself has a
    mask on every fourth frame and so no `frame_indices`.
    """
    known = [clip for clip in clips if clip.mask_frames]
    for clip in known:
        item = clip.item
        empty = encode_mask(np.zeros((item.height, item.width), bool))
        masklets = [[mask or empty for mask in clip.masks(frame)] for frame in clip.mask_frames]
        seen = [[frame for frame in clip.mask_frames if frame in one.masks] for one in item.objects]
        areas = [[one.masks[frame].area for frame in frames] for one, frames in zip(item.objects, seen, strict=True)]
        _write(
            folder / f"{clip.name}_manual.json",
            video_id=clip.name, video_duration=item.duration_s, video_frame_count=item.frame_count,
            video_height=item.height, video_width=item.width, video_resolution=item.height * item.width,
            video_split=split, masklet=[[as_coco(mask) for mask in masks] for masks in masklets],
            masklet_id=list(range(len(item.objects))), masklet_num=len(item.objects),
            masklet_first_appeared_frame=[frames[0] if frames else None for frames in seen],
            masklet_frame_count=[len(frames) for frames in seen],
            masklet_size_abs=[sum(found) / len(found) if found else 0.0 for found in areas],
            masklet_type=["manual"] * len(item.objects), frame_indices=list(clip.mask_frames), **_asked(clip),
        )  # fmt: skip
        shutil.copyfile(clip.media, folder / f"{clip.name}.mp4")
    return len(known)


def _asked(clip: Clip) -> dict[str, Any]:
    item = clip.item
    return {"height": item.height, "width": item.width, "instruction": item.instruction, "mode": item.mode.value}


def _categories(clips: Sequence[Clip]) -> dict[str, int]:
    labels = sorted({one.label for clip in clips for one in clip.item.objects})
    return {label: number for number, label in enumerate(labels, start=1)}


def _listed(categories: dict[str, int]) -> list[dict[str, Any]]:
    return [{"id": number, "name": label} for label, number in categories.items()]


def _xywh(mask: Mask) -> list[float]:
    box = mask.box_xyxy_px
    return [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]


def _write(path: Path, **value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

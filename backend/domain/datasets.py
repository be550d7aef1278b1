"""An item of a data set: one instruction on one video, with what is true of it, as it stands in a manifest's row.

Frames are decoder order from 0, boxes and masks in source pixels of the picture as shown. What is true is said frame by
frame, because people see boxes on every frame of a video but masks on a few of them:

`box_frames`         what people say of boxes: an object without a box on such a frame is not seen there
`mask_frames`        the same of masks, which were shown to people or painted by them
`propagated_frames`  masks there are a segmenter's, under boxes that people left as they were; no person saw them

Of a frame in none of the three nothing is known. `docs/datasets.md` says how reviews become truth.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.masks import as_coco, from_counts
from backend.domain.runs import Mode

_CORNERS = ("x1", "y1", "x2", "y2")


class Split(StrEnum):
    """What an item is for. A source video is on one side for ever; `neither`: it resembles videos of both sides."""

    TRAIN = "train"
    HOLDOUT = "holdout"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class TruthObject:
    """One thing that the instruction means: its boxes and masks by frame index, none where it is not seen."""

    label: str
    boxes: Mapping[int, Box]
    masks: Mapping[int, Mask]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an item comes from, in names that mean the same in every database. None: there is no such thing.

    `origin` is `review`, or `import:<layout>`; `source_uri` and `source_version` are the video's object version (an
    import: its place in the public set). `target` and `annotation_id` name the annotation in the labeling tool,
    `review_digest` which version of it; `changed_at` is the tool's own time of that, ISO 8601.
    """

    origin: str
    source_uri: str
    source_version: str | None = None
    project: str | None = None
    model_digest: str | None = None
    target: str | None = None
    annotation_id: int | None = None
    annotator: str | None = None
    review_digest: str | None = None
    changed_at: str | None = None


@dataclass(frozen=True)
class DatasetItem:
    """One row of a manifest. `media_sha256` is also the source video's id: the same bytes are the same source.

    `media_key`: where the media lie, in the artifact bucket. `pts`, `time_base_*`, `duration_s`: the video's clock (see
    `VideoProbe`). `fresh`: in none of the data sets that this one goes back to. Raises `ValueError` for what
    contradicts itself.
    """

    media_sha256: str
    media_key: str
    media_size_bytes: int
    instruction: str
    mode: Mode
    frame_count: int
    width: int
    height: int
    rotation_deg: int
    duration_s: float
    has_audio: bool
    codec: str
    time_base_num: int
    time_base_den: int
    pts: tuple[int, ...]
    objects: tuple[TruthObject, ...]
    box_frames: tuple[int, ...]
    mask_frames: tuple[int, ...]
    propagated_frames: tuple[int, ...]
    split: Split
    fresh: bool
    provenance: Provenance

    def __post_init__(self) -> None:
        _check(self)

    @property
    def source_id(self) -> str:
        """By this the hold-out is decided: the video's bytes."""
        return self.media_sha256

    @cached_property
    def item_id(self) -> str:
        """SHA-256 of the video, the instruction and the truth; whose it is and what it is for are no part of it."""
        row = self.to_row()
        said = {name: row[name] for name in ("media_sha256", "instruction", "mode", "objects", *_FRAME_LISTS)}
        return hashlib.sha256(canonical_json(said).encode()).hexdigest()

    @property
    def question(self) -> tuple[str, str, str]:
        """What is asked of which video: a data set holds one answer to it."""
        return (self.media_sha256, self.mode.value, self.instruction)

    @property
    def probe(self) -> VideoProbe:
        """What the decoder needs."""
        return VideoProbe(
            self.frame_count, self.width, self.height, self.rotation_deg, self.duration_s, self.has_audio, self.codec,
            self.time_base_num, self.time_base_den, np.array(self.pts, dtype=np.int64),
        )  # fmt: skip

    def to_row(self) -> dict[str, Any]:
        """The row of the manifest: JSON values only, `item_id` left out. `from_row` is the inverse."""
        row: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        row |= {name: list(row[name]) for name in ("pts", *_FRAME_LISTS)}
        row |= {"mode": self.mode.value, "split": self.split.value}
        row["objects"] = [_object_row(one) for one in self.objects]
        row["provenance"] = {f.name: getattr(self.provenance, f.name) for f in fields(Provenance)}
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "DatasetItem":
        """The item of such a row; columns that are none of its own are left alone. Raises `ValueError`, `KeyError`."""
        values: dict[str, Any] = {f.name: row[f.name] for f in fields(cls)}
        values |= {name: tuple(row[name]) for name in ("pts", *_FRAME_LISTS)}
        values |= {"mode": Mode(row["mode"]), "split": Split(row["split"])}
        values["objects"] = tuple(_object_of(one) for one in row["objects"])
        values["provenance"] = Provenance(**row["provenance"])
        return cls(**values)


_FRAME_LISTS = ("box_frames", "mask_frames", "propagated_frames")


def canonical_json(value: Any) -> str:
    """One text for one value, whatever the order of its names. Raises `ValueError` for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(items: Iterable[DatasetItem], said: Mapping[str, Any]) -> str:
    """The data set's identity: what was asked for (`said`), and each item with what it is for, in any order."""
    lines = sorted(f"{item.item_id} {item.split} {item.fresh}" for item in items)
    text = "\n".join(["premask data set, 1", canonical_json(said), *lines])
    return hashlib.sha256(text.encode()).hexdigest()


def in_order(items: Iterable[DatasetItem]) -> list[DatasetItem]:
    """As they stand in a manifest: by video, then by instruction."""
    return sorted(items, key=lambda item: item.question)


def _object_row(one: TruthObject) -> dict[str, Any]:
    return {
        "label": one.label,
        "boxes": [
            {"frame_index": frame, **{name: getattr(one.boxes[frame], name) for name in _CORNERS}}
            for frame in sorted(one.boxes)
        ],
        "masks": [{"frame_index": frame, **as_coco(one.masks[frame])} for frame in sorted(one.masks)],
    }


def _object_of(row: Mapping[str, Any]) -> TruthObject:
    return TruthObject(
        row["label"],
        {box["frame_index"]: Box(*(box[name] for name in _CORNERS)) for box in row["boxes"]},
        {mask["frame_index"]: from_counts(mask["counts"], *mask["size"]) for mask in row["masks"]},
    )


def _check(item: DatasetItem) -> None:
    what = f"the item {item.instruction!r} of video {item.media_sha256[:12]}"
    if len(item.pts) != item.frame_count:
        raise ValueError(f"{what} has {item.frame_count} frames but {len(item.pts)} time stamps")
    for name in _FRAME_LISTS:
        _check_frames(f"{what}, {name},", getattr(item, name), item.frame_count)
    masked = set(item.mask_frames) | set(item.propagated_frames)
    if both := set(item.mask_frames) & set(item.propagated_frames):
        raise ValueError(f"{what} has frame {min(both)} both among those people saw and among those they didn't")
    for one in item.objects:
        if outside := (set(one.masks) - masked) | (set(one.boxes) - set(item.box_frames)):
            raise ValueError(
                f"{what} has a box or mask on frame {min(outside)}, of which it says that nothing is known"
            )
        if any((mask.height, mask.width) != (item.height, item.width) for mask in one.masks.values()):
            raise ValueError(f"{what} has a mask of another size than the video's {item.width}×{item.height}")
        if any(mask.area == 0 for mask in one.masks.values()):
            raise ValueError(f"{what} has an empty mask: leave it out to say that nothing is seen")


def _check_frames(what: str, frames: Sequence[int], frame_count: int) -> None:
    if list(frames) != sorted(set(frames)):
        raise ValueError(f"{what} names frames twice or out of order")
    if frames and not (frames[0] >= 0 and frames[-1] < frame_count):
        raise ValueError(f"{what} names frames {frames[0]}..{frames[-1]} of a video of {frame_count}")

"""Items of a frozen data set: what people said of a video, frame by frame, as training takes it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.masks import union
from backend.domain.runs import Mode
from workers.learning.items import TrainingItem, Truth, VideoFootage


class Labelled(Protocol):
    """One thing that an instruction means: boxes and masks by frame index."""

    @property
    def boxes(self) -> Mapping[int, Box]: ...

    @property
    def masks(self) -> Mapping[int, Mask]: ...


class Row(Protocol):
    """What is needed of a data set's row (`backend.domain.datasets.DatasetItem` is one). Of a frame that is in none of
    the three lists nothing is known."""

    @property
    def item_id(self) -> str: ...
    @property
    def instruction(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def probe(self) -> VideoProbe: ...
    @property
    def objects(self) -> Sequence[Labelled]: ...
    @property
    def box_frames(self) -> Sequence[int]: ...
    @property
    def mask_frames(self) -> Sequence[int]: ...
    @property
    def propagated_frames(self) -> Sequence[int]: ...


R = TypeVar("R", bound=Row)


def items(rows: Iterable[R], media: Callable[[R], Path]) -> list[TrainingItem]:
    """The rows as items; `media` says where the video of a row lies."""
    return [
        TrainingItem(
            row.item_id, VideoFootage(media(row), row.probe, truth(row)), row.instruction, row.mode, bool(row.objects),
            kind=row.mode.value,
        )
        for row in rows
    ]  # fmt: skip


def truth(row: Row) -> Truth:
    """The objects of a row united. Masks under boxes that people left as they were count as true; a box around a mask
    stands in where no box was said."""
    by_frame: dict[int, list[Mask]] = {}
    boxes: dict[int, list[Box]] = {}
    for one in row.objects:
        for frame_index, mask in one.masks.items():
            by_frame.setdefault(frame_index, []).append(mask)
        for frame_index in one.boxes.keys() | (one.masks.keys() - set(row.box_frames)):
            box = one.boxes.get(frame_index) or one.masks[frame_index].box_xyxy_px
            boxes.setdefault(frame_index, []).append(box)
    masked = frozenset(row.mask_frames) | frozenset(row.propagated_frames)
    return Truth(
        {frame_index: union(masks) for frame_index, masks in sorted(by_frame.items())},
        {frame_index: tuple(found) for frame_index, found in sorted(boxes.items())},
        masked, masked | frozenset(row.box_frames),
    )  # fmt: skip

"""Truth: masks, boxes and visibility of every thing on every frame, counted on the pixels that were painted."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask, union
from workers.shapeworld.world.render import Frame


@dataclass(frozen=True, slots=True)
class Truth:
    """Of N things on T frames. `masks[i][t]` holds what is seen of thing i, maybe nothing; `visible` (N, T) is that as
    a share of the whole thing, which may be hidden or reach out of the view."""

    masks: tuple[tuple[Mask, ...], ...]
    visible: NDArray[np.float64]

    @property
    def frame_count(self) -> int:
        return int(self.visible.shape[1])

    def box(self, thing: int, frame_index: int) -> Box | None:
        """x1, y1, x2, y2 in pixels around what is seen; None where nothing is."""
        mask = self.masks[thing][frame_index]
        return mask.box_xyxy_px if mask.area else None

    def union(self, targets: tuple[int, ...]) -> tuple[Mask, ...]:
        """The targets' masks as one on each frame; empty ones where there is no target."""
        if targets:
            return tuple(union([self.masks[i][t] for i in targets]) for t in range(self.frame_count))
        first = self.masks[0][0]
        return (encode_mask(np.zeros((first.height, first.width), bool)),) * self.frame_count

    def seen(self, targets: tuple[int, ...]) -> dict[int, Mask]:
        """The union of the targets' masks by frame index, on the frames that show something of them."""
        return {frame_index: mask for frame_index, mask in enumerate(self.union(targets)) if mask.area}


class TruthBuilder:
    """Gathers the truth frame by frame, so that no label map has to be kept."""

    def __init__(self, thing_count: int) -> None:
        self._masks: list[list[Mask]] = [[] for _ in range(thing_count)]
        self._visible: list[NDArray[Any]] = []

    def add(self, frame: Frame) -> None:
        for index, masks in enumerate(self._masks):
            masks.append(encode_mask(frame.labels == index + 1))
        seen_px = np.asarray([masks[-1].area for masks in self._masks])
        self._visible.append(seen_px / np.maximum(frame.whole_px, 1))

    def build(self) -> Truth:
        return Truth(tuple(map(tuple, self._masks)), np.stack(self._visible, axis=1))


def truth_of(frames: Iterable[Frame], thing_count: int) -> Truth:
    """The truth of all frames."""
    builder = TruthBuilder(thing_count)
    for frame in frames:
        builder.add(frame)
    return builder.build()

"""What is learned from: clips with an instruction and the truth. Where they come from is not known here.

Two sources implement `ItemSource`: the synthetic world's training range (`workers.shapeworld.training.items`) and a
frozen data set (`Shuffled` over the items read from it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.runs import Mode
from integrations.media.decode import iter_frames, read_audio


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of some frames. `masks`: the union of the targets' masks, `boxes`: one for each target, where
    something of them is seen. `mask_known`, `boxes_known`: the frames of which it is known at all; without an entry
    there, nothing of the targets is seen."""

    masks: Mapping[int, Mask]
    boxes: Mapping[int, tuple[Box, ...]]
    mask_known: frozenset[int]
    boxes_known: frozenset[int]

    def at(self, frame_indices: Sequence[int]) -> "Truth":
        """The same of those frames, by position among them."""
        position = {frame_index: n for n, frame_index in enumerate(frame_indices)}

        def moved(known: Mapping[int, Any]) -> dict[int, Any]:
            return {position[frame_index]: one for frame_index, one in known.items() if frame_index in position}

        seen, boxed = (frozenset(position[i] for i in known if i in position) for known in
                       (self.mask_known, self.boxes_known))  # fmt: skip
        return Truth(moved(self.masks), moved(self.boxes), seen, boxed)


@dataclass(frozen=True, slots=True)
class Shown:
    """Some frames of a clip. `images` (n, H, W, 3) uint8 RGB at source resolution; `truth` by position among the n."""

    images: NDArray[np.uint8]
    truth: Truth


class Footage(Protocol):
    """A clip that can be looked at and listened to. Sent to the loader's processes: plain data, no open file."""

    @property
    def frame_count(self) -> int:
        """Frames in decoder order."""

    def show(self, frame_indices: Sequence[int]) -> Shown:
        """Those frames, ascending and distinct. Raises `BadInput` if they can't be had."""

    def sound(self, sample_rate_hz: int, max_s: float) -> NDArray[np.float32] | None:
        """(samples,) mono, the first `max_s` seconds; None where there is no sound."""


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """A clip, what is asked about it, and the truth. `has_target`: whether it fits anything in the clip.
    `description`: the right words for a single picture, where they are known (the synthetic world)."""

    name: str
    footage: Footage
    instruction: str
    mode: Mode
    has_target: bool
    kind: str = ""
    description: str | None = None


class ItemSource(Protocol):
    """Endless: draw n is the same item whenever it is asked for, so that a training can go on where it stopped."""

    @property
    def name(self) -> str:
        """What it is, for the record."""

    def draw(self, number: int) -> TrainingItem:
        """Item of that draw, counted from 0."""


@dataclass(frozen=True, slots=True)
class VideoFootage:
    """A video file, as it was probed, with its truth by frame index."""

    path: Path
    probe: VideoProbe
    truth: Truth

    @property
    def frame_count(self) -> int:
        return self.probe.frame_count

    def show(self, frame_indices: Sequence[int]) -> Shown:
        wanted = set(frame_indices)
        images = [image for frame_index, image in iter_frames(self.path, self.probe) if frame_index in wanted]
        return Shown(np.stack(images), self.truth.at(frame_indices))

    def sound(self, sample_rate_hz: int, max_s: float) -> NDArray[np.float32] | None:
        audio = read_audio(self.path, sample_rate_hz, max_s)
        return audio if audio.size else None


@dataclass(frozen=True, slots=True)
class Shuffled:
    """Finitely many items, each once an epoch, in another order each time."""

    name: str
    items: Sequence[TrainingItem]
    seed: int

    def draw(self, number: int) -> TrainingItem:
        epoch, place = divmod(number, len(self.items))
        return self.items[int(np.random.default_rng([self.seed, epoch]).permutation(len(self.items))[place])]

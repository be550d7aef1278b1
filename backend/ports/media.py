"""What reads and writes videos, and clips of public sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.datasets import TruthObject
from backend.domain.runs import Mode


class FrameHasher(Protocol):
    def __call__(self, path: Path, probe: VideoProbe) -> NDArray[np.uint64]:
        """(frames,) perceptual hashes of frames spread over the video. Raises `UnreadableVideo`."""


@dataclass(frozen=True, slots=True)
class PublicExpression:
    """An instruction of a public set and the objects it means, frames counted in the clip."""

    text: str
    objects: tuple[TruthObject, ...]


@dataclass(frozen=True, slots=True)
class PublicClip:
    """A clip as a public set has it: a folder of pictures. `mask_frames`: those whose masks are known; `audio`: the
    file of its sound."""

    name: str
    pictures: tuple[Path, ...]
    mask_frames: tuple[int, ...]
    expressions: tuple[PublicExpression, ...]
    mode: Mode = Mode.VOS
    audio: Path | None = None


class PictureBinder(Protocol):
    def __call__(self, pictures: Sequence[Path], to: Path, fps: Fraction, audio: Path | None = None) -> None:
        """Write a video of those pictures and that sound, the same bytes for the same files. Raises `BadInput`."""


class VideoProber(Protocol):
    def __call__(self, path: Path) -> VideoProbe:
        """Raises `UnreadableVideo` with a reason a person understands."""

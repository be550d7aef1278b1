"""What all layouts need: each item under a name of its own, the frames of which something is known, and their pictures.

A layout's reader takes a frame without a mask for one on which the thing isn't seen, so a frame of which nothing is
known must not be in it at all.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from backend.domain.annotation import Mask
from backend.domain.datasets import DatasetItem, in_order
from integrations.media.decode import iter_frames

_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Clip:
    """An item as it is exported. `mask_frames`: frames whose masks are exported, a mask or none for each object."""

    name: str
    item: DatasetItem
    media: Path
    mask_frames: tuple[int, ...]

    def masks(self, frame: int) -> list[Mask | None]:
        """The mask of each object on that frame; None: it isn't seen."""
        return [one.masks.get(frame) for one in self.item.objects]


def clips(items: Iterable[DatasetItem], media: Path, with_propagated: bool) -> list[Clip]:
    """The items by name: the beginning of their video's SHA-256, and which of its items. `media`: its folder."""
    made = []
    for sha256, group in groupby(in_order(items), key=lambda item: item.media_sha256):
        for number, item in enumerate(group):
            frames = set(item.mask_frames) | (set(item.propagated_frames) if with_propagated else set())
            made.append(Clip(f"{sha256[:12]}-{number}", item, media / sha256, tuple(sorted(frames))))
    return made


def frame_name(frame_index: int) -> str:
    """Five digits, decoder order from 0."""
    return f"{frame_index:05d}"


def write_pictures(wanted: Iterable[tuple[Clip, Iterable[int]]], folder: Path, pattern: str) -> None:
    """Write those frames of the clips as JPEG, each video decoded once.

    `pattern` names a file, with `{clip}` and `{frame}`; clips of one video share the bytes of a frame.
    """
    by_video: dict[str, list[tuple[Clip, set[int]]]] = {}
    for clip, frames in wanted:
        by_video.setdefault(clip.item.media_sha256, []).append((clip, set(frames)))
    for pairs in by_video.values():
        one = pairs[0][0]
        for frame, picture in iter_frames(one.media, one.item.probe):
            names = [pattern.format(clip=clip.name, frame=frame_name(frame)) for clip, known in pairs if frame in known]
            if names:
                _write_once(picture, [folder / name for name in names])


def _write_once(picture: NDArray[Any], paths: Sequence[Path]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = paths
    Image.fromarray(picture).save(first, "JPEG", quality=_QUALITY)
    for other in others:
        os.link(first, other)

"""Masks by frame that lie elsewhere: mappings that read what is asked for, and no more."""

from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from typing import Generic, TypeVar

from backend.ports.pipeline import CarriedMask, Checkpoints

Value = TypeVar("Value")
#: Frames looked at one by one are kept: keyframes are asked for again and again.
_KEPT = 64


class _Items(ItemsView[int, Value]):
    _mapping: "ByFrame[Value]"

    def __iter__(self) -> Iterator[tuple[int, Value]]:
        return self._mapping.between(0, None)


class _Values(ValuesView[Value]):
    _mapping: "ByFrame[Value]"

    def __iter__(self) -> Iterator[Value]:
        return (value for _, value in self._mapping.between(0, None))


class ByFrame(Mapping[int, Value], Generic[Value]):
    """Something by frame index, in ascending order, read as it is needed."""

    def between(self, begin: int, end: int | None) -> Iterator[tuple[int, Value]]:
        """The entries of frames begin..end - 1; without an end, all from there on."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[int]:
        return (frame_index for frame_index, _ in self.between(0, None))

    def items(self) -> ItemsView[int, Value]:
        return _Items(self)

    def values(self) -> ValuesView[Value]:
        return _Values(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} frames>"


class Carried(ByFrame[Value]):
    """What one detection became in one round, of each frame that part of it which `part` takes."""

    def __init__(
        self, checkpoints: Checkpoints, round_index: int, detection: int, frame_count: int,
        part: Callable[[CarriedMask], Value],
    ) -> None:  # fmt: skip
        self._checkpoints, self._place, self._part = checkpoints, (round_index, detection), part
        self._frame_count = frame_count
        self._kept = OrderedDict[int, Value | None]()

    def between(self, begin: int, end: int | None) -> Iterator[tuple[int, Value]]:
        # A stretch of a track may be open, and no frame number beyond the video is asked for.
        frames = range(begin, self._frame_count if end is None else min(end, self._frame_count))
        return ((one.frame_index, self._part(one)) for one in self._checkpoints.masks(*self._place, frames))

    def __getitem__(self, frame_index: int) -> Value:
        if frame_index not in self._kept:
            self._kept[frame_index] = next((value for _, value in self.between(frame_index, frame_index + 1)), None)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        value = self._kept[frame_index]
        if value is None:
            raise KeyError(frame_index)
        return value

    def __len__(self) -> int:
        return self._checkpoints.counted(*self._place)


class Stitched(ByFrame[Value]):
    """One after the other, of each part the entries on its frames. `parts` ascend."""

    def __init__(self, parts: Sequence[tuple[range, Mapping[int, Value]]]) -> None:
        self._parts = parts

    def between(self, begin: int, end: int | None) -> Iterator[tuple[int, Value]]:
        for frames, source in self._parts:
            first, last = max(begin, frames.start), frames.stop if end is None else min(end, frames.stop)
            if first >= last:
                continue
            if isinstance(source, ByFrame):
                yield from source.between(first, last)
            else:
                yield from ((i, source[i]) for i in sorted(source) if first <= i < last)

    def __getitem__(self, frame_index: int) -> Value:
        for frames, source in self._parts:
            if frame_index in frames:
                return source[frame_index]
        raise KeyError(frame_index)

    def __len__(self) -> int:
        return sum(1 for _ in self)

"""Image features by frame: encoded in blocks, kept as far as a budget goes, shared by all who walk over the clip.

A frame is always encoded together with the same others, whoever asks for it first and in which direction: what else is
in a batch shows in the last bits, and a run that was interrupted must end as if it hadn't been.
"""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from threading import Lock
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from workers.pipeline.frame_store import FrameStore

#: Feature maps, their positions, and their sizes, as Meta's tracker takes them.
Features = tuple[list[torch.Tensor], list[torch.Tensor], list[tuple[int, int]]]
_Block = list[Features]
#: Small models' features are kept of so many frames at most: what lies farther back is far from being asked for again.
_CACHE_FRAMES = 256


class Encodes(Protocol):
    @property
    def encoder_batch_size(self) -> int: ...

    def encode(self, pixels: NDArray[np.uint8]) -> list[Features]: ...


class FrameEncoder:
    """Features of the frames of one clip. What was dropped to stay within `cache_bytes` and `_CACHE_FRAMES` is encoded
    again. `lanes`: threads that encode ahead; close it before the frames."""

    def __init__(self, model: Encodes, frames: FrameStore, cache_bytes: int, lanes: int = 1) -> None:
        self._model, self.frames, self._cache_bytes = model, frames, cache_bytes
        self._lanes = ThreadPoolExecutor(lanes, "encoder")
        self._size = model.encoder_batch_size
        self._lock = Lock()
        self._cache: OrderedDict[int, _Block] = OrderedDict()
        self._bytes = 0
        #: Blocks whose encoding was begun before they were asked for; whether those of the whole clip can be kept.
        self._ahead = 0
        self._fits: bool | None = None if frames.frame_count <= _CACHE_FRAMES else False
        self._coming: dict[int, Future[_Block]] = {}

    @property
    def frame_count(self) -> int:
        return self.frames.frame_count

    def walk(self, order: range, pool: Executor | None) -> Iterator[tuple[int, Features]]:
        """(frame_index, features) in that order; with a pool, what comes next is begun meanwhile."""
        held, features = -1, list[Features]()
        for position, frame_index in enumerate(order):
            block = frame_index // self._size
            if block != held:
                held, features = block, self._take(block)
                self._expect(order, position)
                if pool is not None and order[-1] // self._size != block:
                    self._look_ahead(block + (1 if order.step > 0 else -1), pool)
            yield frame_index, features[frame_index - block * self._size]

    def encode_stored(self, count: int) -> None:
        """Have encoded what of the first `count` frames makes a block, before it is asked for; nothing of a clip that
        is too long for all of its features to be kept. All but the first block is done in threads of its own, beside
        whatever goes on."""
        whole = count // self._size if count < self.frame_count else -(-count // self._size)
        while self._ahead < whole and self._keeps_all():
            self._look_ahead(self._ahead, self._lanes)
            self._ahead += 1

    def close(self) -> None:
        """Encode nothing more; nobody may be waiting for a frame."""
        self._lanes.shutdown(cancel_futures=True)

    def _keeps_all(self) -> bool:
        """As the first block tells, for which the others wait."""
        if self._fits is None:
            first = self._take(0)
            self._fits = _size_bytes(first) * self.frame_count <= self._cache_bytes * len(first)
        return self._fits

    def _expect(self, order: range, position: int) -> None:
        """Have the frames decoded that come a window later."""
        self.frames.expect(order[min(position + self.frames.window_frames, len(order) - 1)])

    def _take(self, block: int) -> _Block:
        with self._lock:
            if block in self._cache:
                self._cache.move_to_end(block)
                return self._cache[block]
            coming = self._coming.get(block)
            begun = self._begin(block) if coming is None else None
        if begun is not None:
            self._encode(block, begun)
        future = coming if begun is None else begun
        assert future is not None
        return future.result()

    def _look_ahead(self, block: int, pool: Executor) -> None:
        with self._lock:
            if block in self._cache or block in self._coming:
                return
            begun = self._begin(block)
        pool.submit(self._encode, block, begun)

    def _begin(self, block: int) -> Future[_Block]:
        """Announce the encoding of a block; the lock is held."""
        self._coming[block] = future = Future[_Block]()
        return future

    def _encode(self, block: int, future: Future[_Block]) -> None:
        begin = block * self._size
        try:
            pixels = self.frames.read(begin, min(begin + self._size, self.frames.frame_count))
            features = self._model.encode(pixels)
        except Exception as error:  # noqa: BLE001 (whoever waits for these frames is to fail with it)
            future.set_exception(error)
            return
        with self._lock:
            self._cache[block] = features
            self._bytes += _size_bytes(features)
            del self._coming[block]
            room = max(1, _CACHE_FRAMES // self._size)
            while len(self._cache) > 1 and (self._bytes > self._cache_bytes or len(self._cache) > room):
                self._bytes -= _size_bytes(self._cache.popitem(last=False)[1])
        future.set_result(features)


def _size_bytes(block: _Block) -> int:
    return sum(feature_map.nbytes for features in block for feature_map in features[0])

"""Image features by frame: encoded in batches, kept as far as a budget goes, shared by all who walk over the clip."""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from threading import Lock
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from workers.pipeline.frame_store import FrameStore

#: Feature maps, their positions, and their sizes, as Meta's tracker takes them.
Features = tuple[list[torch.Tensor], list[torch.Tensor], list[tuple[int, int]]]
_Encoded = dict[int, Features]


class Encodes(Protocol):
    @property
    def encoder_batch_size(self) -> int: ...

    def encode(self, pixels: NDArray[np.uint8]) -> list[Features]: ...


class FrameEncoder:
    """Features of the frames of one clip. What was dropped to stay within `cache_bytes` is encoded again."""

    def __init__(self, model: Encodes, frames: FrameStore, cache_bytes: int) -> None:
        self._model, self._frames, self._cache_bytes = model, frames, cache_bytes
        self._lock = Lock()
        self._cache: OrderedDict[int, Features] = OrderedDict()
        self._bytes = 0
        self._coming: dict[int, Future[_Encoded]] = {}

    def walk(self, order: range, pool: Executor | None) -> Iterator[tuple[int, Features]]:
        """(frame_index, features) in that order; with a pool, what comes next is begun meanwhile."""
        held: _Encoded = {}
        for position, frame_index in enumerate(order):
            if frame_index not in held:
                held = self._take(order[position:])
            if pool is not None:
                self._look_ahead(order[position + 1 :], pool)
            yield frame_index, held[frame_index]

    def _take(self, rest: range) -> _Encoded:
        """Features of the first frame of `rest`, and of those that were encoded with it."""
        with self._lock:
            if rest[0] in self._cache:
                self._cache.move_to_end(rest[0])
                return {rest[0]: self._cache[rest[0]]}
            coming = self._coming.get(rest[0])
            begun = self._begin(rest) if coming is None else None
        if begun is not None:
            coming = self._encode(*begun)
        assert coming is not None
        return coming.result()

    def _look_ahead(self, rest: range, pool: Executor) -> None:
        with self._lock:
            soon = rest[: self._model.encoder_batch_size]
            missing = (n for n, i in enumerate(soon) if i not in self._cache and i not in self._coming)
            if (first := next(missing, None)) is None:
                return
            begun = self._begin(rest[first:])
        pool.submit(self._encode, *begun)

    def _begin(self, rest: range) -> tuple[Future[_Encoded], list[int], NDArray[Any]]:
        """Announce the encoding of the next missing frames in a row; the lock is held."""
        indices: list[int] = []
        for frame_index in rest[: self._model.encoder_batch_size]:
            if frame_index in self._cache or frame_index in self._coming:
                break
            indices.append(frame_index)
        future: Future[_Encoded] = Future()
        self._coming |= dict.fromkeys(indices, future)
        return future, sorted(indices), self._frames.read(min(indices), max(indices) + 1)

    def _encode(self, future: Future[_Encoded], indices: list[int], pixels: NDArray[Any]) -> Future[_Encoded]:
        try:
            encoded = dict(zip(indices, self._model.encode(pixels), strict=True))
        except Exception as error:  # noqa: BLE001 (whoever waits for these frames is to fail with it)
            future.set_exception(error)
            return future
        with self._lock:
            for frame_index, features in encoded.items():
                self._cache[frame_index] = features
                self._bytes += _size_bytes(features)
                del self._coming[frame_index]
            oldest_first = [i for i in self._cache if i not in encoded]
            while self._bytes > self._cache_bytes and oldest_first:
                self._bytes -= _size_bytes(self._cache.pop(oldest_first.pop(0)))
        future.set_result(encoded)
        return future


def _size_bytes(features: Features) -> int:
    return sum(feature_map.nbytes for feature_map in features[0])

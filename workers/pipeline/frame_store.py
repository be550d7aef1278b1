"""The clip's frames at the segmenter's size, in a scratch file of bounded size: neither memory nor disk grows with the
length of the video.

A clip that fits is written once, in order, while it is decoded. Of a longer one, windows of consecutive frames are
decoded when they are asked for, and the window that was not read for longest makes room.
"""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: At most so many frames are decoded at once; about a group of pictures, as the way back enters the file for each.
_WINDOW_FRAMES = 256
#: Windows there is room for at least: those being read, and the next ones.
_WINDOWS = 8
#: (frame_index, (H, W, 3) uint8 RGB) of consecutive frames.
Decode = Callable[[range], Iterator[tuple[int, NDArray[Any]]]]


class FrameStore:
    """(frame_count, size, size, 3) uint8 RGB on disk, read anywhere by any thread. Use as a context manager.

    Without `decode` frames must be given by `write` before they are read. With it they are decoded when they are
    read, and those of at most `max_bytes` are kept; if all of them fit, they may be written as well.
    """

    def __init__(
        self, frame_count: int, size_px: int, scratch_dir: Path | None = None, decode: Decode | None = None,
        max_bytes: int = 0,
    ) -> None:  # fmt: skip
        # Closed by `__exit__`; the file has no name, so nothing is left if the process dies.
        self._file = tempfile.TemporaryFile(dir=scratch_dir, prefix="premask-frames-", buffering=0)  # noqa: SIM115 (see above)
        self.frame_count, self.size_px = frame_count, size_px
        self._frame_bytes = size_px * size_px * 3
        self._decode = decode
        self._lock = Lock()
        room = max(_WINDOWS, max_bytes // self._frame_bytes)
        self.window_frames = frame_count if decode is None else min(_WINDOW_FRAMES, room // _WINDOWS)
        #: Where windows that were decoded lie in the file; the one that was read last is last.
        self._slots = OrderedDict[int, int]()
        windows = min(room, frame_count - 1 + self.window_frames) // self.window_frames
        self._free = [] if decode is None else list(range(windows))
        #: Frames from the first on that `write` stored, each at its own place in the file.
        self._written = 0
        self._coming: dict[int, Future[None]] = {}
        self._ahead = ThreadPoolExecutor(1, "premask-frames")

    @property
    def fits(self) -> bool:
        """Whether there is room for all frames."""
        return self._decode is None or len(self._free) * self.window_frames >= self.frame_count

    @property
    def complete(self) -> bool:
        """Whether all frames are there."""
        return self._written == self.frame_count or len(self._slots) * self.window_frames >= self.frame_count

    @property
    def readable(self) -> bool:
        """Whether frames can be read without being written before."""
        return self._decode is not None or self.complete

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.shutdown(cancel_futures=True)
        self._file.close()

    def write(self, frame_index: int, image: NDArray[Any]) -> None:
        """Store (H, W, 3) uint8, resized bicubically as Meta's own loader does. Only where all frames `fit`, and in
        their order; those before it can be read from then on."""
        self._write(frame_index, image)
        self._written = frame_index + 1

    def _write(self, position: int, image: NDArray[Any]) -> None:
        small = Image.fromarray(image).resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        os.pwrite(self._file.fileno(), small.tobytes(), position * self._frame_bytes)

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Frames begin..end - 1 as (end - begin, size, size, 3) uint8. Raises what decoding them raises."""
        if end <= self._written:
            return self._pixels(self._stored(begin, end))
        first, last = begin // self.window_frames, (end - 1) // self.window_frames
        parts = []
        for window in range(first, last + 1):
            start = window * self.window_frames
            parts.append(self._read(window, max(begin, start) - start, min(end, start + self.window_frames) - start))
        return self._pixels(b"".join(parts))

    def _stored(self, begin: int, end: int) -> bytes:
        """What lies in the file from that place to that one."""
        return os.pread(self._file.fileno(), (end - begin) * self._frame_bytes, begin * self._frame_bytes)

    def _pixels(self, stored: bytes) -> NDArray[Any]:
        return np.frombuffer(stored, np.uint8).reshape(-1, self.size_px, self.size_px, 3)

    def expect(self, frame_index: int) -> None:
        """That frame will be read soon: its window is decoded meanwhile."""
        if frame_index < self._written:
            return
        window = frame_index // self.window_frames
        with self._lock:
            if window not in self._slots and window not in self._coming and (slot := self._room()) is not None:
                self._ahead.submit(self._fill, window, slot, self._announce(window))

    def _read(self, window: int, begin: int, end: int) -> bytes:
        while True:
            with self._lock:
                if window in self._slots:
                    self._slots.move_to_end(window)
                    position = self._slots[window] * self.window_frames
                    return self._stored(position + begin, position + end)
                coming, slot = self._coming.get(window), None
                if coming is None and (slot := self._room()) is not None:
                    coming = self._announce(window)
                others = list(self._coming.values())
            if slot is not None and coming is not None:
                self._fill(window, slot, coming)
            if coming is not None:
                coming.result()
            else:
                wait(others, return_when="FIRST_COMPLETED")

    def _room(self) -> int | None:
        """A place in the file, that of the window longest unread if need be; None while all are being filled. The lock
        is held."""
        if self._free:
            return self._free.pop()
        return self._slots.popitem(last=False)[1] if self._slots else None

    def _announce(self, window: int) -> Future[None]:
        self._coming[window] = future = Future[None]()
        return future

    def _fill(self, window: int, slot: int, future: Future[None]) -> None:
        assert self._decode is not None
        begin = window * self.window_frames
        frames = range(begin, min(begin + self.window_frames, self.frame_count))
        try:
            for frame_index, image in self._decode(frames):
                self._write(slot * self.window_frames + frame_index - begin, image)
        except Exception as error:  # noqa: BLE001 (whoever waits for these frames is to fail with it)
            with self._lock:
                del self._coming[window]
                self._free.append(slot)
            future.set_exception(error)
            return
        with self._lock:
            del self._coming[window]
            self._slots[window] = slot
        future.set_result(None)

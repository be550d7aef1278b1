"""The clip's frames at the segmenter's size, in a scratch file: memory doesn't grow with the length of the video."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class FrameStore:
    """(frame_count, size, size, 3) uint8 RGB on disk, written once in order, read anywhere. Use as a context
    manager."""

    def __init__(self, frame_count: int, size_px: int, scratch_dir: Path | None = None) -> None:
        # Closed by `__exit__`; the file has no name, so nothing is left if the process dies.
        self._file = tempfile.TemporaryFile(dir=scratch_dir, prefix="premask-frames-")  # noqa: SIM115 (see above)
        self.frame_count, self.size_px = frame_count, size_px
        self._frame_bytes = size_px * size_px * 3

    def __enter__(self) -> "FrameStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, frame_index: int, image: NDArray[Any]) -> None:
        """Store (H, W, 3) uint8, resized bicubically as Meta's own loader does."""
        small = Image.fromarray(image).resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        self._file.seek(frame_index * self._frame_bytes)
        self._file.write(small.tobytes())

    def read(self, begin: int, end: int) -> NDArray[Any]:
        """Frames begin..end - 1 as (end - begin, size, size, 3) uint8."""
        self._file.seek(begin * self._frame_bytes)
        data = self._file.read((end - begin) * self._frame_bytes)
        return np.frombuffer(data, np.uint8).reshape(-1, self.size_px, self.size_px, 3)

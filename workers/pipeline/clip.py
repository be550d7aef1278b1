"""A video as the pipeline sees it: sampled frames for System 1, single ones for System 2, all for the segmenter.

A clip whose frames fit into the scratch file is decoded once, for all three. Of a longer one only what each asks for is
decoded, when it asks.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.frames import Sampling
from integrations.media.decode import iter_frames, read_frames
from integrations.media.seeking import can_be_entered
from workers.pipeline.frame_store import FrameStore

#: Room for the segmenter's frames on disk; 1,300 of 1024 px, 28,000 of 224 px.
SCRATCH_BYTES = 4 * 2**30
#: Sampled frames are kept at source resolution up to so much memory: System 2 is shown some of them.
_KEPT_BYTES = 128 * 2**20
#: Decoded frames that wait to be resized.
_FRAMES_BEHIND = 4


class Clip:
    """Use as a context manager. `small`: its frames at the segmenter's size."""

    def __init__(self, path: Path, probe: VideoProbe, small: FrameStore) -> None:
        self.path, self.probe, self.small = path, probe, small
        self._kept: dict[int, NDArray[Any]] = {}
        self._can_keep = _KEPT_BYTES // (probe.width * probe.height * 3)

    @classmethod
    def open(cls, path: Path, probe: VideoProbe, size_px: int, scratch_dir: Path | None, scratch_bytes: int) -> "Clip":
        """Raises `UnreadableVideo`."""

        def decode(frames: range) -> Iterator[tuple[int, NDArray[Any]]]:
            return read_frames(path, probe, frames)

        midway = decode if can_be_entered(path) else None
        return cls(path, probe, FrameStore(probe.frame_count, size_px, scratch_dir, midway, scratch_bytes))

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.small.__exit__()

    def sample(
        self, sampling: Sampling, shown: Callable[[NDArray[Any]], NDArray[np.uint8]],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """(n, h, w, 3): the sampled frames, each as `shown` makes it. Raises `UnreadableVideo`."""
        wanted = sampling.frame_indices
        self._can_keep *= len(wanted) <= self._can_keep
        if not self.small.fits:
            found = read_frames(self.path, self.probe, wanted)
            return np.stack([self._look(*picture, shown) for picture in found])
        sampled = []
        for frame_index, image in self._all(on_progress):
            if frame_index in wanted:
                sampled.append(self._look(frame_index, image, shown))
        return np.stack(sampled)

    def _look(
        self, frame_index: int, image: NDArray[Any], shown: Callable[[NDArray[Any]], NDArray[np.uint8]]
    ) -> NDArray[np.uint8]:
        if self._can_keep:
            self._kept[frame_index] = image
        return shown(image)

    def _all(self, on_progress: Callable[[float], None]) -> Iterator[tuple[int, NDArray[Any]]]:
        """One pass over the file, every frame to the store on the way."""
        written = deque[Future[None]]()
        # Resizing takes as long as decoding, so it goes on beside it, a few frames behind.
        with ThreadPoolExecutor(1, "frames") as writer:
            for frame_index, image in iter_frames(self.path, self.probe):
                written.append(writer.submit(self.small.write, frame_index, image))
                if len(written) > _FRAMES_BEHIND:
                    written.popleft().result()
                if frame_index % 32 == 0:
                    on_progress(frame_index / self.probe.frame_count)
                yield frame_index, image
            for one in written:
                one.result()

    def need_all(self) -> None:
        """Make `small` readable where no one has decoded the clip yet and it can't be entered midway."""
        if not self.small.readable:
            for _ in self._all(lambda _: None):
                pass

    def images(self, frame_indices: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Those frames at source resolution, in that order; they are kept. Raises `UnreadableVideo`."""
        self._kept |= read_frames(self.path, self.probe, sorted(set(frame_indices) - set(self._kept)))
        return {i: self._kept[i] for i in frame_indices}

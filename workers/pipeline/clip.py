"""A video as the pipeline sees it: sampled frames for System 1, single ones for System 2, all for the segmenter.

A clip whose frames fit into the scratch file is decoded once, for all three. Of a longer one only what each asks for is
decoded, when it asks.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.frames import Sampling
from integrations.media.decode import iter_frames, read_audio, read_frames
from integrations.media.seeking import can_be_entered
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.midway import Midway

#: Room for the segmenter's frames on disk; 1,300 of 1024 px, 28,000 of 224 px.
SCRATCH_BYTES = 4 * 2**30
#: Sampled frames are kept at source resolution up to so much memory: System 2 is shown some of them.
_KEPT_BYTES = 128 * 2**20
#: Decoded frames that wait to be resized.
_FRAMES_BEHIND = 4


class Clip:
    """Use as a context manager. `small`: its frames at the segmenter's size. What it gave once it gives again without
    decoding: several instructions on one clip ask for the same."""

    def __init__(self, path: Path, probe: VideoProbe, small: FrameStore, midway: Midway | None) -> None:
        self.path, self.probe, self.small, self._midway = path, probe, small, midway
        #: What the segmenter made of boxes on it (`carrying.Known`).
        self.carried: dict[Any, Any] = {}
        #: While it is decoded for all, told how many of its first frames `small` has by then.
        self.on_stored: Callable[[int], None] = lambda _: None
        self._kept = OrderedDict[int, NDArray[Any]]()
        self._can_keep = _KEPT_BYTES // (probe.width * probe.height * 3)
        self._sampled: tuple[Sampling, NDArray[np.uint8]] | None = None
        self._heard: tuple[tuple[int, float], NDArray[Any]] | None = None

    @classmethod
    def open(cls, path: Path, probe: VideoProbe, size_px: int, scratch_dir: Path | None, scratch_bytes: int) -> "Clip":
        """Raises `UnreadableVideo`."""
        midway, entered = None, can_be_entered(path)
        # What fits is written once, while it is decoded for all.
        if entered or probe.frame_count * size_px**2 * 3 > scratch_bytes:
            midway = Midway(path, probe, scratch_dir, entered)
        return cls(path, probe, FrameStore(probe.frame_count, size_px, scratch_dir, midway, scratch_bytes), midway)

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.small.__exit__()
        if self._midway is not None:
            self._midway.close()

    @property
    def warnings(self) -> list[str]:
        """What whoever runs it should know of how it is read."""
        return [] if self._midway is None or self._midway.warning is None else [self._midway.warning]

    def sample(
        self, sampling: Sampling, shown: Callable[[NDArray[Any]], NDArray[np.uint8]],
        on_progress: Callable[[float], None] = lambda _: None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """(n, h, w, 3): the sampled frames, each as `shown` makes it, the same for every call. Raises
        `UnreadableVideo`."""
        if self._sampled is None or self._sampled[0] != sampling:
            self._sampled = sampling, self._look_at(sampling.frame_indices, shown, on_progress)
        return self._sampled[1]

    def _look_at(
        self, wanted: Sequence[int], shown: Callable[[NDArray[Any]], NDArray[np.uint8]],
        on_progress: Callable[[float], None],
    ) -> NDArray[np.uint8]:  # fmt: skip
        keeps = len(wanted) <= self._can_keep
        pictures: Iterator[tuple[int, NDArray[Any]]]
        if self.small.fits and not self.small.complete:
            pictures = ((i, image) for i, image in self._all(on_progress) if i in wanted)
        else:
            pictures = read_frames(self.path, self.probe, wanted)
        looked = []
        for frame_index, image in pictures:
            if keeps:
                self._keep(frame_index, image, self._can_keep)
            looked.append(shown(image))
        return np.stack(looked)

    def listen(self, rate_hz: int, limit_s: float) -> NDArray[Any]:
        """The first `limit_s` seconds of its sound as (samples,) float32 mono at that rate; nothing without sound."""
        if self._heard is None or self._heard[0] != (rate_hz, limit_s):
            self._heard = (rate_hz, limit_s), read_audio(self.path, rate_hz, limit_s)
        return self._heard[1]

    def _keep(self, frame_index: int, image: NDArray[Any], room: int) -> None:
        self._kept[frame_index] = image
        while len(self._kept) > room:
            self._kept.popitem(last=False)

    def _all(self, on_progress: Callable[[float], None]) -> Iterator[tuple[int, NDArray[Any]]]:
        """One pass over the file, every frame to the store on the way."""
        written, stored = deque[Future[None]](), 0
        # Resizing takes as long as decoding, so it goes on beside it, a few frames behind.
        with ThreadPoolExecutor(1, "frames") as writer:
            for frame_index, image in iter_frames(self.path, self.probe):
                written.append(writer.submit(self.small.write, frame_index, image))
                if len(written) > _FRAMES_BEHIND:
                    written.popleft().result()
                    self.on_stored(stored := stored + 1)
                if frame_index % 32 == 0:
                    on_progress(frame_index / self.probe.frame_count)
                yield frame_index, image
            for one in written:
                one.result()
                self.on_stored(stored := stored + 1)

    def need_all(self) -> None:
        """Make `small` readable where no one has decoded the clip yet."""
        if self._midway is not None and not self.small.complete:
            self._midway.prepare()
        if not self.small.readable:
            for _ in self._all(lambda _: None):
                pass

    def images(self, frame_indices: Sequence[int]) -> dict[int, NDArray[Any]]:
        """Those frames at source resolution, in that order. Raises `UnreadableVideo`."""
        found = {i: self._kept[i] for i in frame_indices if i in self._kept}
        # They are asked for twice, so these at least are kept, however large.
        room = max(self._can_keep, len(frame_indices))
        for frame_index, image in read_frames(self.path, self.probe, sorted(set(frame_indices) - set(found))):
            found[frame_index] = image
            self._keep(frame_index, image, room)
        return {i: found[i] for i in frame_indices}


class LastClip:
    """The clip that was worked on last, for the next instruction on it. Not thread safe.

    `let_go` is called with it when it is closed.
    """

    def __init__(self, let_go: Callable[[Clip], None]) -> None:
        self._clip: Clip | None = None
        self._let_go = let_go

    @contextmanager
    def use(self, path: Path, keep: bool, open_clip: Callable[[], Clip]) -> Iterator[Clip]:
        """The clip at that path, as it was left if that was the last one and was kept; it is kept for the next use if
        `keep`, and if nothing is raised meanwhile."""
        if self._clip is None or self._clip.path != path:
            self.close()
            self._clip = open_clip()
        try:
            yield self._clip
        except BaseException:
            # It may have been left in the middle of something.
            self.close()
            raise
        if not keep:
            self.close()

    def close(self) -> None:
        if self._clip is not None:
            self._let_go(self._clip)
            self._clip.__exit__()
            self._clip = None

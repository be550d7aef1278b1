"""Frames from the middle of a video that is too long to lie on disk decoded, whatever container it comes in."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from integrations.media.decode import read_frames
from integrations.media.remux import remux

log = logging.getLogger(__name__)


class Midway:
    """Reads windows of a file's frames, for any thread. One that can't be entered midway is first put into another
    container, beside the frames; where that can't be, it is decoded from its beginning for each window, and `warning`
    says so."""

    def __init__(self, path: Path, probe: VideoProbe, scratch_dir: Path | None, can_be_entered: bool) -> None:
        self._source, self._original, self._scratch_dir = (path, probe), path, scratch_dir
        self._lock, self._is_ready = Lock(), can_be_entered
        self.warning: str | None = None

    def __call__(self, frames: range) -> Iterator[tuple[int, NDArray[Any]]]:
        self.prepare()
        return read_frames(*self._source, frames)

    def prepare(self) -> None:
        """Do what must be done once for the whole file."""
        with self._lock:
            if not self._is_ready:
                self._copy(*self._source)
                self._is_ready = True

    def _copy(self, path: Path, probe: VideoProbe) -> None:
        handle, name = tempfile.mkstemp(dir=self._scratch_dir, prefix="premask-copy-", suffix=".mkv")
        os.close(handle)
        if (copied := remux(path, probe, Path(name))) is not None:
            self._source = Path(name), copied
            return
        self.warning = (
            "the video can't be entered midway and is too long to be kept decoded, so it is decoded from its beginning"
            " again and again; as MP4 or Matroska it takes far less time (ffmpeg -i IN -c:v libx264 -crf 18 OUT.mp4)"
        )
        log.warning("%s: %s", path.name, self.warning)

    def close(self) -> None:
        if self._source[0] != self._original:
            self._source[0].unlink(missing_ok=True)

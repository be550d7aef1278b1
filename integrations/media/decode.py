"""Decoding with PyAV: frames in decoder order as RGB, upright, and the sound as 16 kHz mono.

What is probed and what is decoded must agree: a file that yields fewer frames than its probe counted is truncated.
Decoding runs in a thread of its own, conversion to RGB in others, a few frames ahead of who reads them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.errors import UnreadableVideo
from integrations.media.ahead import ahead
from integrations.media.container import open_container, video_stream
from integrations.media.seeking import pictures_of

#: Decoded frames that wait for being converted or read.
_FRAMES_AHEAD = 4
_CONVERTERS = 2


def iter_frames(path: Path, probe: VideoProbe) -> Iterator[tuple[int, NDArray[Any]]]:
    """(frame_index, (height, width, 3) uint8 RGB) of every frame, rotated to how it is shown.

    Raises `UnreadableVideo` if decoding stops before the frame count of `probe`, or goes on after it: then this isn't
    the file that was probed, and no index could be trusted.
    """
    return _as_images(iter_pictures(path, probe), probe)


def read_frames(path: Path, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[tuple[int, NDArray[Any]]]:
    """As `iter_frames`, of the `wanted` frames alone, which ascend. Where the container can be entered midway, no more
    is decoded than leads from the key frames before them to them (`integrations.media.seeking`).

    Raises `IndexError` for a frame that the video doesn't have, and `UnreadableVideo`.
    """
    if wanted and not 0 <= wanted[0] <= wanted[-1] < probe.frame_count:
        raise IndexError(f"frames {wanted[0]} to {wanted[-1]} are not all in a video of {probe.frame_count}")
    return _as_images(pictures_of(path, probe, wanted), probe)


def iter_pictures(path: Path, probe: VideoProbe) -> Iterator[tuple[int, VideoFrame]]:
    """As `iter_frames`, the pictures as they are coded: not turned, not converted."""
    frame_index = -1
    try:
        with open_container(path) as container:
            for frame_index, frame in enumerate(container.decode(video_stream(container))):
                if frame_index == probe.frame_count:
                    raise UnreadableVideo(
                        f"the video has more than the {probe.frame_count} frames that were counted in it: it is not the"
                        " file that was probed; probe it again"
                    )
                yield frame_index, frame
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the video can't be decoded after frame {frame_index}: {error.strerror}") from error
    if frame_index + 1 < probe.frame_count:
        raise UnreadableVideo(f"the video ends after {frame_index + 1} of {probe.frame_count} frames: it is truncated")


def _as_images(pictures: Iterator[tuple[int, VideoFrame]], probe: VideoProbe) -> Iterator[tuple[int, NDArray[Any]]]:
    # A context of the converter costs as much as a conversion, so each thread keeps one.
    kept = local()

    def convert(frame: VideoFrame) -> NDArray[Any]:
        if not hasattr(kept, "reformatter"):
            kept.reformatter = VideoReformatter()
        image: NDArray[Any] = kept.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(image, -probe.rotation_deg // 90)) if probe.rotation_deg else image

    with ThreadPoolExecutor(_CONVERTERS, "premask-rgb") as pool:

        def converting() -> Iterator[tuple[int, Future[NDArray[Any]]]]:
            for frame_index, frame in pictures:
                yield frame_index, pool.submit(convert, frame)

        for frame_index, image in ahead(converting(), _FRAMES_AHEAD, "premask-decode"):
            yield frame_index, image.result()


def read_audio(path: Path, sample_rate_hz: int, max_s: float) -> NDArray[Any]:
    """(samples,) float32 mono in -1..1, the first `max_s` seconds; empty where there is no sound.

    Raises `UnreadableVideo` when the sound can't be decoded.
    """
    limit, chunks, count = int(max_s * sample_rate_hz), [], 0
    resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate_hz)
    try:
        with open_container(path) as container:
            if not container.streams.audio:
                return np.zeros(0, np.float32)
            for frame in container.decode(container.streams.audio[0]):
                for resampled in resampler.resample(frame):
                    chunks.append(resampled.to_ndarray().reshape(-1))
                    count += chunks[-1].size
                if count >= limit:
                    break
            else:
                chunks += [resampled.to_ndarray().reshape(-1) for resampled in resampler.resample(None)]
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the sound can't be decoded: {error.strerror}") from error
    return np.concatenate(chunks)[:limit].astype(np.float32) if chunks else np.zeros(0, np.float32)

"""Decoding with PyAV: every frame in decoder order as RGB, upright, and the sound as 16 kHz mono.

What is probed and what is decoded must agree: a file that yields fewer frames than its probe counted is truncated.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.errors import UnreadableVideo
from integrations.media.container import open_container, video_stream


def iter_frames(path: Path, probe: VideoProbe) -> Iterator[tuple[int, NDArray[Any]]]:
    """(frame_index, (height, width, 3) uint8 RGB) of every frame, rotated to how it is shown.

    Raises `UnreadableVideo` if decoding stops before the frame count of `probe`, or goes on after it: then this isn't
    the file that was probed, and no index could be trusted.
    """
    frame_index = -1
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            stream.thread_type = "AUTO"
            for frame_index, frame in enumerate(container.decode(stream)):
                if frame_index == probe.frame_count:
                    raise UnreadableVideo(
                        f"the video has more than the {probe.frame_count} frames that were counted in it: it is not the"
                        " file that was probed; probe it again"
                    )
                image = frame.to_ndarray(format="rgb24")
                if probe.rotation_deg:
                    image = np.ascontiguousarray(np.rot90(image, -probe.rotation_deg // 90))
                yield frame_index, image
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the video can't be decoded after frame {frame_index}: {error.strerror}") from error
    if frame_index + 1 < probe.frame_count:
        raise UnreadableVideo(f"the video ends after {frame_index + 1} of {probe.frame_count} frames: it is truncated")


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

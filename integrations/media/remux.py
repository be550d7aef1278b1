"""A video's pictures in a container that can be entered midway, as they are: nothing is encoded anew.

MPEG-TS has no index, and AVI's doesn't say when a picture is shown. The copy is believed only if it was decoded whole
and gives just as many pictures, of the same size, at the same times.
"""

import logging
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from backend.domain.annotation import VideoProbe
from backend.domain.errors import UnreadableVideo
from integrations.media.container import open_container, video_stream
from integrations.media.probe import probe_video

log = logging.getLogger(__name__)

#: Matroska counts in milliseconds.
_ROUNDING_S = 0.0011


def remux(path: Path, probe: VideoProbe, to: Path) -> VideoProbe | None:
    """Write the pictures into `to`, as Matroska; frame i there is frame i of the video. Returns the copy's probe, or
    None, and leaves nothing at `to`, where they can't be had so."""
    try:
        _copy(path, to)
        copied = probe_video(to)
        _check_same(probe, copied)
    except (av.FFmpegError, ValueError, UnreadableVideo) as error:
        log.info("%s can't be put into another container: %s", path.name, error)
        to.unlink(missing_ok=True)
        return None
    return copied


def _copy(path: Path, to: Path) -> None:
    with open_container(path) as source, av.open(str(to), "w", format="matroska") as container:
        stream = video_stream(source)
        copied: Any = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            # The last one of all is empty: it ends the stream.
            if packet.size:
                packet.stream = copied
                container.mux(packet)


def _check_same(probe: VideoProbe, copied: VideoProbe) -> None:
    shape, other = ((one.frame_count, one.width, one.height, one.rotation_deg) for one in (probe, copied))
    if shape != other:
        raise ValueError(f"frames, width, height and rotation are {other} there and {shape} here")
    if np.abs(_times_s(probe) - _times_s(copied)).max() > _ROUNDING_S:
        raise ValueError("frames have other times there")


def _times_s(probe: VideoProbe) -> NDArray[np.float64]:
    seconds: NDArray[np.float64] = (probe.pts - probe.pts[0]) * (probe.time_base_num / probe.time_base_den)
    return seconds

"""Probing: what a video file really yields when it is decoded, frame by frame, and whether it can be annotated.

Everything is decoded once, on purpose. Packet tables and headers promise frames that no decoder puts out (edit lists,
frames before the first key frame, damaged packets), and `frame_index` is the order in which the decoder puts frames
out; the annotation that follows decodes every frame again and costs a hundred times more. Nothing is converted to RGB,
so memory holds one picture and eight bytes a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from backend.domain.annotation import VideoProbe
from backend.domain.errors import UnreadableVideo
from backend.settings import PipelineSettings
from integrations.media.container import open_container, video_stream

#: Files without an index promise only a duration; containers round it, and the last frame's own duration is a guess.
_DURATION_SLACK_S = 1.0
_DURATION_SLACK_SHARE = 0.02
_PROGRESS_EVERY_FRAMES = 256


@dataclass(slots=True)
class _Decoded:
    """What came out so far. Width and height are those of the coded picture, before rotation."""

    width: int = 0
    height: int = 0
    rotation_deg: int = 0
    last_duration: int = 0
    pts: list[int] = field(default_factory=list)


def probe_video(
    path: Path, limits: PipelineSettings | None = None, on_progress: Callable[[], None] | None = None
) -> VideoProbe:
    """Decode the file and say what is in it; `limits` are held while decoding. `on_progress` is called now and then.

    `rotation_deg` is how far clockwise a decoded picture is turned to be shown. Raises `UnreadableVideo` with a reason
    a person understands: no video, only sound, truncated, damaged, too small, large or long.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        if limits is not None:
            _check_promised_duration(container, limits)
        decoded = _decode(container, stream, limits, on_progress)
        _check_complete(path, container, stream, decoded)
        time_base = stream.time_base
        assert time_base is not None
        turned = decoded.rotation_deg in (90, 270)
        probe = VideoProbe(
            frame_count=len(decoded.pts),
            width=decoded.height if turned else decoded.width,
            height=decoded.width if turned else decoded.height,
            rotation_deg=decoded.rotation_deg,
            duration_s=_duration_s(decoded, stream),
            has_audio=bool(container.streams.audio),
            codec=stream.codec_context.name,
            time_base_num=time_base.numerator,
            time_base_den=time_base.denominator,
            pts=np.array(decoded.pts, dtype=np.int64),
        )
    if limits is not None:
        _check_limits(probe, limits)
    return probe


def _decode(
    container: InputContainer,
    stream: VideoStream,
    limits: PipelineSettings | None,
    on_progress: Callable[[], None] | None,
) -> _Decoded:
    decoded = _Decoded()
    try:
        for frame in container.decode(stream):
            _take(decoded, frame, stream)
            if limits is not None and len(decoded.pts) == 1:
                _check_size(frame.width, frame.height, limits)
            if limits is not None and len(decoded.pts) > limits.max_frames:
                raise UnreadableVideo(f"the video has more than the {limits.max_frames} frames that are allowed")
            if on_progress is not None and len(decoded.pts) % _PROGRESS_EVERY_FRAMES == 0:
                on_progress()
    except av.error.DecoderNotFoundError as error:
        raise UnreadableVideo("the video can't be decoded: its codec is unknown, or its headers are damaged") from error
    except av.FFmpegError as error:
        raise UnreadableVideo(
            f"the video is truncated or damaged: it can't be decoded after frame {len(decoded.pts)} ({error.strerror})"
        ) from error
    if not decoded.pts:
        raise UnreadableVideo("the video has no frames that can be decoded")
    return decoded


def _take(decoded: _Decoded, frame: VideoFrame, stream: VideoStream) -> None:
    if not decoded.pts:
        decoded.width, decoded.height = frame.width, frame.height
        decoded.rotation_deg = _clockwise_deg(frame)
    elif (frame.width, frame.height) != (decoded.width, decoded.height):
        raise UnreadableVideo(
            f"the picture changes its size at frame {len(decoded.pts)}, from {decoded.width}×{decoded.height} to"
            f" {frame.width}×{frame.height}"
        )
    step = decoded.last_duration or _nominal_step(stream)
    pts = frame.pts if frame.pts is not None else frame.dts
    if pts is None:
        # Raw streams and some AVI carry no times: frames follow each other at the nominal rate.
        pts = decoded.pts[-1] + step if decoded.pts else 0
    decoded.pts.append(pts)
    decoded.last_duration = frame.duration or 0


def _clockwise_deg(frame: VideoFrame) -> int:
    # FFmpeg's angle is counterclockwise; odd angles are shown upright by players, too.
    return round(-frame.rotation / 90) * 90 % 360


def _nominal_step(stream: VideoStream) -> int:
    """Duration of a frame by the stream's own rate, in units of its time base."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or not stream.time_base:
        return 1
    return max(1, round(1 / (rate * stream.time_base)))


def _duration_s(decoded: _Decoded, stream: VideoStream) -> float:
    """From the first frame's beginning to the last frame's end."""
    assert stream.time_base is not None
    step = decoded.last_duration or _nominal_step(stream)
    return float((max(decoded.pts) - decoded.pts[0] + step) * stream.time_base)


def _check_complete(path: Path, container: InputContainer, stream: VideoStream, decoded: _Decoded) -> None:
    """Raise if the container promises more than is there: an index beyond the file's end, or (no index) more time."""
    if container.format.name.startswith("mov"):
        size = path.stat().st_size
        entries = stream.index_entries
        if any(entries[n].pos + entries[n].size > size for n in range(len(entries))):
            promised = max(stream.frames, len(entries))
            raise UnreadableVideo(f"the video is truncated after frame {len(decoded.pts)} of {promised}")
        return
    promised_s = _promised_duration_s(container, stream)
    if promised_s is None or stream.time_base is None:
        return
    # Some containers count their duration from time zero, some from the first frame.
    end_s = max(_duration_s(decoded, stream), float((max(decoded.pts) + decoded.last_duration) * stream.time_base))
    if promised_s - end_s > _DURATION_SLACK_S + _DURATION_SLACK_SHARE * promised_s:
        raise UnreadableVideo(
            f"the video is truncated after frame {len(decoded.pts)}: {end_s:.1f} of {promised_s:.1f} seconds are there"
        )


def _promised_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    """What the video stream says of itself; the container's word only where there is no other stream it could mean."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def _check_promised_duration(container: InputContainer, limits: PipelineSettings) -> None:
    """Before decoding: hours of video needn't be decoded to be refused."""
    if container.duration is not None and container.duration / av.time_base > limits.max_duration_s:
        raise _too_long(container.duration / av.time_base, limits)


def _check_size(width: int, height: int, limits: PipelineSettings) -> None:
    if min(width, height) < limits.min_side_px:
        raise UnreadableVideo(
            f"the picture is {width}×{height} pixels; each side must have {limits.min_side_px} at least"
        )
    if max(width, height) > limits.max_side_px:
        raise UnreadableVideo(
            f"the picture is {width}×{height} pixels; each side may have {limits.max_side_px} at most"
        )


def _check_limits(probe: VideoProbe, limits: PipelineSettings) -> None:
    if probe.duration_s > limits.max_duration_s:
        raise _too_long(probe.duration_s, limits)


def _too_long(duration_s: float, limits: PipelineSettings) -> UnreadableVideo:
    return UnreadableVideo(f"the video is {duration_s:.0f} seconds long; {limits.max_duration_s:.0f} are allowed")

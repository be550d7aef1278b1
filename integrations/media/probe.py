"""Probing: what a video file really yields when it is decoded, frame by frame, and whether it can be annotated.

Everything is decoded once, on purpose. Packet tables and headers promise frames that no decoder puts out (edit lists,
frames before the first key frame, damaged packets), and `frame_index` is the order in which the decoder puts frames
out; the annotation that follows decodes every frame again and costs a hundred times more. Nothing is converted to RGB,
so memory holds one picture and eight bytes a frame. What can't be annotated without showing a wrong frame is refused:
mirrored or turning pictures, times that go back, pictures the decoder had to guess at.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.sidedata.sidedata import Type
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
#: Raw streams tell no duration; FFmpeg guesses one from a bit rate, which may be far off.
_DURATION_GUESSED = frozenset({"mpegvideo", "m4v", "h264", "hevc", "obu", "mjpeg"})
#: Here it is what FFmpeg found in the file, so that nothing is promised that isn't there.
_DURATION_MEASURED = frozenset({"mpegts", "mpeg", "gif"})
#: What they say a stream lasts is how long the file does.
_ONE_DURATION_FOR_ALL = frozenset({"asf"})
_WRITE_ANEW = "write the video anew, for example with: ffmpeg -i IN -c:v libx264 -crf 18 OUT.mp4"
_GET_AGAIN = "get the file again from where it was made"


@dataclass(slots=True)
class _Decoded:
    """What came out so far. Width and height are those of the coded picture, before rotation. `end_s`: where the last
    packet of any stream ends. `damaged_at`: the first frame of which the decoder had to guess a part."""

    width: int = 0
    height: int = 0
    rotation_deg: int = 0
    last_duration: int = 0
    end_s: float = 0.0
    damaged_at: int | None = None
    pts: list[int] = field(default_factory=list)


def probe_video(
    path: Path, limits: PipelineSettings | None = None, on_progress: Callable[[], None] | None = None
) -> VideoProbe:
    """Decode the file and say what is in it; `limits` are held while decoding. `on_progress` is called now and then.

    `rotation_deg` is how far clockwise a decoded picture is turned to be shown. Raises `UnreadableVideo` with a reason
    a person understands: no video, only sound, truncated, damaged, mirrored, with times that go back, too small, large
    or long.
    """
    with open_container(path) as container:
        stream = video_stream(container)
        if limits is not None:
            _check_promised_duration(container, limits)
        decoded = _decode(container, stream, limits, on_progress)
        if container.format.name == "avi":
            # AVI numbers pictures in the order of decoding: the n-th that is shown has the n-th number.
            decoded.pts.sort()
        _check_complete(path, container, stream, decoded)
        time_base = stream.time_base
        assert time_base is not None
        _check_undamaged(decoded, time_base)
        _check_times(decoded, time_base)
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
        for frame in _frames(container, stream, decoded):
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
            f"the video is truncated or damaged: it can't be decoded after frame {len(decoded.pts)} ({error.strerror});"
            f" {_GET_AGAIN}"
        ) from error
    if not decoded.pts:
        raise UnreadableVideo("the video has no frames that can be decoded")
    return decoded


def _frames(container: InputContainer, stream: VideoStream, decoded: _Decoded) -> Iterator[VideoFrame]:
    """The frames of `stream`; the packets of all streams are noted, as their end is that of the file."""
    for packet in container.demux():
        decoded.end_s = max(decoded.end_s, _end_s(packet))
        if packet.stream_index == stream.index:
            for frame in packet.decode():
                assert isinstance(frame, VideoFrame)
                yield frame


def _end_s(packet: "Packet[Any]") -> float:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return float((stamp + (packet.duration or 0)) * packet.time_base) if stamp is not None else 0.0


def _take(decoded: _Decoded, frame: VideoFrame, stream: VideoStream) -> None:
    at, turned = len(decoded.pts), _clockwise_deg(frame)
    if at == 0:
        decoded.width, decoded.height, decoded.rotation_deg = frame.width, frame.height, turned
        _check_not_mirrored(frame)
    elif (frame.width, frame.height) != (decoded.width, decoded.height):
        raise UnreadableVideo(
            f"the picture changes its size at frame {at}, from {decoded.width}×{decoded.height} to"
            f" {frame.width}×{frame.height}; {_WRITE_ANEW}"
        )
    elif turned != decoded.rotation_deg:
        raise UnreadableVideo(
            f"the picture is turned at frame {at}, from {decoded.rotation_deg}° to {turned}°; {_WRITE_ANEW}"
        )
    if frame.is_corrupt and decoded.damaged_at is None:
        decoded.damaged_at = at
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


def _check_not_mirrored(frame: VideoFrame) -> None:
    side_data: Any = frame.side_data  # typed too narrowly by PyAV
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return
    # Rows a b u, c d v, x y w in the machine's byte order; a and d, b and c span the picture on the screen.
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), dtype=np.int32).astype(np.int64)
    if a * d - b * c < 0:
        raise UnreadableVideo(f"the file's display matrix shows the picture mirrored, from frame 0 on; {_WRITE_ANEW}")


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
    return float((decoded.pts[-1] - decoded.pts[0] + step) * stream.time_base)


def _check_times(decoded: _Decoded, time_base: Fraction) -> None:
    """Raise unless each frame is shown after the one before it: else no time would lead to one frame."""
    for at, (before, pts) in enumerate(pairwise(decoded.pts), start=1):
        if pts <= before:
            before_s, pts_s = (float((value - decoded.pts[0]) * time_base) for value in (before, pts))
            what = "go back" if pts < before else "stand still"
            raise UnreadableVideo(
                f"the video's times {what} at frame {at}, from {before_s:.3f} s to {pts_s:.3f} s (was it joined from"
                f" parts?); write it anew at a constant rate, for example with: ffmpeg -i IN -fps_mode cfr OUT.mp4"
            )


def _check_undamaged(decoded: _Decoded, time_base: Fraction) -> None:
    """Raise if the decoder had to guess: what it shows then can be another frame's picture."""
    if decoded.damaged_at is not None:
        at_s = float((decoded.pts[decoded.damaged_at] - decoded.pts[0]) * time_base)
        raise UnreadableVideo(
            f"the video is damaged or cut off: at frame {decoded.damaged_at} of {len(decoded.pts)}, at {at_s:.3f} s, a"
            f" part of the picture is missing; {_GET_AGAIN}"
        )


def _check_complete(path: Path, container: InputContainer, stream: VideoStream, decoded: _Decoded) -> None:
    """Raise if the container promises more than is there: an index beyond the file's end, or (no index) more time."""
    if container.format.name.startswith("mov"):
        size = path.stat().st_size
        entries = stream.index_entries
        if any(entries[n].pos + entries[n].size > size for n in range(len(entries))):
            promised = max(stream.frames, len(entries))
            raise UnreadableVideo(f"the video is truncated after frame {len(decoded.pts)} of {promised}; {_GET_AGAIN}")
        if len(entries) <= stream.frames:
            return
        # In fragments: what was cut off with its own index is missed only by its time, where the file tells that.
    for promised_s, there_s in _promised_and_there_s(container, stream, decoded):
        if promised_s - there_s > _DURATION_SLACK_S + _DURATION_SLACK_SHARE * promised_s:
            raise UnreadableVideo(
                f"the video is truncated after frame {len(decoded.pts)}: {there_s:.1f} of {promised_s:.1f} seconds are"
                f" there; {_GET_AGAIN}"
            )


def _promised_and_there_s(
    container: InputContainer, stream: VideoStream, decoded: _Decoded
) -> Iterator[tuple[float, float]]:
    """Seconds the file promises beside the seconds there are: of the whole file, and of the picture by itself."""
    if container.format.name in _DURATION_GUESSED | _DURATION_MEASURED or stream.time_base is None:
        return
    # Some containers count their duration from time zero, some from the first frame.
    picture_s = max(_duration_s(decoded, stream), float((decoded.pts[-1] + decoded.last_duration) * stream.time_base))
    if container.duration is not None:
        yield container.duration / av.time_base, max(decoded.end_s, picture_s)
    if stream.duration is not None and container.format.name not in _ONE_DURATION_FOR_ALL:
        yield float(stream.duration * stream.time_base), picture_s


def _check_promised_duration(container: InputContainer, limits: PipelineSettings) -> None:
    """Before decoding: hours of video needn't be decoded to be refused."""
    if container.duration is None or container.format.name in _DURATION_GUESSED:
        return
    if container.duration / av.time_base > limits.max_duration_s:
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

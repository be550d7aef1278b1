"""Entering a video midway, exactly: frames are known by their time stamps, which the probe counted.

A container is entered at a key frame before a wanted frame only where that passes packets over that would have to be
decoded otherwise. Pictures that come out before the key frame they were entered at (an open group of pictures) are not
trusted, nor are those that the decoder calls damaged: then an earlier key frame is tried, and in the end the file is
decoded from its beginning. Containers without dependable time stamps are always decoded from their beginning.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from backend.domain.annotation import VideoProbe
from backend.domain.errors import UnreadableVideo
from integrations.media.container import open_container, video_stream

log = logging.getLogger(__name__)

#: Containers with an index of key frames and a time stamp on every packet.
_ENTERED_MIDWAY = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")


def can_be_entered(path: Path) -> bool:
    """Whether frames can be reached without decoding everything before them. Raises `UnreadableVideo`."""
    with open_container(path) as container:
        return _has_key_frames(container, video_stream(container))


def pictures_of(path: Path, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """(frame_index, picture) of the `wanted` frames, which ascend. Raises `UnreadableVideo`."""
    delivered = 0
    try:
        with open_container(path) as container:
            stream = video_stream(container)
            if _has_key_frames(container, stream):
                for found in _Reader(container, stream, probe, wanted).pictures():
                    delivered += 1
                    yield found
        if delivered < len(wanted):
            yield from _from_the_beginning(path, probe, wanted[delivered:])
    except av.FFmpegError as error:
        where = wanted[min(delivered, len(wanted) - 1)]
        raise UnreadableVideo(f"the video can't be decoded at frame {where}: {error.strerror}") from error


def _has_key_frames(container: InputContainer, stream: VideoStream) -> bool:
    if container.format.name not in _ENTERED_MIDWAY:
        return False
    if not len(stream.index_entries):
        # Matroska reads its index when it is first asked to go somewhere.
        container.seek(stream.start_time or 0, stream=stream)
    return len(stream.index_entries) > 0


def _from_the_beginning(path: Path, probe: VideoProbe, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    left, frame_index = iter(wanted), -1
    target = next(left)
    with open_container(path) as container:
        for frame_index, frame in enumerate(container.decode(video_stream(container))):
            if frame_index == target:
                yield frame_index, frame
                if (following := next(left, None)) is None:
                    return
                target = following
    raise UnreadableVideo(f"the video ends after {frame_index + 1} of {probe.frame_count} frames: it is truncated")


class _Reader:
    """One open container that goes through the wanted frames. Ends early where it can't be sure of one."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, probe: VideoProbe, wanted: Sequence[int]
    ) -> None:
        self._container, self._stream = container, stream
        self._wanted = {int(probe.pts[frame_index]): frame_index for frame_index in wanted}
        self._first_pts = int(probe.pts[0])
        #: Where the last packet stood that was read, in decoding order.
        self._at_dts: int | None = None
        #: Whether a key frame has come out since the container was entered.
        self._sure = False

    def pictures(self) -> Iterator[tuple[int, VideoFrame]]:
        targets = iter(self._wanted)
        target = next(targets, None)
        came = self._frames(target)
        while target is not None:
            frame = self._find(target, came)
            if frame is None:
                log.info("frame %d could not be reached from a key frame", self._wanted[target])
                return
            yield self._wanted[target], frame
            target = next(targets, None)
            if target is not None and self._pays(target):
                came = self._frames(target)

    def _find(self, target: int, came: Iterator[VideoFrame]) -> VideoFrame | None:
        """The picture of that time stamp; entered at earlier key frames as often as it takes."""
        entered_at = target
        while True:
            for frame in came:
                self._sure = self._sure or frame.key_frame
                pts = frame.pts
                if pts is not None and pts >= target:
                    if pts == target and self._sure and not frame.is_corrupt:
                        return frame
                    break
            earlier = self._key_before(entered_at)
            if earlier is None or entered_at <= self._first_pts:
                return None
            entered_at = earlier - 1
            came = self._frames(entered_at)

    def _frames(self, pts: int | None) -> Iterator[VideoFrame]:
        """What comes out from the last key frame before `pts` on. Pictures that nothing wanted depends on are passed
        over by the decoder."""
        if pts is None:
            return
        self._container.seek(pts, stream=self._stream)
        self._sure = False
        decoder: Any = self._stream.codec_context
        for packet in self._container.demux(self._stream):
            self._at_dts = packet.dts if packet.dts is not None else self._at_dts
            decoder.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in self._wanted else "NONREF"
            yield from packet.decode()

    def _pays(self, target: int) -> bool:
        """Whether a key frame lies between what was read and the target."""
        key = self._key_before(target)
        return key is not None and (self._at_dts is None or key > self._at_dts)

    def _key_before(self, pts: int) -> int | None:
        entries = self._stream.index_entries
        position = entries.search_timestamp(pts, backward=True)
        return entries[position].timestamp if position >= 0 else None

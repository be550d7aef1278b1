"""Opening a video file that may be hostile: only formats that are one file, only from disk, never a playlist or a text.

FFmpeg left to itself follows playlists to other files and addresses, and decodes a text as moving letters.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from backend.domain.errors import UnreadableVideo

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "ogg", "asf", "h264",
    "hevc", "ivf", "mxf", "nut", "obu", "gif", "m4v", "mjpeg", "wav", "mp3", "flac", "aac", "rm",
)  # fmt: skip
_OPTIONS = {"format_whitelist": ",".join(_FORMATS), "protocol_whitelist": "file"}


@contextmanager
def open_container(path: Path) -> Iterator[InputContainer]:
    """The file, opened for reading. Raises `UnreadableVideo` if it is no media file, or cut off before its index."""
    try:
        # Tags are of no interest here, so broken ones must not keep a video from being read.
        container = av.open(str(path), options=_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise UnreadableVideo(_why_not_opened(path, error)) from error
    with container:
        yield container


def _why_not_opened(path: Path, error: av.FFmpegError) -> str:
    size = path.stat().st_size
    if size == 0:
        return "the file is empty"
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "the file is truncated or damaged: it begins as MP4 but its index (moov) is missing"
    return f"the file is not a video that can be read ({error.strerror})"


def video_stream(container: InputContainer) -> VideoStream:
    """The moving picture: the first video stream that is no cover art. Raises `UnreadableVideo` if there is none."""
    for stream in container.streams.video:
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails):
            stream.thread_type = "AUTO"
            return stream
    if container.streams.audio:
        raise UnreadableVideo("the file holds only sound, no picture")
    raise UnreadableVideo("the file holds no video stream")

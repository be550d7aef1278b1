"""A folder of JPEG pictures bound into one video file with its sound, all as they are: nothing is encoded anew."""

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from PIL import Image

from backend.domain.errors import BadInput


def bind_pictures(pictures: Sequence[Path], to: Path, fps: Fraction, audio: Path | None = None) -> None:
    """Write a QuickTime file with one JPEG a frame, and the sound of `audio`; the same files are the same bytes. Raises
    `BadInput`."""
    size: tuple[int, int] | None = None
    with ExitStack() as opened:
        container = opened.enter_context(av.open(str(to), "w", format="mov", options={"fflags": "+bitexact"}))
        stream = container.add_stream("mjpeg", rate=fps)
        sound = _Sound(container, opened.enter_context(_opened(audio)), audio) if audio else None
        for place, path in enumerate(pictures):
            with Image.open(path, formats=["JPEG"]) as picture:
                found = picture.size
            if size is None:
                size, stream.width, stream.height, stream.pix_fmt = found, *found, "yuvj420p"
                stream.codec_context.time_base = 1 / fps
            if found != size:
                raise BadInput(f"{path} has {found[0]}×{found[1]} pixels, the pictures before {size[0]}×{size[1]}")
            packet = av.Packet(path.read_bytes())
            packet.stream, packet.time_base = stream, 1 / fps
            packet.pts = packet.dts = place
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
        if sound is not None:
            sound.copy()


def _opened(audio: Path) -> InputContainer:
    try:
        return av.open(str(audio))
    except av.error.FFmpegError as error:
        raise BadInput(f"the sound {audio} can't be read: {error}") from error


class _Sound:
    """A sound file's packets, as they are, beside the pictures."""

    def __init__(self, to: OutputContainer, source: InputContainer, path: Path) -> None:
        if not source.streams.audio:
            raise BadInput(f"there is no sound in {path}")
        self._to, self._source = to, source
        self._stream = to.add_stream_from_template(source.streams.audio[0])

    def copy(self) -> None:
        for packet in self._source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = self._stream
                self._to.mux(packet)

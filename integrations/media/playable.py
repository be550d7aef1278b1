"""Whether a browser shows a video as it is, every frame at its number; if not, why.

Asked for is what every browser plays: a video left out of it gets a rendition, which costs minutes of a CPU; one taken
in by mistake shows a labeler the wrong frame, or nothing. Pictures that are to be turned are turned by all of them.
"""

from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from backend.domain.annotation import VideoProbe
from backend.domain.renditions import MAX_FPS, MIN_FPS, PLAYER_TOLERANCE_S, constant_rate
from integrations.media.container import open_container, video_stream

_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
#: By container, (codecs of pictures, codecs of sound).
_PLAYED = {
    _MP4: ({"h264", "vp9", "av1", "libdav1d"}, {"aac", "mp3", "mp3float", "opus", "libopus", "flac"}),
    "webm": ({"vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d"}, {"opus", "libopus", "vorbis", "libvorbis"}),
}  # fmt: skip
_PIXELS = ("yuv420p", "yuvj420p")
_EBML_HEAD_BYTES = 64


def why_not_played(path: Path, probe: VideoProbe) -> tuple[str, ...]:
    """What keeps a browser from showing exactly the frame that it is asked for; nothing: it does. `probe`: what probing
    found in the file. Raises `UnreadableVideo`."""
    with open_container(path) as container:
        stream = video_stream(container)
        return (*_of_coding(path, container, stream), *_of_times(container, stream, probe))


def _of_coding(path: Path, container: InputContainer, stream: VideoStream) -> list[str]:
    name = container.format.name
    if name == _MATROSKA:
        with path.open("rb") as file:
            name = "webm" if b"webm" in file.read(_EBML_HEAD_BYTES) else name
    if name not in _PLAYED:
        return [f"browsers play no {name.split(',')[0]} files"]
    pictures, sounds = _PLAYED[name]
    found = []
    codec, pixels = stream.codec_context.name, stream.codec_context.pix_fmt
    if codec not in pictures:
        found.append(f"browsers play no {codec} pictures in such a file")
    elif pixels not in _PIXELS:
        found.append(f"browsers play no {pixels} pictures for certain")
    if container.streams.audio and (sound := container.streams.audio[0].codec_context.name) not in sounds:
        found.append(f"browsers play no {sound} sound in such a file")
    return found


def _of_times(container: InputContainer, stream: VideoStream, probe: VideoProbe) -> list[str]:
    found = []
    rate = constant_rate(probe.clock)
    if rate is None or not MIN_FPS <= rate <= MAX_FPS:
        found.append(f"its frames follow no constant rate of {MIN_FPS} to {MAX_FPS} a second")
    first_s = int(probe.pts[0]) * probe.time_base_num / probe.time_base_den
    earliest_s = min(first_s, _begin_s(container, first_s))
    if abs(first_s) > PLAYER_TOLERANCE_S or earliest_s < -PLAYER_TOLERANCE_S:
        found.append(f"its first frame is at {first_s - min(earliest_s, 0.0):.3f} s, not at the beginning")
    if container.format.name == _MP4 and stream.frames != probe.frame_count:
        # Cut by an edit list, or in fragments without an index: players differ in what they count.
        found.append(f"it holds {stream.frames} frames in its index and shows {probe.frame_count}")
    return found


def _begin_s(container: InputContainer, otherwise_s: float) -> float:
    """Where the first of its streams begins."""
    begins = [float(s.start_time * s.time_base) for s in container.streams if s.start_time is not None and s.time_base]
    return min(begins, default=otherwise_s)

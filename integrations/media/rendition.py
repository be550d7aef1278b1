"""Writing a rendition: every frame of a video once, in its order, at one rate, as every browser plays it.

H.264 without reordered frames, so that the first frame is at the beginning; a key frame every second at least, so that
a player is quickly at any frame; upright, and no larger than people look at. Boxes are told in percent of the picture,
so that its size is of no concern to them. What was written is probed and asked for what it was written for.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.filter import Graph
from av.video.frame import VideoFrame

from backend.domain.annotation import VideoProbe
from backend.domain.errors import BadInput, UnreadableVideo
from backend.domain.renditions import RenditionClock, constant_rate, rendition_rate
from backend.domain.windows import Window
from integrations.media.decode import iter_pictures
from integrations.media.playable import why_not_played
from integrations.media.probe import probe_video
from integrations.media.seeking import pictures_of
from integrations.media.sound import CHANNELS, RATE_HZ, Samples, fitted_sound

_CODEC_OPTIONS = {"crf": "18", "preset": "veryfast", "bf": "0"}
_SOUND_BIT_RATE = 128_000
_TURNED = {0: (), 90: ("transpose=clock",), 180: ("hflip", "vflip"), 270: ("transpose=cclock",)}


def write_rendition(
    source: Path, probe: VideoProbe, to: Path, max_side_px: int, window: Window | None = None
) -> Fraction:
    """Write the rendition of `source`, as `probe` found it, or of a window of it, and return its rate in frames a
    second; windows of a video have the rate of the whole.

    Memory holds a few pictures, however long the video. Raises `UnreadableVideo` for a source that can't
    be decoded, `BadInput` (code `no_rendition`) where none can be written.
    """
    window = window or Window(0, probe.frame_count)
    clock = RenditionClock(probe.clock, rendition_rate(probe.clock), window.first_frame, window.frame_count)
    width, height = shown_size(probe, max_side_px)
    try:
        with av.open(str(to), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            pictures = _video_stream(container, clock.fps, width, height)
            sound = _sound_stream(container) if probe.has_audio else None
            chunks = _sound(source, probe, clock) if sound else iter(())
            heard = 0
            for frame_index, frame in _upright(source, probe, window, width, height):
                frame.time_base = 1 / clock.fps
                container.mux(pictures.encode(frame))
                # Sound goes with the pictures, so that a player needn't look for it elsewhere in the file.
                while heard <= clock.shown_s(frame_index) * RATE_HZ and (chunk := next(chunks, None)) is not None:
                    heard = _hear(container, sound, chunk, heard)
            for chunk in chunks:
                heard = _hear(container, sound, chunk, heard)
            for stream in (pictures, sound):
                if stream is not None:
                    container.mux(stream.encode(None))
    except av.FFmpegError as error:
        raise _none(f"it can't be written: {error.strerror}") from error
    _check(to, window.frame_count, clock.fps)
    return clock.fps


def shown_size(probe: VideoProbe, max_side_px: int) -> tuple[int, int]:
    """Width and height of the rendition: H.264 as browsers play it has even sides."""
    scale = min(1.0, max_side_px / max(probe.width, probe.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (probe.width, probe.height))
    return width, height


def _upright(
    source: Path, probe: VideoProbe, window: Window, width: int, height: int
) -> Iterator[tuple[int, VideoFrame]]:
    """(frame_index, frame) of every frame as it is to be coded; its `pts` is its place in the window."""
    graph: Graph | None = None
    whole = window.frame_count == probe.frame_count
    # Of the whole it is seen that the file holds what was counted in it; a window is entered at its key frame.
    found = iter_pictures(source, probe) if whole else pictures_of(source, probe, window.frames)
    for frame_index, frame in found:
        place = frame_index - window.first_frame
        frame.pts, frame.time_base = place, Fraction(1)
        if graph is None:
            graph = _graph(frame, probe.rotation_deg, width, height)
        graph.push(frame)
        turned = graph.pull()
        assert isinstance(turned, VideoFrame)
        turned.pts, turned.pict_type = place, 0
        yield frame_index, turned


def _graph(frame: VideoFrame, rotation_deg: int, width: int, height: int) -> Graph:
    graph = Graph()
    steps = [*_TURNED[rotation_deg], f"scale={width}:{height}", "setsar=1", "format=yuv420p"]
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1))]
    nodes += [graph.add(*step.split("=", 1)) for step in steps]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    return graph


def _video_stream(container: Any, fps: Fraction, width: int, height: int) -> Any:
    stream = container.add_stream("libx264", rate=fps, options={**_CODEC_OPTIONS, "g": str(max(1, round(fps)))})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = 1 / fps
    return stream


def _sound_stream(container: Any) -> Any:
    stream = container.add_stream("aac", rate=RATE_HZ, layout="stereo")
    stream.bit_rate = _SOUND_BIT_RATE
    return stream


def _sound(source: Path, probe: VideoProbe, clock: RenditionClock) -> Iterator[Samples]:
    first_frame_s = int(probe.pts[0]) * probe.time_base_num / probe.time_base_den
    return fitted_sound(source, first_frame_s, clock)


def _hear(container: Any, stream: Any, chunk: Samples, heard: int) -> int:
    """Write the samples; how many there are by then."""
    assert chunk.shape[0] == CHANNELS
    frame = av.AudioFrame.from_ndarray(chunk.clip(-1, 1), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, heard, Fraction(1, RATE_HZ)
    container.mux(stream.encode(frame))
    return heard + chunk.shape[1]


def _check(path: Path, frame_count: int, fps: Fraction) -> None:
    """Raise unless a browser shows the file's frame n where it is asked for the source's."""
    try:
        made = probe_video(path)
    except UnreadableVideo as error:
        raise _none(f"what was written can't be read: {error}") from error
    if made.frame_count != frame_count:
        raise _none(f"{made.frame_count} of {frame_count} frames were written")
    rate = constant_rate(made.clock)
    if rate is None or (made.frame_count > 1 and abs(rate / fps - 1) > 1e-6):
        raise _none(f"it was to have {float(fps):.3f} frames a second and has {float(rate or 0):.3f}")
    if why := why_not_played(path, made):
        raise _none("; ".join(why))


def _none(reason: str) -> BadInput:
    return BadInput(f"no rendition can be made of the video: {reason}", code="no_rendition")

"""The sound of a video, laid under frames whose times have changed.

Where the frames keep their times, the sound stays as it is, to the sample. Where they are shown for longer or shorter,
it is put together of grains that overlap by half (WSOLA: W. Verhelst and M. Roelands, ICASSP 1993): each is taken from
where its frame was in the source, give or take `SEARCH_S`, where it fits best to the one before. So the pitch stays,
and what is heard is at most `HOP_S + SEARCH_S` off its frame. What lies under a frame that is shown for much shorter is
passed over, under one shown for much longer it is repeated.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.filter import Graph
from numpy.typing import NDArray

from backend.domain.errors import UnreadableVideo
from backend.domain.renditions import RenditionClock
from integrations.media.container import open_container

Samples = NDArray[np.float32]

RATE_HZ, CHANNELS = 48_000, 2
#: Half a grain, and how far from its place one may be taken.
HOP_S, SEARCH_S = 0.02, 0.01
_HOP, _SEARCH = int(HOP_S * RATE_HZ), int(SEARCH_S * RATE_HZ)
#: Grains are compared at 8 kHz: no pitch is higher.
_STRIDE = 6
#: Samples of the source that are kept behind the place that is read.
_KEPT_BEHIND = 4 * (_HOP + _SEARCH)


def fitted_sound(path: Path, first_frame_s: float, clock: RenditionClock) -> Iterator[Samples]:
    """(CHANNELS, samples) float32 at `RATE_HZ`, chunk by chunk, as long as the rendition. `first_frame_s`: when the
    first frame of the video is shown, by the file's own time. Raises `UnreadableVideo` where the sound can't be
    decoded."""
    source = _Source(_decoded(path, first_frame_s))
    shown_s, source_s = clock.knots_s()
    total, window = round(clock.duration_s * RATE_HZ), np.hanning(2 * _HOP + 1)[:-1].astype(np.float32)
    tail: Samples = np.zeros((CHANNELS, _HOP), np.float32)
    taken_at: int | None = None
    # The first grain's middle is the beginning: what lies before it is silence, in the source as well.
    for begin in range(-_HOP, total, _HOP):
        wanted = round(float(np.interp((begin + _HOP) / RATE_HZ, shown_s, source_s)) * RATE_HZ) - _HOP
        at = wanted if taken_at is None else _best(source, wanted, taken_at + _HOP)
        grain = source.read(at, 2 * _HOP) * window
        taken_at = at
        if begin >= 0:
            yield (tail + grain[:, :_HOP])[:, : total - begin]
        tail = grain[:, _HOP:]


def _best(source: "_Source", wanted: int, following: int) -> int:
    """Where to take a grain from: near `wanted`, as like as can be to `following`, which goes on where the last one
    ended."""
    if wanted == following:
        return wanted
    near = source.read(wanted - _SEARCH, 2 * _HOP + 2 * _SEARCH).mean(axis=0)[::_STRIDE]
    like = source.read(following, 2 * _HOP).mean(axis=0)[::_STRIDE]
    products = np.correlate(near, like, mode="valid")
    energies = np.correlate(near * near, np.ones_like(like), mode="valid")
    return wanted - _SEARCH + _STRIDE * int(np.argmax(products / np.sqrt(energies + 1e-9)))


class _Source:
    """Decoded sound by the number of its sample; silence before and after. What was read long before is forgotten."""

    def __init__(self, chunks: Iterator[Samples]) -> None:
        self._chunks = chunks
        self._held: Samples = np.zeros((CHANNELS, 0), np.float32)
        self._first = 0
        self._ended = False

    def read(self, begin: int, count: int) -> Samples:
        """(CHANNELS, count). Never much before what was read last."""
        while not self._ended and self._first + self._held.shape[1] < begin + count:
            chunk = next(self._chunks, None)
            self._ended = chunk is None
            if chunk is not None:
                behind = max(0, min(begin - _KEPT_BEHIND - self._first, self._held.shape[1]))
                self._held = np.concatenate([self._held[:, behind:], chunk], axis=1)
                self._first += behind
        found = np.zeros((CHANNELS, count), np.float32)
        low, high = max(begin, self._first), min(begin + count, self._first + self._held.shape[1])
        if low < high:
            found[:, low - begin : high - begin] = self._held[:, low - self._first : high - self._first]
        return found


def _decoded(path: Path, from_s: float) -> Iterator[Samples]:
    """The sound from that time of the file on, without gaps: where there is none there is silence."""
    try:
        with open_container(path) as container:
            stream = container.streams.audio[0]
            graph = Graph()
            graph.link_nodes(
                graph.add_abuffer(template=stream),
                # Times that jump are followed; the first sample is that of the first frame.
                graph.add("aresample", f"{RATE_HZ}:async=1:min_hard_comp=0.05:first_pts={round(from_s * RATE_HZ)}"),
                graph.add("aformat", f"sample_fmts=fltp:sample_rates={RATE_HZ}:channel_layouts=stereo"),
                graph.add("abuffersink"),
            ).configure()
            for frame in container.decode(stream):
                graph.push(frame)
                yield from _pulled(graph)
            graph.push(None)
            yield from _pulled(graph)
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the sound can't be decoded: {error.strerror}") from error


def _pulled(graph: Graph) -> Iterator[Samples]:
    while True:
        try:
            yield graph.pull().to_ndarray().astype(np.float32)
        except (av.error.BlockingIOError, av.error.EOFError):
            return

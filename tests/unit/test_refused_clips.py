"""Files that would show a wrong frame, or a frame at a wrong time: refused with what is wrong, where, and a remedy."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest

from backend.domain.errors import BadInput
from backend.settings import PipelineSettings
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from tests.factories.clips import cut
from tests.factories.numbered_clips import Kind, write_kind

LIMITS = PipelineSettings()
CUT = Kind("a.mp4", frames=60, options={"g": "10", "bf": "2"}, container_options={"movflags": "faststart"})


def _cut(path: Path, share: float) -> Path:
    return cut(path, share, path)


def _damaged(path: Path, begin: float, end: float) -> Path:
    """With zeros from one share of the file to another."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = bytes(last - first)
    path.write_bytes(bytes(data))
    return path


def _joined(folder: Path) -> Path:
    path = write_kind(folder, Kind("a.ts"))
    path.write_bytes(path.read_bytes() * 2)
    return path


def _frozen(folder: Path) -> Path:
    """Two frames at one time: the encoder refuses that, so the second one's stamp is written over in the packet."""
    whole, path = write_kind(folder, Kind("whole.mkv", "ffv1", frames=6)), folder / "a.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is None:
                continue
            if packet.pts == 300:
                packet.pts = packet.dts = 200
            packet.stream = stream
            container.mux(packet)
    return path


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "mirrored horizontally": (
        lambda folder: write_kind(folder, Kind("a.mp4", mirrored="horizontally")),
        "matrix shows the picture mirrored, from frame 0.*write the video anew",
    ),
    "mirrored vertically": (
        lambda folder: write_kind(folder, Kind("a.mkv", mirrored="vertically")), "mirrored, from frame 0"
    ),
    "joined, times go back": (_joined, r"go back at frame 20, from 1\.900 s to 0\.000 s.*write it anew"),
    "two frames at one time": (_frozen, r"stand still at frame 3, from 0\.200 s to 0\.200 s.*write it anew"),
    "mp4 cut": (lambda folder: _cut(write_kind(folder, CUT), 0.7), "truncated after frame.*get the file again"),
    "mkv with sound cut": (
        lambda folder: _cut(write_kind(folder, replace(CUT, file="a.mkv", sound_s=6, container_options={})), 0.5),
        r"truncated after frame \d+: .* of 6\.\d seconds.*get the file again",
    ),
    "flv with sound cut": (
        lambda folder: _cut(write_kind(folder, Kind("a.flv", "flv", frames=60, sound_s=6)), 0.5),
        "truncated after frame",
    ),
    "fragments cut between": (
        lambda folder: _cut_before_fragment(
            write_kind(
                folder,
                replace(CUT, container_options={"movflags": "dash+frag_keyframe+empty_moov+global_sidx"}),
            ), 3
        ),
        r"truncated after frame \d+: 2\.\d of 6\.\d seconds",
    ),
    "raw stream cut": (
        lambda folder: _cut(write_kind(folder, Kind("a.h264", frames=40, options={"g": "5", "bf": "2"})), 0.6),
        r"cut off: at frame \d+ of \d+, at \d\.\d+ s.*get the file again",
    ),
    "damaged mp4": (lambda folder: _damaged(write_kind(folder, CUT), 0.9, 0.95), "damaged.*get the file again"),
    "damaged mkv": (
        lambda folder: _damaged(write_kind(folder, Kind("a.mkv", frames=40, options={"g": "5"})), 0.8, 0.9),
        "damaged or cut off: at frame",
    ),
    "damaged avi": (
        lambda folder: _damaged(write_kind(folder, Kind("a.avi", "mpeg4", frames=40)), 0.8, 0.85),
        "damaged",
    ),
}  # fmt: skip


def _cut_before_fragment(path: Path, number: int) -> Path:
    data = path.read_bytes()
    starts = [at - 4 for at in range(len(data)) if data.startswith(b"moof", at)]
    path.write_bytes(data[: starts[number]])
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_show_a_wrong_frame_is_refused_with_what_where_and_a_remedy(tmp_path: Path, name: str) -> None:
    make, reason = REFUSED[name]
    path = make(tmp_path)
    with pytest.raises(BadInput, match=reason):
        probe_video(path, LIMITS)


def test_more_frames_than_were_counted_is_said(tmp_path: Path) -> None:
    short = probe_video(write_kind(tmp_path, Kind("short.mp4", frames=12)), LIMITS)
    long = write_kind(tmp_path, Kind("long.mp4", frames=20))
    with pytest.raises(BadInput, match=r"more than the 12 frames.*probe it again"):
        list(iter_frames(long, short))

"""Files of many kinds, frame by frame: what is counted is what is decoded, each frame shows its own number at its own
time, and every way from a frame to a time leads back to it. What can't be so: `test_refused_clips`."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from backend.domain.annotation import VideoProbe
from backend.domain.frames import sample_uniformly
from backend.settings import PipelineSettings
from integrations.label_studio.coordinates import frame_rate, label_studio_frame
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from tests.factories.numbered_clips import Kind, number_of, numbered, write_kind

LIMITS = PipelineSettings()
UNEVEN_MS = (0, 40, 100, 500, 510, 1000, 1033, 2000)
WITH_B_FRAMES = {"bf": "3", "g": "8"}


def _first_frame(path: Path) -> Any:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


def _stream(path: Path, name: str) -> Any:
    with av.open(str(path)) as container:
        return getattr(container.streams.video[0], name)


def _is_reordered(path: Path) -> bool:
    with av.open(str(path)) as container:
        kinds = {frame.pict_type for frame in container.decode(video=0)}
    return av.video.frame.PictureType.B in kinds


def _has_no_duration(path: Path) -> bool:
    with av.open(str(path)) as container:
        return container.duration is None and container.streams.video[0].duration is None


def _is_interlaced(path: Path) -> bool:
    return bool(_first_frame(path).interlaced_frame)


def _is_10_bit(path: Path) -> bool:
    return "10" in _first_frame(path).format.name


def _begins_late(path: Path) -> bool:
    return bool(_first_frame(path).time >= 4.9)


def _has_wide_pixels(path: Path) -> bool:
    return bool(_stream(path, "sample_aspect_ratio") == Fraction(4, 3))


def _is_turned(path: Path) -> bool:
    return bool(_first_frame(path).rotation != 0)


def _is_in_fragments(path: Path) -> bool:
    return path.read_bytes().count(b"moof") > 1


def _anything(path: Path) -> bool:
    return path.stat().st_size > 0


LATE_MS = tuple(5000 + 100 * n for n in range(20))
#: Each with the proof that the file is what its name says.
KINDS: dict[str, tuple[Kind, Callable[[Path], bool]]] = {
    "b-frames mp4": (Kind("a.mp4", options=WITH_B_FRAMES), _is_reordered),
    "b-frames ts": (Kind("a.ts", options=WITH_B_FRAMES), _is_reordered),
    "b-frames avi, h264": (Kind("a.avi", options=WITH_B_FRAMES), _is_reordered),
    "b-frames avi, mpeg4": (Kind("a.avi", "mpeg4", options={"bf": "2"}), _is_reordered),
    "b-frames mpeg2": (
        Kind("a.mpg", "mpeg2video", rate=Fraction(25), options={"bf": "2", "sc_threshold": "1000000000"}),
        _is_reordered,
    ),
    "vp9": (Kind("a.webm", "libvpx-vp9"), _anything),
    "ffv1": (Kind("a.mkv", "ffv1"), _anything),
    "gif": (Kind("a.gif", "gif", pix_fmt="rgb8"), _anything),
    "uneven mp4": (Kind("a.mp4", frames=8, pts_ms=UNEVEN_MS, options=WITH_B_FRAMES), _is_reordered),
    "uneven mkv": (Kind("a.mkv", frames=8, pts_ms=UNEVEN_MS), _anything),
    "uneven ts": (Kind("a.ts", frames=8, pts_ms=UNEVEN_MS), _anything),
    "uneven webm": (Kind("a.webm", "libvpx-vp9", frames=8, pts_ms=UNEVEN_MS), _anything),
    "29.97": (Kind("a.mp4", rate=Fraction(30000, 1001)), _anything),
    "23.976 in milliseconds": (Kind("a.mkv", rate=Fraction(24000, 1001), frames=60), _anything),
    "late mp4": (Kind("a.mp4", pts_ms=LATE_MS, options=WITH_B_FRAMES), _begins_late),
    "late mkv": (Kind("a.mkv", pts_ms=LATE_MS), _begins_late),
    "late ts": (Kind("a.ts", pts_ms=LATE_MS), _begins_late),
    "turned 90": (Kind("a.mp4", rotation_deg=90), _is_turned),
    "turned 180": (Kind("a.mp4", rotation_deg=180), _is_turned),
    "turned 270": (Kind("a.mp4", rotation_deg=-90), _is_turned),
    "turned mkv": (Kind("a.mkv", rotation_deg=90), _is_turned),
    "odd size, h264": (Kind("a.mp4", width=37, height=23, pix_fmt="yuv444p"), _anything),
    "odd size, vp9": (Kind("a.webm", "libvpx-vp9", width=37, height=23), _anything),
    "odd size, turned": (Kind("a.mp4", "mpeg4", width=37, height=23, rotation_deg=90), _is_turned),
    "one frame mp4": (Kind("a.mp4", frames=1), _anything),
    "one frame mkv": (Kind("a.mkv", frames=1), _anything),
    "one frame ts": (Kind("a.ts", frames=1), _anything),
    "one frame gif": (Kind("a.gif", "gif", frames=1, pix_fmt="rgb8"), _anything),
    "one frame, raw": (Kind("a.h264", frames=1), _has_no_duration),
    "10 bit h264": (Kind("a.mp4", pix_fmt="yuv420p10le"), _is_10_bit),
    "10 bit hevc": (
        Kind("a.mp4", "libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none"}), _is_10_bit
    ),
    "10 bit ffv1": (Kind("a.mkv", "ffv1", pix_fmt="yuv444p10le"), _is_10_bit),
    "10 bit prores": (Kind("a.mov", "prores_ks", pix_fmt="yuv422p10le"), _is_10_bit),
    "interlaced h264": (Kind("a.mp4", options={"flags": "+ilme+ildct", "x264-params": "tff=1"}), _is_interlaced),
    "interlaced mpeg2": (
        Kind("a.mpg", "mpeg2video", rate=Fraction(25), options={"flags": "+ilme+ildct", "g": "40", "b": "2M"}),
        _is_interlaced,
    ),
    "no duration: raw h264": (Kind("a.h264", options=WITH_B_FRAMES), _has_no_duration),
    "no duration: raw mpeg4": (Kind("a.m4v", "mpeg4"), _anything),
    "no duration: mkv as it streams": (Kind("a.mkv", container_options={"live": "1"}), _has_no_duration),
    "no duration: webm as it streams": (
        Kind("a.webm", "libvpx-vp9", container_options={"live": "1"}), _has_no_duration
    ),
    "fragmented mp4": (
        Kind("a.mp4", options=WITH_B_FRAMES, container_options={"movflags": "frag_keyframe+empty_moov"}),
        _is_in_fragments,
    ),
    "longer sound mp4": (Kind("a.mp4", sound_s=6), _anything),
    "longer sound mkv": (Kind("a.mkv", sound_s=6), _anything),
    "longer sound asf": (Kind("a.asf", "msmpeg4", sound_s=6), _anything),
    "longer sound flv": (Kind("a.flv", "flv", sound_s=6), _anything),
    "longer sound ts": (Kind("a.ts", sound_s=6), _anything),
    "shorter sound mp4": (Kind("a.mp4", frames=60, sound_s=1), _anything),
    "shorter sound mkv": (Kind("a.mkv", frames=60, sound_s=1), _anything),
    "wide pixels mp4": (Kind("a.mp4", pixel_aspect=Fraction(4, 3)), _has_wide_pixels),
    "wide pixels mkv": (Kind("a.mkv", pixel_aspect=Fraction(4, 3)), _has_wide_pixels),
}  # fmt: skip


def times_of(kind: Kind) -> list[float]:
    """Seconds from the first frame on."""
    if kind.pts_ms:
        return [(ms - kind.pts_ms[0]) / 1000 for ms in kind.pts_ms]
    return [float(number / kind.rate) for number in range(kind.frames)]


def numbers_in(path: Path, probe: VideoProbe) -> list[int | None]:
    """What each decoded frame shows; that they come in order is checked by the way."""
    shown = []
    for position, (frame_index, picture) in enumerate(iter_frames(path, probe)):
        assert frame_index == position
        assert picture.shape == (probe.height, probe.width, 3)
        shown.append(number_of(picture))
    return shown


def assert_times_lead_back(probe: VideoProbe) -> None:
    """Frame → time → frame, for every frame, at its beginning, within it, just before its end, and as it is stored."""
    clock, ends = probe.clock, [*probe.clock.times_s()[1:], probe.duration_s]
    for frame_index, end_s in enumerate(ends):
        begin_s = clock.time_s(frame_index)
        instants = (begin_s, round(begin_s, 6), (begin_s + end_s) / 2, end_s - min(1e-4, (end_s - begin_s) / 2))
        assert [clock.frame_index_at(instant) for instant in instants] == [frame_index] * 4
    assert clock.frame_index_at(probe.duration_s) == probe.frame_count - 1


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_is_itself_at_its_time(tmp_path: Path, name: str) -> None:
    kind, is_what_it_says = KINDS[name]
    path = write_kind(tmp_path, kind)
    assert is_what_it_says(path)
    probe = probe_video(path, LIMITS)
    turned = kind.rotation_deg % 180 != 0
    shown_size = (kind.height, kind.width) if turned else (kind.width, kind.height)
    assert (probe.frame_count, probe.width, probe.height) == (kind.frames, *shown_size)
    assert numbers_in(path, probe) == list(range(kind.frames))
    times = times_of(kind)
    # Half a millisecond is what a container that counts in milliseconds rounds.
    assert probe.clock.times_s() == pytest.approx(times, abs=0.00051)
    assert [probe.time_s(i) for i in range(kind.frames)] == list(probe.clock.times_s())
    assert probe.duration_s > times[-1]
    if not kind.pts_ms:
        assert probe.duration_s == pytest.approx(float(kind.frames / kind.rate), abs=0.002)
        assert probe.average_fps == pytest.approx(float(kind.rate), rel=0.002)
    assert probe.has_audio is bool(kind.sound_s)
    assert_times_lead_back(probe)


@pytest.mark.parametrize("name", ["b-frames mp4", "uneven mkv", "late ts", "turned 90", "one frame mp4"])
@pytest.mark.parametrize("max_frames", [4, 24])
def test_sampled_frames_are_those_frames(tmp_path: Path, name: str, max_frames: int) -> None:
    """As the pipeline samples: a nominal second leads to an index, and the picture of that index shows its number."""
    kind, _ = KINDS[name]
    path = write_kind(tmp_path, kind)
    probe = probe_video(path, LIMITS)
    sampling = sample_uniformly(probe.frame_count, max_frames, 2.0)
    pictures = dict(iter_frames(path, probe))
    assert [number_of(pictures[i]) for i in sampling.frame_indices] == list(sampling.frame_indices)
    by_second = [sampling.frame_index_at(position / 2) for position in range(len(sampling.frame_indices))]
    assert by_second == list(sampling.frame_indices)


@pytest.mark.parametrize("name", ["b-frames mp4", "b-frames avi, h264", "29.97", "23.976 in milliseconds", "late ts"])
def test_label_studios_number_is_the_frame_its_player_shows(tmp_path: Path, name: str) -> None:
    """The player goes to (number - 1) / fps, and 2 ms on."""
    probe = probe_video(write_kind(tmp_path, KINDS[name][0]), LIMITS)
    rate = frame_rate(probe)
    assert rate.constant
    for frame_index in range(probe.frame_count):
        seconds = (label_studio_frame(frame_index) - 1) / rate.fps + 0.002
        assert probe.clock.frame_index_at(seconds) == frame_index


def test_a_clip_cut_in_front_of_its_first_frames_counts_from_the_first_that_is_shown(tmp_path: Path) -> None:
    """An edit list hides what lies before time zero: index 0 is what a player shows first."""
    kind = Kind("a.mp4", pts_ms=[100 * n - 500 for n in range(20)])
    path = write_kind(tmp_path, kind)
    probe = probe_video(path, LIMITS)
    assert numbers_in(path, probe) == list(range(5, 20))
    assert probe.clock.times_s() == pytest.approx([n / 10 for n in range(15)])


def test_a_stream_that_is_entered_midway_begins_with_the_first_whole_picture(tmp_path: Path) -> None:
    path = write_kind(tmp_path, Kind("a.ts", frames=40, options={"g": "5"}))
    path.write_bytes(path.read_bytes()[188 * 12 :])
    probe = probe_video(path, LIMITS)
    numbers = numbers_in(path, probe)
    first = numbers[0]
    assert first is not None
    assert 0 < first < 20
    assert numbers == list(range(first, 40))
    assert_times_lead_back(probe)


CONSTANT_RATE = {"b": "100000", "minrate": "100000", "maxrate": "100000", "bufsize": "50000"}


def test_a_duration_guessed_from_the_bit_rate_is_no_promise(tmp_path: Path) -> None:
    """A raw MPEG-2 stream tells a bit rate, and no duration; FFmpeg divides the size by it."""
    kind = Kind("a.m2v", "mpeg2video", frames=60, rate=Fraction(25), options=CONSTANT_RATE)
    path = write_kind(tmp_path, kind)
    data = bytearray(path.read_bytes())
    header = data.index(b"\x00\x00\x01\xb3")
    while header >= 0:
        # Behind 12 + 12 bits of size and 4 + 4 of aspect and rate: 18 bits of bit rate, in units of 400 bits.
        data[header + 8 : header + 11] = bytes([0, 4, data[header + 10] & 0x3F])
        header = data.find(b"\x00\x00\x01\xb3", header + 4)
    path.write_bytes(bytes(data))
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert container.duration > 10 * av.time_base
    probe = probe_video(path, PipelineSettings(max_duration_s=5))
    assert numbers_in(path, probe) == list(range(60))


def test_a_number_is_told_from_all_others_and_from_itself_turned() -> None:
    """The tests above are only as good as the numbers in the pictures."""
    numbers = range(64)
    assert [number_of(numbered(n, 64, 48)) for n in numbers] == list(numbers)
    for change in (np.flipud, np.fliplr, lambda p: np.rot90(p, 2), lambda p: np.rot90(p, 1), lambda p: np.rot90(p, 3)):
        assert [number_of(change(numbered(n, 64, 48))) for n in numbers] != list(numbers)

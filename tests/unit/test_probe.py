"""Probing real files: what the decoder puts out is what is counted, and bad files end with a reason."""

from pathlib import Path

import numpy as np
import pytest

from backend.domain.errors import UnreadableVideo
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from tests.factories.clips import cut, write_clip, write_sound_only

LIMITS = PipelineSettings()


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("plain.mp4", "libx264", {}),
        ("b_frames.mp4", "libx264", {"bf": "3", "g": "10"}),
        ("plain.mkv", "libx264", {}),
        ("vp9.webm", "libvpx-vp9", {}),
        ("packed.avi", "mpeg4", {"bf": "2"}),
        ("stream.ts", "libx264", {"bf": "2"}),
    ],
)
def test_every_frame_the_decoder_puts_out_is_counted(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    probe = probe_video(write_clip(tmp_path / name, 23, codec=codec, options=options), LIMITS)
    assert (probe.frame_count, probe.width, probe.height, probe.has_audio) == (23, 64, 48, False)
    assert probe.pts.dtype == np.int64
    assert [round(probe.time_s(i), 3) for i in range(23)] == [round(i / 10, 3) for i in range(23)]
    assert probe.duration_s == pytest.approx(2.3, abs=0.01)


def test_variable_frame_rate_is_exact(tmp_path: Path) -> None:
    times = [0, 40, 100, 500, 510, 2000]
    probe = probe_video(write_clip(tmp_path / "vfr.mp4", 6, pts_ms=times), LIMITS)
    assert [probe.time_s(i) * 1000 for i in range(6)] == pytest.approx(times)
    assert probe.duration_s > 2.0


@pytest.mark.parametrize("name", ["late.mkv", "late.ts"])
def test_a_clip_that_starts_late_begins_at_second_zero(tmp_path: Path, name: str) -> None:
    probe = probe_video(write_clip(tmp_path / name, 8, pts_ms=[5000 + 100 * i for i in range(8)]), LIMITS)
    assert probe.pts[0] != 0
    assert probe.time_s(0) == 0.0
    assert probe.time_s(7) == pytest.approx(0.7)
    assert probe.duration_s == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("ffmpeg_deg", "clockwise"), [(0, 0), (90, 270), (180, 180), (-90, 90)])
def test_rotation_turns_the_size_to_what_is_shown(tmp_path: Path, ffmpeg_deg: int, clockwise: int) -> None:
    probe = probe_video(write_clip(tmp_path / "turned.mp4", 3, rotation_deg=ffmpeg_deg), LIMITS)
    assert probe.rotation_deg == clockwise
    assert (probe.width, probe.height) == ((48, 64) if clockwise in (90, 270) else (64, 48))


def test_rotation_is_clockwise_as_in_the_files_own_matrix(tmp_path: Path) -> None:
    """Not by PyAV's word: the matrix in the file maps x to y and y to -x, which on a screen is a turn clockwise."""
    path = write_clip(tmp_path / "clip.mp4", 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 8 + 4 + 4 + 4 + 8 + 8
    one = (1 << 16).to_bytes(4, "big")
    zero, minus = bytes(4), (-(1 << 16)).to_bytes(4, "big", signed=True)
    data[matrix : matrix + 20] = zero + one + zero + minus + zero
    path.write_bytes(data)
    assert probe_video(path, LIMITS).rotation_deg == 90


def test_one_frame_odd_size_and_sound(tmp_path: Path) -> None:
    probe = probe_video(write_clip(tmp_path / "one.mp4", 1, width=37, height=23), LIMITS)
    assert (probe.frame_count, probe.width, probe.height) == (1, 37, 23)
    assert probe.duration_s > 0
    assert probe_video(write_clip(tmp_path / "sound.mp4", sound_s=2), LIMITS).has_audio


@pytest.mark.parametrize("name", ["long.mkv", "long.mp4"])
def test_sound_that_outlasts_the_picture_is_no_truncation(tmp_path: Path, name: str) -> None:
    assert probe_video(write_clip(tmp_path / name, 5, sound_s=20), LIMITS).frame_count == 5


def _text(path: Path) -> Path:
    path.write_text("this is no video\n" * 500)
    return path


def _playlist(path: Path) -> Path:
    """FFmpeg left to itself opens what the text names."""
    write_clip(path.with_name("inner.ts"), 5)
    path.write_text("ffconcat version 1.0\nfile inner.ts\n")
    return path


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def _moov_missing(path: Path) -> Path:
    return cut(write_clip(path.with_name("whole.mp4")), 0.5, path)


def _packets_cut(path: Path) -> Path:
    whole = write_clip(
        path.with_name("whole.mp4"), 60, noise=True, container_options={"movflags": "faststart"}, options={"g": "5"}
    )
    return cut(whole, 0.6, path)


def _webm_cut(path: Path) -> Path:
    return cut(write_clip(path.with_name("whole.webm"), 60, codec="libvpx-vp9", noise=True), 0.5, path)


def _no_frames(path: Path) -> Path:
    whole = write_clip(path.with_name("whole.mp4"), container_options={"movflags": "faststart"})
    data = whole.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    return path


def _unknown_codec(path: Path) -> Path:
    write_clip(path)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_text, "not a video"),
        (_playlist, "not a video"),
        (_empty, "empty"),
        (_moov_missing, "truncated.*moov"),
        (_packets_cut, "truncated.*after frame"),
        (_webm_cut, "truncated.*after frame"),
        (_no_frames, "no frames|truncated"),
        (write_sound_only, "only sound"),
        (_unknown_codec, "codec is unknown"),
        (lambda path: write_clip(path, 3, width=1, height=1), "1×1 pixels"),
        (lambda path: write_clip(path, 3, width=64, height=8), "64×8 pixels"),
    ],
)
def test_bad_files_end_with_a_reason(tmp_path: Path, make: object, reason: str) -> None:
    path = make(tmp_path / "clip.mp4")  # type: ignore[operator]
    with pytest.raises(UnreadableVideo, match=reason):
        probe_video(path, LIMITS)


def test_a_size_that_changes_midway_is_refused(tmp_path: Path) -> None:
    first, second = (write_clip(tmp_path / f"{w}.ts", 10, width=w, options={"g": "5"}) for w in (64, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(UnreadableVideo, match="changes its size at frame 10"):
        probe_video(both, LIMITS)


def test_limits_of_length(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 30)
    with pytest.raises(UnreadableVideo, match="3 seconds long; 2 are allowed"):
        probe_video(clip, PipelineSettings(max_duration_s=2))
    with pytest.raises(UnreadableVideo, match="more than the 29 frames"):
        probe_video(clip, PipelineSettings(max_frames=29))
    assert probe_video(clip, PipelineSettings(max_duration_s=3, max_frames=30)).frame_count == 30

"""Decoding: every frame, upright, in order; the sound at the rate asked for; and an overlay of the same frames."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.domain.annotation import Annotation, Track
from backend.domain.errors import UnreadableVideo
from backend.domain.masks import encode_mask
from backend.domain.runs import RunStatus
from integrations.media.decode import iter_frames, read_audio
from integrations.media.probe import probe_video
from tests.factories.clips import write_clip
from workers.pipeline.overlay import write_overlay


def write_picture(path: Path, picture: NDArray[Any], rotation_deg: int = 0) -> Path:
    """Three frames of the same picture; `rotation_deg` counterclockwise, as the file's display matrix says."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        if rotation_deg:
            stream.set_display_rotation(rotation_deg)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("rotation_deg", [0, 90, 180, -90])
def test_frames_come_upright(tmp_path: Path, rotation_deg: int) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32] = 200  # bright on the left
    picture[:24, 32:] = 90  # and a little at the top right: no symmetry
    path = write_picture(tmp_path / "a.mp4", picture, rotation_deg)
    probe = probe_video(path)
    shown = np.rot90(picture, rotation_deg // 90)  # rot90 turns counterclockwise, as the file says
    frames = dict(iter_frames(path, probe))
    assert sorted(frames) == [0, 1, 2]
    for image in frames.values():
        assert image.shape == shown.shape == (probe.height, probe.width, 3)
        assert np.abs(image.astype(int) - shown.astype(int)).mean() < 8


def test_frames_are_in_decoder_order_and_as_many_as_probed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "b.mp4", frames=30, options={"bf": "3"})
    means = [image.mean() for _, image in iter_frames(path, probe_video(path))]
    assert len(means) == 30
    assert np.allclose(means, [index * 7 % 255 for index in range(30)], atol=4)


def test_fewer_frames_than_probed_is_said(tmp_path: Path) -> None:
    longer = probe_video(write_clip(tmp_path / "long.mp4", frames=20))
    shorter = write_clip(tmp_path / "short.mp4", frames=12)
    with pytest.raises(UnreadableVideo, match="12 of 20"):
        list(iter_frames(shorter, longer))


def test_sound_is_resampled_mixed_down_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    time_s = np.arange(44_100 * 2) / 44_100
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=44_100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    heard = read_audio(path, 16_000, 10.0)
    assert abs(heard.size - 32_000) < 2_100  # AAC comes in blocks
    assert heard.dtype == np.float32
    spectrum = np.abs(np.fft.rfft(heard[8_000:24_000]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert read_audio(path, 16_000, 0.5).size == 8_000
    assert read_audio(write_clip(tmp_path / "mute.mp4"), 16_000, 1.0).size == 0


def test_an_overlay_has_the_sources_frames_and_times_at_odd_sizes_and_rates(tmp_path: Path) -> None:
    pts_ms = [0, 40, 130, 150, 400, 440]
    path = write_clip(tmp_path / "odd.mp4", frames=6, width=61, height=47, pts_ms=pts_ms)
    probe = probe_video(path)
    inside = np.zeros((47, 61), bool)
    inside[10:30, 10:40] = True
    track = Track(0, "thing", 0.5, {2: encode_mask(inside)})
    annotation = Annotation(
        probe=probe, status=RunStatus.SUCCEEDED, outcome_code=None, reasoning="", raw_output="", keyframes=(),
        tracks=(track,), timings_s={}, warnings=(), model={},
    )  # fmt: skip
    write_overlay(path, annotation, tmp_path / "out.mp4")
    drawn = probe_video(tmp_path / "out.mp4")
    assert (drawn.width, drawn.height) == (62, 48)
    assert [round(1000 * drawn.time_s(i)) for i in range(6)] == pts_ms
    frames = [image.astype(int) for _, image in iter_frames(tmp_path / "out.mp4", drawn)]
    sources = [image.astype(int) for _, image in iter_frames(path, probe)]
    changed = [np.abs(f[:47, :61] - s).mean() > 5 for f, s in zip(frames, sources, strict=True)]
    assert changed == [False, False, True, False, False, False]

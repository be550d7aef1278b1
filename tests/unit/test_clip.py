"""A clip gives everyone the same frames, however long or large it is, and decodes no more than was asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import VideoProbe
from backend.domain.frames import sample_uniformly
from integrations.media import seeking
from integrations.media.probe import probe_video
from tests.factories.clips import write_clip
from tests.factories.numbered_clips import Kind, number_of, write_kind
from workers.pipeline import clip as clips
from workers.pipeline.clip import Clip

SIZE, COUNT = 16, 60


def shrunk(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[::2, ::2])


@pytest.fixture(params=["a.mp4", "a.ts"], ids=["entered midway", "from its beginning"])
def source(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, VideoProbe]:
    path = write_kind(tmp_path, Kind(request.param, frames=COUNT, options={"g": "8", "bf": "2"}))
    return path, probe_video(path)


@pytest.mark.parametrize("room", [0, 2**20], ids=["too long", "short"])
@pytest.mark.parametrize("kept_bytes", [0, 2**20], ids=["too large", "small"])
def test_everyone_gets_the_same_frames(
    source: tuple[Path, VideoProbe], monkeypatch: pytest.MonkeyPatch, room: int, kept_bytes: int
) -> None:
    monkeypatch.setattr(clips, "_KEPT_BYTES", kept_bytes)
    path, probe = source
    sampling = sample_uniformly(COUNT, 7, 2.0)
    with Clip.open(path, probe, SIZE, None, room) as clip:
        shown = clip.sample(sampling, shrunk)
        assert shown.shape == (7, 24, 32, 3)
        assert [number_of(frame) for frame in shown] == list(sampling.frame_indices)
        assert len(clip._kept) == (7 if kept_bytes else 0)
        images = clip.images([COUNT - 1, 0, 30])
        assert [(i, number_of(image), image.shape) for i, image in images.items()] == [
            (i, i, (48, 64, 3)) for i in (COUNT - 1, 0, 30)
        ]
        clip.need_all()
        for begin in (40, 3, 52):
            small = clip.small.read(begin, begin + 8)
            assert [number_of(frame) for frame in small] == list(range(begin, begin + 8))


def test_where_a_run_goes_on_all_frames_can_be_read_without_sampling(source: tuple[Path, VideoProbe]) -> None:
    path, probe = source
    with Clip.open(path, probe, SIZE, None, 0) as clip:
        clip.need_all()
        assert [number_of(frame) for frame in clip.small.read(10, 20)] == list(range(10, 20))


def test_of_a_long_clip_only_what_leads_to_the_sampled_frames_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hours at 2 frames a second, with a key frame every 20 s."""
    path = write_clip(tmp_path / "long.mp4", 14_400, rate=2, options={"g": "40", "preset": "ultrafast"})
    probe, decoded = probe_video(path), list[Any]()
    assert probe.duration_s == 7200
    frames = seeking._Reader._frames

    def counted(self: Any, pts: int | None) -> Any:
        for frame in frames(self, pts):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(seeking._Reader, "_frames", counted)
    with Clip.open(path, probe, SIZE, None, 2**20) as clip:
        assert not clip.small.fits
        assert clip.sample(sample_uniformly(probe.frame_count, 24, 2.0), shrunk).shape[0] == 24
        clip.images([0, 7000])
    assert len(decoded) <= 26 * 50

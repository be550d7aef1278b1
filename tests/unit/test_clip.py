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
from workers.pipeline.clip import Clip, LastClip

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


def test_what_was_given_once_is_given_again_without_decoding(
    source: tuple[Path, VideoProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, probe = source
    sampling = sample_uniformly(COUNT, 7, 2.0)
    with Clip.open(path, probe, SIZE, None, 2**20) as clip:
        first, images = clip.sample(sampling, shrunk), clip.images([3, 30])
        heard = clip.listen(16_000, 1.0)
        for name in ("iter_frames", "read_audio", "read_frames"):
            monkeypatch.setattr(clips, name, lambda _, __, wanted=(): iter(wanted))  # nothing more comes of the file
        assert np.array_equal(clip.sample(sampling, shrunk), first)
        assert [number_of(image) for image in clip.images([30, 3]).values()] == [30, 3]
        assert np.array_equal(clip.listen(16_000, 1.0), heard)
        assert len(images) == 2


def test_frames_kept_at_source_resolution_stay_within_their_bytes(
    source: tuple[Path, VideoProbe], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, probe = source
    monkeypatch.setattr(clips, "_KEPT_BYTES", 5 * probe.width * probe.height * 3)
    with Clip.open(path, probe, SIZE, None, 2**20) as clip:
        for begin in range(0, 40, 4):
            wanted = list(range(begin, begin + 4))
            assert [number_of(image) for image in clip.images(wanted).values()] == wanted
            assert len(clip._kept) <= 5


def test_the_last_clip_stays_open_for_its_own_path_only(source: tuple[Path, VideoProbe], tmp_path: Path) -> None:
    path, probe = source
    let_go = list[Clip]()
    last = LastClip(let_go.append)

    def opened(at: Path) -> Clip:
        return Clip.open(at, probe, SIZE, None, 2**20)

    with last.use(path, True, lambda: opened(path)) as clip:
        pass
    with last.use(path, True, lambda: pytest.fail("it is open")) as again:
        assert again is clip
    other = tmp_path / f"other{path.suffix}"
    other.write_bytes(path.read_bytes())
    with last.use(other, False, lambda: opened(other)) as another:
        assert (let_go, another.path) == ([clip], other)
    assert let_go == [clip, another]
    assert clip.small._file.closed


def test_a_clip_that_something_went_wrong_with_is_opened_anew(source: tuple[Path, VideoProbe]) -> None:
    path, probe = source
    last = LastClip(lambda _: None)

    def opened() -> Clip:
        return Clip.open(path, probe, SIZE, None, 2**20)

    with pytest.raises(KeyboardInterrupt), last.use(path, True, opened) as broken:
        raise KeyboardInterrupt
    with last.use(path, True, opened) as clip:
        assert clip is not broken


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


@pytest.mark.parametrize("room", [0, 2**20], ids=["too long", "short"])
def test_who_wants_them_is_told_of_frames_as_they_are_stored(source: tuple[Path, VideoProbe], room: int) -> None:
    path, probe = source
    told = list[int]()
    with Clip.open(path, probe, SIZE, None, room) as clip:

        def stored(count: int) -> None:
            told.append(count)
            assert [number_of(frame) for frame in clip.small.read(count - 1, count)] == [count - 1]

        clip.on_stored = stored
        clip.sample(sample_uniformly(COUNT, 7, 2.0), shrunk)
        fits = clip.small.complete
    assert told == (list(range(1, COUNT + 1)) if fits else [])

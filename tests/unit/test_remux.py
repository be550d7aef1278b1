"""Videos that can't be entered midway, in a container that can: the same pictures at the same times, or none at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from integrations.media.decode import iter_frames, read_frames
from integrations.media.probe import probe_video
from integrations.media.remux import remux
from integrations.media.seeking import can_be_entered
from tests.factories.numbered_clips import Kind, number_of, write_kind
from tests.unit.test_clip_kinds import KINDS, UNEVEN_MS
from workers.pipeline import midway as midways
from workers.pipeline.clip import Clip

COPIED = (
    "b-frames ts", "uneven ts", "late ts", "one frame ts", "longer sound ts", "b-frames avi, mpeg4", "b-frames mpeg2",
    "interlaced mpeg2", "longer sound asf",
)  # fmt: skip
NOT_COPIED = ("b-frames avi, h264", "gif", "no duration: raw h264", "longer sound flv")
SIZE, COUNT = 16, 60


@pytest.mark.parametrize("name", COPIED)
def test_a_copy_shows_the_same_pictures_wherever_it_is_entered(tmp_path: Path, name: str) -> None:
    path, copy = write_kind(tmp_path, KINDS[name][0]), tmp_path / "copy.mkv"
    assert not can_be_entered(path)
    probe = probe_video(path)
    copied = remux(path, probe, copy)
    assert copied is not None
    assert can_be_entered(copy)
    pictures = dict(iter_frames(path, probe))
    for frame_index in reversed(range(probe.frame_count)):
        [(_, picture)] = read_frames(copy, copied, [frame_index])
        assert np.array_equal(picture, pictures[frame_index])


@pytest.mark.parametrize("name", NOT_COPIED)
def test_what_would_be_otherwise_there_is_not_copied(tmp_path: Path, name: str) -> None:
    path, copy = write_kind(tmp_path, KINDS[name][0]), tmp_path / "copy.mkv"
    assert remux(path, probe_video(path), copy) is None
    assert not copy.exists()


@pytest.mark.parametrize("kind", [Kind("b.ts", frames=7), Kind("b.ts", frames=8)], ids=["fewer", "other times"])
def test_a_copy_is_held_against_what_was_probed(tmp_path: Path, kind: Kind) -> None:
    path = write_kind(tmp_path, Kind("a.ts", frames=8, pts_ms=UNEVEN_MS))
    other = write_kind(tmp_path, kind)
    assert remux(other, probe_video(path), tmp_path / "copy.mkv") is None
    assert remux(path, probe_video(path), tmp_path / "copy.mkv") is not None


@pytest.mark.parametrize(
    ("file", "copies"), [("a.ts", 1), ("a.h264", 0)], ids=["put into another container", "from its beginning"]
)
def test_a_long_clip_of_any_kind_takes_bounded_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, copies: int
) -> None:
    path = write_kind(tmp_path, Kind(file, frames=COUNT, options={"g": "8", "bf": "2"}))
    probe, scratch, made = probe_video(path), tmp_path / "scratch", list[Path]()
    scratch.mkdir()

    def noted(source: Path, *rest: Any) -> Any:
        made.append(source)
        return remux(source, *rest)

    monkeypatch.setattr(midways, "remux", noted)
    room = 16 * SIZE * SIZE * 3
    with Clip.open(path, probe, SIZE, scratch, room) as clip:
        assert not clip.small.fits
        # System 1 and 2 need no copy.
        assert [number_of(image) for image in clip.images([50, 3]).values()] == [50, 3]
        assert made == []
        clip.need_all()
        for begin in (40, 3, 52, 30):
            assert [number_of(frame) for frame in clip.small.read(begin, begin + 8)] == list(range(begin, begin + 8))
        assert made == [path]
        assert clip.small._file.seek(0, 2) <= room
        assert len(list(scratch.glob("*.mkv"))) == copies
        assert [("again and again" in warning) for warning in clip.warnings] == [True] * (1 - copies)
    assert list(scratch.glob("*.mkv")) == []


def test_a_clip_that_fits_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_kind(tmp_path, Kind("a.ts", frames=COUNT))
    monkeypatch.setattr(midways, "remux", lambda *_: pytest.fail("it fits"))
    with Clip.open(path, probe_video(path), SIZE, None, COUNT * SIZE * SIZE * 3) as clip:
        clip.need_all()
        assert number_of(clip.small.read(33, 34)[0]) == 33

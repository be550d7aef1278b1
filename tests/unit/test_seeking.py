"""Frames read by entering the file midway are those of decoding it whole, and no more is decoded than it takes."""

from collections.abc import Iterator
from pathlib import Path
from threading import active_count
from typing import Any

import numpy as np
import pytest

from backend.domain.errors import UnreadableVideo
from integrations.media import seeking
from integrations.media.decode import iter_frames, read_frames
from integrations.media.probe import probe_video
from tests.factories.clips import write_clip
from tests.factories.numbered_clips import Kind, number_of, write_kind
from tests.unit.test_clip_kinds import KINDS

REFRESHED = {"g": "30", "intra-refresh": "1"}
OPEN_GROUPS = {"g": "6", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"}
MIDWAY = {
    **{name: kind for name, (kind, _) in KINDS.items()},
    "short groups": Kind("a.mp4", frames=60, options={"g": "7", "bf": "3"}),
    "short groups mkv": Kind("a.mkv", frames=60, options={"g": "7", "bf": "3"}),
    "open groups": Kind("a.mp4", frames=60, options=OPEN_GROUPS),
    "open groups mkv": Kind("a.mkv", frames=60, options=OPEN_GROUPS),
    "open groups hevc": Kind(
        "a.mp4", "libx265", frames=60, options={"x265-params": "log-level=none:keyint=8:open-gop=1:bframes=3"}
    ),
    "gradual refresh": Kind("a.mp4", frames=60, options=REFRESHED),
    "vp9 with hidden frames": Kind("a.webm", "libvpx-vp9", frames=60, options={"g": "12", "auto-alt-ref": "1"}),
    "cut in front": Kind("a.mp4", frames=40, pts_ms=[100 * n - 500 for n in range(40)], options={"g": "5", "bf": "2"}),
}


@pytest.mark.parametrize("name", MIDWAY)
def test_frames_picked_are_those_of_decoding_all(tmp_path: Path, name: str) -> None:
    path = write_kind(tmp_path, MIDWAY[name])
    probe = probe_video(path)
    whole = dict(iter_frames(path, probe))
    last, random = probe.frame_count - 1, np.random.default_rng(0)
    some = sorted(random.choice(probe.frame_count, min(5, probe.frame_count), replace=False).tolist())
    alone = [[frame_index] for frame_index in whole] if name not in KINDS else [[0], [last]]
    for wanted in (list(whole), some, range(last // 2, last + 1), *alone):
        picked = dict(read_frames(path, probe, wanted))
        assert list(picked) == list(wanted)
        assert all((picked[i] == whole[i]).all() for i in wanted)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Time stamps of the packets that were given to the decoder."""
    seen: list[int] = []
    reader = seeking._Reader

    class Counting(reader):  # type: ignore[misc, valid-type]
        def _frames(self, pts: int | None) -> Iterator[Any]:
            for frame in super()._frames(pts):
                seen.append(frame.pts)
                yield frame

    monkeypatch.setattr(seeking, "_Reader", Counting)
    return seen


@pytest.mark.parametrize("file", ["long.mp4", "long.mkv"])
def test_of_a_long_file_only_what_leads_to_the_wanted_frames_is_decoded(
    tmp_path: Path, decoded: list[int], file: str
) -> None:
    path = write_clip(tmp_path / file, 6000, options={"g": "50", "preset": "ultrafast"}, rate=25)
    probe = probe_video(path)
    wanted = np.linspace(0, probe.frame_count - 1, 16).round().astype(int).tolist()
    assert [i for i, _ in read_frames(path, probe, wanted)] == wanted
    # At most a group of 50 before each, and what the decoder's threads hold.
    assert len(decoded) <= 16 * 60
    decoded.clear()
    begin = 4321
    assert [i for i, _ in read_frames(path, probe, range(begin, begin + 100))] == list(range(begin, begin + 100))
    assert len(decoded) <= 160


def test_what_lies_close_together_is_decoded_in_one_go(tmp_path: Path, decoded: list[int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 200, options={"g": "50", "bf": "0"})
    probe = probe_video(path)
    assert [i for i, _ in read_frames(path, probe, range(10, 190, 7))] == list(range(10, 190, 7))
    assert len(decoded) <= 210


def test_a_key_frame_that_is_none_costs_time_and_no_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that comes out is trusted: the file is decoded from its beginning."""
    path = write_kind(tmp_path, MIDWAY["short groups"])
    probe = probe_video(path)
    monkeypatch.setattr(seeking._Reader, "_find", lambda *_: None)
    assert [number_of(image) for _, image in read_frames(path, probe, [3, 30, 59])] == [3, 30, 59]


def test_a_file_that_is_shorter_than_probed_and_a_frame_it_does_not_have_are_said(tmp_path: Path) -> None:
    longer = probe_video(write_clip(tmp_path / "long.mp4", frames=20))
    shorter = write_clip(tmp_path / "short.mp4", frames=12)
    with pytest.raises(UnreadableVideo, match="12 of 20"):
        list(read_frames(shorter, longer, [3, 15]))
    with pytest.raises(IndexError, match="video of 20"):
        list(read_frames(shorter, longer, [20]))
    assert list(read_frames(shorter, longer, [])) == []


def test_who_stops_reading_leaves_no_thread(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 60)
    probe, before = probe_video(path), active_count()
    frames = iter_frames(path, probe)
    assert next(frames)[0] == 0
    frames.close()  # type: ignore[attr-defined]
    assert active_count() == before


def test_b_frames_that_nothing_depends_on_are_passed_over(tmp_path: Path, decoded: list[int]) -> None:
    path = write_clip(tmp_path / "a.mp4", 100, options={"g": "100", "bf": "3", "x264-params": "scenecut=0"}, noise=True)
    probe = probe_video(path)
    list(read_frames(path, probe, [99]))
    assert len(decoded) < 80

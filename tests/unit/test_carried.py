"""Masks that lie elsewhere behave like a dictionary of them, and tracks made of stretches like tracks made of masks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box, Mask
from backend.ports.pipeline import CarriedMask, Estimate, Way
from workers.pipeline import scratch
from workers.pipeline.carried import Carried, Stitched
from workers.pipeline.linking import stretches
from workers.pipeline.scratch import ScratchCheckpoints

COUNT = 40


def one(detection: int, frame_index: int) -> CarriedMask:
    mask = Mask(48, 64, f"rle{detection}:{frame_index}", 1 + frame_index, Box(0.5, 1.0, frame_index + 2.0, 3.0))
    return CarriedMask(detection, frame_index, mask, Estimate(1 / (frame_index + 3), 1 / (frame_index + 2)))


def kept(frames: dict[int, list[int]]) -> ScratchCheckpoints:
    """Those frames of each detection, in the order in which ways forward and back hand them over."""
    made = ScratchCheckpoints()
    made.begin(0, "plan", [COUNT])
    for detection, indices in frames.items():
        made.commit(0, 0, Way(COUNT, COUNT, b""), [one(detection, i) for i in sorted(indices, reverse=True)])
    return made


@given(st.sets(st.integers(0, COUNT - 1)))
def test_what_was_carried_is_a_mapping_by_frame(frames: set[int]) -> None:
    wanted = {i: one(1, i).mask for i in sorted(frames)}
    found = Carried(kept({0: [3], 1: list(frames)}), 0, 1, COUNT, lambda carried: carried.mask)
    assert (found, list(found), len(found), bool(found)) == (wanted, list(wanted), len(wanted), bool(wanted))
    assert (list(found.items()), list(found.values())) == (list(wanted.items()), list(wanted.values()))
    for frame_index in range(-1, COUNT + 1):
        assert found.get(frame_index) == wanted.get(frame_index)
        assert (frame_index in found) is (frame_index in wanted)
    assert list(found.between(10, 20)) == [(i, mask) for i, mask in wanted.items() if 10 <= i < 20]


@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=5, unique=True), st.data())
def test_a_track_shows_on_each_frame_what_the_nearest_member_sees(keyframes: list[int], data: st.DataObject) -> None:
    keyframes.sort()
    seen = [data.draw(st.sets(st.integers(0, COUNT - 1))) for _ in keyframes]
    wanted = {}
    for frame_index in range(COUNT):
        nearest = min(range(len(keyframes)), key=lambda n: abs(keyframes[n] - frame_index))
        if frame_index in seen[nearest]:
            wanted[frame_index] = one(nearest, frame_index).mask
    checkpoints = kept({n: list(frames) for n, frames in enumerate(seen)})
    far = [Carried(checkpoints, 0, n, COUNT, lambda carried: carried.mask) for n in range(len(seen))]
    near = [{i: one(n, i).mask for i in frames} for n, frames in enumerate(seen)]
    for sources in (far, near):
        track = Stitched(list(zip(stretches(keyframes), sources, strict=True)))
        assert list(track.items()) == list(wanted.items())
        assert (track == wanted, len(track)) == (True, len(wanted))
        assert [track.get(i) for i in range(COUNT)] == [wanted.get(i) for i in range(COUNT)]
        assert list(track.between(5, 17)) == [(i, mask) for i, mask in wanted.items() if 5 <= i < 17]


def test_many_masks_are_read_a_few_at_a_time_and_a_round_begins_without_those_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scratch, "_READ_AT_ONCE", 7)
    made = kept({0: list(range(0, COUNT, 2))})
    assert [m.frame_index for m in made.masks(0, 0, range(COUNT))] == list(range(0, COUNT, 2))
    assert list(made.masks(0, 0, range(3, 9))) == [one(0, i) for i in (4, 6, 8)]
    made.begin(1, "plan", [COUNT])
    assert made.counted(0, 0) == COUNT // 2
    made.begin(0, "plan", [COUNT])
    assert made.counted(0, 0) == 0


def test_the_scratch_file_has_no_name(tmp_path: Path) -> None:
    made = ScratchCheckpoints(tmp_path)
    made.begin(0, "plan", [COUNT])
    made.commit(0, 0, Way(COUNT, COUNT, b""), [one(0, 3)])
    assert list(tmp_path.iterdir()) == []
    assert list(made.masks(0, 0, range(COUNT))) == [one(0, 3)]

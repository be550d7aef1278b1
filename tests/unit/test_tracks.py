"""Reducing tracks to keyframes: the floor is held, visibility is exact, no smaller set exists, long ones are quick."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain import tracks
from backend.domain.annotation import Box
from backend.domain.tracks import MARGIN, BoxKeyframe, interpolate, reduce_boxes


@st.composite
def wandering_boxes(draw: st.DrawFn, max_frames: int = 40) -> tuple[dict[int, Box], int]:
    """A box that drifts, turns, jitters and disappears now and then."""
    frame_count = draw(st.integers(1, max_frames))
    step = st.integers(-6, 6)
    x, y, width, height = 50.0, 50.0, 40.0, 30.0
    velocity_x = velocity_y = 0
    boxes = {}
    for frame in range(frame_count):
        if draw(st.integers(0, 4)) == 0:
            velocity_x, velocity_y = draw(step), draw(step)
        x, y = x + velocity_x + draw(st.sampled_from([0, 0, 0.5, -1])), y + velocity_y
        width, height = max(4.0, width + draw(st.integers(-1, 1))), max(4.0, height + draw(st.integers(-1, 1)))
        if draw(st.integers(0, 9)):
            boxes[frame] = Box(x, y, x + width, y + height)
    return boxes, frame_count


@given(wandering_boxes(), st.sampled_from([0.5, 0.75, 0.9, 0.97, 1.0]))
@settings(max_examples=200, deadline=None)
def test_interpolation_keeps_the_floor_and_the_visibility(case: tuple[dict[int, Box], int], floor: float) -> None:
    boxes, frame_count = case
    dense = interpolate(reduce_boxes(boxes, frame_count, floor), frame_count)
    assert dense.keys() == boxes.keys()
    for frame, box in boxes.items():
        assert dense[frame].iou(box) >= floor


@given(wandering_boxes())
@settings(max_examples=50, deadline=None)
def test_the_ends_of_each_visible_stretch_are_exact_keyframes(case: tuple[dict[int, Box], int]) -> None:
    boxes, frame_count = case
    keyframes = {keyframe.frame_index: keyframe for keyframe in reduce_boxes(boxes, frame_count, 0.9)}
    assert list(keyframes) == sorted(keyframes)
    for frame, box in boxes.items():
        if frame - 1 not in boxes:
            assert keyframes[frame].box == box
        if frame + 1 not in boxes:
            assert keyframes[frame].box == box
            assert keyframes[frame].visible == (frame == frame_count - 1)
        else:
            assert frame not in keyframes or keyframes[frame].visible


def fewest_by_brute_force(boxes: dict[int, Box], frame_count: int, floor: float) -> int:
    """The smallest number of keyframes over all subsets that hold the ends of the (single) stretch."""
    frames = sorted(boxes)
    inner = frames[1:-1]
    for count in range(len(inner) + 1):
        for chosen in itertools.combinations(inner, count):
            kept = sorted({frames[0], *chosen, frames[-1]})
            keyframes = [BoxKeyframe(f, boxes[f], f < frames[-1] or f == frame_count - 1) for f in kept]
            dense = interpolate(keyframes, frame_count)
            if all(dense[f].iou(boxes[f]) >= min(1, floor + MARGIN) for f in frames if f not in kept):
                return len(kept)
    raise AssertionError("keeping every frame always holds")


@given(wandering_boxes(max_frames=11), st.sampled_from([0.6, 0.8, 0.9]))
@settings(max_examples=150, deadline=None)
def test_no_smaller_set_of_keyframes_exists(case: tuple[dict[int, Box], int], floor: float) -> None:
    boxes, frame_count = case
    stretch: dict[int, Box] = {}
    for frame in range(frame_count):
        if frame in boxes:
            stretch[frame] = boxes[frame]
        elif stretch:
            break
    if stretch:
        assert len(reduce_boxes(stretch, frame_count, floor)) == fewest_by_brute_force(stretch, frame_count, floor)


def test_greedy_would_need_one_keyframe_more() -> None:
    """The farthest frame the first one reaches is a dead end here: the minimum stops earlier."""
    rng = np.random.default_rng(0)
    beaten = 0
    for _ in range(300):
        x = np.cumsum(rng.integers(-4, 9, 10)).astype(float)
        boxes = {frame: Box(v, 0, v + 40, 40) for frame, v in enumerate(x)}
        edges = np.array([(b.x1, b.y1, b.x2, b.y2) for b in boxes.values()])
        greedy, at = 1, 0
        while at < 9:
            at = max(j for j in range(at + 1, 10) if tracks._holds(edges, at, j, 0.8))
            greedy += 1
        minimal = len(reduce_boxes(boxes, 10, 0.8))
        assert minimal <= greedy
        beaten += minimal < greedy
    assert beaten > 0


def test_straight_motion_needs_two_keyframes_and_a_turn_three() -> None:
    straight = {f: Box(10 + 3 * f, 5, 50 + 3 * f, 45) for f in range(100)}
    assert [k.frame_index for k in reduce_boxes(straight, 100, 0.95)] == [0, 99]
    turn = {f: Box(3 * abs(f - 50), 5, 3 * abs(f - 50) + 40, 45) for f in range(100)}
    reduced = reduce_boxes(turn, 100, 0.999)
    assert [k.frame_index for k in reduced] == [0, 50, 99]


def test_a_thing_that_is_seen_once_and_comes_back() -> None:
    box = Box(0, 0, 10, 10)
    keyframes = reduce_boxes({2: box, 5: box, 6: box}, 8, 0.9)
    assert keyframes == [BoxKeyframe(2, box, False), BoxKeyframe(5, box, True), BoxKeyframe(6, box, False)]
    assert interpolate(keyframes, 8).keys() == {2, 5, 6}


def test_the_last_visible_keyframe_runs_to_the_end() -> None:
    box = Box(0, 0, 10, 10)
    assert interpolate([BoxKeyframe(1, box, True)], 4).keys() == {1, 2, 3}
    assert reduce_boxes({}, 4, 0.9) == []


@pytest.mark.parametrize(
    ("boxes", "floor"), [({4: Box(0, 0, 1, 1)}, 0.9), ({-1: Box(0, 0, 1, 1)}, 0.9), ({}, 0.0), ({}, 1.1)]
)
def test_frames_outside_the_video_and_senseless_floors_are_refused(boxes: dict[int, Box], floor: float) -> None:
    with pytest.raises(ValueError, match=r"frames|iou_floor"):
        reduce_boxes(boxes, 4, floor)


def _paths() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    t = np.arange(10_000)
    still = np.full(10_000, 300.0) + rng.normal(0, 0.5, 10_000)
    return {
        "walk": 300 + np.cumsum(rng.normal(0, 2, 10_000)),
        "swing": 300 + 200 * np.sin(t / 40) + rng.normal(0, 0.7, 10_000),
        "still": still,
        "jumps": still + 100 * (t // 1700),
        "noise": 300 + rng.normal(0, 30, 10_000),
    }


@pytest.mark.parametrize("name", ["walk", "swing", "still", "jumps", "noise"])
def test_ten_thousand_frames_are_quick(name: str) -> None:
    x = _paths()[name]
    boxes = {frame: Box(v, 100, v + 80, 180) for frame, v in enumerate(x.tolist())}
    begin = time.process_time()  # other tests may share the core
    keyframes = reduce_boxes(boxes, 10_000, 0.9)
    seconds = time.process_time() - begin
    print(f"{name}: {len(keyframes)} keyframes in {seconds:.2f} s")
    dense = interpolate(keyframes, 10_000)
    assert min(dense[frame].iou(box) for frame, box in boxes.items()) >= 0.9
    assert seconds < 10, "several times what the worst of these takes on a slow core"

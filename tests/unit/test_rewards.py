"""The rewards: the paper's equations on literal cases, and what no answer may gain by."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.settings import RewardSettings
from workers.learning.rewards import (
    box_reward,
    diversity_reward,
    format_reward,
    keyframe_reward,
    mask_reward,
    number_reward,
    saliency_reward,
)

W = RewardSettings()
MOMENT = '{"start_time": "00:01.00", "end_time": "00:01.50", "description": "the red circle"}'


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (f"<think>so</think><answer>{MOMENT}</answer>", 1.0),
        (f"<think>so</think>\n<answer>[{MOMENT}, {MOMENT}]</answer>\n", 1.0),
        (f"Sure! <think>so</think><answer>{MOMENT}</answer>", 0.0),
        (f"<think>so</think><answer>{MOMENT}</answer> as asked", 0.0),
        (f"<answer>{MOMENT}</answer>", 0.0),
        (f"<think></think><answer>{MOMENT}</answer>", 0.0),
        ("<think>so</think><answer></answer>", 0.0),
        ("<think>so</think><answer>none</answer>", 0.0),
        (f"<think>so</think><answer>{MOMENT.replace('00:01.00', '09:00.00')}</answer>", 0.0),
        (f"<think>so</think><answer>{MOMENT[:-1]}</answer>", 0.0),
    ],
)
def test_the_whole_completion_must_have_the_form(completion: str, expected: float) -> None:
    assert format_reward(completion, 4.0) == expected


@pytest.mark.parametrize(
    ("frames", "expected"),
    [([], 0.0), ([3], 0.1), ([3, 3], 0.1 - 0.2), ([1, 5, 9, 20], 0.4), ([1, 5, 5, 5], 0.2 - 0.4), ([9, 1, 9], 0.0)],
)
def test_diversity(frames: list[int], expected: float) -> None:
    assert diversity_reward(frames, W) == pytest.approx(expected)


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 0.4), (4, 1.6), (5, 0.8), (6, 0.4), (7, 0), (24, 0)])
def test_number(count: int, expected: float) -> None:
    frames = list(range(0, 5 * count, 5))
    assert number_reward(frames, W) == pytest.approx(expected)
    assert number_reward(frames * 2, W) == pytest.approx(expected)


def square(side: int, at: int = 0) -> Mask:
    picture = np.zeros((32, 32), bool)
    picture[at : at + side, at : at + side] = True
    return encode_mask(picture)


TRUTH = {0: square(10), 1: square(5), 2: square(10, 12)}


def test_saliency_is_the_share_of_the_largest_area() -> None:
    assert saliency_reward([0, 1], TRUTH) == pytest.approx((1 + 0.25) / 2)
    assert saliency_reward([0, 7], TRUTH) == pytest.approx(0.5)
    assert saliency_reward([], TRUTH) == 0
    assert saliency_reward([0], {}) == 0


def test_boxes_are_matched_one_to_one_and_extra_and_missing_ones_cost() -> None:
    left, right = Box(0, 0, 10, 10), Box(20, 0, 30, 10)
    half = Box(0, 0, 10, 5)
    assert box_reward([[right, left]], [[left, right]]) == 1
    assert box_reward([[left]], [[left, right]]) == 0.5
    assert box_reward([[left, right]], [[left]]) == 0.5
    assert box_reward([[half]], [[left]]) == 0.5
    assert box_reward([[left], []], [[left], [left]]) == 0.5
    assert box_reward([[]], [[]]) == 0
    assert box_reward([], []) == 0


def test_masks_are_the_mean_iou_of_the_union() -> None:
    parts = [{0: square(10)}, {1: square(5), 2: square(10)}]
    assert mask_reward(parts, TRUTH, 3) == pytest.approx((1 + 1 + 0) / 3, abs=0.03)
    assert mask_reward([TRUTH], TRUTH, 4) == 1
    assert mask_reward([{**TRUTH, 3: square(4)}], TRUTH, 4) == 0.75


def test_finding_nothing_is_never_paid() -> None:
    assert mask_reward([], {}, 5) == 0
    assert mask_reward([{}], {0: square(10)}, 5) == 0
    assert mask_reward([{0: square(0)}], {0: square(10)}, 5) == 0


frames_of = st.lists(st.integers(0, 23), max_size=30)


@given(frames_of, st.randoms())
def test_the_order_of_keyframes_does_not_matter(frames: list[int], random: "np.random.Generator") -> None:
    shuffled = frames[:]
    random.shuffle(shuffled)
    assert keyframe_reward(shuffled, TRUTH, W) == pytest.approx(keyframe_reward(frames, TRUTH, W))


@given(frames_of)
def test_no_choice_is_worth_more_than_the_wanted_number_of_the_best_frames(frames: list[int]) -> None:
    best = W.diversity * 0.4 + W.number * 1.6 + W.saliency * 1.0
    assert keyframe_reward(frames, TRUTH, W) <= best + 1e-9


@given(st.lists(st.integers(0, 23), min_size=1, max_size=30))
def test_naming_every_frame_as_well_gains_nothing_in_number_and_diversity(frames: list[int]) -> None:
    everything = list(range(24))

    def worth(chosen: list[int]) -> float:
        return diversity_reward(chosen, W) + number_reward(chosen, W)

    assert worth(everything) <= worth(list(dict.fromkeys(frames))[:4])


@given(frames_of, st.integers(0, 23))
def test_naming_a_frame_twice_costs(frames: list[int], again: int) -> None:
    once = [*frames, again]
    assert keyframe_reward([*once, again], {}, W) < keyframe_reward(once, {}, W)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5), st.permutations(range(5)))
def test_the_order_of_boxes_does_not_matter_and_rewards_are_bounded(
    corners: list[tuple[int, int]], order: list[int]
) -> None:
    boxes = [Box(x, y, x + 8, y + 6) for x, y in corners]
    true = [Box(4, 4, 12, 10), Box(15, 2, 23, 8)]
    shuffled = [boxes[i] for i in order if i < len(boxes)]
    value = box_reward([boxes], [true])
    assert value == pytest.approx(box_reward([shuffled], [true]))
    assert 0 <= value <= 1


@given(st.integers(1, 10), st.integers(1, 10))
def test_a_mask_nearer_to_the_truth_is_worth_more(one: int, other: int) -> None:
    small, large = sorted((one, other))
    worse, better = (mask_reward([{0: square(side)}], {0: square(10)}, 1) for side in (small, large))
    assert worse <= better <= 1

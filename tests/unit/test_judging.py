"""Judging a group: rewards of literal completions, with a System 2 and SAM2 that find what they are told to."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode
from backend.settings import RewardSettings
from workers.learning.downstream import Found, Keyframe
from workers.learning.items import Truth
from workers.learning.judging import Judge
from workers.learning.samples import Sample

FRAMES, FPS = 8, 2.0
TARGET = Box(2, 2, 10, 10)


def square(box: Box = TARGET) -> Mask:
    picture = np.zeros((16, 16), bool)
    picture[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
    return encode_mask(picture)


def sample(
    known: range = range(FRAMES), *, has_target: bool = True, description: str = "red circle", mode: Mode = Mode.VOS
) -> Sample:
    seen = [n for n in known if has_target]
    truth = Truth(
        {n: square() for n in seen}, dict.fromkeys(seen, (TARGET,)), frozenset(known), frozenset(range(FRAMES))
    )  # fmt: skip
    frames = torch.zeros(FRAMES, 16, 16, 3, dtype=torch.uint8)
    ids = torch.zeros(1, dtype=torch.long)
    return Sample(
        0, "item", "kind", "what?", description if has_target else "", has_target, ids, {}, frames, FPS, truth, mode
    )


def says(*starts: float, description: str = "red circle") -> str:
    items = [
        f'{{"start_time": "00:{s:05.2f}", "end_time": "00:{s:05.2f}", "description": "{description}"}}' for s in starts
    ]  # fmt: skip
    return f"<think>so</think><answer>{' '.join(items)}</answer>"


#: As of a single image, where no time is asked for.
DESCRIBES = '<think>so</think><answer>{"description": "red circle"}</answer>'
NONE = "<think>nothing like it</think><answer></answer>"


@dataclass
class Finds:
    """Boxes by description: the target for the right words, another place for others; SAM2 fills the box everywhere."""

    away: bool = False
    asked: list[tuple[list[list[Keyframe]], bool]] = field(default_factory=list)

    def follow(self, frames: Any, rollouts: Sequence[Sequence[Keyframe]], *, segment: bool) -> list[Found] | None:
        assert frames.shape == (FRAMES, 16, 16, 3)
        self.asked.append(([list(keyframes) for keyframes in rollouts], segment))
        if self.away:
            return None
        found = []
        for keyframes in rollouts:
            boxes = tuple((TARGET if k.description == "red circle" else Box(11, 11, 15, 15),) for k in keyframes)
            tracks = tuple({n: square(box) for n in range(FRAMES)} for here in boxes for box in here)
            found.append(Found(boxes, tracks if segment else None))
        return found


def test_a_group_is_asked_about_once_and_only_what_the_pipeline_would_go_on_with() -> None:
    finds = Finds()
    group = [says(0, 1, 2), says(0, 0.5, 1, 1.5, 2, 3, 3.5), says(1, 1.25), "no answer"]
    Judge(finds, RewardSettings(), 4).judge(sample(), group)
    [(rollouts, segment)] = finds.asked
    assert segment
    assert [[k.position for k in keyframes] for keyframes in rollouts] == [[0, 2, 4], [0, 2, 4, 7], [2], []]


def test_the_parts_of_a_right_and_of_a_wrong_answer() -> None:
    right, wrong, mute = Judge(Finds(), RewardSettings(boxes=1), 4).judge(
        sample(), [says(0, 1, 2, 3), says(0, 1, 2, 3, description="blue star"), "no answer"]
    )
    assert (right.reward.format, right.reward.boxes, right.reward.masks) == (1, 1, 1)
    assert right.reward.keyframes == pytest.approx(0.4 + 1.6 + 1.0)
    assert right.reward.total(RewardSettings(boxes=1)) == pytest.approx(6.0)
    assert right.similarity is not None
    assert right.similarity.jf == 1
    assert right.right
    assert (wrong.reward.format, wrong.reward.boxes, wrong.reward.masks) == (1, 0, 0)
    assert not wrong.right
    assert (mute.reward.format, mute.reward.boxes, mute.reward.masks, mute.moments) == (0, 0, 0, 0)
    assert mute.reward.total(RewardSettings(boxes=1)) == 0


def test_an_outage_is_no_zero() -> None:
    [one] = Judge(Finds(away=True), RewardSettings(boxes=1), 4).judge(sample(), [says(0, 1, 2, 3)])
    assert not one.answered
    assert one.reward.boxes is None
    assert one.reward.masks is None
    assert one.similarity is None
    assert one.reward.weighted(RewardSettings(boxes=1)) == {
        "format": 1, "keyframes": pytest.approx(3.0), "boxes": None, "masks": None, "absent": 0, "aid": 0,
    }  # fmt: skip


def test_where_the_truth_is_not_known_nothing_is_right_or_wrong() -> None:
    """Masks known on frames 0 to 3 alone; what is chosen beyond doesn't count for saliency."""
    [one] = Judge(Finds(), RewardSettings(), 4).judge(sample(range(4)), [says(0, 3)])
    assert one.reward.masks == 1
    assert one.reward.keyframes == pytest.approx(0.2 + 0.8 + 1.0)
    [blind] = Judge(Finds(), RewardSettings(), 4).judge(sample(range(0)), [says(0, 3)])
    assert blind.reward.masks is None
    assert blind.answered


def test_inventing_a_target_earns_nothing_and_saying_there_is_none_earns_its_own_weight() -> None:
    weights = RewardSettings(boxes=1, absent=2)
    invented, honest, garbled = Judge(Finds(), weights, 4).judge(
        sample(has_target=False), [says(0, 1, 2, 3), NONE, "<answer></answer>"]
    )
    assert invented.reward.total(weights) == 0
    assert honest.reward.total(weights) == 2
    assert honest.reward.total(RewardSettings()) == 0, "the paper has no such answer"
    assert garbled.reward.total(weights) == 0
    assert honest.right
    assert not invented.right
    [missed] = Judge(Finds(), weights, 4).judge(sample(), [NONE])
    assert missed.reward.total(weights) == 0


def test_in_mode_aid_boxes_alone_are_paid_beside_the_form() -> None:
    """The paper's RefAID: no keyframes to choose, and SAM2 isn't asked."""
    finds, weights = Finds(), RewardSettings(aid=0.5, boxes=3, absent=2)
    one = sample(mode=Mode.AID)
    right, wrong, garbled = Judge(finds, weights, 4).judge(one, [DESCRIBES, says(0, description="blue"), "nonsense"])
    assert [segment for _, segment in finds.asked] == [False]
    assert right.reward.weighted(weights) == {
        "format": 1, "keyframes": 0, "boxes": None, "masks": None, "absent": 0, "aid": 0.5,
    }  # fmt: skip
    assert (wrong.reward.total(weights), garbled.reward.total(weights)) == (1, 0)
    assert right.right
    [of_a_clip] = Judge(finds, weights, 4).judge(sample(), [DESCRIBES])
    assert of_a_clip.reward.format == 0, "of a clip a moment is asked for"
    finds.asked.clear()
    [none] = Judge(finds, weights, 4).judge(sample(mode=Mode.AID, has_target=False), [NONE])
    assert none.reward.total(weights) == 2
    # Where it earns nothing, and where only J&F is wanted, nobody is asked.
    for judge in (Judge(finds, RewardSettings(aid=0), 4), Judge(finds, weights, 4, masks=True)):
        finds.asked.clear()
        [unasked] = judge.judge(one, [DESCRIBES])
        assert (finds.asked, unasked.answered, unasked.similarity) == ([], True, None)
    [blind] = Judge(Finds(away=True), weights, 4).judge(one, [DESCRIBES])
    assert (blind.answered, blind.reward.aid) == (False, None)


@pytest.mark.parametrize(
    ("weights", "masks", "asked"),
    [
        (RewardSettings(), None, [True]),
        (RewardSettings(masks=0, boxes=1), None, [False]),
        (RewardSettings(masks=0), None, []),
        (RewardSettings(masks=0), True, [True]),
        (RewardSettings(boxes=1), False, []),
    ],
)
def test_only_what_has_a_weight_is_asked_for(weights: RewardSettings, masks: bool | None, asked: list[bool]) -> None:
    finds = Finds()
    [one] = Judge(finds, weights, 4, masks=masks).judge(sample(), [says(1)])
    assert [segment for _, segment in finds.asked] == asked
    assert one.answered

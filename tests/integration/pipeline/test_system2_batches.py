"""System 2 on more pictures than go into a batch: what each gets is what it gets in one batch with all others."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from backend.profiles import load_profile
from workers.pipeline.engines import Completion, Prompt
from workers.pipeline.engines.thinker import Thinker
from workers.pipeline.system2 import Grounding, System2
from workers.shapeworld.training.system2.validation import Case, cases
from workers.shapeworld.world.levels import HARD
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow
COUNT = 11


class Counting:
    """The engine, and how many prompts each call brought it."""

    def __init__(self, engine: Thinker) -> None:
        self._engine, self.calls = engine, list[int]()

    @property
    def sample_rate_hz(self) -> int:
        return self._engine.sample_rate_hz

    @property
    def size_multiple_px(self) -> int:
        return self._engine.size_multiple_px

    def generate(self, prompts: Sequence[Prompt], **options: Any) -> list[Completion]:
        self.calls.append(len(prompts))
        completions: list[Completion] = self._engine.generate(prompts, **options)
        return completions


@pytest.fixture(scope="module")
def engine() -> Thinker:
    profile = load_profile("shapeworld").system2
    assert profile.weights is not None
    return Thinker(profile.weights, profile.dtype, "cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Case]:
    """Of four aspects, with one thing or several to find, so that answers end at different lengths."""
    found = cases((Kind.ATTRIBUTE, Kind.PLURAL), HARD, COUNT)
    assert len({case.image.shape for case in found}) == 4
    return found


def grounded(engine: Thinker, pictures: Sequence[Case], batch_size: int) -> tuple[list[Grounding], list[int]]:
    counting = Counting(engine)
    profile = load_profile("shapeworld").system2.model_copy(update={"batch_size": batch_size})
    found = System2(counting, profile).ground([p.image for p in pictures], [p.description for p in pictures])
    return found, counting.calls


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_several_batches_ground_as_one_does_and_in_the_same_order(
    engine: Thinker, pictures: list[Case], batch_size: int
) -> None:
    expected, [whole] = grounded(engine, pictures, COUNT)
    found, calls = grounded(engine, pictures, batch_size)
    assert whole == COUNT
    assert len(calls) == math.ceil(COUNT / batch_size)
    assert calls == [batch_size] * (COUNT // batch_size) + [rest for rest in [COUNT % batch_size] if rest]
    assert [one.raw_output for one in found] == [one.raw_output for one in expected]
    assert [one.warnings for one in found] == [one.warnings for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [(box.box_xyxy_px, box.label) for box in one.boxes] == [
            (box.box_xyxy_px, box.label) for box in other.boxes
        ]
        # Another batch is padded otherwise, and its sums are rounded otherwise.
        for box, same in zip(one.boxes, other.boxes, strict=True):
            assert (box.score, box.lowest) == pytest.approx((same.score, same.lowest), abs=1e-5)
    # Order can be told by them: no two pictures get the same answer.
    assert len({one.raw_output for one in expected}) == COUNT
    assert all(one.boxes for one in expected)


def test_a_picture_gets_its_own_words_and_its_own_size(engine: Thinker, pictures: list[Case]) -> None:
    """Backwards everything comes back backwards, in source pixels of the picture it belongs to."""
    forward, _ = grounded(engine, pictures, 4)
    backward, _ = grounded(engine, pictures[::-1], 4)
    assert [one.raw_output for one in backward[::-1]] == [one.raw_output for one in forward]
    for case, one, other in zip(pictures, forward, backward[::-1], strict=True):
        assert [box.box_xyxy_px for box in one.boxes] == [box.box_xyxy_px for box in other.boxes]
        height, width = case.image.shape[:2]
        assert all(box.box_xyxy_px.x2 <= width and box.box_xyxy_px.y2 <= height for box in one.boxes)
    single = [(case, one.boxes) for case, one in zip(pictures, forward, strict=True) if len(case.boxes_xyxy_px) == 1]
    assert len(single) >= 5
    for case, [found] in single:
        assert case.boxes_xyxy_px[0].iou(found.box_xyxy_px) > 0.7


def test_no_picture_is_no_call(engine: Thinker) -> None:
    assert grounded(engine, [], 4) == ([], [])

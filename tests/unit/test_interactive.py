"""Masks on demand: what a labeler clicks becomes prompts in pixels, and what is kept in memory is bounded."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from backend.domain.errors import BadInput, InvalidEvent
from backend.domain.masks import from_counts
from backend.domain.prompts import Click, ThingPrompt
from backend.ports import SuggestedMask
from integrations.label_studio.config import PAGES, labeling_config
from integrations.label_studio.suggestions import Question, prompts_of, read_question
from integrations.masks.wire import Asked, asked_json, asked_of, masks_json, masks_of
from workers.pipeline.pages import Page, PageCache

SIZE = (640, 360)
PERCENT = st.floats(0, 100)


def region(kind: str, page: int = 0, **more: Any) -> dict[str, Any]:
    positive = {"is_positive": more.pop("is_positive")} if "is_positive" in more else {}
    return {"id": "p", "type": kind, "to_name": PAGES, "item_index": page, "value": more, **positive}


def body(*regions: dict[str, Any], pages: list[int] | None = None) -> bytes:
    task = {"id": 7, "data": {"keyframe_frame_indices": [10, 30] if pages is None else pages}}
    return json.dumps({"tasks": [task], "project": "5.1", "label_config": labeling_config([], interactive=True),
                       "params": {"context": {"result": list(regions)}}}).encode()  # fmt: skip


def question(*regions: dict[str, Any]) -> Question:
    found = read_question(body(*regions))
    assert found is not None
    return found


@given(x=PERCENT, y=PERCENT, positive=st.booleans())
def test_percent_become_pixels(x: float, y: float, positive: bool) -> None:
    click = region("keypoint", x=x, y=y, is_positive=positive)
    anchor = region("rectangle", x=0, y=0, width=100, height=100)
    [prompt] = prompts_of(question(anchor, click), SIZE)
    assert prompt.box_xyxy_px == Box(0, 0, 640, 360)
    [made] = prompt.clicks
    assert (made.x_px, made.y_px) == pytest.approx((x * 6.4, y * 3.6))
    assert made.positive is positive


def test_the_last_prompt_says_the_page_and_others_pages_are_left_out() -> None:
    found = question(region("keypoint", 0, x=1, y=1), region("keypoint", 1, x=50, y=50))
    assert (found.page, found.frame_index, found.project_id, found.task_id) == (1, 30, 5, 7)
    assert prompts_of(found, SIZE) == [ThingPrompt((Click(320, 180),))]


def test_negative_clicks_alone_ask_for_nothing() -> None:
    assert prompts_of(question(region("keypoint", x=1, y=1, is_positive=False)), SIZE) == []


def test_what_cannot_be_answered_is_refused() -> None:
    assert read_question(body()) is None
    with pytest.raises(InvalidEvent):
        read_question(b"[]")
    with pytest.raises(BadInput, match="no keyframe page 1"):
        read_question(body(region("keypoint", x=1, y=1), pages=[]))
    with pytest.raises(BadInput, match="outside"):
        prompts_of(question(region("keypoint", x=120, y=1)), SIZE)


def test_the_wire_loses_nothing() -> None:
    prompt = ThingPrompt((Click(1.5, 2.25), Click(3, 4, False)), Box(0, 1, 2, 3))
    asked = Asked("b", "k", SIZE, "d", [prompt], 5.0)
    assert asked_of(json.loads(json.dumps(asked_json(asked)))) == asked
    masks = [None, SuggestedMask(from_counts("04", 2, 2), 0.5)]
    assert masks_of(json.loads(json.dumps(masks_json(masks)))) == masks
    with pytest.raises(ValueError, match="doesn't ask"):
        asked_of({"prompts": [{"clicks": [], "box": None}]})


def test_the_cache_drops_what_was_looked_at_longest_ago() -> None:
    def page() -> Page:
        return Page(([torch.zeros(256)], [], []), (1, 1))

    cache = PageCache(2 * 1024)
    for key in "ab":
        cache.get(key, page)
    cache.get("a", page)
    cache.get("c", page)
    assert [key in cache for key in "abc"] == [True, False, True]
    small = PageCache(0)
    small.get("a", page)
    assert len(small) == 1

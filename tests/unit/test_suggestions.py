"""Label Studio's questions for a mask, read and answered: places, labels, ids, and what is no question."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from backend.domain.corrected import plan
from backend.domain.corrections import Change, Layer, compare
from backend.domain.errors import BadInput, InvalidEvent
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.prompts import Click, ThingPrompt
from backend.domain.windows import Window
from backend.ports.pipeline import SuggestedMask
from integrations.label_studio import bitmask
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.suggestions import Question, answer, drawn_again, prompts_of, read_question
from tests.factories.clickable import PAGES, box_region, click_regions, predict_body

SIZE = (640, 360)


def question(*regions: Any, **more: Any) -> Question:
    found = read_question(json.dumps(predict_body(regions, **more)).encode())
    assert found is not None
    return found


def square(x: int, y: int, side: int = 40) -> np.ndarray:
    pixels = np.zeros((SIZE[1], SIZE[0]), bool)
    pixels[y : y + side, x : x + side] = True
    return pixels


def mask_region(region_id: str, pixels: np.ndarray, page: int = 0, label: str = "target") -> dict[str, Any]:
    return {
        "id": region_id, "type": "bitmasklabels", "from_name": "mask", "to_name": "keyframes", "item_index": page,
        "value": {"imageDataURL": bitmask.to_data_url(encode_mask(pixels)), "bitmasklabels": [label]},
    }  # fmt: skip


def answered(asked: Question, pixels: np.ndarray) -> dict[str, Any]:
    [result] = answer(asked, [SuggestedMask(encode_mask(pixels), 0.9)])["results"]
    [region] = result["result"]
    return dict(region)


places = st.tuples(st.floats(0, SIZE[0]), st.floats(0, SIZE[1]))


@given(st.lists(st.tuples(places, st.booleans()), min_size=1, max_size=5), st.integers(0, 2))
def test_clicks_are_where_they_were_made(made: list[tuple[tuple[float, float], bool]], page: int) -> None:
    clicks = [Click(x, y, positive) for (x, y), positive in made]
    regions = [entry for n, click in enumerate(clicks) for entry in click_regions(click, SIZE, page, n)]
    asked = question(*regions)
    assert (asked.page, asked.frame_index) == (page, PAGES[page])
    if not any(click.positive for click in clicks):
        assert prompts_of(asked, SIZE) == []
        return
    [prompt] = prompts_of(asked, SIZE)
    assert [click.positive for click in prompt.clicks] == [click.positive for click in clicks]
    for got, wanted in zip(prompt.clicks, clicks, strict=True):
        assert (got.x_px, got.y_px) == pytest.approx((wanted.x_px, wanted.y_px), abs=1e-9)


@given(places, st.floats(1, 200), st.floats(1, 200))
def test_boxes_are_where_they_were_drawn_as_far_as_the_page_goes(
    corner: tuple[float, float], width: float, height: float
) -> None:
    x, y = min(corner[0], SIZE[0] - 1), min(corner[1], SIZE[1] - 1)
    [prompt] = prompts_of(question(box_region(Box(x, y, x + width, y + height), SIZE, 0)), SIZE)
    box = prompt.box_xyxy_px
    assert box is not None
    wanted = (x, y, min(x + width, SIZE[0]), min(y + height, SIZE[1]))
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx(wanted, abs=1e-6)


def test_a_turned_rectangle_becomes_the_box_around_it() -> None:
    # Around its upper left corner by a right angle: it lies to the left of that corner then.
    [prompt] = prompts_of(question(box_region(Box(200, 100, 260, 120), SIZE, 0, rotation=90)), SIZE)
    box = prompt.box_xyxy_px
    assert box is not None
    assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx((180, 100, 200, 160))


def test_each_box_is_a_thing_and_clicks_go_with_the_last() -> None:
    boxes = [box_region(Box(10, 10, 60, 60), SIZE, 0, 1), box_region(Box(100, 100, 160, 160), SIZE, 0, 2)]
    click = click_regions(Click(120, 120), SIZE, 0)
    first, last = prompts_of(question(*boxes, *click), SIZE)
    assert (first.clicks, len(last.clicks)) == ((), 1)


def test_only_the_page_of_the_last_prompt_is_meant() -> None:
    earlier, last = click_regions(Click(10, 10), SIZE, 0, 1), click_regions(Click(20, 20), SIZE, 2, 2)
    asked = question(*earlier, *last)
    assert asked.page == 2
    [prompt] = prompts_of(asked, SIZE)
    assert len(prompt.clicks) == 1


def test_a_thing_must_be_somewhere() -> None:
    with pytest.raises(ValueError, match="where the thing is"):
        ThingPrompt((Click(1, 1, False),))


@pytest.mark.parametrize(
    "body",
    [
        predict_body(None),  # Label Studio wants predictions of its own accord
        predict_body([]),  # the last prompt was taken away
        predict_body([mask_region("m", square(5, 5))]),
        {**predict_body(click_regions(Click(1, 1), SIZE, 0)), "tasks": []},
    ],
)
def test_what_is_no_question_has_no_answer(body: dict[str, Any]) -> None:
    """An empty result would become a prediction without regions, of a task that is to have none."""
    asked = read_question(json.dumps(body).encode())
    assert asked is None
    assert answer(asked, []) == {"results": []}


CLICK = click_regions(Click(1, 1), SIZE, 0)


@pytest.mark.parametrize(
    "body",
    [b"no json", b"[]", b"{}", b'{"tasks": 3}', json.dumps({**predict_body(CLICK), "project": "x"}).encode()],
)
def test_what_label_studio_never_sends_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        read_question(body)


@pytest.mark.parametrize("data", [{}, {"keyframe_frame_indices": []}, {"keyframe_frame_indices": ["x"]}])
def test_a_task_without_that_page_is_none_of_ours(data: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="no keyframe page 1 of ours"):
        read_question(json.dumps(predict_body(CLICK, data=data)).encode())


@pytest.mark.parametrize(
    "region",
    [
        *click_regions(Click(700, 5), SIZE, 0),
        {**click_regions(Click(1, 1), SIZE, 0)[0], "value": {"x": "left"}},
        box_region(Box(700, 5, 760, 10), SIZE, 0),
    ],
)
def test_a_prompt_outside_the_page_or_of_nonsense_is_refused(region: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        prompts_of(question(region), SIZE)


def test_a_suggestion_is_a_mask_of_the_page_pixel_by_pixel() -> None:
    region = answered(question(*click_regions(Click(30, 30), SIZE, 1)), square(20, 20))
    assert (region["type"], region["from_name"], region["to_name"]) == ("bitmasklabels", "mask", "keyframes")
    assert (region["item_index"], region["original_width"], region["original_height"]) == (1, *SIZE)
    assert np.array_equal(decode_mask(bitmask.from_data_url(region["value"]["imageDataURL"])), square(20, 20))
    assert drawn_again(region["id"]) is None


def test_nothing_found_is_a_result_without_regions() -> None:
    asked = question(*click_regions(Click(30, 30), SIZE, 1))
    assert answer(asked, [None]) == {"results": [{"result": [], "score": 0.0}]}


def test_a_suggestion_names_the_mask_it_draws_again_but_never_takes_its_id() -> None:
    """The labeling page breaks at the id of a region that is there."""
    shown = [mask_region("run7-track0-frame4", square(20, 20)), mask_region("run7-track1-frame4", square(300, 200))]
    region = answered(question(*click_regions(Click(30, 30), SIZE, 0), shown=shown), square(25, 22))
    assert region["id"] != "run7-track0-frame4"
    assert drawn_again(region["id"]) == "run7-track0-frame4"
    # Of a suggestion that was accepted the next one is another drawing of the same mask.
    again = answered(question(*click_regions(Click(30, 30), SIZE, 0), shown=[region]), square(25, 22))
    assert drawn_again(again["id"]) == "run7-track0-frame4"
    elsewhere = answered(question(*click_regions(Click(30, 30), SIZE, 0), shown=shown), square(100, 200))
    assert drawn_again(elsewhere["id"]) is None
    on_another_page = answered(question(*click_regions(Click(30, 30), SIZE, 1), shown=shown), square(20, 20))
    assert drawn_again(on_another_page["id"]) is None


@pytest.mark.parametrize(
    ("chosen", "of_the_mask", "expected"),
    [("cup", "plate", "cup"), (None, "plate", "plate"), (None, None, "target"), ("unknown", None, "target")],
)
def test_the_label_is_one_of_the_configuration(chosen: str | None, of_the_mask: str | None, expected: str) -> None:
    shown = [] if of_the_mask is None else [mask_region("m", square(20, 20), label=of_the_mask)]
    asked = question(*click_regions(Click(30, 30), SIZE, 0, label=chosen), shown=shown, labels=["cup", "plate"])
    assert answered(asked, square(20, 20))["value"]["bitmasklabels"] == [expected]


def test_without_labels_there_is_no_answer() -> None:
    asked = replace(question(*CLICK), config=read_config("<View/>"))
    with pytest.raises(BadInput, match="no labels"):
        answered(asked, square(20, 20))


def test_the_configuration_has_the_tools_only_where_they_are_wanted() -> None:
    with_tools, without = (read_config(labeling_config(["cup"], interactive=wanted)) for wanted in (True, False))
    assert (with_tools.interactive, without.interactive) == (True, False)
    assert with_tools.mask_labels == without.mask_labels == ("target", "cup")


SENT = [mask_region("run7-track0-frame4", square(20, 20)), mask_region("run7-track0-frame10", square(60, 60), page=1)]
BOX = {
    "id": "run7-track0", "type": "videorectangle", "from_name": "box", "to_name": "video",
    "value": {"labels": ["target"], "sequence": [
        {"frame": 1, "enabled": True, "rotation": 0, "time": 0, "x": 3, "y": 5, "width": 7, "height": 12}]},
}  # fmt: skip
TRACKS = {"run7-track0": 0, "run7-track0-frame4": 0, "run7-track0-frame10": 0}


def layer(*regions: dict[str, Any]) -> Layer:
    return layer_of([BOX, *regions], SIZE, Window(0, 20), PAGES, TRACKS)


def test_an_accepted_suggestion_in_the_place_of_a_mask_is_that_mask_changed() -> None:
    accepted = mask_region("run7-track0-frame4-again0123abcd", square(25, 20))
    made = compare(layer(*SENT), layer(SENT[1], accepted))
    [first, second] = made.masks
    assert (first.region_id, first.change) == ("run7-track0-frame4", Change.EDITED)
    assert (first.pixels_added, first.pixels_removed) == (200, 200)
    assert second.change is Change.UNTOUCHED


def test_beside_the_mask_it_is_one_more_of_its_track_however_far_from_its_box() -> None:
    far = square(400, 200)
    accepted = mask_region("run7-track0-frame4-again0123abcd", far)
    sent, returned = layer(*SENT), layer(*SENT, accepted)
    made = compare(sent, returned)
    assert [one.change for one in made.masks] == [Change.UNTOUCHED, Change.UNTOUCHED, Change.ADDED]
    [track] = plan(sent, returned, made, {0: "target"}, lambda *_: None)
    assert np.array_equal(decode_mask(track.drawn[4]), square(20, 20) | far)


def test_in_the_place_of_a_mask_the_track_is_carried_anew_from_what_was_accepted() -> None:
    accepted = mask_region("run7-track0-frame4-again0123abcd", square(25, 20))
    sent, returned = layer(*SENT), layer(SENT[1], accepted)
    [track] = plan(sent, returned, compare(sent, returned), {0: "target"}, lambda *_: None)
    assert np.array_equal(decode_mask(track.drawn[4]), square(25, 20))
    assert [carry.frame_index for carry in track.carries] == [4]


def test_clicks_and_boxes_that_were_left_behind_say_nothing() -> None:
    """With a label chosen, a click has an entry of a mask's kind without a mask."""
    left = [*click_regions(Click(30, 30), SIZE, 0, label="target"), box_region(Box(5, 5, 50, 50), SIZE, 0)]
    assert layer(*SENT, *left) == layer(*SENT)
    torn = {**SENT[0], "value": {"bitmasklabels": ["target"]}}
    with pytest.raises(BadInput, match="imageDataURL"):
        layer(torn)

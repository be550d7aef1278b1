"""A run as a prediction and back; what validation refuses; the text beside the video; the configuration."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.runs import Mode
from backend.domain.tracks import interpolate
from integrations.label_studio import bitmask
from integrations.label_studio import task_data as task_data_module
from integrations.label_studio.config import DEFAULT_LABEL, KnownConfig, labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import box_keyframes_of, mask_of, prediction
from integrations.label_studio.task_data import (
    PAGE_FRAMES_FIELD,
    VFR_WARNING,
    guide_html,
    task_data,
)
from integrations.label_studio.validate import check_prediction
from tests.factories import moving_square

CONFIG = read_config(labeling_config(["square"]))
ITEM = moving_square.item()
RATE = frame_rate(ITEM.probe)


def body() -> dict[str, Any]:
    return prediction(ITEM, CONFIG, RATE, moving_square.KEYFRAMES)


def test_the_track_comes_back_box_by_box() -> None:
    region = body()["result"][0]
    keyframes = box_keyframes_of(region, moving_square.WIDTH, moving_square.HEIGHT)
    dense = interpolate(keyframes, moving_square.FRAME_COUNT)
    assert dense.keys() == set(moving_square.VISIBLE)
    assert all(dense[frame].iou(moving_square.truth(frame)) >= 0.9 for frame in dense)


def test_the_region_says_what_label_studio_needs() -> None:
    region = body()["result"][0]
    first, last = region["value"]["sequence"][0], region["value"]["sequence"][-1]
    assert first["frame"] == moving_square.VISIBLE[0] + 1
    assert first["enabled"] is True
    assert (last["frame"], last["enabled"]) == (moving_square.VISIBLE[-1] + 1, False)
    assert all(entry["rotation"] == 0 for entry in region["value"]["sequence"])
    assert first["time"] == pytest.approx(first["frame"] / 25)
    assert region["value"]["framesCount"] == moving_square.FRAME_COUNT
    assert region["value"]["labels"] == [DEFAULT_LABEL]
    assert region["meta"] == {"text": ["the bright square"]}
    assert region["score"] == body()["score"] == 0.87


def test_masks_stand_on_their_pages_and_come_back_pixel_by_pixel() -> None:
    masks = [region for region in body()["result"] if region["type"] == "bitmasklabels"]
    assert [region["item_index"] for region in masks] == [0, 1, 2]
    for region, frame in zip(masks, moving_square.KEYFRAMES, strict=True):
        assert np.array_equal(decode_mask(mask_of(region)), moving_square.mask(frame))
        assert (region["original_width"], region["original_height"]) == (moving_square.WIDTH, moving_square.HEIGHT)


@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40))))
@settings(deadline=None)
def test_any_mask_comes_back_from_its_picture(pixels: np.ndarray) -> None:
    assert np.array_equal(decode_mask(bitmask.from_data_url(bitmask.to_data_url(encode_mask(pixels)))), pixels)


@pytest.mark.parametrize(
    "url", ["", "data:image/png;base64,", "data:image/png;base64,@@@@", "data:image/jpeg;base64,AAAA", "s3://b/k"]
)
def test_what_is_no_picture_is_refused(url: str) -> None:
    with pytest.raises(BadInput):
        bitmask.from_data_url(url)


def test_a_project_label_of_the_tracks_name_is_used() -> None:
    track = replace(ITEM.tracks[0], label=" Square ")
    made = prediction(replace(ITEM, tracks=(track,)), CONFIG, RATE, moving_square.KEYFRAMES)
    assert made["result"][0]["value"]["labels"] == ["square"]


def test_a_sound_prediction_is_valid() -> None:
    check_prediction(body(), CONFIG, moving_square.FRAME_COUNT, len(moving_square.KEYFRAMES))


def sequence(found: dict[str, Any]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = found["result"][0]["value"]["sequence"]
    return entries


SPOIL: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "unknown label": (lambda b: b["result"][0]["value"].update(labels=["cat"]), "no label 'cat'"),
    "unknown mask label": (lambda b: b["result"][1]["value"].update(bitmasklabels=["cat"]), "no label 'cat'"),
    "two labels": (lambda b: b["result"][0]["value"].update(labels=["target", "square"]), "2 labels"),
    "unknown control": (lambda b: b["result"][0].update(from_name="boxes"), "no boxes"),
    "control of another object": (lambda b: b["result"][1].update(to_name="video"), "on video"),
    "x beyond the frame": (lambda b: sequence(b)[0].update(x=99.0), "don't lie in the frame"),
    "negative y": (lambda b: sequence(b)[0].update(y=-1.0), "don't lie in the frame"),
    "no width": (lambda b: sequence(b)[0].update(width=0.0), "don't lie in the frame"),
    "not a number": (lambda b: sequence(b)[0].update(x=float("nan")), "x is nan"),
    "frame 0": (lambda b: sequence(b)[0].update(frame=0), "frame 0 of 60"),
    "frame past the end": (lambda b: sequence(b)[-1].update(frame=61), "frame 61 of 60"),
    "frames not ascending": (lambda b: sequence(b)[1].update(frame=sequence(b)[0]["frame"]), "follows"),
    "no rotation": (lambda b: sequence(b)[0].pop("rotation"), "rotation"),
    "no keyframe": (lambda b: sequence(b).clear(), "no keyframe"),
    "page past the end": (lambda b: b["result"][1].update(item_index=3), "page 3 of 3"),
    "an id twice": (lambda b: b["result"][1].update(id=b["result"][0]["id"]), "twice"),
    "score not a number": (lambda b: b["result"][0].update(score=float("inf")), "score"),
    "too large": (lambda b: b["result"][1]["value"].update(imageDataURL="x" * 50_000_001), "bytes"),
}


@pytest.mark.parametrize("name", SPOIL)
def test_validation_refuses(name: str) -> None:
    spoil, message = SPOIL[name]
    spoiled = deepcopy(body())
    spoil(spoiled)
    with pytest.raises(BadInput, match=message) as refusal:
        check_prediction(spoiled, CONFIG, moving_square.FRAME_COUNT, len(moving_square.KEYFRAMES))
    assert refusal.value.code == "invalid_prediction"


def test_text_of_people_and_models_stays_text() -> None:
    """Neither markup, nor an address that Label Studio would turn into a link to the storage."""
    hostile = "<script>alert(1)</script> s3://premask/secret.mp4 & 'quotes'"
    item = replace(
        ITEM,
        instruction=hostile,
        reasoning=hostile,
        pages=tuple(replace(page, description=hostile) for page in ITEM.pages),
        tracks=(replace(ITEM.tracks[0], label=hostile),),
    )
    html = guide_html(item, RATE, moving_square.KEYFRAMES)
    assert "<script" not in html
    assert "s3://" not in html
    assert html.count("&lt;script&gt;") == 6


def test_a_variable_rate_is_written_beside_the_video() -> None:
    assert VFR_WARNING not in guide_html(ITEM, RATE, moving_square.KEYFRAMES)
    assert VFR_WARNING in guide_html(ITEM, replace(RATE, constant=False), moving_square.KEYFRAMES)


def test_pages_of_a_later_run_are_added_and_none_moves() -> None:
    first = task_data(ITEM, RATE)
    later = replace(
        ITEM,
        run_id=8,
        pages=(replace(ITEM.pages[0], frame_index=5, image_uri="s3://bucket/run8/5.png"), ITEM.pages[1]),
    )
    second = task_data(later, RATE, first)
    assert first[PAGE_FRAMES_FIELD] == [10, 30, 48]
    assert second[PAGE_FRAMES_FIELD] == [10, 30, 48, 5]
    assert second["keyframes"] == [*first["keyframes"], "s3://bucket/run8/5.png"]
    assert "page 4 " in second["guide"]


def test_a_task_without_keyframes_has_a_page_until_there_are_some() -> None:
    empty = task_data(moving_square.without_target(ITEM), RATE)
    assert len(empty["keyframes"]) == 1
    assert empty[PAGE_FRAMES_FIELD] == []
    assert "found nothing" in empty["guide"]
    assert task_data(ITEM, RATE, empty)["keyframes"] == task_data(ITEM, RATE)["keyframes"]


def test_the_configuration_offers_its_labels() -> None:
    awkward = ['a "quoted" & <odd> one', "square"]
    assert read_config(labeling_config(awkward)) == KnownConfig((DEFAULT_LABEL, *awkward), (DEFAULT_LABEL, *awkward))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<VideoRectangle name="box" toName="video"/>', ""),
        ('value="$video"', 'value="$movie"'),
        ('valueList="$keyframes"', 'valueList="$pages"'),
        ('<Labels name="label"', '<Labels name="labels"'),
    ],
)
def test_a_configuration_that_lacks_a_part_shows_nothing_of_ours(old: str, new: str) -> None:
    xml = labeling_config([])
    assert old in xml
    assert not read_config(xml.replace(old, new)).shows([DEFAULT_LABEL])


def test_a_configuration_that_is_not_xml_is_refused() -> None:
    with pytest.raises(BadInput):
        read_config("<View>")


def test_every_mode_is_told_in_words() -> None:
    assert set(task_data_module._MODES) == set(Mode)

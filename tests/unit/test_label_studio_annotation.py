"""Results read back as layers: what was sent compares as untouched, an edit is found, what can't be read is named."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from backend.domain.corrections import Change, Layer, compare
from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.windows import Window
from integrations.label_studio import bitmask
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction, track_indices
from tests.factories import moving_square

SIZE = (moving_square.WIDTH, moving_square.HEIGHT)


def sent() -> list[dict[str, Any]]:
    item = moving_square.item()
    config = read_config(labeling_config(["square"]))
    result: list[dict[str, Any]] = prediction(item, config, frame_rate(item.probe), moving_square.KEYFRAMES)["result"]
    return result


def read(result: list[dict[str, Any]]) -> Layer:
    indices = track_indices(moving_square.item())
    return layer_of(result, SIZE, Window(0, moving_square.FRAME_COUNT), moving_square.KEYFRAMES, indices)


def test_what_was_sent_is_read_back_and_is_accepted() -> None:
    layer = read(sent())
    assert [track.region_id for track in layer.tracks] == ["run7-track0"]
    assert [mask.frame_index for mask in layer.masks] == list(moving_square.KEYFRAMES)
    assert compare(layer, read(sent()[::-1])).accepted


def test_an_inserted_keyframe_and_a_painted_mask_are_found_exactly() -> None:
    result = deepcopy(sent())
    boxes = result[0]["value"]["sequence"]
    first, second = boxes[0], boxes[1]
    frame = first["frame"] + 1
    assert frame < second["frame"]
    boxes.append({**first, "frame": frame, "x": first["x"] + 10})
    picture = decode_mask(bitmask.from_data_url(result[1]["value"]["imageDataURL"]))
    picture[0, :5] = True
    result[1]["value"]["imageDataURL"] = bitmask.to_data_url(encode_mask(picture))
    found = compare(read(sent()), read(result))
    [track] = found.tracks
    assert track.change is Change.EDITED
    assert track.touched_frames == (frame - 1,)
    assert set(track.moved_frames) | set(track.resized_frames) <= set(range(first["frame"], second["frame"]))
    edited = [mask for mask in found.masks if mask.change is Change.EDITED]
    assert [(mask.pixels_added, mask.pixels_removed) for mask in edited] == [(5, 0)]


def test_regions_of_other_controls_are_left_alone() -> None:
    own = {"id": "q", "type": "choices", "from_name": "quality", "to_name": "video", "value": {"choices": ["good"]}}
    assert compare(read(sent()), read([own, *sent()])).accepted


def broken(change: str) -> list[dict[str, Any]]:
    result = deepcopy(sent())
    track, mask = result[0], result[1]
    sequence = track["value"]["sequence"]
    if change == "sequence is empty":
        track["value"]["sequence"] = []
    elif change == "two keyframes":
        sequence.append(dict(sequence[0]))
    elif change == "that are shown":
        sequence[-1]["frame"] = moving_square.FRAME_COUNT + 1
    elif change == "KeyError 'x'":
        del sequence[0]["x"]
    elif change == "page 4 of 3":
        mask["item_index"] = 3
    elif change == "1×1 pixels":
        mask["value"]["imageDataURL"] = bitmask.to_data_url(encode_mask(np.ones((1, 1), bool)))
    elif change == "not a PNG":
        mask["value"]["imageDataURL"] = "data:image/jpeg;base64,AAAA"
    elif change == "ValueError":
        sequence[0]["frame"] = "soon"
    return result


@pytest.mark.parametrize(
    "change",
    [
        "sequence is empty", "two keyframes", "that are shown", "KeyError 'x'", "page 4 of 3", "1×1 pixels",
        "not a PNG", "ValueError",
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_named_with_its_reason(change: str) -> None:
    with pytest.raises(BadInput, match=r"region 'run\d+-track0") as caught:
        read(broken(change))
    assert change in str(caught.value)

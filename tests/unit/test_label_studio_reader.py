"""Kept annotations are read again without the task they belong to."""

import pytest

from backend.domain.errors import BadInput
from backend.domain.tracks import interpolate
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction
from integrations.label_studio.reader import LabelStudioReader
from tests.factories import moving_square

READER = LabelStudioReader()
SIZE = (moving_square.WIDTH, moving_square.HEIGHT)


def test_what_was_sent_is_read_back_and_each_region_names_its_track() -> None:
    item = moving_square.item()
    config = read_config(labeling_config([]))
    result = prediction(item, config, frame_rate(item.probe), [page.frame_index for page in item.pages])["result"]
    masks = [region["id"] for region in result if region["type"] == "bitmasklabels"]
    frame_of = {region_id: int(region_id.rsplit("frame", 1)[1]) for region_id in masks}
    layer = READER.layer({"result": result}, SIZE, item.probe.frame_count, frame_of)
    assert {mask.frame_index: mask.mask for mask in layer.masks} == item.tracks[0].masks
    [track] = layer.tracks
    assert set(interpolate(track.keyframes, item.probe.frame_count)) == set(moving_square.VISIBLE)
    assert {READER.track_index(item.run_id, region["id"]) for region in result} == {item.tracks[0].index}
    assert {READER.track_index(item.run_id + 1, region["id"]) for region in result} == {None}


def test_masks_on_a_frame_nobody_noted_are_told() -> None:
    region = {"id": "x", "from_name": "mask", "type": "bitmasklabels", "item_index": 1}
    with pytest.raises(BadInput, match="never compared: 'x'"):
        READER.layer({"result": [region]}, SIZE, 60, {})
    assert READER.layer({"result": None}, SIZE, 60, {}).tracks == ()
    assert READER.track_index(1, "Xy_12") is None

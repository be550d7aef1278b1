"""Two hundred randomized results through the real Label Studio and back: frames, boxes, masks, labels and ids.

Frames, masks, labels, ids and the percents come back exactly as they were sent; only our own way to percent and back
costs a box anything, less than a millionth of a pixel.
"""

import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.corrections import Layer
from backend.domain.masks import encode_mask
from backend.domain.tracks import BoxKeyframe
from backend.domain.windows import Window
from backend.ports.publication import PublicationItem, PublicationPage, PublicationTrack
from integrations.label_studio import bitmask
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import frame_rate
from integrations.label_studio.prediction import prediction, track_indices
from integrations.label_studio.task_data import task_data
from tests.contract.conftest import Desk
from tests.factories import moving_square

pytestmark = [pytest.mark.stack, pytest.mark.label_studio]

TASKS, RESULTS = 20, 10
SIZES = [(1, 1), (2, 7), (33, 17), (64, 48), (131, 77), (201, 119)]


def random_box(rng: random.Random, width: int, height: int) -> Box:
    """Anywhere in the frame, also over all of it, at its edge, and thin as a hair."""
    x1, x2 = sorted(rng.choice([0.0, width, rng.uniform(0, width)]) for _ in range(2))
    y1, y2 = sorted(rng.choice([0.0, height, rng.uniform(0, height)]) for _ in range(2))
    return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else Box(0.0, 0.0, width, rng.uniform(0.001, height))


def random_mask(rng: random.Random, width: int, height: int) -> Mask:
    """Noise, stripes, a single pixel, a blob, everything."""
    pixels = np.zeros((height, width), bool)
    noise = np.random.default_rng(rng.randrange(2**32))
    match rng.randrange(5):
        case 0:
            pixels = noise.random((height, width)) < rng.random()
        case 1:
            pixels[:: rng.randrange(1, 4)] = True
        case 2:
            pixels[rng.randrange(height), rng.randrange(width)] = True
        case 3:
            box = random_box(rng, width, height)
            pixels[int(box.y1) : int(box.y2) + 1, int(box.x1) : int(box.x2) + 1] = True
        case _:
            pixels[:] = True
    pixels[0, 0] = True
    return encode_mask(pixels)


def random_keyframes(rng: random.Random, frame_count: int, size: tuple[int, int]) -> tuple[BoxKeyframe, ...]:
    frames = sorted(rng.sample(range(frame_count), rng.randint(1, min(12, frame_count))))
    return tuple(BoxKeyframe(frame, random_box(rng, *size), rng.random() < 0.8) for frame in frames)


def random_item(rng: random.Random, number: int) -> PublicationItem:
    """Any size and length, up to three tracks, masks on some pages."""
    size, frame_count = rng.choice(SIZES), rng.choice([1, 2, 25, 1000, 5000])
    pages = rng.sample(range(frame_count), min(3, frame_count))
    tracks = tuple(
        PublicationTrack(
            index, f"thing {index}", rng.choice([None, rng.random()]), random_keyframes(rng, frame_count, size),
            {page: random_mask(rng, *size) for page in pages if rng.random() < 0.7},
        )
        for index in range(rng.randrange(1, 4))
    )  # fmt: skip
    probe = VideoProbe(
        frame_count, *size, 0, frame_count / 25, False, "h264", 1, 25, np.arange(frame_count, dtype=np.int64)
    )
    return replace(
        moving_square.item(run_id=number, instruction_id=number), probe=probe, tracks=tracks,
        pages=tuple(PublicationPage(page, page / 25, "a page", f"s3://bucket/{page}.png") for page in pages),
    )  # fmt: skip


def random_answer(rng: random.Random, item: PublicationItem, sent: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a person could make of it: regions left, dropped, redrawn, relabelled and added, in any order."""
    size = (item.probe.width, item.probe.height)
    other = replace(item, tracks=random_item(rng, item.run_id).tracks[:1])
    frames = random_keyframes(rng, item.probe.frame_count, size)
    pages = {page.frame_index: random_mask(rng, *size) for page in item.pages[:1]}
    added = replace(other, tracks=tuple(replace(t, box_keyframes=frames, masks=pages) for t in other.tracks))
    new = json.loads(json.dumps(regions(added)))
    for region in new:
        region["id"] = rng.choice(["Aß-", "új", "x_"]) + str(rng.randrange(10**9))
    kept = [json.loads(json.dumps(region)) for region in sent if rng.random() < 0.8]
    for region in kept:
        if region["type"] == "bitmasklabels" and rng.random() < 0.5:
            region["value"]["imageDataURL"] = bitmask.to_data_url(random_mask(rng, *size))
        if region["type"] == "videorectangle" and rng.random() < 0.5:
            region["value"]["sequence"][0]["x"] = rng.uniform(0, 100)
    answer = [*kept, *(new if rng.random() < 0.7 else [])]
    rng.shuffle(answer)
    return answer


def regions(item: PublicationItem) -> list[dict[str, Any]]:
    config, pages = read_config(labeling_config([])), [page.frame_index for page in item.pages]
    return list(prediction(item, config, frame_rate(item.probe), pages)["result"])


def ordered(layer: Layer) -> Layer:
    return replace(
        layer, tracks=tuple(sorted(layer.tracks, key=lambda track: track.region_id)),
        masks=tuple(sorted(layer.masks, key=lambda mask: mask.region_id)),
    )  # fmt: skip


def test_two_hundred_results_come_back_as_they_were(desk: Desk) -> None:
    rng = random.Random(11)
    items = {number: random_item(rng, number) for number in range(1, TASKS + 1)}
    ours = {number: regions(item) for number, item in items.items()}
    answers = {
        number: [random_answer(rng, item, ours[number]) for _ in range(RESULTS)] for number, item in items.items()
    }
    body = [
        {"data": task_data(item, frame_rate(item.probe)), "annotations": [{"result": r} for r in answers[number]]}
        for number, item in items.items()
    ]
    made = desk.api.post(f"/api/projects/{desk.project_id}/import", params={"return_task_ids": "true"}, json=body)
    assert made.status_code == 201, made.text
    seen = 0
    for (number, item), task_id in zip(items.items(), made.json()["task_ids"], strict=True):
        task = desk.tool.answered(desk.project_id, task_id)
        assert task is not None
        assert [answer.raw["result"] for answer in task.answers] == answers[number]
        for answer, said in zip(task.answers, answers[number], strict=True):
            sent, returned = desk.tool.layers(task, answer, item)
            pages = [page.frame_index for page in item.pages]
            size, count = (item.probe.width, item.probe.height), item.probe.frame_count
            assert ordered(returned) == ordered(layer_of(said, size, Window(0, count), pages, track_indices(item)))
            seen += 1
        _check_sent(sent, item)
    assert seen == TASKS * RESULTS


def _check_sent(sent: Layer, item: PublicationItem) -> None:
    """What the database has and what the labeler sees: frames, masks and ids exactly, boxes to a millionth of a
    pixel."""
    assert [track.track_index for track in sent.tracks] == [track.index for track in item.tracks]
    for ours, theirs in zip(item.tracks, sent.tracks, strict=True):
        assert [(k.frame_index, k.visible) for k in ours.box_keyframes] == [
            (k.frame_index, k.visible) for k in theirs.keyframes
        ]
        for before, after in zip(ours.box_keyframes, theirs.keyframes, strict=True):
            for name in ("x1", "y1", "x2", "y2"):
                assert abs(getattr(before.box, name) - getattr(after.box, name)) < 1e-6
    assert {(m.track_index, m.frame_index): m.mask for m in sent.masks} == {
        (track.index, frame): mask for track in item.tracks for frame, mask in track.masks.items()
    }


def test_predictions_come_back_as_they_were_also_at_once(desk: Desk) -> None:
    rng = random.Random(12)
    items = [random_item(rng, number) for number in range(1, 11)]
    tasks = desk.tool.publish_new(desk.project_id, items)
    for item, task_id in zip(items, tasks, strict=True):
        assert isinstance(task_id, int)
        [made] = desk.get("/api/predictions/", task=task_id)
        assert made["result"] == regions(item)

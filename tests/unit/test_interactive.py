"""Masks on demand: what the API and the process that draws say to each other, and what is kept in memory."""

import json

import pytest
import torch

from backend.domain.annotation import Box
from backend.domain.masks import from_counts
from backend.domain.prompts import Click, ThingPrompt
from backend.ports.pipeline import SuggestedMask
from integrations.masks.wire import Asked, asked_json, asked_of, masks_json, masks_of
from workers.pipeline.pages import Page, PageCache


def test_the_wire_loses_nothing() -> None:
    prompt = ThingPrompt((Click(1.5, 2.25), Click(3, 4, False)), Box(0, 1, 2, 3))
    asked = Asked("b", "k", (640, 360), "d", [prompt], 5.0)
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

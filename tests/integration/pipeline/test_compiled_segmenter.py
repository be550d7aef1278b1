"""The segmenter's parts compiled, where the profile says so."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from backend.domain.annotation import Box
from backend.domain.errors import Misconfigured
from backend.profiles import SegmenterProfile, load_profile
from workers.pipeline.frame_store import FrameStore
from workers.pipeline.sam2_model import load_model
from workers.pipeline.segmenter import BoxPrompt, Segmenter

pytestmark = pytest.mark.slow
FRAMES, SIZE = 12, (320, 240)


@pytest.fixture
def frames() -> Iterator[FrameStore]:
    """A red square on its way to the right."""
    with FrameStore(FRAMES, 224) as store:
        for frame_index in range(FRAMES):
            image = np.full((*SIZE[::-1], 3), 40, np.uint8)
            image[80:140, 40 + 9 * frame_index : 100 + 9 * frame_index] = (230, 60, 50)
            store.write(frame_index, image)
        yield store


def profile(torch_compile: str | None) -> SegmenterProfile:
    own = load_profile("shapeworld").segmenter
    assert own.torch_compile is None
    return own.model_copy(update={"torch_compile": torch_compile})


def test_all_that_does_the_work_is_compiled_and_carries_the_same(frames: FrameStore) -> None:
    compiled_classes = set[str]()

    def noted(graph: Any, _: object) -> Callable[..., Any]:
        for node in graph.graph.nodes:
            stack = node.meta.get("nn_module_stack") or {}
            compiled_classes.update(kind.__name__ for _, kind in stack.values())
        forward: Callable[..., Any] = graph.forward
        return forward

    torch._dynamo.register_backend(noted, name="noted")
    prompts = [BoxPrompt(2, Box(58, 80, 118, 140)), BoxPrompt(8, Box(112, 80, 172, 140))]
    plain = Segmenter(profile(None), "cpu").propagate(frames, prompts, SIZE)
    compiled = Segmenter(profile("noted"), "cpu").propagate(frames, prompts, SIZE)
    assert [one.masks for one in compiled] == [one.masks for one in plain]
    assert all(len(one.masks) == FRAMES for one in plain)
    # Of the image encoder, memory attention, memory encoder and mask decoder each.
    assert compiled_classes >= {"Hiera", "MemoryAttentionLayer", "MaskDownSampler", "TwoWayTransformer"}


def test_a_backend_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"torch_compile = 'warp'.*inductor"):
        load_model(profile("warp"), "cpu")

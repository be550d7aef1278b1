"""Masks at the video's size: what plain interpolation gives, from the part where something can be."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.masks import decode_mask, encode_mask
from workers.pipeline.sizing import mask_at


def plainly(logits: torch.Tensor, height: int, width: int) -> np.ndarray:
    sized = F.interpolate(logits[None, None], (height, width), mode="bilinear", align_corners=False)
    return (sized[0, 0] > 0).numpy()


@given(
    seed=st.integers(0, 2**32 - 1), small=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    large=st.tuples(st.integers(1, 300), st.integers(1, 300)), share=st.sampled_from([0.01, 0.2, 0.9]),
)  # fmt: skip
def test_it_is_what_plain_interpolation_gives(
    seed: int, small: tuple[int, int], large: tuple[int, int], share: float
) -> None:
    """At any two sizes, larger or smaller, with things anywhere, at the edges, too. Of a pixel whose logit is all but 0
    the sums of either may be rounded to another side."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(np.where(rng.random(small) < share, 1.0, -1.0) * rng.uniform(0.1, 8, small)).float()
    expected, found = plainly(logits, *large), mask_at(logits, *large)
    pixels = np.zeros(large, bool) if found is None else decode_mask(found)
    sized = F.interpolate(logits[None, None], large, mode="bilinear", align_corners=False)[0, 0].numpy()
    assert not ((pixels != expected) & (np.abs(sized) > 1e-4)).any()


@pytest.mark.parametrize("place", ["corner", "middle", "all"])
def test_a_things_mask_is_the_same_to_the_byte(place: str) -> None:
    y, x = np.mgrid[:56, :56]
    middle = {"corner": (0, 55), "middle": (25, 30), "all": (28, 28)}[place]
    radius = 90 if place == "all" else 9
    logits = torch.from_numpy(radius**2 - (y - middle[0]) ** 2 - (x - middle[1]) ** 2.0).float() / 10
    found = mask_at(logits, 720, 1280)
    assert found == encode_mask(plainly(logits, 720, 1280))
    assert found is not None
    assert found.area > 1000


def test_nothing_is_nothing() -> None:
    assert mask_at(torch.full((56, 56), -0.5), 720, 1280) is None
    # One pixel may be too little for a smaller picture.
    logits = torch.full((56, 56), -9.0)
    logits[0, 0] = 0.1
    assert mask_at(logits, 7, 7) is None


@given(st.data())
def test_a_part_is_encoded_as_the_whole_is(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 24))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    rows, columns = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    bits = data.draw(st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns))
    part = np.array(bits).reshape(rows, columns)
    whole = np.zeros((height, width), bool)
    whole[y : y + rows, x : x + columns] = part
    assert encode_mask(part, (x, y), (height, width)) == encode_mask(whole)


def test_a_part_with_many_edges_is_encoded_as_the_whole_is() -> None:
    part = np.random.default_rng(0).random((500, 400)) < 0.5
    whole = np.zeros((600, 700), bool)
    whole[60:560, 250:650] = part
    assert encode_mask(part, (250, 60), (600, 700)) == encode_mask(whole)

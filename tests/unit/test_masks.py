"""Run-length masks: round trip, area, box, union, IoU, against plain numpy."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from backend.domain import masks as rle

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
bitmaps = shapes.flatmap(lambda shape: hnp.arrays(bool, shape))
# Masks as they are, mostly of one piece; the plain ones above are noise.
pieces = st.tuples(st.integers(1, 40), st.integers(1, 40), *[st.integers(0, 40)] * 4).map(
    lambda n: np.pad(np.ones((n[2], n[3]), bool), ((n[4], 0), (n[5], 0)))[: n[0], : n[1]]
)
pairs = shapes.flatmap(lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape)))


@given(bitmaps)
def test_round_trip_area_and_tight_box(bitmap: np.ndarray) -> None:
    mask = rle.encode_mask(bitmap)
    assert (rle.decode_mask(mask) == bitmap).all()
    assert mask.area == bitmap.sum()
    assert rle.from_counts(mask.counts, mask.height, mask.width) == mask
    if mask.area:
        rows, columns = np.nonzero(bitmap)
        box = mask.box_xyxy_px
        edges = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (box.x1, box.y1, box.x2, box.y2) == edges


@given(st.one_of(bitmaps, pieces).filter(lambda bitmap: bitmap.size > 0), st.booleans())
def test_the_bytes_are_those_of_pycocotools(bitmap: np.ndarray, crowded: bool) -> None:
    theirs = coco.encode(np.asfortranarray(bitmap, dtype=np.uint8))["counts"].decode("ascii")
    with patch.object(rle, "_FEW_EDGES", 3 if crowded else 65_536):
        ours = rle.encode_mask(bitmap)
        assert rle.encode_mask(np.asfortranarray(bitmap).astype(np.uint8)) == ours
    assert ours.counts == theirs
    assert ours == rle.from_counts(theirs, *bitmap.shape)


@given(pairs)
def test_union_and_iou_equal_numpy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    left, right = (rle.encode_mask(bitmap) for bitmap in pair)
    union, both = (pair[0] | pair[1]).sum(), (pair[0] & pair[1]).sum()
    assert (rle.decode_mask(rle.union([left, right])) == (pair[0] | pair[1])).all()
    assert abs(rle.iou(left, right) - (both / union if union else 1.0)) < 1e-12

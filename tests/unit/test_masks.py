"""Run-length masks: round trip, area, box, union, IoU, against plain numpy."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from backend.domain import masks as rle

shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
bitmaps = shapes.flatmap(lambda shape: hnp.arrays(bool, shape))
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


@given(pairs)
def test_union_and_iou_equal_numpy(pair: tuple[np.ndarray, np.ndarray]) -> None:
    left, right = (rle.encode_mask(bitmap) for bitmap in pair)
    union, both = (pair[0] | pair[1]).sum(), (pair[0] & pair[1]).sum()
    assert (rle.decode_mask(rle.union([left, right])) == (pair[0] | pair[1])).all()
    assert abs(rle.iou(left, right) - (both / union if union else 1.0)) < 1e-12

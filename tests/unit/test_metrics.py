"""Region similarity on cases whose value is known."""

import numpy as np

from backend.domain.masks import encode_mask
from workers.evaluation.metrics import region_j


def half(left: bool) -> np.ndarray:
    bitmap = np.zeros((4, 8), bool)
    bitmap[:, :4] = left
    bitmap[:, 4:] = not left
    return bitmap


def test_j_counts_every_frame_and_unites_the_tracks() -> None:
    left, right, whole = encode_mask(half(True)), encode_mask(half(False)), encode_mask(np.ones((4, 8)))
    assert region_j([{0: left}, {0: right}], {0: whole}, 1) == 1.0  # the union is the truth
    assert region_j([{0: left}], {0: whole}, 1) == 0.5
    assert region_j([{0: left}], {0: left}, 2) == 1.0  # nothing to see on frame 1, and nothing seen
    assert region_j([{0: left, 1: left}], {0: left}, 2) == 0.5  # seen where there is nothing
    assert region_j([], {0: left}, 2) == 0.5  # missed
    assert region_j([{0: left}], {0: right}, 1) == 0.0

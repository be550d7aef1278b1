"""Region and boundary similarity: cases whose value is known, and the boundary measure against its usual form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.masks import encode_mask
from workers.evaluation.intervals import mean, share
from workers.evaluation.metrics import Similarity, boundary_f, region_j, similarity


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


def test_a_mask_without_a_pixel_is_no_mask() -> None:
    """Readers of benchmarks give one for a frame where the target isn't seen."""
    left, none = encode_mask(half(True)), encode_mask(np.zeros((4, 8)))
    for tracks, truth, value in (
        ([], {0: none}, 1.0),
        ([{0: none}], {}, 1.0),
        ([{0: none}, {0: none}], {0: none}, 1.0),
        ([{0: none}], {0: left}, 0.0),
        ([{0: left}], {0: none}, 0.0),
    ):
        assert similarity(tracks, truth, 1) == Similarity(value, value)


def disk(center_x: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[0:100, 0:100]
    return (x - center_x) ** 2 + (y - 50) ** 2 < radius**2


def dilated(edge: np.ndarray, radius_px: int) -> np.ndarray:
    """Every pixel within the radius of a set one, by brute force."""
    reached = np.zeros_like(edge)
    for dy in range(-radius_px, radius_px + 1):
        for dx in range(-radius_px, radius_px + 1):
            if dx * dx + dy * dy <= radius_px**2:
                padded = np.pad(edge, radius_px)
                top, left = radius_px + dy, radius_px + dx
                reached |= padded[top : top + edge.shape[0], left : left + edge.shape[1]]
    return reached


def reference_f(predicted: np.ndarray, true: np.ndarray) -> float:
    """The same measure as it is usually written: boundaries matched by dilation with a disk of ceil(0.008 ·
    diagonal)."""

    def boundary(mask: np.ndarray) -> np.ndarray:
        right, down, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
        right[:, :-1], down[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
        edge = (mask ^ right) | (mask ^ down) | (mask ^ diagonal)
        edge[-1], edge[:, -1] = mask[-1] ^ right[-1], mask[:, -1] ^ down[:, -1]
        edge[-1, -1] = False
        return edge

    ours, theirs = boundary(predicted), boundary(true)
    radius_px = int(np.ceil(0.008 * np.hypot(*true.shape)))
    precision = (ours & dilated(theirs, radius_px)).sum() / ours.sum() if ours.any() else 1.0
    recall = (theirs & dilated(ours, radius_px)).sum() / theirs.sum() if theirs.any() else 1.0
    if not ours.any() and theirs.any():
        precision, recall = 1.0, 0.0
    if ours.any() and not theirs.any():
        precision, recall = 0.0, 1.0
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def test_boundary_f_is_one_within_the_tolerance_and_falls_beyond_it() -> None:
    true = disk(50, 20)
    assert boundary_f(true, true) == 1.0
    assert boundary_f(disk(51, 20), true) == 1.0
    assert boundary_f(disk(56, 20), true) < 0.6
    empty = np.zeros((100, 100), bool)
    assert boundary_f(empty, empty) == 1.0
    assert boundary_f(empty, true) == boundary_f(true, empty) == 0.0


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(2, 60), st.integers(2, 60)))
def test_boundary_f_equals_the_measure_by_dilation(seed: int, shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(seed)
    coarse = draw.random((2, -(-shape[0] // 6), -(-shape[1] // 6))) < 0.4
    masks = coarse.repeat(6, 1).repeat(6, 2)[:, : shape[0], : shape[1]]
    masks[0] ^= draw.random(shape) < 0.02
    assert abs(boundary_f(masks[0], masks[1]) - reference_f(masks[0], masks[1])) < 1e-9


def test_similarity_is_j_and_f_over_all_frames() -> None:
    true, near = encode_mask(disk(50, 20)), encode_mask(disk(51, 20))
    found = similarity([{0: near, 1: near}], {0: true}, 2)
    assert found.j == region_j([{0: near, 1: near}], {0: true}, 2)
    assert found.f == 0.5
    assert found.jf == (found.j + found.f) / 2


def test_intervals_hold_the_value_and_shrink_with_more_clips() -> None:
    few, many = share([True] * 9 + [False]), share(([True] * 9 + [False]) * 30)
    assert few.value == many.value == 0.9
    assert few.low is not None
    assert many.low is not None
    assert few.low < many.low < 0.9
    assert share([True] * 20).high == 1.0
    assert share([True] * 20).low == pytest.approx(0.8389, abs=1e-3)  # Wilson's interval of 20 of 20
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    found = mean(values.tolist())
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.1 / 20, rel=0.15)
    assert mean([]).value is share([]).value is None

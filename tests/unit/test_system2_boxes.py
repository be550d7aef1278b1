"""From the coordinates a model writes to source pixels: the adapter of each model family."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from workers.pipeline.parsing import RawBox
from workers.pipeline.system2 import to_source_px

sides = st.integers(16, 4000)
shares = st.floats(0, 1)


@given(
    source=st.tuples(sides, sides), resized=st.tuples(sides, sides), corners=st.tuples(shares, shares, shares, shares)
)
def test_a_box_written_in_either_frame_is_the_same_box_of_the_source(
    source: tuple[int, int], resized: tuple[int, int], corners: tuple[float, float, float, float]
) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    expected = (x1 * source[0], y1 * source[1], x2 * source[0], y2 * source[1])
    for name, frame in (("absolute", resized), ("thousandths", (1000, 1000))):
        raw = RawBox(x1 * frame[0], y1 * frame[1], x2 * frame[0], y2 * frame[1], "x")
        box = to_source_px(raw, name, resized, source)
        if expected[2] - expected[0] > 0.01 and expected[3] - expected[1] > 0.01:
            assert box is not None
            assert (box.x1, box.y1, box.x2, box.y2) == pytest.approx(expected, abs=1e-6 * max(source))


def test_a_box_is_clipped_and_what_has_nothing_left_is_none() -> None:
    def of(*corners: float) -> Box | None:
        return to_source_px(RawBox(*corners, "x"), "absolute", (100, 50), (200, 200))

    assert of(-10, -5, 110, 60) == Box(0, 0, 200, 200)
    assert of(50, 25, 150, 30) == Box(100, 100, 200, 120)
    assert of(110, 10, 120, 20) is None  # beyond the right edge
    assert of(30, 10, 20, 20) is None  # right of left
    assert of(30, 10, 30, 20) is None  # no width

"""Between our coordinates and Label Studio's and back again; and the rate by which its player counts frames."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box, VideoProbe
from integrations.label_studio.coordinates import (
    frame_index,
    frame_rate,
    from_percent,
    label_studio_frame,
    to_percent,
)
from tests.factories import moving_square

SIZES = st.integers(1, 8192)
SHARES = st.floats(0, 1)


@given(st.integers(0, 10**7))
def test_frames_count_from_one_and_come_back(index: int) -> None:
    assert label_studio_frame(index) == index + 1
    assert frame_index(label_studio_frame(index)) == index


@given(SIZES, SIZES, SHARES, SHARES, SHARES, SHARES)
def test_boxes_come_back_from_percent(width: int, height: int, a: float, b: float, c: float, d: float) -> None:
    (left, right), (top, bottom) = sorted((a * width, b * width)), sorted((c * height, d * height))
    percent = to_percent(Box(left, top, right, bottom), width, height)
    assert all(-1e-9 <= value <= 100 + 1e-9 for value in percent.values())
    back = from_percent(percent["x"], percent["y"], percent["width"], percent["height"], width, height)
    for was, is_now in zip((left, top, right, bottom), (back.x1, back.y1, back.x2, back.y2), strict=True):
        assert is_now == pytest.approx(was, abs=1e-6)


def test_percent_of_a_known_box() -> None:
    assert to_percent(Box(64, 36, 192, 72), 640, 360) == {"x": 10, "y": 10, "width": 20, "height": 10}


def probe_with(pts: list[int], time_base: Fraction) -> VideoProbe:
    probe = moving_square.probe()
    return replace(
        probe,
        frame_count=len(pts),
        time_base_num=time_base.numerator,
        time_base_den=time_base.denominator,
        pts=np.array(pts, dtype=np.int64),
        duration_s=float((pts[-1] - pts[0]) * time_base) + 0.04,
    )


def shown_by_label_studio(times_s: np.ndarray, fps: float, label_studio_frame: int) -> int:
    """The frame on the screen after a jump: the player goes to (frame - 1) / fps on a grid of 2 ms, plus 2 ms."""
    seconds = math.floor((label_studio_frame - 1) / fps / 0.002 + 0.5) * 0.002 + 0.002
    return int(np.searchsorted(times_s, seconds, side="right")) - 1


@pytest.mark.parametrize(
    "fps", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(10)]
)
@pytest.mark.parametrize("time_base", ["exact", Fraction(1, 90_000), Fraction(1, 1000)])
def test_every_frame_of_a_constant_rate_is_shown_as_itself(fps: Fraction, time_base: Fraction | str) -> None:
    """Also where the container rounded the time stamps, over more than an hour, and from a time stamp that isn't 0."""
    base = 1 / fps if isinstance(time_base, str) else time_base
    pts = [round(i / fps / base) + 1234 for i in range(100_000)]
    probe = probe_with(pts, base)
    rate = frame_rate(probe)
    assert rate.constant
    times = (probe.pts - probe.pts[0]) * float(base)
    for index in (0, 1, 2, 999, 54_321, 99_999):
        assert shown_by_label_studio(times, rate.fps, label_studio_frame(index)) == index


def test_a_variable_rate_is_told() -> None:
    rate = frame_rate(probe_with([0, 40, 80, 160, 200], Fraction(1, 1000)))
    assert not rate.constant
    assert rate.fps == pytest.approx(20)


def test_rates_below_one_are_told_because_label_studio_inverts_them() -> None:
    assert not frame_rate(probe_with([0, 4000, 8000], Fraction(1, 1000))).constant


def test_a_single_frame_has_a_rate() -> None:
    assert frame_rate(probe_with([0], Fraction(1, 25))).fps == pytest.approx(25)

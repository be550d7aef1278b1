"""Sampling and the way from nominal seconds back to source frames; a video's clock and the way back from its times."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.frames import FrameClock, sample_uniformly
from backend.domain.pts import pack_pts, unpack_pts

clips = st.integers(1, 100_000)
rates = st.sampled_from([1.0, 2.0, 4.0, 25.0])


@given(frame_count=clips, max_frames=st.integers(1, 64), rate=rates)
def test_samples_are_ascending_distinct_and_span_the_clip(frame_count: int, max_frames: int, rate: float) -> None:
    indices = sample_uniformly(frame_count, max_frames, rate).frame_indices
    assert len(indices) == min(frame_count, max_frames)
    assert list(indices) == sorted(set(indices))
    assert indices[0] == 0
    if len(indices) > 1:
        assert indices[-1] == frame_count - 1
        gaps = {b - a for a, b in itertools.pairwise(indices)}
        assert max(gaps) - min(gaps) <= 1


@given(frame_count=clips, max_frames=st.integers(1, 64), rate=rates, position=st.integers(0, 63))
def test_the_second_of_a_sampled_frame_leads_back_to_it(
    frame_count: int, max_frames: int, rate: float, position: int
) -> None:
    sampling = sample_uniformly(frame_count, max_frames, rate)
    position %= len(sampling.frame_indices)
    written = float(f"{position / rate:.2f}")  # two decimals are what the model writes
    assert sampling.frame_index_at(written) == sampling.frame_indices[position]


@pytest.mark.parametrize(
    ("nominal_s", "position"), [(0.0, 0), (0.49, 0), (0.5, 1), (1.0, 2), (11.5, 23), (11.99, 23), (12.0, 23)]
)
def test_24_frames_are_12_seconds_end_inclusive(nominal_s: float, position: int) -> None:
    sampling = sample_uniformly(240, 24, 2.0)
    assert sampling.nominal_duration_s == 12.0
    assert sampling.frame_index_at(nominal_s) == sampling.frame_indices[position]


@pytest.mark.parametrize("nominal_s", [-0.01, 12.01])
def test_a_second_outside_the_clip_is_refused(nominal_s: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        sample_uniformly(240, 24, 2.0).frame_index_at(nominal_s)


@st.composite
def clocks(draw: st.DrawFn) -> FrameClock:
    """Any strictly ascending stamps from any origin, in the time bases that containers have; steps of 2 µs at least."""
    time_base = draw(st.sampled_from([Fraction(1, n) for n in (10, 25, 1000, 16_000, 90_000, 1_200_000, 10**9)]))
    time_base = draw(st.sampled_from([time_base, Fraction(1001, 30_000), Fraction(1001, 24_000)]))
    shortest = max(1, int(Fraction(2, 10**6) / time_base))
    steps = draw(st.lists(st.integers(shortest, shortest + 100_000), max_size=50))
    origin = draw(st.integers(-(2**33), 2**33))
    pts = np.cumsum([origin, *steps], dtype=np.int64)
    last = draw(st.integers(shortest, shortest + 100_000))
    return FrameClock(pts, time_base, float((int(pts[-1]) + last - origin) * time_base))


@given(clock=clocks())
def test_the_time_of_a_frame_leads_back_to_it(clock: FrameClock) -> None:
    """Also as it is stored, to the microsecond."""
    for frame_index in range(len(clock.pts)):
        time_s = clock.time_s(frame_index)
        assert clock.frame_index_at(time_s) == frame_index
        assert clock.frame_index_at(round(time_s, 6)) == frame_index
    assert clock.time_s(0) == 0
    assert list(clock.times_s()) == [clock.time_s(i) for i in range(len(clock.pts))]


@given(clock=clocks(), share=st.floats(0, 1, exclude_max=True))
def test_any_instant_of_a_frame_leads_to_it(clock: FrameClock, share: float) -> None:
    ends = [*clock.times_s()[1:], clock.duration_s]
    for frame_index, end_s in enumerate(ends):
        instant = clock.time_s(frame_index) + share * (end_s - clock.time_s(frame_index))
        # Less than a microsecond before its end a frame gives way to the next one.
        if end_s - instant > 1e-6:
            assert clock.frame_index_at(instant) == frame_index


@given(clock=clocks())
def test_the_end_of_a_video_is_its_last_frame_and_there_is_nothing_outside(clock: FrameClock) -> None:
    assert clock.frame_index_at(clock.duration_s) == len(clock.pts) - 1
    for outside in (-1e-9, clock.duration_s + 1e-3, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="outside"):
            clock.frame_index_at(outside)
    for no_frame in (-1, len(clock.pts)):
        with pytest.raises(IndexError, match=f"no frame {no_frame}"):
            clock.time_s(no_frame)


def test_frames_closer_than_times_are_stored_still_lead_back_by_their_exact_times() -> None:
    clock = FrameClock(np.arange(5, dtype=np.int64), Fraction(1, 10**7), 5e-7)
    assert [clock.frame_index_at(clock.time_s(i)) for i in range(5)] == [0, 1, 2, 3, 4]


@given(st.lists(st.integers(-(2**62), 2**62), max_size=50))
def test_the_table_of_stamps_comes_back_from_its_bytes(stamps: list[int]) -> None:
    pts = np.array(stamps, dtype=np.int64)
    np.testing.assert_array_equal(unpack_pts(pack_pts(pts)), pts)

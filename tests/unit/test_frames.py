"""Sampling, and the way from the model's nominal seconds back to source frames."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.frames import sample_uniformly

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

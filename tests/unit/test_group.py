"""The map from a group's detections to objects."""

from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from workers.pipeline.group import Detection, object_ids

BOXES = [Box(0, 0, 10, 10), Box(0, 0, 10, 11), Box(5, 5, 20, 20)]
DETECTIONS = st.lists(
    st.builds(Detection, st.integers(0, 7), st.integers(0, 3), st.integers(0, 3), st.sampled_from(BOXES))
)


@given(DETECTIONS)
def test_ids_are_a_box_on_a_frame_each_and_count_up_without_a_gap(detections: list[Detection]) -> None:
    ids = object_ids(detections)
    assert set(ids) == set(detections)
    assert list(dict.fromkeys(ids.values())) == list(range(len(set(ids.values()))))
    for one in detections:
        for other in detections:
            same = (one.frame_index, one.box_xyxy_px) == (other.frame_index, other.box_xyxy_px)
            assert (ids[one] == ids[other]) is same

"""What speaks for tracks, boxes and masks, read off what two keyframes' boxes became."""

from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.masks import encode_mask
from backend.ports.pipeline import Estimate
from workers.pipeline import evidence
from workers.pipeline.decision import Decision, Looked
from workers.pipeline.linking import LinkedTrack
from workers.pipeline.parsing import Moment, System1Answer
from workers.pipeline.segmenter import Propagation
from workers.pipeline.system1 import System1Result
from workers.pipeline.system2 import GroundedBox

COUNT = 20


def square(left: int, side: int = 10) -> Mask:
    pixels = np.zeros((48, 64), bool)
    pixels[:side, left : left + side] = True
    return encode_mask(pixels)


def propagation(masks: dict[int, Mask], span: range | None = None) -> Propagation:
    return Propagation(masks, dict.fromkeys(masks, Estimate(0.8, 0.7)), span)


def decided(*boxes: tuple[int, int]) -> Decision:
    """A box of 10 px at x on each of those frames, in ever surer words."""
    looked = tuple(
        Looked(frame_index, Moment(0, 0, "it"), (GroundedBox(Box(x, 0, x + 10, 10), "it", 0.5 + n / 10, 0.2),))
        for n, (frame_index, x) in enumerate(boxes)
    )
    return Decision(System1Result("", 0.9, 0.3, System1Answer("", (), ())), looked, (), {})


def test_a_track_is_spoken_for_by_what_its_keyframes_lead_to() -> None:
    decision = decided((2, 0), (12, 0))
    first = propagation({i: square(0) for i in range(COUNT)}, range(13))
    # On frame 12, the only one to which both were carried, they share half of what either sees.
    second = propagation({i: square(0) for i in range(7, 12)} | {12: square(5)}, range(7, COUNT))
    estimates = {i: Estimate(0.5 if i < 2 else 0.9, 0.6 if i < 5 else 1.0) for i in range(COUNT)}
    track = LinkedTrack((0, 1), first.masks, estimates)
    given = evidence.of_track(track, decision, [first, second])
    assert given.agreed == pytest.approx(1 / 3)
    assert (given.said, given.said_lowest, given.supported) == (0.9, 0.3, 1.0)
    assert (given.named, given.named_lowest) == (pytest.approx(0.55), pytest.approx(0.2))
    assert (given.seen, given.seen_low) == (pytest.approx(0.86), pytest.approx(0.86))
    assert given.present == pytest.approx(0.9)
    alone = evidence.of_track(LinkedTrack((0,), first.masks, first.estimates), decision, [first, second])
    # Frame 12 shows it, too, and doesn't name it.
    assert (alone.agreed, alone.supported) == (0.5, 0.5)


def test_a_box_is_spoken_for_by_its_mask_and_by_the_others() -> None:
    decision = decided((2, 0), (12, 0))
    first = propagation({2: square(0), 12: square(0)}, range(13))
    second = propagation({12: square(5)}, range(7, COUNT))
    one, other = evidence.of_boxes(decision, [first, second])
    assert (one.filled, one.agreed, one.seen, one.present) == (1.0, 0.5, 0.8, 0.7)
    assert (other.filled, other.agreed) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (one.named, other.named, one.named_lowest) == (0.5, 0.6, 0.2)
    lost = evidence.of_boxes(decision, [propagation({}, range(13)), second])
    assert (lost[0].filled, lost[0].seen, lost[0].present, lost[1].agreed) == (0.0, 0.0, 0.0, 0.0)


def test_a_mask_is_spoken_for_by_the_frame_before_and_the_nearest_keyframe() -> None:
    probe: Any = VideoProbe(COUNT, 64, 48, 0, 2.0, False, "h264", 1, 10, np.arange(COUNT, dtype=np.int64))
    masks = {3: square(0, 10), 4: square(0, 20), 9: square(0, 10), 10: square(0, 10)}
    estimates = {3: Estimate(0.9, 0.5), 4: Estimate(0.8, 0.6), 9: Estimate(0.7, 0.7), 10: Estimate(0.6, 0.8)}
    track = LinkedTrack((0,), masks, estimates)
    given = dict(evidence.of_frames(track, [3, 13], probe, 0.75))
    assert {i: one.steady for i, one in given.items()} == {3: 0.5, 4: 0.25, 9: 0.5, 10: 1.0}
    assert {i: one.seen for i, one in given.items()} == {3: 0.9, 4: 0.8, 9: 0.7, 10: 0.6}
    assert [one.present for one in given.values()] == [0.5, 0.6, 0.7, 0.8]
    assert [one.near for one in given.values()] == pytest.approx([1.0, 1 / 1.1, 1 / 1.4, 1 / 1.3])
    assert {one.track for one in given.values()} == {0.75}
    scores = evidence.FrameScores(lambda: evidence.of_frames(track, [3, 13], probe, 0.75), lambda one: one.seen / 3)
    assert (dict(scores.items()), len(scores), scores[9]) == ({3: 0.3, 4: 0.2667, 9: 0.2333, 10: 0.2}, 4, 0.2333)
    with pytest.raises(KeyError):
        scores[5]

"""Which frames are in doubt, and what System 1 is told when it is asked again."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.frames import Sampling, sample_uniformly
from backend.domain.masks import encode_mask
from backend.ports.pipeline import Estimate
from backend.settings import PipelineSettings, ReanchoringSettings
from workers.pipeline.assembling import Found
from workers.pipeline.decision import Decision, Looked
from workers.pipeline.feedback import in_words, worth
from workers.pipeline.linking import LinkedTrack
from workers.pipeline.parsing import Moment, System1Answer
from workers.pipeline.reanchoring import doubtful
from workers.pipeline.segmenter import Propagation
from workers.pipeline.system1 import System1Result
from workers.pipeline.system2 import GroundedBox

COUNT = 40
SAMPLING = Sampling(tuple(range(0, COUNT, 4)), 2.0)
SETTINGS = ReanchoringSettings(frames=2, below=0.5, apart_s=0.3)
BOX = GroundedBox(Box(0, 0, 10, 10), "cup", 0.9, 0.8)


def square(side: int) -> Mask:
    pixels = np.zeros((48, 64), bool)
    pixels[:side, :side] = True
    return encode_mask(pixels)


def found(seen: dict[int, float] | None = None, sides: dict[int, int] | None = None, boxes: int = 1) -> Found:
    """A track at 10 frames a second, named on frames 0 and 30 in other words, sure but where `seen` says less and of
    one size but where `sides` says another."""
    probe: Any = VideoProbe(
        COUNT, 64, 48, 0, COUNT / 10, False, "h264", 1, 10, np.arange(COUNT, dtype=np.int64)
    )  # fmt: skip
    assert probe.time_s(10) == 1.0 == float(Fraction(10, 10))
    moments = {0: Moment(0.0, 0.5, "the red cup"), 30: Moment(3.5, 4.0, "the cup at the left")}
    looked = tuple(Looked(frame_index, moment, (BOX,) * boxes) for frame_index, moment in moments.items())
    answer = System1Answer("", tuple(moments.values()), ())
    masks = {i: square((sides or {}).get(i, 20)) for i in range(COUNT)}
    estimates = {i: Estimate((seen or {}).get(i, 0.9), 1.0) for i in range(COUNT)}
    members = tuple(range(2 * boxes))
    decision = Decision(System1Result("", 0.9, 0.9, answer), looked, (), {})
    carried = [Propagation(masks, estimates)] * len(members)
    return Found(probe, decision, [LinkedTrack(members, masks, estimates)], carried, {})


def test_a_sure_track_is_not_asked_about() -> None:
    assert doubtful(found(), SAMPLING, SETTINGS, None) == {}


def test_the_most_doubtful_frames_are_asked_about_first() -> None:
    asked = doubtful(found({10: 0.4, 20: 0.1, 15: 0.3, 25: 0.45}), SAMPLING, SETTINGS, None)
    assert list(asked) == [20, 15]
    # In the words of the nearest keyframe, at the nominal second at which System 1 was shown what is nearest.
    assert asked[20] == Moment(2.5, 2.5, "the cup at the left")
    assert doubtful(found({10: 0.4}), SAMPLING, SETTINGS, None)[10].description == "the red cup"


def test_no_frame_is_asked_about_beside_one_that_was_looked_at() -> None:
    asked = doubtful(found({1: 0.1, 2: 0.1, 29: 0.1, 18: 0.2, 17: 0.3, 14: 0.4}), SAMPLING, SETTINGS, None)
    assert list(asked) == [18, 14]


@pytest.mark.parametrize(("side", "expected"), [(10, [15]), (40, [15]), (16, [])])
def test_a_mask_that_jumps_is_in_doubt(side: int, expected: list[int]) -> None:
    """From a side of 20 px: to a quarter and to four times the area; to two thirds is no jump."""
    one = ReanchoringSettings(frames=1, below=0.5, apart_s=0.3)
    assert list(doubtful(found(sides=dict.fromkeys(range(15, COUNT), side)), SAMPLING, one, None)) == expected


def test_what_system_2_saw_in_words() -> None:
    looked = found().decision.looked
    assert in_words(looked) == (
        'at 00:00.00, searched for "the red cup": one object; '
        'at 00:03.50, searched for "the cup at the left": one object'
    )
    assert in_words([replace(looked[0], boxes=())]).endswith("nothing")
    assert in_words([replace(looked[0], boxes=(BOX, BOX))]).endswith("2 objects")
    assert in_words([]) == "nothing could be looked at"


def test_worth_falls_where_keyframes_disagree() -> None:
    agreeing = found()
    assert worth(agreeing, None) == pytest.approx(0.9)
    alone = replace(agreeing, linked=[replace(agreeing.linked[0], members=(0,))])
    assert worth(alone, None) < 0.9 * 0.5
    assert worth(replace(agreeing, linked=[]), None) == 0.0


@pytest.mark.parametrize("count", [1, 2, 7, 24, 25, 300])
def test_a_second_look_is_at_the_frames_between(count: int) -> None:
    first, second = (sample_uniformly(count, 24, 2.0, between=between) for between in (False, True))
    indices = second.frame_indices
    assert len(indices) == len(first.frame_indices)
    assert list(indices) == sorted(set(indices))
    assert 0 <= indices[0] <= indices[-1] < count
    assert second.nominal_duration_s == first.nominal_duration_s
    if count == 300:
        assert len(set(indices) & set(first.frame_indices)) <= 4


def test_what_is_off_is_no_part_of_a_runs_identity() -> None:
    """With another identity every video would be annotated again."""
    off = PipelineSettings().configuration()
    assert {"reanchoring", "feedback"} & set(off) == set()
    on = PipelineSettings(reanchoring=ReanchoringSettings(frames=1)).configuration()
    assert on["reanchoring"]["frames"] == 1
    assert PipelineSettings.model_validate(on).configuration() == on

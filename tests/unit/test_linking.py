"""Identity across keyframes, and which tracks are believed."""

import numpy as np

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.ports.pipeline import Estimate
from workers.pipeline.linking import agreement, corroborated, link, support
from workers.pipeline.segmenter import BoxPrompt, Propagation

FRAMES = 12


def square_at(x: int) -> Mask:
    bitmap = np.zeros((20, 60), bool)
    bitmap[5:15, x : x + 10] = True
    return encode_mask(bitmap)


def seen_at(x: int, frames: range = range(FRAMES)) -> Propagation:
    return Propagation({f: square_at(x) for f in frames}, dict.fromkeys(frames, Estimate(0.8, 1.0)))


def prompt(frame_index: int) -> BoxPrompt:
    return BoxPrompt(frame_index, Box(0, 0, 1, 1))


def test_detections_of_one_thing_become_one_track_and_of_two_things_two() -> None:
    prompts = [prompt(0), prompt(0), prompt(6), prompt(6)]
    tracks = link(prompts, [seen_at(0), seen_at(40), seen_at(41), seen_at(1)], 0.5)
    assert [t.members for t in tracks] == [(0, 3), (1, 2)]


def test_two_things_on_one_keyframe_never_share_a_track() -> None:
    prompts = [prompt(0), prompt(6), prompt(6)]
    tracks = link(prompts, [seen_at(10), seen_at(10), seen_at(11)], 0.5)
    assert sorted(t.members for t in tracks) == [(0, 1), (2,)]


def test_a_track_shows_what_the_member_with_the_nearest_keyframe_saw() -> None:
    early, late = seen_at(10), seen_at(12, range(2, FRAMES))
    [track] = link([prompt(0), prompt(8)], [early, late], 0.3)
    assert track.masks[0] == square_at(10)
    assert track.masks[4] == square_at(10)  # as near to either: the first
    assert track.masks[5] == square_at(12)
    assert track.masks[11] == square_at(12)


def test_a_thing_the_nearest_member_has_lost_is_not_brought_back_by_another() -> None:
    prompts = [prompt(0), prompt(4)]
    [track] = link(prompts, [seen_at(10), seen_at(10, range(8))], 0.5)
    assert sorted(track.masks) == list(range(8))


def test_only_keyframes_that_both_were_carried_to_tell_whether_two_are_one() -> None:
    early = Propagation(seen_at(10, range(5)).masks, {}, range(5))
    late = Propagation(seen_at(10, range(4, FRAMES)).masks, {}, range(4, FRAMES))
    keyframes = [0, 4, 7, 11]
    assert agreement(early, late, keyframes) == 1.0
    assert agreement(early, late, [0, 11]) == 0.0
    lost = Propagation({}, {}, range(4, FRAMES))  # carried there, and nothing seen
    assert agreement(early, lost, keyframes) == 0.0


def test_a_box_that_became_no_mask_is_in_no_track() -> None:
    assert [t.members for t in link([prompt(0), prompt(6)], [Propagation(), seen_at(3)], 0.5)] == [(1,)]
    assert link([], [], 0.5) == []


def test_a_slip_on_one_of_three_keyframes_is_dropped_but_a_late_arrival_stays() -> None:
    prompts = [prompt(0), prompt(4), prompt(8), prompt(8)]
    keyframes = [0, 4, 8]
    target, target_again = seen_at(0), seen_at(0)
    slip = seen_at(30)  # visible on every keyframe, named on one
    newcomer = seen_at(45, range(6, FRAMES))  # visible on the last keyframe only, named there
    tracks = link(prompts, [target, target_again, slip, newcomer], 0.5)
    assert {t.members: support(t, prompts, keyframes) for t in tracks} == {(0, 1): 2 / 3, (2,): 1 / 3, (3,): 1.0}
    assert [t.members for t in corroborated(tracks, prompts, keyframes, 0.5)] == [(0, 1), (3,)]


def test_where_no_track_has_enough_support_the_best_one_stays() -> None:
    prompts = [prompt(0), prompt(4), prompt(8)]
    tracks = link(prompts, [seen_at(0), seen_at(20), seen_at(45)], 0.5)
    assert len(tracks) == 3
    assert len(corroborated(tracks, prompts, [0, 4, 8], 0.5)) == 1
    assert corroborated([], [], [], 0.5) == []

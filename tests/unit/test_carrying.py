"""How far detections are carried: to their neighbours, and everywhere where neighbours don't confirm them."""

from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask
from backend.domain.masks import encode_mask
from backend.ports.pipeline import Estimate
from workers.pipeline.carrying import Carrying, Known, spans_between
from workers.pipeline.linking import link
from workers.pipeline.segmenter import BoxPrompt, Propagation

COUNT = 40


class Clip:
    frame_count = COUNT


def mask_at(x: int) -> Mask:
    bitmap = np.zeros((20, 120), bool)
    bitmap[5:15, x : x + 10] = True
    return encode_mask(bitmap)


class Follows:
    """Follows every prompt perfectly, `lost` (prompt's x, frames) excepted. The box's x is where its thing stands."""

    def __init__(self, lost: dict[int, range] | None = None) -> None:
        self.lost, self.asked = lost or {}, list[list[tuple[int, range]]]()
        self.rounds = list[int]()

    def propagate(
        self, frames: Clip, prompts: list[BoxPrompt], _: Any, on_progress: Any = lambda _: None, spans: Any = None,
        checkpoints: Any = None, round_index: int = 0,  # noqa: ARG002 (the segmenter's)
    ) -> list[Propagation]:  # fmt: skip
        spans = spans or [range(frames.frame_count)] * len(prompts)
        self.rounds.append(round_index)
        self.asked.append([(prompt.frame_index, span) for prompt, span in zip(prompts, spans, strict=True)])
        on_progress(1.0)
        found = []
        for prompt, span in zip(prompts, spans, strict=True):
            x = int(prompt.box_xyxy_px.x1)
            masks = {i: mask_at(x) for i in span if i not in self.lost.get(x, ())}
            found.append(Propagation(masks, dict.fromkeys(masks, Estimate(0.9, 1.0)), span))
        return found


def prompt(frame_index: int, x: int) -> BoxPrompt:
    return BoxPrompt(frame_index, Box(x, 5, x + 10, 15))


def carried(segmenter: Follows, prompts: list[BoxPrompt]) -> list[Any]:
    told: list[float] = []
    clip: Any = Clip()
    model: Any = segmenter
    tracks = Carrying(model, clip, (120, 20), 0.5).add(prompts, told.append)
    assert told[-1] == 1.0
    return tracks


def test_detections_reach_from_the_middle_before_to_the_keyframe_after() -> None:
    prompts = [prompt(20, 0), prompt(5, 0), prompt(20, 50), prompt(33, 0)]
    assert spans_between(prompts, COUNT) == [range(12, 34), range(21), range(12, 34), range(26, COUNT)]
    assert spans_between([prompt(7, 0)], COUNT) == [range(COUNT)]


def test_what_neighbours_confirm_is_not_carried_farther() -> None:
    segmenter = Follows()
    prompts = [prompt(frame_index, x) for frame_index in (3, 15, 31) for x in (0, 60)]
    tracks = carried(segmenter, prompts)
    assert len(segmenter.asked) == 1
    assert [track.members for track in tracks] == [(0, 2, 4), (1, 3, 5)]
    assert all(sorted(track.masks) == list(range(COUNT)) for track in tracks)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_keyframe_that_does_not_name_the_thing_leaves_no_hole(missing: int) -> None:
    segmenter = Follows()
    prompts = [prompt(k, 0) for n, k in enumerate((3, 15, 31)) if n != missing] + [prompt((3, 15, 31)[missing], 60)]
    tracks = carried(segmenter, prompts)
    assert len(tracks) == 2
    assert all(sorted(track.masks) == list(range(COUNT)) for track in tracks)


def test_a_thing_named_far_apart_becomes_one_track() -> None:
    """Between them two keyframes name something else, so that neither reaches the other at first."""
    segmenter = Follows()
    prompts = [prompt(0, 0), prompt(10, 60), prompt(20, 60), prompt(30, 0)]
    tracks = carried(segmenter, prompts)
    assert [track.members for track in tracks] == [(0, 3), (1, 2)]
    # Each speaks for frames that it was not carried to: those on frames 10 and 20 to the clip's ends.
    assert segmenter.asked[1:] == [[(i, range(COUNT)) for i in (0, 10, 20, 30)]]
    # Each round's masks are kept apart.
    assert segmenter.rounds == [0, 1]


def test_what_is_added_where_a_track_was_lost_takes_it_on() -> None:
    """The thing at 0 is lost from frame 12 on; boxed again on frame 20, it is the same one, and its own from there."""
    segmenter: Any = Follows({0: range(12, COUNT)})
    clip: Any = Clip()
    carrying = Carrying(segmenter, clip, (120, 20), 0.5)
    [lost] = carrying.add([prompt(3, 0), prompt(8, 0)])
    assert sorted(lost.masks) == list(range(12))
    segmenter.lost = {}
    [found] = carrying.add([prompt(20, 0)])
    assert found.members == (0, 1, 2)
    # Halfway to the box before, what the later one sees begins to count.
    assert sorted(found.masks) == [*range(12), *range(15, COUNT)]
    # Only the new one was carried, as far as the nearest of the first, and in a round of its own.
    assert segmenter.asked[1:] == [[(20, range(8, COUNT))]]
    assert segmenter.rounds == [0, 1]


def test_another_thing_added_later_is_another_track() -> None:
    segmenter: Any = Follows()
    clip: Any = Clip()
    carrying = Carrying(segmenter, clip, (120, 20), 0.5, first_round=3)
    carrying.add([prompt(3, 0)])
    assert [track.members for track in carrying.add([prompt(20, 60)])] == [(0,), (1,)]
    assert segmenter.rounds[0] == 3
    assert carrying.next_round == 3 + len(segmenter.rounds)


def test_a_batch_that_is_known_is_not_carried_again() -> None:
    segmenter: Any = Follows()
    clip: Any = Clip()
    known: Known = {}
    same = [prompt(3, 0), prompt(20, 0)]
    first = Carrying(segmenter, clip, (120, 20), 0.5, known=known, remember=True).add(same)
    assert segmenter.asked == [[(3, range(21)), (20, range(11, COUNT))]]
    told: list[float] = []
    again = Carrying(segmenter, clip, (120, 20), 0.5, known=known).add(same, told.append)
    assert segmenter.asked.pop() == []
    assert told[-1] == 1.0
    assert [(t.members, dict(t.masks)) for t in again] == [(t.members, dict(t.masks)) for t in first]
    # What is beside another box on its frame is another batch, which would be rounded otherwise; so is another span.
    other = [prompt(3, 0), prompt(3, 60), prompt(20, 0)]
    Carrying(segmenter, clip, (120, 20), 0.5, known=known).add(other)
    assert segmenter.asked[1] == [(3, range(21)), (3, range(21))]
    segmenter.asked.clear()
    Carrying(segmenter, clip, (120, 20), 0.5, known=known).add([prompt(3, 0), prompt(30, 0)])
    assert segmenter.asked == [[(3, range(31)), (30, range(16, COUNT))]]
    assert len(known) == 2


def test_the_tracks_are_those_of_carrying_everything_everywhere() -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        keyframes = sorted(rng.choice(COUNT, 4, replace=False).tolist())
        prompts = [prompt(k, x) for k in keyframes for x in (0, 40, 80) if rng.random() < 0.7]
        if not prompts:
            continue
        begin = int(rng.integers(COUNT))
        segmenter = Follows({40: range(begin, int(rng.integers(begin, COUNT)))})
        clip: Any = Clip()
        everywhere = link(prompts, segmenter.propagate(clip, prompts, None), 0.5)
        mine = {track.members: track for track in carried(segmenter, prompts)}
        for track in everywhere:
            if track.members in mine:
                assert mine[track.members].masks == track.masks
        assert {m for track in everywhere for m in track.members} >= {m for members in mine for m in members}
        unbroken = {t.members for t in everywhere if not any(prompts[m].box_xyxy_px.x1 == 40 for m in t.members)}
        assert unbroken <= set(mine)

"""The corrected layer's rules: what is truth, what is carried anew and from where, and what stays as it was."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.annotation import Box, Mask
from backend.domain.corrected import Carry, CorrectedTrack, Source, TrackPlan, assemble, plan
from backend.domain.corrections import BoxTrack, Change, FrameMask, Layer, compare
from backend.domain.masks import encode_mask
from backend.domain.tracks import BoxKeyframe, interpolate

FRAMES, PAGES = 100, (10, 50, 90)


def square(x: int, y: int = 4, side: int = 8) -> Mask:
    pixels = np.zeros((32, 160), bool)
    pixels[y : y + side, x : x + side] = True
    return encode_mask(pixels)


EMPTY = encode_mask(np.zeros((32, 160), bool))
#: A thing that goes right by a pixel a frame, seen on frames 5 to 94.
BASE = {frame: square(frame) for frame in range(5, 95)}
KEYFRAMES = (BoxKeyframe(5, BASE[5].box_xyxy_px, True), BoxKeyframe(94, BASE[94].box_xyxy_px, False))
TRACK = BoxTrack("t0", "target", KEYFRAMES, 0)
SENT = Layer(FRAMES, (TRACK,), tuple(FrameMask(f"m{f}", "target", f, BASE[f], 0) for f in PAGES))


def corrected(returned: Layer, number: int = 0) -> tuple[TrackPlan, CorrectedTrack]:
    """The plan of that track, and the whole track when the segmenter sees `square(0)` wherever it is asked."""
    found = planned(returned)[number]
    carried = [{frame: square(0) for frame in carry.span} for carry in found.carries]
    made = assemble(found, carried, FRAMES, 0.9)
    assert set(made.masks) <= found.changed
    kept = {} if found.origin is None else {f: (m, Source.KEPT) for f, m in BASE.items() if f not in found.changed}
    return found, replace(made, masks={**kept, **made.masks})


def planned(returned: Layer) -> list[TrackPlan]:
    return plan(SENT, returned, compare(SENT, returned), {0: "the cup"}, lambda _, frame: BASE.get(frame))


def repainted(masks: Mapping[int, Mask | None]) -> Layer:
    """What was sent with these masks instead of its own; None: taken away."""
    new = [replace(m, mask=masks.get(m.frame_index, m.mask)) for m in SENT.masks]
    return replace(SENT, masks=tuple(m for m in new if m.mask is not None))


def boxed(*keyframes: BoxKeyframe) -> Layer:
    merged = {k.frame_index: k for k in (*KEYFRAMES, *keyframes)}
    return replace(SENT, tracks=(replace(TRACK, keyframes=tuple(merged[f] for f in sorted(merged))),))


def sources(track: CorrectedTrack) -> dict[int, Source]:
    return {frame: source for frame, (_, source) in track.masks.items()}


def test_what_nobody_touched_has_nothing_to_do() -> None:
    [found] = planned(SENT)
    assert found == TrackPlan("t0", 0, "the cup", Change.UNTOUCHED)


def test_a_painted_mask_is_truth_and_speaks_as_far_as_the_next_page() -> None:
    drawn = square(50, y=12)
    found, track = corrected(repainted({50: drawn}))
    assert found.carries == (Carry(50, drawn, range(31, 71)),)
    assert track.masks[50] == (drawn, Source.DRAWN)
    for frame, (mask, source) in track.masks.items():
        if not 31 <= frame < 71:
            assert mask is BASE[frame]
        assert source is (Source.KEPT if not 31 <= frame < 71 else Source.DRAWN if frame == 50 else Source.CARRIED)
    shown = interpolate(track.box_keyframes, FRAMES)
    assert shown.keys() == track.masks.keys()
    assert shown[50] == drawn.box_xyxy_px
    before = interpolate(KEYFRAMES, FRAMES)
    assert all(shown[f].iou(before[f]) >= 0.9 for f in sources(track) if sources(track)[f] is Source.KEPT)


def test_a_moved_box_is_truth_where_it_was_moved() -> None:
    box = Box(35, 2, 43, 10)
    found, track = corrected(boxed(BoxKeyframe(30, box, True)))
    assert found.carries == (Carry(30, box, range(21, 41)),)
    assert sources(track)[30] is Source.CARRIED
    assert BoxKeyframe(30, box, True) in track.box_keyframes
    assert sources(track)[20] is sources(track)[41] is Source.KEPT


def test_a_painted_mask_wins_over_a_box_and_a_box_over_a_mask_that_was_left() -> None:
    box, drawn = Box(55, 2, 63, 10), square(52)
    both = replace(boxed(BoxKeyframe(50, box, True)), masks=repainted({50: drawn}).masks)
    found, track = corrected(both)
    assert found.carries == (Carry(50, drawn, range(31, 71)),)
    assert track.masks[50] == (drawn, Source.DRAWN)
    found, track = corrected(boxed(BoxKeyframe(50, box, True)))
    assert found.carries == (Carry(50, box, range(31, 71)),)
    assert track.masks[50] == (square(0), Source.CARRIED)


@pytest.mark.parametrize("gone", [None, EMPTY])
def test_where_a_mask_was_taken_away_its_neighbours_speak(gone: Mask | None) -> None:
    found, track = corrected(repainted({50: gone}))
    assert found.carries == (Carry(10, BASE[10], range(31, 51)), Carry(90, BASE[90], range(51, 71)))
    assert 50 not in track.masks
    assert {frame for frame, source in sources(track).items() if source is Source.CARRIED} == {*range(31, 71)} - {50}
    assert sources(track)[10] is sources(track)[90] is Source.KEPT


def test_a_moved_box_speaks_for_what_was_taken_away_beside_it_and_its_old_mask_does_not() -> None:
    box = Box(12, 2, 20, 10)
    both = replace(boxed(BoxKeyframe(10, box, True)), masks=repainted({50: None}).masks)
    found, _ = corrected(both)
    assert found.carries == (Carry(10, box, range(51)), Carry(90, BASE[90], range(51, 71)))


def test_what_a_person_hides_is_gone_and_what_they_show_is_carried() -> None:
    hidden, track = corrected(boxed(BoxKeyframe(60, interpolate(KEYFRAMES, FRAMES)[60], False)))
    assert hidden.hidden == frozenset(range(61, 94))
    assert set(track.masks) == {*range(5, 61), 94}
    longer = replace(SENT, tracks=(replace(TRACK, keyframes=(KEYFRAMES[0], replace(KEYFRAMES[1], visible=True))),))
    shown, track = corrected(longer)
    assert shown.carries == (Carry(94, BASE[94], range(95, 100)),)
    assert set(track.masks) == set(range(5, 100))
    assert sources(track)[94] is Source.KEPT


def test_new_tracks_have_the_masks_that_fit_them_and_others_are_on_their_own() -> None:
    added = BoxTrack(
        "new", "target", (BoxKeyframe(0, Box(0, 20, 8, 28), True), BoxKeyframe(40, Box(40, 20, 48, 28), False))
    )
    fits, stray = square(20, y=20), square(120, y=20)
    masks = (*SENT.masks, FrameMask("a", "target", 20, fits), FrameMask("b", "target", 20, stray))
    returned = Layer(FRAMES, (TRACK, added), masks)
    old, new = (corrected(returned, number)[0] for number in (0, 1))
    assert old.change is Change.UNTOUCHED
    assert [(c.frame_index, c.prompt, c.frames) for c in new.carries] == [
        (0, Box(0, 20, 8, 28), range(11)), (20, fits, range(11, 31)), (40, Box(40, 20, 48, 28), range(31, 100)),
    ]  # fmt: skip
    _, track = corrected(returned, 1)
    assert set(track.masks) == set(range(41))
    assert track.masks[20] == (fits, Source.DRAWN)
    alone, track = corrected(returned, 2)
    assert (alone.region_id, alone.carries) == ("b", (Carry(20, stray, range(100)),))
    assert track.masks[20] == (stray, Source.DRAWN)


def test_a_removed_track_is_gone_and_what_was_drawn_into_it_is_not() -> None:
    drawn = square(50, y=12)
    returned = replace(repainted({50: drawn}), tracks=())
    removed, own = planned(returned)
    assert removed.change is Change.REMOVED
    assert (own.change, own.drawn) == (Change.ADDED, {50: drawn})


def test_another_label_alone_changes_no_mask() -> None:
    found, track = corrected(replace(SENT, tracks=(replace(TRACK, label="bottle"),)))
    assert (found.label, found.change, found.carries) == ("bottle", Change.EDITED, ())
    assert {frame: mask for frame, (mask, _) in track.masks.items()} == BASE
    assert track.box_keyframes == KEYFRAMES


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(PAGES), st.none() | st.integers(0, 140), max_size=3),
    st.dictionaries(st.integers(6, 93), st.tuples(st.integers(0, 140), st.booleans()), max_size=4),
)
def test_whatever_is_changed_truth_is_exact_and_the_rest_is_carried_or_as_it_was(
    paint: dict[int, int | None], moves: dict[int, tuple[int, bool]]
) -> None:
    painted = repainted({frame: None if x is None else square(x, y=14) for frame, x in paint.items()})
    boxes = [BoxKeyframe(f, Box(x, 3, x + 9, 11), visible) for f, (x, visible) in moves.items()]
    returned = replace(boxed(*boxes), masks=painted.masks)
    found, track = corrected(returned)
    for frame, x in paint.items():
        assert track.masks.get(frame) == (None if x is None else (square(x, y=14), Source.DRAWN))
    for frame, box in found.boxed.items():
        assert (frame, box) in [(keyframe.frame_index, keyframe.box) for keyframe in track.box_keyframes]
    for frame in set(BASE) - found.changed:
        assert track.masks[frame] == (BASE[frame], Source.KEPT)
    touched = {*paint, *found.boxed, *found.hidden}
    assert touched <= found.changed or not found.changed
    assert found.changed <= {f for c in found.carries for f in c.frames} | touched

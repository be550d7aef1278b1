"""What a person changed: exactly that and nothing else is found."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box, Mask
from backend.domain.corrections import BoxTrack, Change, FrameMask, Layer, compare
from backend.domain.masks import encode_mask
from backend.domain.tracks import BoxKeyframe, interpolate

FRAMES = 30
TRACK = BoxTrack(
    "a",
    "target",
    (
        BoxKeyframe(2, Box(10, 10, 30, 40), True),
        BoxKeyframe(12, Box(50, 10, 70, 40), True),
        BoxKeyframe(20, Box(50, 30, 80, 60), False),
    ),
)


def square(left: int, right: int) -> Mask:
    picture = np.zeros((40, 60), bool)
    picture[10:20, left:right] = True
    return encode_mask(picture)


MASK = FrameMask("a-12", "target", 12, square(10, 20))
SENT = Layer(FRAMES, (TRACK, replace(TRACK, region_id="b")), (MASK,))


def with_keyframes(*keyframes: BoxKeyframe) -> Layer:
    return replace(SENT, tracks=(replace(TRACK, keyframes=keyframes), SENT.tracks[1]))


def test_what_comes_back_unchanged_is_accepted() -> None:
    found = compare(SENT, Layer(FRAMES, SENT.tracks[::-1], SENT.masks))
    assert found.accepted
    assert {track.change for track in found.tracks} == {Change.UNTOUCHED}
    assert all(track.iou == 1 and not track.touched_frames for track in found.tracks)


def test_rounding_is_no_edit() -> None:
    off = tuple(replace(k, box=Box(k.box.x1 + 1e-6, k.box.y1, k.box.x2, k.box.y2 - 1e-6)) for k in TRACK.keyframes)
    assert compare(SENT, with_keyframes(*off)).accepted


def test_a_box_moved_on_one_frame_changes_the_frames_up_to_its_neighbours() -> None:
    a, b, c = TRACK.keyframes
    moved = BoxKeyframe(16, Box(60, 20, 85, 50), True)  # interpolated there: 50, 20, 75, 50
    [edited, other] = compare(SENT, with_keyframes(a, b, moved, c)).tracks
    assert edited.change is Change.EDITED
    assert edited.touched_frames == (16,)
    assert edited.moved_frames == tuple(range(13, 20))
    assert edited.resized_frames == edited.shown_frames == edited.hidden_frames == ()
    assert 0.5 < edited.iou < 1
    assert other.change is Change.UNTOUCHED


def test_a_box_made_wider_is_resized() -> None:
    a, b, c = TRACK.keyframes
    wider = replace(b, box=Box(50, 10, 75, 40))
    [edited, _] = compare(SENT, with_keyframes(a, wider, c)).tracks
    assert edited.touched_frames == (12,)
    assert edited.resized_frames == tuple(range(3, 20))
    assert edited.moved_frames == ()


def test_frames_may_be_shown_and_hidden() -> None:
    a, b, c = TRACK.keyframes
    [longer, _] = compare(SENT, with_keyframes(a, b, replace(c, visible=True))).tracks
    assert longer.shown_frames == tuple(range(21, FRAMES))
    assert longer.touched_frames == (20,)
    [shorter, _] = compare(SENT, with_keyframes(a, replace(b, visible=False))).tracks
    assert shorter.hidden_frames == tuple(range(13, 21))
    assert shorter.touched_frames == (12, 20)
    assert shorter.moved_frames == ()


def test_added_removed_and_relabeled_tracks() -> None:
    returned = Layer(FRAMES, (replace(TRACK, label="bottle"), replace(TRACK, region_id="xyz")), ())
    found = compare(SENT, returned)
    assert {t.region_id: t.change for t in found.tracks} == {
        "a": Change.EDITED,
        "b": Change.REMOVED,
        "xyz": Change.ADDED,
    }
    assert [t.relabeled for t in found.tracks] == [True, False, False]
    assert found.tracks[0].iou == 1
    assert found.tracks[1].hidden_frames == found.tracks[2].shown_frames == tuple(range(2, 21))
    [mask] = found.masks
    assert (mask.change, mask.pixels_added, mask.pixels_removed) == (Change.REMOVED, 0, 100)
    assert not found.accepted


def test_pixels_painted_and_erased_are_counted() -> None:
    painted = replace(SENT, masks=(replace(MASK, mask=square(13, 25)), FrameMask("new", "target", 3, square(0, 2))))
    edited, added = compare(SENT, painted).masks
    assert (edited.change, edited.pixels_added, edited.pixels_removed) == (Change.EDITED, 50, 30)
    assert edited.iou == pytest.approx(70 / 150)
    assert (added.change, added.frame_index, added.pixels_added) == (Change.ADDED, 3, 20)


def test_layers_that_can_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="30 frames"):
        compare(SENT, replace(SENT, frame_count=29))
    with pytest.raises(ValueError, match="same id"):
        compare(SENT, replace(SENT, tracks=(TRACK, TRACK)))


boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), *[st.integers(0, 50)] * 2, *[st.integers(1, 30)] * 2)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    tracks = []
    for region_id in draw(st.lists(st.sampled_from("abcd"), unique=True)):
        frames = sorted(draw(st.sets(st.integers(0, FRAMES - 1), min_size=1, max_size=5)))
        keyframes = tuple(BoxKeyframe(f, draw(boxes), draw(st.booleans())) for f in frames)
        tracks.append(BoxTrack(region_id, draw(st.sampled_from(["x", "y"])), keyframes))
    return Layer(FRAMES, tuple(tracks))


@given(layers(), layers())
def test_the_reverse_comparison_says_the_reverse(one: Layer, other: Layer) -> None:
    there = {t.region_id: t for t in compare(one, other).tracks}
    back = {t.region_id: t for t in compare(other, one).tracks}
    reverse = {Change.ADDED: Change.REMOVED, Change.REMOVED: Change.ADDED}
    assert set(there) == set(back) == {t.region_id for t in (*one.tracks, *other.tracks)}
    for region_id, track in there.items():
        mirror = back[region_id]
        assert mirror.change is reverse.get(track.change, track.change)
        assert (mirror.moved_frames, mirror.resized_frames) == (track.moved_frames, track.resized_frames)
        assert (mirror.shown_frames, mirror.hidden_frames) == (track.hidden_frames, track.shown_frames)
        assert mirror.touched_frames == track.touched_frames
        assert mirror.iou == pytest.approx(track.iou)


@given(layers(), layers())
def test_every_frame_that_differs_is_named_and_no_other(one: Layer, other: Layer) -> None:
    before = {t.region_id: interpolate(t.keyframes, FRAMES) for t in one.tracks}
    after = {t.region_id: interpolate(t.keyframes, FRAMES) for t in other.tracks}
    for track in compare(one, other).tracks:
        old, new = before.get(track.region_id, {}), after.get(track.region_id, {})
        named = [*track.moved_frames, *track.resized_frames, *track.shown_frames, *track.hidden_frames]
        assert len(named) == len(set(named))
        # Boxes of whole pixels at keyframes differ by more than the tolerance, or not at all, but for rounding.
        assert set(named) == {
            f
            for f in range(FRAMES)
            if (f in old) != (f in new) or (f in old and not np.allclose(_array(old[f]), _array(new[f]), atol=0.01))
        }


def _array(box: Box) -> np.ndarray:
    return np.asarray([box.x1, box.y1, box.x2, box.y2])

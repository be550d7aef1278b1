"""What a reviewed layer says is true: each way in which boxes and masks can agree, contradict each other, or be alone.

The clip has ten frames; pages show 2 and 6. The run saw one thing on frames 1 to 8, at rest.
"""

from dataclasses import replace

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask
from backend.domain.corrections import BoxTrack, FrameMask, Layer, compare
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.tracks import BoxKeyframe
from backend.domain.truth import Truth, truth_of

WIDTH, HEIGHT, FRAMES, PAGES = 40, 30, 10, (2, 6)
HERE, THERE = Box(4, 4, 14, 14), Box(24, 4, 34, 14)


def square(box: Box) -> Mask:
    pixels = np.zeros((HEIGHT, WIDTH), bool)
    pixels[int(box.y1) : int(box.y2), int(box.x1) : int(box.x2)] = True
    return encode_mask(pixels)


def track(name: str = "track0", *keyframes: tuple[int, Box, bool], label: str = "cup") -> BoxTrack:
    return BoxTrack(name, label, tuple(BoxKeyframe(*one) for one in keyframes or ((1, HERE, True), (8, HERE, False))))


def page(frame: int, box: Box = HERE, name: str | None = None, label: str = "cup") -> FrameMask:
    return FrameMask(name or f"track0-frame{frame}", label, frame, square(box))


SENT = Layer(FRAMES, (track(),), (page(2), page(6)))
DENSE = {0: {frame: square(HERE) for frame in range(1, 9)}}


def track_index_of(region_id: str) -> int | None:
    return int(region_id[5]) if region_id.startswith("track") else None


def read(returned: Layer, sent: Layer = SENT) -> Truth:
    return truth_of(returned, compare(sent, returned), PAGES, (WIDTH, HEIGHT), track_index_of, DENSE)


def test_what_was_left_as_it_was_is_true() -> None:
    found = read(SENT)
    [cup] = found.objects
    assert cup.boxes == dict.fromkeys(range(1, 9), HERE)
    assert cup.masks == {frame: square(HERE) for frame in range(1, 9)}
    assert found.box_frames == tuple(range(FRAMES))
    assert found.mask_frames == PAGES
    assert found.propagated_frames == (0, 1, 3, 4, 5, 7, 8, 9)


def test_a_moved_box_leaves_no_mask_where_it_was_moved() -> None:
    """From frame 4 on the box is elsewhere; the mask of page 6 was forgotten."""
    moved = track("track0", (1, HERE, True), (3, HERE, True), (4, THERE, True), (8, THERE, False))
    found = read(replace(SENT, tracks=(moved,)))
    [cup] = found.objects
    assert (cup.boxes[3], cup.boxes[4]) == (HERE, THERE)
    assert (found.mask_frames, found.propagated_frames) == ((2,), (0, 1, 3, 9))
    assert sorted(cup.masks) == [1, 2, 3]


def test_a_painted_mask_wins_over_the_box() -> None:
    found = read(replace(SENT, masks=(page(2), page(6, THERE))))
    [cup] = found.objects
    assert (cup.boxes[6], cup.boxes[5], cup.masks[6]) == (THERE, HERE, square(THERE))
    assert found.mask_frames == PAGES


def test_a_nudge_is_no_other_place() -> None:
    near = Box(5, 4, 15, 14)
    found = read(replace(SENT, tracks=(track("track0", (1, near, True), (8, near, False)),)))
    assert found.mask_frames == PAGES
    assert found.propagated_frames == (0, 9)


def test_a_thing_that_was_taken_away_is_not_there_whatever_masks_were_forgotten() -> None:
    found = read(replace(SENT, tracks=()))
    assert found.objects == ()
    assert (found.box_frames, found.mask_frames) == (tuple(range(FRAMES)), PAGES)


def test_a_thing_hidden_from_a_frame_on_has_no_mask_there() -> None:
    found = read(replace(SENT, tracks=(track("track0", (1, HERE, True), (4, HERE, False)),)))
    [cup] = found.objects
    assert (sorted(cup.boxes), sorted(cup.masks)) == ([1, 2, 3, 4], [1, 2, 3, 4])
    assert found.mask_frames == PAGES


def test_a_mask_taken_away_under_a_box_that_stays_is_not_known() -> None:
    found = read(replace(SENT, masks=(page(6),)))
    [cup] = found.objects
    assert (found.mask_frames, cup.boxes[2]) == ((6,), HERE)
    assert 2 not in cup.masks
    assert 2 not in found.propagated_frames


def test_a_mask_drawn_anew_is_of_the_thing_whose_box_it_covers() -> None:
    found = read(replace(SENT, masks=(page(6), page(2, Box(4, 4, 12, 14), "x"))))
    [cup] = found.objects
    assert cup.masks[2] == square(Box(4, 4, 12, 14))
    assert found.mask_frames == PAGES


def test_two_masks_of_a_thing_on_one_page_are_one() -> None:
    found = read(replace(SENT, masks=(*SENT.masks, page(2, Box(10, 4, 18, 14), "x"))))
    [cup] = found.objects
    assert (decode_mask(cup.masks[2]) == decode_mask(square(Box(4, 4, 18, 14)))).all()


def test_a_box_track_of_a_new_thing_leaves_masks_unknown_where_it_is_seen() -> None:
    extra = track("new", (5, THERE, True), (7, THERE, False), label="lid")
    found = read(replace(SENT, tracks=(track(), extra)))
    assert [(one.label, sorted(one.boxes)) for one in found.objects] == [
        ("cup", [1, 2, 3, 4, 5, 6, 7, 8]),
        ("lid", [5, 6, 7]),
    ]
    assert (found.mask_frames, found.propagated_frames) == ((2,), (0, 1, 3, 4, 8, 9))


def test_masks_without_a_track_say_nothing_of_boxes_elsewhere() -> None:
    found = read(replace(SENT, masks=(*SENT.masks, page(2, THERE, "x", "lid"), page(6, THERE, "y", "lid"))))
    assert [(one.label, sorted(one.masks)) for one in found.objects] == [("cup", [2, 6]), ("lid", [2, 6])]
    assert (found.box_frames, found.mask_frames, found.propagated_frames) == (PAGES, PAGES, ())


def test_nothing_sent_and_nothing_drawn_is_a_clip_without_the_thing() -> None:
    found = read(Layer(FRAMES), Layer(FRAMES))
    assert found.objects == ()
    assert (len(found.box_frames), found.mask_frames, len(found.propagated_frames)) == (FRAMES, PAGES, FRAMES - 2)


def test_boxes_are_cut_at_the_picture() -> None:
    far = track("track0", (1, Box(-10, 5, 8, 50), True), (8, Box(-30, 5, -10, 50), False))
    [cup] = read(Layer(FRAMES, (far,)), Layer(FRAMES, (far,))).objects
    assert cup.boxes[1] == Box(0, 5, 8, HEIGHT)
    assert max(cup.boxes) < 8


@pytest.mark.parametrize("names", [("track0", "new"), ("new", "track0")])
def test_the_order_of_things_is_not_that_of_their_ids(names: tuple[str, str]) -> None:
    one, other = track(names[0]), track(names[1], (2, THERE, True), (6, THERE, False))
    labels = [sorted(found.boxes)[0] for found in read(Layer(FRAMES, (other, one)), Layer(FRAMES)).objects]
    assert labels == [1, 2]

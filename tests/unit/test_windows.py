"""Long videos in windows: cut, sent, read back, corrected and put together again, every frame stays what it is."""

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.domain.annotation import Box
from backend.domain.corrected import Carry, TrackPlan, within
from backend.domain.corrections import Change, Layer, compare
from backend.domain.errors import BadInput
from backend.domain.frames import FrameClock
from backend.domain.renditions import RenditionClock
from backend.domain.tracks import BoxKeyframe, interpolate
from backend.domain.windows import Window, clipped, joined, windows_of
from backend.ports.publication import PublicationItem, ShownRendition
from integrations.label_studio.annotation import layer_of
from integrations.label_studio.config import labeling_config, read_config
from integrations.label_studio.coordinates import shown_rate
from integrations.label_studio.prediction import prediction, track_indices
from integrations.label_studio.task_data import task_data, task_key
from integrations.label_studio.validate import check_prediction
from integrations.media.decode import iter_frames
from integrations.media.probe import probe_video
from integrations.media.rendition import write_rendition
from integrations.media.sound import RATE_HZ, fitted_sound
from tests.factories import moving_square
from tests.factories.numbered_clips import Kind, number_of, write_kind
from tests.unit.test_renditions import clip_with_sound, clocks, first_frame_s

CONFIG = read_config(labeling_config([]))
SIZE = (moving_square.WIDTH, moving_square.HEIGHT)
COUNT = moving_square.FRAME_COUNT


@given(clocks(), st.floats(0.01, 100))
def test_windows_divide_the_video_and_none_is_too_long(clock: FrameClock, longest_s: float) -> None:
    windows = windows_of(clock, longest_s)
    if clock.duration_s <= longest_s or len(clock.pts) < 2:
        assert windows == ()
        return
    assert [frame for window in windows for frame in window.frames] == list(range(len(clock.pts)))
    times_s = [*clock.times_s(), clock.duration_s]
    assert all(window.frame_count > 0 for window in windows)
    frame_s = float(np.diff(times_s).max())
    for window in windows:
        assert times_s[window.stop] - times_s[window.first_frame] <= longest_s + frame_s + 1e-5
    assert windows == windows_of(clock, longest_s)


def test_windows_are_as_few_as_they_can_be_and_about_as_long_as_each_other() -> None:
    clock = FrameClock(np.arange(2510, dtype=np.int64), Fraction(1, 25), 100.4)
    assert windows_of(clock, 0) == ()
    assert windows_of(clock, 100.4) == ()
    assert [window.frame_count for window in windows_of(clock, 100)] == [1255, 1255]
    assert [window.frame_count for window in windows_of(clock, 30)] == [628, 627, 628, 627]


@st.composite
def keyframes(draw: st.DrawFn) -> list[BoxKeyframe]:
    frames = sorted(draw(st.sets(st.integers(0, 39), max_size=8)))
    sides = st.floats(0, 100, allow_nan=False)
    return [
        BoxKeyframe(f, Box(x := draw(sides), y := draw(sides), x + 10, y + 10), draw(st.booleans())) for f in frames
    ]


@given(keyframes(), st.sets(st.integers(1, 39), max_size=4))
def test_what_is_clipped_means_the_same_inside_and_nothing_outside_and_joins_to_the_whole(
    found: list[BoxKeyframe], borders: set[int]
) -> None:
    edges = [0, *sorted(borders), 40]
    parts = [clipped(found, range(a, b)) for a, b in pairwise(edges)]
    whole = interpolate(found, 40)
    for part, (a, b) in zip(parts, pairwise(edges), strict=True):
        assert_same(interpolate(part, 40), {frame: box for frame, box in whole.items() if a <= frame < b})
    assert_same(interpolate(joined(parts, 40), 40), whole)


def assert_same(one: dict[int, Box], other: dict[int, Box]) -> None:
    assert set(one) == set(other)
    for frame, box in one.items():
        assert corners(box) == pytest.approx(corners(other[frame]))


def corners(box: Box) -> tuple[float, ...]:
    return box.x1, box.y1, box.x2, box.y2


def windowed(window: Window) -> PublicationItem:
    """What a service makes of the whole item for that window."""
    whole = moving_square.item()
    tracks = tuple(
        replace(track, box_keyframes=clipped(track.box_keyframes, window.frames),
                masks={frame: mask for frame, mask in track.masks.items() if frame in window.frames})
        for track in whole.tracks
    )  # fmt: skip
    return replace(
        whole, window=window, rendition=ShownRendition("s3://bucket/part.mp4", moving_square.FPS),
        pages=tuple(page for page in whole.pages if page.frame_index in window.frames), tracks=tracks,
    )  # fmt: skip


@pytest.mark.parametrize("window", [Window(0, 20), Window(20, 25), Window(45, 15)])
def test_what_was_sent_of_a_window_is_read_back_on_the_frames_of_the_whole(window: Window) -> None:
    item = windowed(window)
    rate = shown_rate(item)
    data = task_data(item, rate)
    pages = data["keyframe_frame_indices"]
    body = prediction(item, CONFIG, rate, pages)
    check_prediction(body, CONFIG, window.frame_count, len(pages))
    sequences = [region["value"]["sequence"] for region in body["result"] if region["type"] == "videorectangle"]
    numbers = [entry["frame"] for sequence in sequences for entry in sequence]
    assert all(1 <= number <= window.frame_count for number in numbers), "counted from the window's first frame"
    assert {region["value"]["framesCount"] for region in body["result"] if "framesCount" in region["value"]} == {
        window.frame_count
    }
    back = layer_of(body["result"], SIZE, window, pages, track_indices(item))
    assert compare(back, back).accepted
    seen = {f: moving_square.truth(f) for f in moving_square.VISIBLE if f in window.frames}
    dense = interpolate(back.tracks[0].keyframes, back.frame_count)
    assert set(dense) == set(seen)
    assert min(dense[frame].iou(box) for frame, box in seen.items()) >= 0.85
    assert {mask.frame_index for mask in back.masks} == set(moving_square.KEYFRAMES) & set(window.frames)


def test_a_task_of_a_window_says_which_part_it_is_and_keeps_its_key() -> None:
    item = windowed(Window(20, 25))
    data = task_data(item, shown_rate(item))
    assert task_key(item) == data["premask_key"] == "video:1/instruction:2/frames:20-45"
    assert task_key(moving_square.item()) == "video:1/instruction:2"
    assert data["video"] == "s3://bucket/part.mp4"
    assert data["window"] == "0:00 to 0:01"
    assert data["instruction"] == "the square that turns downwards (0:00 to 0:01)"
    assert "0:00 to 0:01 of 0:02 minutes" in data["guide"]
    assert "frame 11<" in data["guide"], "the page of source frame 30"


def test_a_frame_that_the_window_has_not_is_no_answer() -> None:
    item = windowed(Window(20, 25))
    body = prediction(item, CONFIG, shown_rate(item), [30])
    region = next(region for region in body["result"] if region["type"] == "videorectangle")
    region["value"]["sequence"][-1]["frame"] = 26
    with pytest.raises(BadInput, match="frame 26 is not one of the 25 that are shown"):
        layer_of(body["result"], SIZE, Window(20, 25), [30], {})


def test_a_box_that_a_person_leaves_standing_ends_with_the_window() -> None:
    """Label Studio keeps the last box up to the end of what it shows."""
    item, window = windowed(Window(20, 25)), Window(20, 25)
    body = prediction(item, CONFIG, shown_rate(item), [30])
    region = next(region for region in body["result"] if region["type"] == "videorectangle")
    sent = layer_of(body["result"], SIZE, window, [30], track_indices(item))
    region["value"]["sequence"] = [{**region["value"]["sequence"][0], "x": 1.0, "enabled": True}]
    made = compare(sent, layer_of(body["result"], SIZE, window, [30], track_indices(item)))
    touched = {f for one in made.tracks for f in (*one.moved_frames, *one.resized_frames, *one.shown_frames)}
    assert touched
    assert touched <= set(window.frames)


def test_a_plan_for_a_window_says_nothing_of_other_frames() -> None:
    window, box = Window(20, 25), Box(0, 0, 1, 1)
    plan = TrackPlan("r", 0, "a", Change.EDITED, boxed={22: box}, hidden=frozenset({3, 40}),
                     carries=(Carry(22, box, range(60)), Carry(44, box, range(45, 60))))  # fmt: skip
    made = within(plan, window)
    assert [carry.frames for carry in made.carries] == [range(20, 45)]
    assert made.hidden == {40}
    assert made.changed == set(window.frames)
    gone = within(TrackPlan("r", 0, "a", Change.REMOVED), window)
    assert (gone.change, gone.changed) == (Change.EDITED, set(window.frames))
    assert within(TrackPlan("r", 0, "a", Change.UNTOUCHED), window).changed == frozenset()


def test_layers_of_different_windows_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="can't be compared"):
        compare(Layer(45), Layer(60))


@pytest.mark.parametrize(
    "kind",
    [
        Kind("a.mp4", frames=40, options={"g": "12", "bf": "2"}),
        Kind("a.mp4", frames=40, pts_ms=tuple(int(x) for x in np.cumsum(np.arange(40) % 5 * 30 + 20))),
        Kind("a.avi", "mpeg4", frames=40),
        Kind("a.mp4", frames=40, rotation_deg=90),
    ],
    ids=["even", "uneven", "no index", "turned"],
)
def test_frame_n_of_a_window_is_source_frame_first_plus_n(tmp_path: Path, kind: Kind) -> None:
    path = write_kind(tmp_path, kind)
    probe = probe_video(path)
    shown = []
    for number, window in enumerate((Window(0, 13), Window(13, 14), Window(27, 13))):
        to = tmp_path / f"{number}.mp4"
        write_rendition(path, probe, to, 640, window)
        made = probe_video(to)
        assert made.frame_count == window.frame_count
        assert int(made.pts[0]) == 0, "a player counts from its beginning"
        shown += [number_of(image) for _, image in iter_frames(to, made)]
    assert shown == list(range(40))


def test_a_window_has_the_sound_of_its_frames(tmp_path: Path) -> None:
    """What is heard in a window is what is heard there in the rendition of the whole."""
    path = tmp_path / "a.mp4"
    clip_with_sound(path, [100 * n for n in range(40)], [1.5, 2.1])
    probe = probe_video(path)

    def heard(first_frame: int, count: int) -> np.ndarray:
        clock = RenditionClock(probe.clock, Fraction(10), first_frame, count)
        return np.concatenate(list(fitted_sound(path, first_frame_s(path), clock)), axis=1)

    whole, part = heard(0, 40), heard(13, 14)
    assert part.shape[1] == round(1.4 * RATE_HZ)
    begin = round(1.3 * RATE_HZ)
    ours, theirs = part[0, 960:-960], whole[0, begin : begin + part.shape[1]][960:-960]
    assert np.abs(theirs).max() > 0.01, "there is something to be heard"
    np.testing.assert_allclose(ours, theirs, atol=2e-3)

"""What is shown in place of videos that a browser shows wrongly: every frame at its number, in sound with its time."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from backend.domain.errors import BadInput
from backend.domain.frames import FrameClock
from backend.domain.renditions import RenditionClock, average_rate, constant_rate, rendition_rate
from integrations.label_studio.coordinates import label_studio_frame
from integrations.media import rendition
from integrations.media.decode import iter_frames
from integrations.media.playable import why_not_played
from integrations.media.probe import probe_video
from integrations.media.rendition import shown_size, write_rendition
from integrations.media.sound import HOP_S, RATE_HZ, SEARCH_S, fitted_sound
from tests.factories import core
from tests.factories.numbered_clips import Kind, number_of, write_kind
from tests.unit.test_clip_kinds import KINDS
from workers.shapeworld.world.levels import HARD
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.queries import Kind as QuestionKind
from workers.shapeworld.world.splits import SEEDS, Split
from workers.shapeworld.world.video import write as write_world_clip

MAX_SIDE_PX = 1920
PLAYED = {"b-frames mp4", "vp9", "29.97", "odd size, vp9", "one frame mp4", "interlaced h264",
          "no duration: webm as it streams", "turned 90", "turned 180", "turned 270",
           "longer sound mp4", "shorter sound mp4", "wide pixels mp4"}  # fmt: skip

TIME_BASES = st.sampled_from([Fraction(1, 1000), Fraction(1, 90_000), Fraction(1, 12_800), Fraction(1, 25)])


@st.composite
def clocks(draw: st.DrawFn) -> FrameClock:
    """Of any video: times that ascend, from any origin."""
    steps = draw(st.lists(st.integers(1, 5000), max_size=60))
    pts = np.cumsum([draw(st.integers(-100_000, 100_000)), *steps]).astype(np.int64)
    base = draw(TIME_BASES)
    return FrameClock(pts, base, float((int(pts[-1] - pts[0]) + draw(st.integers(1, 5000))) * base))


@given(clocks())
def test_every_frame_is_found_at_its_second_of_the_rendition_and_at_its_second_of_the_source(clock: FrameClock) -> None:
    shown = RenditionClock(clock, rendition_rate(clock))
    for frame_index in range(len(clock.pts)):
        begins_s = shown.shown_s(frame_index)
        assert shown.frame_index_at(begins_s) == frame_index
        assert shown.frame_index_at(begins_s + 0.999 * float(1 / shown.fps)) == frame_index
        assert clock.frame_index_at(clock.time_s(shown.frame_index_at(begins_s))) == frame_index
    assert shown.frame_index_at(shown.duration_s) == len(clock.pts) - 1
    for outside in (-0.001, shown.duration_s + 0.001):
        with pytest.raises(ValueError, match="outside"):
            shown.frame_index_at(outside)
    with pytest.raises(IndexError):
        shown.shown_s(len(clock.pts))


@given(clocks())
def test_label_studio_shows_every_frame_of_a_rendition_as_itself(clock: FrameClock) -> None:
    """Its player goes to (number - 1) / fps on a grid of 2 ms, plus 2 ms."""
    shown = RenditionClock(clock, rendition_rate(clock))
    assert 1 <= shown.fps <= 240
    for frame_index in range(len(clock.pts)):
        number = label_studio_frame(frame_index)
        seconds = np.floor((number - 1) / float(shown.fps) / 0.002 + 0.5) * 0.002 + 0.002
        assert shown.frame_index_at(min(seconds, shown.duration_s)) == frame_index


@given(clocks())
def test_seconds_of_both_ascend_together_and_meet_at_every_frame(clock: FrameClock) -> None:
    shown_s, source_s = RenditionClock(clock, rendition_rate(clock)).knots_s()
    assert len(shown_s) == len(source_s) == len(clock.pts) + 1
    assert (np.diff(shown_s) > 0).all()
    assert (np.diff(source_s) >= 0).all()
    assert source_s[:-1] == pytest.approx([clock.time_s(i) for i in range(len(clock.pts))])


@given(st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(25, 2), Fraction(120)]),
       st.integers(200, 3000), TIME_BASES)  # fmt: skip
def test_a_constant_rate_is_kept(fps: Fraction, count: int, base: Fraction) -> None:
    assume(base * fps < Fraction(1, 40))
    pts = np.array([round(i / fps / base) for i in range(count)], dtype=np.int64)
    clock = FrameClock(pts, base, float(count / fps))
    rate = constant_rate(clock)
    assert rate is not None
    assert float(rendition_rate(clock)) == pytest.approx(float(fps), rel=1e-4)
    shown_s, source_s = RenditionClock(clock, rendition_rate(clock)).knots_s()
    assert np.abs(shown_s - source_s).max() < 0.0015, "sound stays where it was"


def test_where_there_is_no_rate_it_is_the_average_within_what_can_be_counted_by() -> None:
    def clock(*pts_ms: int) -> FrameClock:
        return FrameClock(np.array(pts_ms, dtype=np.int64), Fraction(1, 1000), pts_ms[-1] / 1000 + 0.04)

    uneven = clock(0, 40, 80, 160, 200)
    assert (constant_rate(uneven), average_rate(uneven), rendition_rate(uneven)) == (None, 20, 20)
    assert rendition_rate(clock(0, 4000, 8000)) == 1
    assert rendition_rate(clock(*range(100))) == 240


@pytest.mark.parametrize("name", KINDS)
def test_the_frame_on_screen_n_is_source_frame_n_whatever_the_file(tmp_path: Path, name: str) -> None:
    """Of every kind of file: what a browser plays is left alone; the rendition has the same numbers in its frames."""
    path = write_kind(tmp_path, KINDS[name][0])
    probe = probe_video(path)
    assert (why_not_played(path, probe) == ()) == (name in PLAYED)
    fps = write_rendition(path, probe, tmp_path / "rendition.mp4", MAX_SIDE_PX)
    made = probe_video(tmp_path / "rendition.mp4")
    assert (made.width, made.height) == shown_size(probe, MAX_SIDE_PX)
    assert (made.rotation_deg, made.codec, made.has_audio) == (0, "h264", probe.has_audio)
    assert made.clock.times_s() == pytest.approx(np.arange(probe.frame_count) / float(fps), abs=1e-4)
    assert [number_of(image) for _, image in iter_frames(tmp_path / "rendition.mp4", made)] == [
        number_of(image) for _, image in iter_frames(path, probe)
    ]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Kind("a.mp4", pts_ms=[0, 100, 150, 400, 1000], frames=5), "no constant rate"),
        (Kind("a.mp4", pts_ms=[100 * n - 500 for n in range(20)]), "holds 20 frames in its index and shows 15"),
        (Kind("a.mp4", pts_ms=[5000 + 100 * n for n in range(20)]), "first frame is at 5.000 s"),
        (Kind("a.mp4", "libx265"), "hevc pictures"),
        (Kind("a.mp4", "mpeg4"), "mpeg4 pictures"),
        (Kind("a.mkv"), "matroska files"),
        (Kind("a.mp4", pix_fmt="yuv420p10le"), "yuv420p10le"),
        (Kind("a.mp4", frames=3, pts_ms=[0, 4000, 8000]), "no constant rate of 1 to 240"),
    ],
)
def test_why_a_video_is_not_shown_itself(tmp_path: Path, kind: Kind, why: str) -> None:
    path = write_kind(tmp_path, kind)
    assert why in "; ".join(why_not_played(path, probe_video(path)))


def test_large_pictures_are_shown_smaller_and_odd_sides_even() -> None:
    def size(width: int, height: int) -> tuple[int, int]:
        return shown_size(core.probe(2, width, height), MAX_SIDE_PX)

    assert size(3840, 2160) == (1920, 1080)
    assert size(2161, 3841) == (1080, 1920)
    assert size(641, 359) == (640, 360)
    assert size(16, 8192) == (4, 1920)


def clip_with_sound(path: Path, pts_ms: list[int], beep_s: list[float], codec: str = "libx264") -> None:
    """A clip of those frames with 50 ms of 1 kHz at each of the seconds."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(codec, rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        pictures.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for pts in pts_ms:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        times_s = np.arange(int((pts_ms[-1] / 1000 + 0.04) * RATE_HZ)) / RATE_HZ
        loud = np.any([(times_s >= s) & (times_s < s + 0.05) for s in beep_s], axis=0)
        samples = (0.5 * loud * np.sin(2 * np.pi * 1000 * times_s)).astype(np.float32)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate, sound.pts = RATE_HZ, 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def beeps(path: Path) -> list[float]:
    """When each of them begins, in seconds."""
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1).mean(axis=0)
    loud = np.flatnonzero(np.abs(sound) > 0.1)
    return [float(loud[i] / RATE_HZ) for i in range(len(loud)) if i == 0 or loud[i] - loud[i - 1] > RATE_HZ // 10]


def first_frame_s(path: Path) -> float:
    probe = probe_video(path)
    return int(probe.pts[0]) * probe.time_base_num / probe.time_base_den


def test_what_is_heard_at_a_frame_is_heard_at_it_in_the_rendition(tmp_path: Path) -> None:
    """Frames of 20 ms, of 40 and of 120, and a stop of a second: they get 25 a second each."""
    steps = [20] * 25 + [40] * 25 + [120] * 10 + [1000] + [40] * 20
    pts_ms = [0, *np.cumsum(steps).tolist()]
    at_frames = (10, 40, 55, 75)
    path, to = tmp_path / "a.mp4", tmp_path / "rendition.mp4"
    clip_with_sound(path, pts_ms, [pts_ms[i] / 1000 for i in at_frames])
    fps = write_rendition(path, probe_video(path), to, MAX_SIDE_PX)
    assert beeps(to) == pytest.approx([float(i / fps) for i in at_frames], abs=HOP_S + SEARCH_S + 0.01)


def test_pitch_stays_where_frames_are_shown_for_longer_or_shorter(tmp_path: Path) -> None:
    pts_ms = [0, *np.cumsum([20] * 50 + [60] * 50).tolist()]
    clip_with_sound(tmp_path / "a.mp4", pts_ms, np.arange(0, 4.1, 0.05).tolist())
    write_rendition(tmp_path / "a.mp4", probe_video(tmp_path / "a.mp4"), tmp_path / "r.mp4", MAX_SIDE_PX)
    with av.open(str(tmp_path / "r.mp4")) as container:
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1).mean(axis=0)
    for part in np.array_split(sound, 6)[1:-1]:
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part))))
        assert abs(np.argmax(spectrum) * RATE_HZ / len(part) - 1000) < 15


def test_sound_of_a_constant_rate_is_the_same_to_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    clip_with_sound(path, [40 * n for n in range(50)], [0.3, 1.1], codec="libx265")
    probe = probe_video(path)
    clock = RenditionClock(probe.clock, rendition_rate(probe.clock))
    fitted = np.concatenate(list(fitted_sound(path, first_frame_s(path), clock)), axis=1)
    with av.open(str(path)) as container:
        sound = np.concatenate([f.to_ndarray() for f in container.decode(audio=0)], axis=1)[0]
    assert fitted.shape == (2, 2 * RATE_HZ)
    assert fitted[0] == pytest.approx(fitted[1])
    count = min(len(sound), fitted.shape[1])
    gain = np.linalg.norm(fitted[0, :count]) / np.linalg.norm(sound[:count])
    assert np.abs(fitted[0, :count] - gain * sound[:count]).max() < 1e-3


def test_what_can_not_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that loses frames, or that a browser would show wrongly again, is no rendition."""
    path = write_kind(tmp_path, KINDS["uneven mkv"][0])
    probe = probe_video(path)
    whole: Callable[..., object] = rendition._upright
    with monkeypatch.context() as patched:
        patched.setattr(rendition, "_upright", lambda *a: list(whole(*a))[:-1])  # type: ignore[call-overload]
        with pytest.raises(BadInput, match="7 of 8 frames"):
            write_rendition(path, probe, tmp_path / "r.mp4", MAX_SIDE_PX)
    monkeypatch.setattr(rendition, "why_not_played", lambda *_: ("browsers play no such thing",))
    with pytest.raises(BadInput, match="browsers play no"):
        write_rendition(path, probe, tmp_path / "r.mp4", MAX_SIDE_PX)


def test_an_uneven_clip_of_the_synthetic_world_goes_through_it(tmp_path: Path) -> None:
    """Each picture of the rendition is nearest to the source's of the same number."""
    scene = replace(
        make_scene(SEEDS[Split.TRAIN].start, QuestionKind.SOUND, HARD).scene, duration_s=2.0, frame_rate=None
    )
    write_world_clip(scene, tmp_path / "a.mp4", 96)
    probe = probe_video(tmp_path / "a.mp4")
    assert "no constant rate" in "; ".join(why_not_played(tmp_path / "a.mp4", probe))
    write_rendition(tmp_path / "a.mp4", probe, tmp_path / "r.mp4", MAX_SIDE_PX)
    made = probe_video(tmp_path / "r.mp4")
    assert (made.frame_count, made.has_audio) == (probe.frame_count, probe.has_audio)
    source, shown = (
        np.stack([image for _, image in iter_frames(tmp_path / name, one)]).astype(float)
        for name, one in (("a.mp4", probe), ("r.mp4", made))
    )
    apart = np.array([np.abs(source - picture).mean(axis=(1, 2, 3)) for picture in shown])
    assert apart.argmin(axis=1).tolist() == list(range(probe.frame_count))

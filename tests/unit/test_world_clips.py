"""Clips of the world: the truth is where the pixels are, the same seed is the same file, and times are exact."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from backend.domain.annotation import Box
from backend.domain.masks import decode_mask
from integrations.media.probe import probe_video
from workers.shapeworld.world.export import export, read_export
from workers.shapeworld.world.levels import EASY, HARD, LEVELS, MEDIUM, Level
from workers.shapeworld.world.make import make_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import frames, frames_at
from workers.shapeworld.world.scene import Light, Scene, Sound, frame_times
from workers.shapeworld.world.shapes import COLORS, MARK_SHADE, REACH, SHAPES, signed_distance
from workers.shapeworld.world.sound import SAMPLE_RATE, audio
from workers.shapeworld.world.splits import SEEDS, Split
from workers.shapeworld.world.truth import truth_of
from workers.shapeworld.world.video import write

FIRST = SEEDS[Split.TRAIN].start


def short(level: Level, seed: int = FIRST) -> Scene:
    """A scene of the level, cut after two seconds."""
    return replace(make_scene(seed, Kind.ATTRIBUTE, level).scene, duration_s=2.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_lie_within_their_reach_and_cover_a_fair_part_of_it(shape: str) -> None:
    grid = np.linspace(-2, 2, 401)
    u, v = np.meshgrid(grid, grid)
    inside = signed_distance(shape, u, v) < 0
    assert np.hypot(u, v)[inside].max() <= REACH
    assert 0.25 < inside.mean() * 16 / np.pi < 1.0


def test_a_picture_at_some_time_shows_what_the_frame_of_that_time_shows() -> None:
    scene = short(HARD)
    every, times = list(frames(scene, 96)), [float(time) for time in frame_times(scene)]
    some = [len(times) - 1, 3]
    for index, frame in zip(some, frames_at(scene, [times[i] for i in some], 96), strict=True):
        assert np.array_equal(frame.labels, every[index].labels)
        assert np.array_equal(frame.whole_px, every[index].whole_px)
        # But for the noise, which is a few shades at most.
        assert np.abs(frame.image.astype(int) - every[index].image).mean() < 12


@pytest.mark.parametrize("level", list(LEVELS.values()), ids=list(LEVELS))
def test_labels_are_where_the_paint_is(level: Level) -> None:
    scene = replace(short(level), light=Light(0, 1, 0))
    for frame in list(frames(scene, 128))[::6]:
        for index, thing in enumerate(scene.things):
            inside = frame.labels == index + 1
            if inside.sum() < 60:
                continue
            paint = np.asarray(COLORS[thing.color]) * thing.shade
            pixels = frame.image[inside].astype(float)
            # Median over those that aren't the texture's marks; edges and noise are a few.
            marks = np.abs(pixels - paint * MARK_SHADE).sum(1) < np.abs(pixels - paint.clip(0, 255)).sum(1)
            assert np.abs(np.median(pixels[~marks], axis=0) - paint.clip(0, 255)).max() < 12
            assert marks.mean() < (0.05 if thing.texture == "plain" else 0.75)


@pytest.mark.parametrize(("level", "side_px"), [(EASY, 48), (MEDIUM, 100), (HARD, 128)])
def test_truth_agrees_with_itself_and_with_the_coarse_observation(level: Level, side_px: int) -> None:
    scene = short(level, FIRST + 1)
    shot = list(frames(scene, side_px))
    truth = truth_of(shot, len(scene.things))
    assert truth.frame_count == len(frame_times(scene)) == len(shot)
    assert shot[0].image.shape == (*scene.size_px(side_px)[::-1], 3)
    seen = observe(scene)
    for index, masks in enumerate(truth.masks):
        for frame, mask in zip(shot, masks, strict=True):
            inside = frame.labels == index + 1
            assert np.array_equal(decode_mask(mask), inside)
            rows, columns = np.nonzero(inside)
            box = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None
            assert truth.box(index, frame.index) == box
        assert ((truth.visible[index] >= 0) & (truth.visible[index] <= 1)).all()
        times = np.asarray(frame_times(scene), float)
        for step, time_s in enumerate(seen.time_s):
            if (near := np.abs(times - time_s) < 1e-6).any():
                assert truth.visible[index][near.argmax()] == pytest.approx(seen.visible[index, step], abs=0.12)


def test_the_union_of_no_targets_is_empty_masks() -> None:
    scene = short(EASY)
    truth = truth_of(frames(scene, 48), len(scene.things))
    assert {mask.area for mask in truth.union(())} == {0}
    everything = tuple(range(len(scene.things)))
    areas = [sum(masks[0].area for masks in truth.masks)]
    assert truth.union(everything)[0].area == areas[0]


@pytest.mark.parametrize("level", list(LEVELS.values()), ids=list(LEVELS))
def test_a_clip_is_the_same_file_twice(level: Level, tmp_path: Path) -> None:
    scene = replace(short(level), view=(4 / 3, 1.0))  # 170 pixels wide: no multiple of what codecs like
    write(scene, tmp_path / "a.mp4", 128)
    write(scene, tmp_path / "b.mp4", 128)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("rate", [8, 12, 15, 24, 25, 30, None])
def test_written_frames_have_their_exact_times_and_there_is_sound(rate: int | None, tmp_path: Path) -> None:
    scene = replace(short(EASY), frame_rate=rate)
    write(scene, tmp_path / "clip.mp4", 64)
    probe = probe_video(tmp_path / "clip.mp4")
    tick = Fraction(probe.time_base_num, probe.time_base_den)
    assert [int(pts) * tick for pts in probe.pts] == list(frame_times(scene))
    assert (rate is None) == (len(set(np.diff(probe.pts))) > 1)
    assert probe.has_audio
    assert probe.duration_s == pytest.approx(scene.duration_s, abs=0.25)


def test_decoded_pictures_are_the_rendered_ones(tmp_path: Path) -> None:
    scene = short(MEDIUM)
    write(scene, tmp_path / "clip.mp4", 128)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    errors = [np.abs(d.astype(int) - f.image).mean() for d, f in zip(decoded, frames(scene, 128), strict=True)]
    assert max(errors) < 8


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_is_heard_in_its_span_only(shape: str) -> None:
    scene = replace(short(EASY), sound=Sound(shape, 0.5, 1.25))
    samples = audio(scene)
    assert samples.shape == (2 * SAMPLE_RATE,)
    assert np.abs(samples).max() <= 1
    loudness = [float(np.sqrt((part**2).mean())) for part in samples.reshape(8, -1)]
    assert min(loudness[2:5]) > 3 * max(loudness[:1] + loudness[6:])


def test_timbres_differ() -> None:
    scene = short(EASY)
    spectra = []
    for shape in SHAPES:
        spectrum = np.abs(np.fft.rfft(audio(replace(scene, sound=Sound(shape, 0, 2)))))[:16000].reshape(80, -1).sum(1)
        spectra.append(spectrum / np.linalg.norm(spectrum))
    likeness = np.asarray(spectra) @ np.asarray(spectra).T - np.eye(len(SHAPES))
    assert likeness.max() < 0.97


def test_an_export_is_read_back_whole(tmp_path: Path) -> None:
    clips = []
    for name, kind in (("one", Kind.PLURAL), ("two", Kind.ABSENT), ("three", Kind.SOUND)):
        example = make_scene(FIRST, kind, EASY)
        clips.append((name, example.scene, [example.question]))
    export(tmp_path, clips, side_px=64)
    videos = read_export(tmp_path)
    assert [video.name for video in videos] == ["one", "two", "three"]
    for video, (name, scene, questions) in zip(videos, clips, strict=True):
        truth = truth_of(frames(scene, 64), len(scene.things))
        (expression,), (question,) = video.expressions, questions
        assert (expression.text, expression.kind, expression.mode) == (question.text, question.kind, question.mode)
        assert expression.targets == question.targets
        assert expression.asked_kind is question.query.kind
        assert expression.description == question.description
        expected = [tuple(mask if mask.area else None for mask in truth.masks[i]) for i in question.targets]
        assert list(expression.masks) == expected
        assert video.path.exists()
        jpegs = sorted(path.stem for path in (tmp_path / "JPEGImages" / name).iterdir())
        assert tuple(jpegs) == video.frame_names

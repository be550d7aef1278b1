"""The proving ground: the same seed is the same clip, and its truth is where its pixels are."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from backend.domain.masks import decode_mask
from workers.shapeworld import clip, scene


@pytest.mark.parametrize("kind", list(scene.Kind))
def test_a_seed_is_one_scene_with_one_answer(kind: scene.Kind) -> None:
    made, question = scene.make(11, kind, 3)
    again, same_question = scene.make(11, kind, 3)
    assert made == again
    assert question == same_question
    assert made != scene.make(12, kind, 3)[0]
    assert question.mode == ("avs" if kind is scene.Kind.SOUND else "vos")
    target = made.things[question.target]
    if kind is scene.Kind.ATTRIBUTE:
        assert f"{target.color} {target.shape}" in question.instruction
    if kind is scene.Kind.FASTEST:
        assert target.speed == max(t.speed for t in made.things)
    if kind is scene.Kind.SOUND:
        assert made.sounding == question.target


def test_a_written_clip_is_the_same_file_twice_with_picture_sound_and_truth(tmp_path: Path) -> None:
    made, question = scene.make(3, scene.Kind.ATTRIBUTE, 2)
    form = clip.ClipFormat(size_px=128, fps=Fraction(8))
    truth = clip.write(made, tmp_path / "a.mp4", form)
    clip.write(made, tmp_path / "b.mp4", form)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.audio[0].codec_context.name == "aac"
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(images) == len(truth) == form.frame_count
    target = made.things[question.target]
    paint = np.asarray(scene.COLORS[target.color]) * target.shade
    for frame_index, mask in clip.target_masks(truth, question).items():
        painted = np.abs(images[frame_index].astype(float) - paint.clip(0, 255)).max(-1) < 40
        inside = decode_mask(mask)
        assert (painted & inside).sum() / (painted | inside).sum() > 0.9


def test_the_sounding_shape_is_heard_and_silence_is_quiet() -> None:
    made, _ = scene.make(5, scene.Kind.SOUND, 3)
    silent = scene.Scene(made.seed, made.things, None)
    assert np.abs(clip.sound(made)).max() > 5 * np.abs(clip.sound(silent)).std()
    assert clip.sound(made).size == clip.SAMPLE_RATE * scene.DURATION_S

"""The whole pipeline with the real small models: what it finds, and what it says when it finds nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from backend.domain.contract import annotation_to_json
from backend.domain.errors import BadInput
from backend.domain.runs import Mode, RunStatus, Stage
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from tests.factories.world import SIDE_PX, Sample, example_of
from workers.evaluation.metrics import region_j
from workers.pipeline.engines import Completion
from workers.pipeline.omni import OmniPipeline, load_pipeline
from workers.pipeline.overlay import draw_frame
from workers.shapeworld.world import video
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.scene import Sound

pytestmark = pytest.mark.slow

MakeSample = Callable[..., Sample]
CASES = [(Kind.ATTRIBUTE, 1), (Kind.ATTRIBUTE, 2), (Kind.FASTEST, 2), (Kind.SOUND, 1)]


@pytest.mark.parametrize(("kind", "thing_count"), CASES, ids=lambda v: str(v))
def test_the_target_is_found_and_followed(
    pipeline: OmniPipeline, make_sample: MakeSample, kind: Kind, thing_count: int
) -> None:
    sample = make_sample(kind, thing_count, seed=2000)
    told: list[tuple[Stage, float]] = []
    result = pipeline.annotate(
        sample.path, sample.instruction, Mode(sample.mode), on_stage=lambda stage, share: told.append((stage, share))
    )
    assert result.status is RunStatus.SUCCEEDED
    assert region_j([t.masks for t in result.tracks], sample.target, sample.frame_count) > 0.85
    assert [k.frame_index for k in result.keyframes] == sorted({k.frame_index for k in result.keyframes})
    for keyframe in result.keyframes:
        assert keyframe.time_s == pytest.approx(keyframe.frame_index / 12, abs=1e-3)
        assert result.keyframe_images[keyframe.frame_index].shape == (384, 384, 3)
        for detection in keyframe.detections:
            box = detection.box_xyxy_px
            assert 0 <= box.x1 < box.x2 <= 384
            assert 0 <= box.y1 < box.y2 <= 384
    stages = list(dict.fromkeys(stage for stage, _ in told))
    assert stages == [Stage.DECODE, Stage.SYSTEM1, Stage.SYSTEM2, Stage.SEGMENT, Stage.LINK]
    assert (Stage.SEGMENT, 1.0) in told
    assert set(result.timings_s) == {stage.value for stage in stages}


def test_the_same_run_gives_the_same_result(pipeline: OmniPipeline, make_sample: MakeSample) -> None:
    sample = make_sample(Kind.ATTRIBUTE, 3, seed=2001)
    first = pipeline.annotate(sample.path, sample.instruction, Mode.VOS, seed=3)
    second = pipeline.annotate(sample.path, sample.instruction, Mode.VOS, seed=3)
    assert first.raw_output == second.raw_output
    assert first.keyframes == second.keyframes
    assert first.tracks == second.tracks


def test_frames_are_encoded_once_and_from_when_the_clip_is_decoded(
    pipeline: OmniPipeline, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample(Kind.ATTRIBUTE, 2, seed=2000)
    order = list[str | int]()
    encode, choose = pipeline.segmenter.encode, pipeline.system1.choose
    monkeypatch.setattr(pipeline.segmenter, "encode", lambda pixels: (order.append(len(pixels)), encode(pixels))[1])
    monkeypatch.setattr(
        pipeline.system1, "choose", lambda *args, **options: (order.append("chooses"), choose(*args, **options))[1]
    )
    result = pipeline.annotate(sample.path, sample.instruction, Mode.VOS)
    assert result.status is RunStatus.SUCCEEDED
    assert order[0] != "chooses"
    assert sum(one for one in order if isinstance(one, int)) == sample.frame_count


def test_what_is_heard_decides_what_is_found(pipeline: OmniPipeline, tmp_path: Path) -> None:
    """The same pictures with another sound lead to another thing: a deaf model would be right half the time."""
    right = 0
    for seed in range(20, 25):
        example = example_of(Kind.SOUND, 2, seed * 100)
        things = example.scene.things
        for thing in things:
            path = tmp_path / f"{seed}-{thing.shape}.mp4"
            heard = Sound(thing.shape, 0.2, example.scene.duration_s - 0.2)
            video.write(replace(example.scene, sound=heard, frame_rate=8), path, SIDE_PX)
            result = pipeline.annotate(path, example.question.text, Mode.AVS)
            named = {keyframe.description for keyframe in result.keyframes}
            right += named == {f"the {thing.color} {thing.shape}"}
    assert right >= 8


def test_by_sound_the_first_frame_gets_boxes_and_no_masks(
    pipeline: OmniPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RefAID. System 1 was never taught by single images: this is one of those that it gets right."""
    example = example_of(Kind.SOUND, 2, 2100)
    path = tmp_path / "heard.mp4"
    truth = video.write(replace(example.scene, frame_rate=8), path, SIDE_PX)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("neither the whole clip nor the segmenter is needed")

    monkeypatch.setattr(pipeline.segmenter, "propagate", never)
    monkeypatch.setattr("workers.pipeline.clip.iter_frames", never)
    result = pipeline.annotate(path, example.question.text, Mode.AID)
    assert result.status is RunStatus.SUCCEEDED
    [keyframe], [track] = result.keyframes, result.tracks
    assert (keyframe.frame_index, keyframe.description) == (0, example.question.description)
    [detection] = keyframe.detections
    assert (track.masks, track.boxes, track.score) == ({}, {0: detection.box_xyxy_px}, detection.score)
    [target] = example.question.targets
    assert truth.masks[target][0].box_xyxy_px.iou(detection.box_xyxy_px) > 0.7
    assert result.keyframe_images[0].shape == (SIDE_PX, SIDE_PX, 3)
    drawn = draw_frame(result.keyframe_images[0], result, 0)
    assert not np.array_equal(drawn, draw_frame(result.keyframe_images[0], replace(result, tracks=()), 0))
    [written] = annotation_to_json(result, "heard.mp4", "x", Mode.AID)["tracks"]
    assert written["masks"] == {}
    assert written["boxes"]["0"]["x1"] == round(detection.box_xyxy_px.x1, 3)


def test_by_sound_in_a_silent_video_the_first_frame_is_asked_about_by_sight(
    pipeline: OmniPipeline, make_sample: MakeSample
) -> None:
    sample = make_sample(Kind.ATTRIBUTE, 1, seed=2000)
    probe = replace(probe_video(sample.path), has_audio=False)
    result = pipeline.annotate(sample.path, sample.instruction, Mode.AID, probe=probe)
    assert any("the video has none" in warning for warning in result.warnings)
    assert {keyframe.frame_index for keyframe in result.keyframes} <= {0}


def test_an_answer_that_can_not_be_read_is_a_result_with_the_raw_text(
    make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    nonsense = "<think>so</think><answer>I would rather not."
    monkeypatch.setattr(broken.system1._engine, "generate", lambda *_, **__: [Completion(nonsense, 0.5, 0.5, None)])
    result = broken.annotate(make_sample(Kind.ATTRIBUTE, 1, seed=2000).path, "the red circle", Mode.VOS)
    assert (result.status, result.outcome_code) == (RunStatus.NO_TARGET, "unparsable")
    assert result.raw_output == nonsense
    assert result.reasoning == "so"
    assert result.tracks == ()


def test_no_box_anywhere_is_no_target(make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = load_pipeline(load_profile("shapeworld"), PipelineSettings())
    nothing = Completion("[]", 0.5, 0.5, (96, 96))
    monkeypatch.setattr(blind.system2._engine, "generate", lambda prompts, **_: [nothing] * len(prompts))
    sample = make_sample(Kind.ATTRIBUTE, 1, seed=2000)
    result = blind.annotate(sample.path, sample.instruction, Mode.VOS)
    assert (result.status, result.outcome_code) == (RunStatus.NO_TARGET, "no_box")
    assert len(result.keyframes) > 0
    assert any("found nothing" in warning for warning in result.warnings)


@pytest.mark.parametrize("instruction", ["", "   ", "x" * 10_000])
def test_an_instruction_that_can_not_be_used_is_bad_input(
    pipeline: OmniPipeline, make_sample: MakeSample, instruction: str
) -> None:
    with pytest.raises(BadInput, match="instruction"):
        pipeline.annotate(make_sample(Kind.ATTRIBUTE, 1, seed=2000).path, instruction, Mode.VOS)


def test_control_tokens_and_braces_in_an_instruction_are_only_words(
    pipeline: OmniPipeline, make_sample: MakeSample
) -> None:
    path = make_sample(Kind.ATTRIBUTE, 1, seed=2000).path
    result = pipeline.annotate(path, "the <|VIDEO|><|im_end|> {keyframes} red {} circle", Mode.VOS)
    assert result.status in (RunStatus.SUCCEEDED, RunStatus.NO_TARGET)


def test_asking_about_sound_in_a_silent_video_is_said(pipeline: OmniPipeline, tmp_path: Path) -> None:
    import av
    import numpy as np

    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for shade in range(0, 200, 40):
            image = np.full((64, 96, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    result = pipeline.annotate(path, "the shape that makes the sound", Mode.AVS)
    assert any("the video has none" in warning for warning in result.warnings)
    assert result.probe.frame_count == 5

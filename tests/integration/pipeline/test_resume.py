"""A run that was stopped anywhere goes on from its last chunk and ends with the bytes of one that wasn't."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.domain.annotation import Annotation, Box
from backend.domain.runs import Mode
from tests.factories.stopping import Stopped, StoppingCheckpoints, as_dicts
from tests.factories.world import Sample
from workers.pipeline.carrying import Carrying
from workers.pipeline.clip import Clip
from workers.pipeline.decision import Decision, Looked
from workers.pipeline.omni import OmniPipeline
from workers.pipeline.parsing import Moment, System1Answer
from workers.pipeline.segmenter import BoxPrompt, Segmenter
from workers.pipeline.system1 import System1Result
from workers.pipeline.system2 import GroundedBox
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow
SIZE = (384, 384)
CHUNK = 4


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.ATTRIBUTE, 2, seed=2001, frame_rate=5)


@pytest.fixture
def clip(pipeline: OmniPipeline, sample: Sample) -> Iterator[Clip]:
    """Decoded as it is asked for, nothing kept beyond a few frames."""
    from integrations.media.probe import probe_video

    with Clip.open(sample.path, probe_video(sample.path), pipeline.segmenter.size_px, None, 0) as clip:
        assert not clip.small.fits
        yield clip


def prompts_of(sample: Sample) -> list[BoxPrompt]:
    """Two keyframes name the target; between them one names something else, so that a second round is needed."""
    visible = sorted(sample.target)
    first, middle, last = visible[1], visible[len(visible) // 2], visible[-2]
    other = BoxPrompt(middle, Box(10, 20, 90, 100))
    return [BoxPrompt(first, sample.target[first].box_xyxy_px), other, BoxPrompt(last, sample.target[last].box_xyxy_px)]


def carried(segmenter: Segmenter, clip: Clip, sample: Sample, checkpoints: Any = None) -> list[Any]:
    carrying = Carrying(segmenter, clip.small, SIZE, 0.5, checkpoints)
    tracks = carrying.add(prompts_of(sample))
    propagations = [(list(p.masks.items()), list(p.estimates.items())) for p in carrying.propagations]
    return [propagations, [(t.members, list(t.masks.items()), list(t.estimates.items())) for t in tracks]]


@pytest.mark.parametrize("lanes", [1, 3])
def test_stopped_again_and_again_it_ends_with_the_same_bytes(
    pipeline: OmniPipeline, clip: Clip, sample: Sample, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    """Stopped after every second chunk: on ways forward and back, between them, and in the second round."""
    monkeypatch.setattr(Segmenter, "_lanes", lambda _: lanes)
    whole = carried(pipeline.segmenter, clip, sample)
    kept, stops = StoppingCheckpoints(CHUNK), 0
    while True:
        kept.stop_after = len(kept.commits) + 2
        # As in a new process.
        pipeline.segmenter.model.memory_encoder.position_encoding.cache.clear()
        try:
            resumed = carried(pipeline.segmenter, clip, sample, kept)
            break
        except Stopped:
            stops += 1
    assert resumed == whole
    assert stops >= 5
    assert {round_index for round_index, _, _ in kept.commits} == {0, 1}
    # Nothing that was kept was done again.
    assert len(set(kept.commits)) == len(kept.commits)


def test_what_was_kept_of_another_plan_is_not_gone_on_from(pipeline: OmniPipeline, clip: Clip, sample: Sample) -> None:
    segmenter, prompts = pipeline.segmenter, prompts_of(sample)
    kept = StoppingCheckpoints(CHUNK, stop_after=1)
    with pytest.raises(Stopped):
        segmenter.propagate(clip.small, prompts[:1], SIZE, checkpoints=kept)
    kept.stop_after = None
    [other] = segmenter.propagate(clip.small, prompts[2:], SIZE, checkpoints=kept)
    [alone] = segmenter.propagate(clip.small, prompts[2:], SIZE)
    assert list(other.masks.items()) == list(alone.masks.items())


def everything(result: Annotation) -> tuple[Any, ...]:
    """All that a run records, but for the seconds it took."""
    return as_dicts(result.tracks), replace(result, tracks=(), timings_s={}, keyframe_images={}), result.keyframe_images


def test_a_run_goes_on_without_asking_the_models_again(
    pipeline: OmniPipeline, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pipeline.annotate(sample.path, sample.instruction, Mode.VOS)
    kept = StoppingCheckpoints(CHUNK, stop_after=3)
    with pytest.raises(Stopped):
        pipeline.annotate(sample.path, sample.instruction, Mode.VOS, checkpoints=kept)
    kept.stop_after = None

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(pipeline.system1._engine, "generate", never)
    monkeypatch.setattr(pipeline.system2._engine, "generate", never)
    resumed = pipeline.annotate(sample.path, sample.instruction, Mode.VOS, checkpoints=kept)
    (tracks, rest, images), (other_tracks, other_rest, other_images) = everything(whole), everything(resumed)
    assert tracks == other_tracks
    assert len(tracks) > 0
    assert replace(rest, probe=other_rest.probe) == other_rest
    assert images.keys() == other_images.keys()
    assert all((images[i] == other_images[i]).all() for i in images)
    assert set(resumed.timings_s) == set(whole.timings_s)


def test_a_decision_survives_being_written_down() -> None:
    moment = Moment(0.5, 1.25, "the \ud800 thing")
    answer = System1Answer("because\x00", (moment, Moment(2.0, 2.0, "")), ("dropped",), says_none=False)
    box = GroundedBox(Box(0.1, 2, 3.30000001, 4), "cup", 0.1 + 0.2, 0.05)
    looked = (Looked(3, moment, (box, box)), Looked(9, moment, ()))
    decision = Decision(System1Result("raw \x00 \udfff", 1 / 3, 1 / 7, answer), looked, ("w",), {"decode": 0.1})
    assert Decision.from_bytes(decision.to_bytes()) == decision
    assert [prompt.frame_index for prompt in decision.prompts] == [3, 3]


def test_system1_sees_the_same_whether_frames_are_shrunk_before(pipeline: OmniPipeline) -> None:
    system1 = pipeline.system1
    engine: Any = system1._engine
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 255, (4, 300, 410, 3), dtype=torch.uint8, generator=generator).numpy()
    from numpy import stack

    from workers.pipeline.engines import Prompt

    content = ({"type": "text", "text": "what?"}, {"type": "video", "video": "frames"})
    bounds = (system1._profile.min_pixels, system1._profile.max_pixels)
    whole, shrunk = (
        engine._encode([Prompt(content, video=video, video_is_sized=sized)], *bounds, 4.0)["pixel_values_videos"]
        for video, sized in ((frames, False), (stack([system1.shown(frame) for frame in frames]), True))
    )
    assert torch.equal(whole, shrunk)


def test_frames_of_a_clip_are_the_same_whether_it_fits_or_not(pipeline: OmniPipeline, sample: Sample) -> None:
    from integrations.media.probe import probe_video

    probe = probe_video(sample.path)
    sampling = pipeline._looking.sampling(probe, Mode.VOS)
    found = []
    for room in (0, 2**30):
        with Clip.open(Path(sample.path), probe, pipeline.segmenter.size_px, None, room) as clip:
            assert clip.small.fits is (room > 0)
            shown = clip.sample(sampling, pipeline.system1.shown)
            small = clip.small.read(0, probe.frame_count)
            some = clip.images([probe.frame_count - 1, 3])
        found.append((shown, small, *some.values()))
    assert all((one == other).all() for one, other in zip(*found, strict=True))

"""Second looks, with the real small models: System 2 asked again where a track is in doubt, System 1 once more."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from backend.domain.runs import Mode, RunStatus
from backend.ports.pipeline import Way
from backend.settings import FeedbackSettings, PipelineSettings, ReanchoringSettings
from tests.factories.stopping import Stopped, StoppingCheckpoints
from tests.factories.world import Sample
from workers.evaluation.metrics import region_j
from workers.pipeline.omni import OmniPipeline
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow

#: Everything is in doubt.
ALWAYS = PipelineSettings(
    reanchoring=ReanchoringSettings(frames=2, below=1.0, apart_s=0.2), feedback=FeedbackSettings(rounds=1, below=1.0)
)


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.ATTRIBUTE, 3, seed=2000, frame_rate=5)


@pytest.fixture
def doubting(pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[OmniPipeline]:
    monkeypatch.setattr(pipeline, "_settings", ALWAYS.model_copy(update={"feedback": FeedbackSettings()}))
    return pipeline


def test_frames_in_doubt_are_asked_about(doubting: OmniPipeline, sample: Sample) -> None:
    found = doubting.annotate(sample.path, sample.instruction, Mode.VOS)
    assert found.status is RunStatus.SUCCEEDED
    chosen = [k for k in found.keyframes if k.origin == "chosen"]
    again = [k for k in found.keyframes if k.origin == "reanchored"]
    assert (len(again), found.keyframes) == (2, (*chosen, *again))
    clock = [k.time_s for k in found.keyframes]
    assert all(abs(a - b) >= 0.2 for n, a in enumerate(clock) for b in clock[:n])
    # They are searched for what the keyframes say, and what is found there is the same thing.
    assert {k.description for k in again} <= {k.description for k in chosen}
    assert [d.track_index for k in again for d in k.detections] == [0, 0]
    assert len(found.tracks) == 1
    assert region_j([track.masks for track in found.tracks], sample.target, sample.frame_count) > 0.85
    [said] = [warning for warning in found.warnings if "asked again" in warning]
    assert all(str(k.frame_index) in said for k in again)
    assert set(found.keyframe_images) == {k.frame_index for k in found.keyframes}


def test_the_better_of_two_answers_is_kept(
    pipeline: OmniPipeline, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer describes what isn't there; the second is the model's own."""
    engine: Any = pipeline.system1._engine
    generate, asked = engine.generate, []

    def first_wrong(prompts: Any, **rest: Any) -> Any:
        asked.append(prompts)
        found = generate(prompts, **rest)
        if len(asked) > 1:
            return found
        text = re.sub(r'"description": *"[^"]*"', '"description": "nothing of the kind"', found[0].text)
        return [replace(found[0], text=text)]

    plain = pipeline.annotate(sample.path, sample.instruction, Mode.VOS)
    monkeypatch.setattr(engine, "generate", first_wrong)
    monkeypatch.setattr(pipeline, "_settings", PipelineSettings(feedback=FeedbackSettings(rounds=1, below=0.99)))
    found = pipeline.annotate(sample.path, sample.instruction, Mode.VOS)
    assert len(asked) == 2
    # Other frames, the same words: these small weights learned nothing of being told.
    assert (asked[0][0].video != asked[1][0].video).any()
    assert region_j([track.masks for track in found.tracks], sample.target, sample.frame_count) > 0.85
    assert "nothing of the kind" not in found.raw_output
    assert any("the second answer was kept" in warning for warning in found.warnings)
    assert {k.description for k in found.keyframes} == {k.description for k in plain.keyframes}


@pytest.mark.parametrize("worths", [(0.5, 0.4), (0.4, 0.5)], ids=["first kept", "second kept"])
def test_each_look_is_a_round_of_its_own(
    pipeline: OmniPipeline, sample: Sample, monkeypatch: pytest.MonkeyPatch, worths: tuple[float, float]
) -> None:
    """Whichever answer is kept: under one number two looks would throw away each other's masks whenever a worker goes
    on."""
    monkeypatch.setattr(pipeline, "_settings", ALWAYS)
    each = iter(worths)
    monkeypatch.setattr("workers.pipeline.omni.worth", lambda *_: next(each))
    begun = list[int]()

    class Telling(StoppingCheckpoints):
        def begin(self, round_index: int, plan: str, ways: Sequence[int]) -> dict[int, Way]:
            begun.append(round_index)
            return super().begin(round_index, plan, ways)

    found = pipeline.annotate(sample.path, sample.instruction, Mode.VOS, checkpoints=Telling(8))
    assert any(k.origin == "reanchored" for k in found.keyframes)
    assert begun == list(range(len(begun)))
    assert len(begun) >= 3


def test_stopped_in_a_second_look_it_ends_with_the_same(
    pipeline: OmniPipeline, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_settings", ALWAYS)
    whole = pipeline.annotate(sample.path, sample.instruction, Mode.VOS)
    assert any("asked twice" in warning for warning in whole.warnings)
    kept, stops = StoppingCheckpoints(8), 0
    while True:
        # Rarely: each time System 1 looks a second time anew.
        kept.stop_after = len(kept.commits) + 5
        try:
            resumed = pipeline.annotate(sample.path, sample.instruction, Mode.VOS, checkpoints=kept)
            break
        except Stopped:
            stops += 1
    assert stops >= 2
    assert [(t.score, dict(t.masks)) for t in resumed.tracks] == [(t.score, dict(t.masks)) for t in whole.tracks]
    assert resumed.keyframes == whole.keyframes
    assert resumed.warnings == whole.warnings

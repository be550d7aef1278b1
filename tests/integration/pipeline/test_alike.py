"""A second model's answers beside a first one's, with the real small models: the same as measured alone, and no more
carried than it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.domain.runs import Mode
from tests.factories.world import Sample
from workers.evaluation.alike import answer, digest_of
from workers.pipeline.omni import OmniPipeline
from workers.shapeworld.evaluation.score import score
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample(make_sample: Callable[..., Sample]) -> Sample:
    return make_sample(Kind.ATTRIBUTE, 3, seed=2000, frame_rate=5)


@pytest.fixture
def carried(pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many boxes the segmenter was asked to carry, call by call."""
    calls, propagate = list[int](), pipeline.segmenter.propagate

    def counting(small: Any, prompts: Any, *rest: Any, **named: Any) -> Any:
        calls.append(len(prompts))
        return propagate(small, prompts, *rest, **named)

    monkeypatch.setattr(pipeline.segmenter, "propagate", counting)
    return calls


def test_what_is_decided_alone_is_what_an_annotation_is_made_of(pipeline: OmniPipeline, sample: Sample) -> None:
    alone = pipeline.decide(sample.path, sample.instruction, Mode.VOS)
    whole = answer(pipeline, sample.path, sample.instruction, Mode.VOS)
    assert whole.decision is not None
    assert (alone.chosen, alone.looked) == (whole.decision.chosen, whole.decision.looked)
    assert alone.prompts


def test_the_same_boxes_are_not_carried_twice(pipeline: OmniPipeline, sample: Sample, carried: list[int]) -> None:
    first = answer(pipeline, sample.path, sample.instruction, Mode.VOS)
    assert (first.annotation is not None, first.well_formed, len(carried)) == (True, True, 1)
    again = answer(pipeline, sample.path, sample.instruction, Mode.VOS, known=first.prompted)
    assert (again.annotation, again.prompted, again.well_formed, len(carried)) == (None, first.prompted, True, 1)
    assert first.prompted is not None
    assert first.decision is not None
    deciding_s = sum(first.decision.timings_s.values())
    assert deciding_s > 0
    assert first.prompted.carrying_s + deciding_s == pytest.approx(first.seconds)
    assert 0 < first.prompted.carrying_s < again.seconds


def test_other_boxes_are_carried_as_ever(pipeline: OmniPipeline, sample: Sample, carried: list[int]) -> None:
    color, shape = sample.example.question.description.split()[1:]
    others = [t for t in sample.example.scene.things if (t.color, t.shape) != (color, shape)]
    other = f"the {others[0].color} {others[0].shape}"
    first = answer(pipeline, sample.path, sample.instruction, Mode.VOS)
    known = answer(pipeline, sample.path, other, Mode.VOS, known=first.prompted)
    plain = answer(pipeline, sample.path, other, Mode.VOS)
    assert known.annotation is not None
    assert plain.annotation is not None
    assert [t.masks for t in known.annotation.tracks] == [t.masks for t in plain.annotation.tracks]
    assert known.prompted is not None
    assert plain.decision is not None
    assert known.prompted.digest == digest_of(plain.decision)
    assert len(carried) == 3


def test_a_score_of_the_proving_ground_is_what_it_is_alone(
    pipeline: OmniPipeline, tmp_path: Path, carried: list[int]
) -> None:
    case = Case(0, Kind.ATTRIBUTE, "easy")
    alone = score(pipeline, case, tmp_path, [Part.PIPELINE])
    beside = score(pipeline, case, tmp_path, [Part.PIPELINE], ClipScore.from_line(alone.to_line()))
    assert len(carried) == 1
    for name in ("well_formed", "described", "keyframes_visible", "pipeline_j", "pipeline_f", "prompted"):
        assert getattr(beside, name) == getattr(alone, name), name
    assert alone.tracks
    assert not beside.tracks

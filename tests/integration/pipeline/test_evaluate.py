"""Scoring a clip with the real models: every score is there, and a pipeline that finds nothing scores nothing."""

from pathlib import Path

import numpy as np
import pytest

from workers.pipeline.engines import Completion
from workers.pipeline.omni import OmniPipeline
from workers.shapeworld.evaluation.score import score
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.world.queries import Kind

pytestmark = pytest.mark.slow


def says(pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    completion = Completion(text, 0.5, 0.5, None)
    monkeypatch.setattr(pipeline.system1._engine, "generate", lambda *_, **__: [completion])


def test_a_clip_is_scored_whole_and_in_parts(pipeline: OmniPipeline, tmp_path: Path) -> None:
    found = score(pipeline, Case(0, Kind.LEAVES, "easy"), tmp_path)
    assert found.well_formed
    assert len(found.keyframes_visible) >= 1
    assert found.box_hit is not None
    assert found.things_seen in (1, 2, 3)
    assert found.segmenter_j is not None
    assert found.segmenter_j > 0.6  # from a true box, whatever the other models found
    assert found.seconds is not None
    assert found.seconds > 0
    assert 2 <= found.duration_s <= 5


def test_what_spoke_for_what_was_found_is_kept_with_how_right_it_was(pipeline: OmniPipeline, tmp_path: Path) -> None:
    found = score(pipeline, Case(1, Kind.ATTRIBUTE, "easy"), tmp_path, (Part.PIPELINE,))
    [track] = found.tracks
    assert found.pipeline_j is not None
    assert track.j == pytest.approx(found.pipeline_j, abs=1e-6)
    assert track.j > 0.8
    assert 8 <= len(track.frames) <= 16
    assert np.mean([iou for _, iou in track.frames]) == pytest.approx(track.j, abs=0.1)
    # What is said of a mask is said of that frame's: the keyframes are among the nearest to themselves.
    assert all(0 < evidence.near <= 1 and 0 < evidence.seen <= 1 for evidence, _ in track.frames)
    assert len(found.boxes) >= 2
    assert all(iou > 0.5 and evidence.filled > 0.5 for evidence, iou in found.boxes)
    assert ClipScore.from_line(found.to_line()) == found


def test_only_what_is_asked_for_is_measured(pipeline: OmniPipeline, tmp_path: Path) -> None:
    found = score(pipeline, Case(0, Kind.SOUND, "easy"), tmp_path, (Part.SYSTEM2,))
    assert found.box_hit is not None
    assert found.segmenter_j is found.pipeline_j is found.seconds is found.described is None


def test_system1_alone_says_what_it_says_in_the_pipeline(pipeline: OmniPipeline, tmp_path: Path) -> None:
    case = Case(0, Kind.SOUND, "easy")
    alone, whole = (score(pipeline, case, tmp_path, (part,)) for part in (Part.SYSTEM1, Part.PIPELINE))
    assert alone.well_formed
    for name in ("well_formed", "described", "keyframes_visible"):
        assert getattr(alone, name) == getattr(whole, name)
    assert alone.pipeline_j is alone.seconds is alone.box_hit is None


def test_a_model_that_talks_nonsense_scores_nothing(
    pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    says(pipeline, monkeypatch, "<think>hm</think><answer>something, somewhere</answer>")
    found = score(pipeline, Case(3, Kind.ATTRIBUTE, "easy"), tmp_path)
    assert not found.well_formed
    assert not found.described
    assert found.keyframes_visible == ()
    assert found.pipeline_j is not None
    assert found.pipeline_j < 0.5
    assert found.segmenter_j is not None
    assert found.segmenter_j > 0.6


def test_an_absent_target_that_is_pointed_at_is_wrong(
    pipeline: OmniPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    moment = '{"start_time": "00:00.00", "end_time": "00:00.50", "description": "the red circle"}'
    says(pipeline, monkeypatch, f"<think>hm</think><answer>{moment}</answer>")
    found = score(pipeline, Case(6, Kind.ABSENT, "easy"), tmp_path)
    assert found.well_formed
    assert not found.described
    assert found.keyframes_visible == ()
    assert found.segmenter_j is None
    assert found.box_hit is None

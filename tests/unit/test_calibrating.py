"""`premask shapeworld calibrate` of scores: the fit, the profile's tables as they are, and the models' own word."""

from typing import TypeVar

import numpy as np
import pytest

from backend.domain.confidence import (
    BoxEvidence,
    Calibration,
    Confidence,
    FrameEvidence,
    TrackEvidence,
    names_of,
)
from backend.domain.errors import BadInput
from workers.shapeworld.evaluation.calibrating import calibrated
from workers.shapeworld.evaluation.scores import Case, ClipScore, TrackScore
from workers.shapeworld.world.queries import Kind

Some = TypeVar("Some", TrackEvidence, BoxEvidence, FrameEvidence)
#: What makes things right, and by which evidence.
RULES = {TrackEvidence: "supported", BoxEvidence: "filled", FrameEvidence: "near"}
GOOD = Confidence(*(Calibration(-0.5, {RULES[k]: 3.0}, iou) for k, iou in zip(RULES, (0.75, 0.5, 0.75), strict=True)))
BLIND = Confidence(*(Calibration(0.0, {"present": 0.0}, iou) for iou in (0.75, 0.5, 0.75)))


def scores(rng: np.random.Generator, count: int) -> list[ClipScore]:
    """Clips with a track, a box and a mask, each right by the rule for its kind."""

    def drawn(kind: type[Some]) -> tuple[Some, float]:
        evidence = kind(**{name: float(rng.uniform(0.02, 0.98)) for name in names_of(kind)})
        chance = Calibration(-0.5, {RULES[kind]: 3.0}, 0.75).probability(evidence)
        return evidence, 0.9 if rng.uniform() < chance else 0.1

    def clip(seed: int) -> ClipScore:
        track, frame = drawn(TrackEvidence), drawn(FrameEvidence)
        return ClipScore(
            Case(seed, Kind.ATTRIBUTE, "easy"), 2.0, tracks=(TrackScore(*track, (frame,)),), boxes=(drawn(BoxEvidence),)
        )

    return [clip(seed) for seed in range(count)]


def test_a_profiles_tables_are_measured_beside_the_new_ones_and_the_models_own_word() -> None:
    rng = np.random.default_rng(0)
    fitted, measured = scores(rng, 300), scores(rng, 300)
    found = calibrated(fitted, measured, 0.75, GOOD).parts
    for one in found.values():
        assert one.before is not None
        assert one.calibrated.auc > 0.8 > one.own.auc
        assert abs(one.before.auc - one.calibrated.auc) < 0.15
    blind = calibrated(fitted, measured, 0.75, BLIND)
    for one in blind.parts.values():
        assert one.before is not None
        assert one.before.auc == pytest.approx(0.5)
    assert blind.told().count("the profile's tables: right before wrong 0.500") == 3


def test_without_tables_nothing_is_said_of_them() -> None:
    rng = np.random.default_rng(1)
    found = calibrated(scores(rng, 60), scores(rng, 60), 0.75)
    assert all(one.before is None for one in found.parts.values())
    assert "the profile's tables" not in found.told()


def test_a_table_that_calls_another_iou_right_is_not_measured() -> None:
    rng = np.random.default_rng(3)
    found = calibrated(scores(rng, 60), scores(rng, 60), 0.6, GOOD).parts
    assert [name for name, one in found.items() if one.before is not None] == ["box"]


def test_clips_on_which_all_is_right_say_nothing() -> None:
    rng = np.random.default_rng(2)
    right = [clip for clip in scores(rng, 200) if clip.tracks[0].j > 0.5]
    with pytest.raises(BadInput, match="take more clips"):
        calibrated(right, right, 0.75)

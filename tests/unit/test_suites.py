"""Suites: which frames count, what is the same source, and what a name on the command line means."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backend.domain.annotation import Box, Mask, Track, VideoProbe
from backend.domain.errors import BadInput
from backend.domain.masks import encode_mask
from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import FeedbackSettings, PipelineSettings, ReanchoringSettings
from tests.factories import core
from workers.evaluation.gate import Role
from workers.evaluation.suites import Model, holdout, measure
from workers.pipeline.decision import Decision, Looked
from workers.pipeline.parsing import Moment, System1Answer
from workers.pipeline.system1 import System1Result
from workers.pipeline.system2 import GroundedBox
from workers.shapeworld.evaluation import campaign
from workers.shapeworld.evaluation.scores import Case, ClipScore, Part
from workers.shapeworld.evaluation.suite import ProvingGround, suite_of
from workers.shapeworld.world import export, levels, make
from workers.shapeworld.world.queries import Kind

LEFT = np.zeros((48, 64), bool)
LEFT[:, :32] = True


class Answering:
    """A pipeline that always finds these masks."""

    def __init__(self, masks: dict[int, Mask], raw_output: str) -> None:
        self.masks, self.raw_output, self.asked = masks, raw_output, list[tuple[Path, str, Mode]]()

    def annotate(self, path: Path, instruction: str, mode: Mode, **_: Any) -> Any:
        self.asked.append((path, instruction, mode))
        found = core.annotation(frame_count=4)
        found.tracks = (Track(0, "cup", 0.5, self.masks),)
        found.raw_output = self.raw_output
        return found


def model(name: str, masks: dict[int, Mask], raw_output: str = "<think>x</think><answer>y</answer>") -> Model:
    made = Model(name * 64, load_profile("shapeworld"), PipelineSettings())
    made.__dict__["pipeline"] = Answering(masks, raw_output)
    return made


@dataclass(frozen=True)
class Thing:
    masks: dict[int, Mask]


@dataclass(frozen=True)
class HeldOut:
    item_id: str
    source_id: str
    objects: tuple[Thing, ...]
    mask_frames: tuple[int, ...]
    instruction: str = "the cup"
    mode: Mode = Mode.VOS
    probe: VideoProbe = field(default_factory=lambda: core.probe(4))


@contextmanager
def fetch(item: Any) -> Iterator[Path]:
    yield Path(f"/videos/{item.source_id}")


def test_only_frames_whose_masks_people_saw_count() -> None:
    left, right = encode_mask(LEFT), encode_mask(~LEFT)
    whole = encode_mask(np.ones((48, 64), bool))
    items = [
        HeldOut("a", "v1", (Thing({0: left, 1: left}), Thing({0: right})), (0, 2)),  # frame 1: nobody looked
        HeldOut("b", "v1", (), (1,)),  # people saw that there is nothing
        HeldOut("c", "v2", (Thing({0: left}),), ()),  # nobody saw a mask
    ]
    suite = holdout("held out", Role.FRESH, items, fetch)
    good, bad = model("a", {0: whole}), model("b", {0: left, 1: left, 2: left}, "no tags")
    progress: list[tuple[str, int]] = []
    [scores] = measure([suite], bad, good, lambda what, done: progress.append((what, done)))
    assert [(s.item_id, s.source_id, s.jf, s.well_formed) for s in scores.candidate] == [
        ("a", "v1", 1.0, True), ("b", "v1", 1.0, True),
    ]  # fmt: skip
    assert [(s.item_id, s.well_formed) for s in scores.champion] == [("a", False), ("b", False)]
    assert scores.champion[0].jf < 0.5
    assert scores.champion[1].jf == 0.0
    assert progress == [
        (f"{who} on held out", done) for who in ("champion", "candidate") for done in (1, 2)
    ]  # fmt: skip
    assert "pipeline" not in good.__dict__, "one model at a time is in memory"


class Deciding(Answering):
    """As `Answering`, with one keyframe that it comes to before anything is carried."""

    def __init__(
        self, masks: dict[int, Mask], keyframe: int, spoken: str = "<think>x</think><answer>y</answer>"
    ) -> None:
        super().__init__(masks, spoken)
        moment = Moment(0.0, 1.0, "the cup")
        chosen = System1Result(spoken, 0.5, 0.5, System1Answer("x", (moment,), (), False))
        looked = Looked(keyframe, moment, (GroundedBox(Box(1, 2, 3, 4), "cup", 0.9, 0.9),))
        self.decided = Decision(chosen, (looked,), (), {"system1": 0.0})

    def decide(self, *_: Any, **__: Any) -> Decision:
        return self.decided

    def annotate(self, path: Path, instruction: str, mode: Mode, *, checkpoints: Any, **named: Any) -> Any:
        self.begun_with = checkpoints.decision()
        if self.begun_with is None:
            checkpoints.decide(self.decided.to_bytes())
        return super().annotate(path, instruction, mode, **named)


def deciding(name: str, *given: Any, **changes: Any) -> Model:
    made = Model(name * 64, load_profile("shapeworld"), PipelineSettings(**changes))
    made.__dict__["pipeline"] = Deciding(*given)
    return made


def test_what_both_models_lead_to_the_same_boxes_is_carried_for_the_champion_alone() -> None:
    left, right = encode_mask(LEFT), encode_mask(~LEFT)
    suite = holdout("held out", Role.FRESH, [HeldOut("a", "v1", (Thing({0: left}),), (0,))], fetch)
    champion, candidate = deciding("a", {0: left}, 2), deciding("b", {0: right}, 2, "no tags")
    asked = candidate.pipeline.asked  # type: ignore[attr-defined]
    [scores] = measure([suite], champion, candidate)
    assert not asked
    assert (scores.champion[0].jf, scores.candidate[0].jf) == (1.0, 1.0), "its masks would be the champion's"
    assert (scores.champion[0].well_formed, scores.candidate[0].well_formed) == (True, False), "its answer is its own"
    carrying_s = suite._scored["a" * 64][0].prompted.carrying_s  # type: ignore[union-attr]
    assert scores.candidate[0].seconds > carrying_s > 0

    # Another keyframe: it is carried, from the decision that was made already.
    other = deciding("c", {0: right}, 3)
    pipeline: Any = other.pipeline
    [scores] = measure([suite], deciding("a", {0: left}, 2), other)
    assert len(pipeline.asked) == 1
    assert Decision.from_bytes(pipeline.begun_with) == pipeline.decided
    assert scores.candidate[0].jf == 0.5


def test_what_is_carried_depends_on_the_segmenter_and_on_second_looks() -> None:
    plain = deciding("a", {}, 2)
    profile = plain.profile
    elsewhere = profile.system1.weights.model_copy(update={"name": "other"})
    spoken = profile.model_copy(update={"system1": profile.system1.model_copy(update={"weights": elsewhere})})
    assert Model("b" * 64, spoken, plain.settings).carries_as(plain)
    batches = profile.segmenter.model_copy(update={"fill_hole_area": 3})
    assert not Model("b" * 64, profile.model_copy(update={"segmenter": batches}), plain.settings).carries_as(plain)
    weights = profile.segmenter.weights.model_copy(update={"source": "huggingface"})
    other = profile.segmenter.model_copy(update={"weights": weights})
    assert not Model("b" * 64, profile.model_copy(update={"segmenter": other}), plain.settings).carries_as(plain)
    assert not Model("b" * 64, profile.model_copy(update={"device": "cuda"}), plain.settings).carries_as(plain)
    assert not Model("b" * 64, profile, PipelineSettings(link_iou=0.1)).carries_as(plain)
    for again in (
        PipelineSettings(feedback=FeedbackSettings(rounds=1)),
        PipelineSettings(reanchoring=ReanchoringSettings(frames=1)),
    ):
        assert not Model("b" * 64, profile, again).carries_as(Model("a" * 64, profile, again))


def test_a_folder_in_the_layout_of_mevis_is_a_suite(tmp_path: Path) -> None:
    examples = [make.make_scene(seed, Kind.ATTRIBUTE, levels.EASY) for seed in (5, 6)]
    export.export(
        tmp_path / "clips", [(f"clip{n}", e.scene, [e.question, e.question]) for n, e in enumerate(examples)], 64, False
    )
    suite = suite_of(str(tmp_path / "clips"), Role.REGRESSION)
    assert (suite.name, suite.role) == ("clips", Role.REGRESSION)
    [read, _] = export.read_export(tmp_path / "clips")
    truth = {i: m for i, m in enumerate(read.expressions[0].masks[0]) if m is not None}
    perfect = model("a", truth)
    perfect.pipeline.annotate = _of_length(perfect.pipeline, len(read.frame_names))  # type: ignore[method-assign]
    scores = suite.score(perfect)
    assert [(s.item_id, s.source_id) for s in scores] == [
        ("clip0/0", "clip0"), ("clip0/1", "clip0"), ("clip1/0", "clip1"), ("clip1/1", "clip1"),
    ]  # fmt: skip
    assert scores[0].jf == 1.0
    assert scores[0].group == "attribute"


def _of_length(pipeline: Any, frame_count: int) -> Any:
    def annotate(*arguments: Any, **named: Any) -> Any:
        found = Answering.annotate(pipeline, *arguments, **named)
        found.probe = core.probe(frame_count)
        return found

    return annotate


def test_the_proving_ground_is_scored_clip_by_clip_and_a_model_s_scores_are_kept_under_its_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def run(_: object, __: object, cases: list[Case], **named: Any) -> list[ClipScore]:
        asked.update(named)
        measured = {"pipeline_j": 0.5, "pipeline_f": 0.7, "seconds": 2.0, "well_formed": True}
        return [ClipScore(case, 4.0, **measured) for case in cases]

    monkeypatch.setattr(campaign, "run", run)
    suite = suite_of("shapeworld:test:3:5:sound", Role.FRESH, jobs=2, ledgers=tmp_path)
    scores = suite.score(model("a", {}))
    assert [(s.source_id, s.group, s.jf, s.seconds) for s in scores] == [
        ("sound-easy-3", "sound", 0.6, 2.0), ("sound-medium-4", "sound", 0.6, 2.0),
    ]  # fmt: skip
    assert asked["ledger"] == tmp_path / f"{'a' * 64}.jsonl"
    assert (asked["digest"], asked["jobs"], asked["parts"]) == ("a" * 64, 2, (Part.PIPELINE,))


def test_names_of_suites() -> None:
    some = suite_of("shapeworld:test:3:5:sound,absent", Role.FRESH, jobs=2)
    assert isinstance(some, ProvingGround)
    assert {(case.seed, case.kind) for case in some.cases} == {
        (s, k) for s in (3, 4) for k in (Kind.SOUND, Kind.ABSENT)
    }
    whole = suite_of("shapeworld:unseen", Role.REGRESSION)
    assert isinstance(whole, ProvingGround)
    assert len(whole.cases) == 3000
    for text, said in (
        ("shapeworld:train", "no split 'train'"), ("shapeworld:test:1", "is no suite"),
        ("shapeworld:test:5:3", "no range"), ("/nowhere", "no meta_expressions"),
        ("shapeworld:test:1:2:smell", "smell"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            suite_of(text, Role.FRESH)

"""What Looking makes of answers: one thing said twice is one box, and one frame named twice is one keyframe.

The engines are scripted: each hands over completions that are written here.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from backend.domain.annotation import Box
from backend.domain.runs import Mode
from backend.profiles import load_profile
from backend.settings import PipelineSettings
from integrations.media.probe import probe_video
from tests.factories.clips import write_clip
from workers.pipeline.clip import Clip
from workers.pipeline.decision import Decision
from workers.pipeline.engines import Completion, Prompt
from workers.pipeline.looking import Looking
from workers.pipeline.progress import Progress

#: System 2's pictures have the source's size, so that the boxes written here are those that come out.
SIZE = (64, 48)
WHOLE = (0.0, 0.0, 40.0, 40.0)
Corners = tuple[float, float, float, float]


class ScriptedEngine:
    """Completes the prompts with these texts, in order, and counts them."""

    sample_rate_hz, size_multiple_px = 16_000, 16

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)
        self.asked = 0

    def generate(
        self, prompts: Sequence[Prompt], *, min_pixels: int, max_pixels: int, max_new_tokens: int,
        fps: float | None = None,
    ) -> list[Completion]:  # fmt: skip
        assert 0 < min_pixels <= max_pixels
        assert max_new_tokens > 0
        self.asked += len(prompts)
        size = SIZE if fps is None else None
        return [Completion(self._texts.pop(0), 0.9, 0.8, size) for _ in prompts]


def moments(*starts_s: float) -> str:
    """System 1's answer: a moment at each of these seconds, described by its number."""
    said = [
        {"start_time": f"00:{start:05.2f}", "end_time": f"00:{start + 0.1:05.2f}", "description": f"thing {n}"}
        for n, start in enumerate(starts_s)
    ]
    return f"<think>so</think><answer>{json.dumps(said)}</answer>"


def boxes(*corners: Corners) -> str:
    """System 2's answer: these boxes, labeled by their numbers."""
    return json.dumps([{"bbox_2d": list(each), "label": f"box {n}"} for n, each in enumerate(corners)])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clip]:
    """20 frames. System 1 is shown 16 of them, each as a quarter of a second."""
    path: Path = write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")
    with Clip.open(path, probe_video(path), 32, None, 2**30) as clip:
        assert (clip.probe.frame_count, clip.probe.width, clip.probe.height) == (20, *SIZE)
        yield clip


Make = Callable[[ScriptedEngine, ScriptedEngine], Looking]


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(chooses: ScriptedEngine, grounds: ScriptedEngine) -> Looking:
        monkeypatch.setattr("workers.pipeline.looking.load_engines", lambda _: (chooses, grounds))
        return Looking(load_profile("shapeworld"), PipelineSettings())

    return make


def decided(looking: Looking, clip: Clip) -> Decision:
    return looking.decide(clip, "the thing", Mode.VOS, 0, Progress(None))


def kept(looking: Looking, clip: Clip) -> list[list[tuple[str, Box]]]:
    """By keyframe, the boxes that are left."""
    looked = decided(looking, clip).looked
    return [[(box.label, box.box_xyxy_px) for box in each.boxes] for each in looked]


@pytest.mark.parametrize(
    ("other", "labels"),
    [
        (WHOLE, ["box 0"]),
        ((0.0, 0.0, 40.0, 36.0), ["box 0"]),  # 0.9, to the bit
        ((0.0, 0.0, 40.0, 35.99), ["box 0", "box 1"]),  # 0.89975
    ],
)
def test_boxes_that_overlap_by_nine_tenths_are_one(
    looking: Make, clip: Clip, other: Corners, labels: list[str]
) -> None:
    found = kept(looking(ScriptedEngine(moments(1.0)), ScriptedEngine(boxes(WHOLE, other))), clip)
    assert [[label for label, _ in each] for each in found] == [labels]


def test_of_boxes_that_are_one_thing_the_first_is_kept_whichever_is_larger(looking: Make, clip: Clip) -> None:
    lower = (0.0, 0.0, 40.0, 36.0)
    for first, second in ((WHOLE, lower), (lower, WHOLE)):
        [found] = kept(looking(ScriptedEngine(moments(1.0)), ScriptedEngine(boxes(first, second))), clip)
        assert found == [("box 0", Box(*first))]


def test_what_repeats_only_a_dropped_box_is_kept(looking: Make, clip: Clip) -> None:
    """Each overlaps the one before it by nine tenths, and the third the first by less."""
    chain = [(0.0, 0.0, 40.0, bottom) for bottom in (40.0, 36.5, 33.3)]
    assert Box(*chain[1]).iou(Box(*chain[2])) > 0.9 > Box(*chain[0]).iou(Box(*chain[2]))
    [found] = kept(looking(ScriptedEngine(moments(1.0)), ScriptedEngine(boxes(*chain))), clip)
    assert [label for label, _ in found] == ["box 0", "box 2"]


def test_the_same_box_on_two_frames_is_kept_on_both(looking: Make, clip: Clip) -> None:
    found = kept(looking(ScriptedEngine(moments(1.0, 3.0)), ScriptedEngine(boxes(WHOLE, WHOLE), boxes(WHOLE))), clip)
    assert found == [[("box 0", Box(*WHOLE))]] * 2


def test_two_moments_on_one_frame_are_one_keyframe_and_the_first_is_kept(looking: Make, clip: Clip) -> None:
    """Frames are shown as a quarter of a second each: 1.0 and 1.2 are the same one, 1.25 is the next."""
    chooses, grounds = ScriptedEngine(moments(1.0, 1.2, 1.25)), ScriptedEngine(boxes(WHOLE), boxes(WHOLE))
    made = looking(chooses, grounds)
    shown = made.sampling(clip.probe, Mode.VOS).frame_indices
    decision = decided(made, clip)
    assert [(each.frame_index, each.moment.description) for each in decision.looked] == [
        (shown[4], "thing 0"),
        (shown[5], "thing 2"),
    ]
    assert decision.warnings == (f"two moments fall on frame {shown[4]}; the first was kept",)
    # System 2 is asked about what is kept alone.
    assert (chooses.asked, grounds.asked) == (1, 2)
    assert len(decision.chosen.answer.moments) == 3


def test_moments_on_frames_of_their_own_are_all_kept_without_a_word(looking: Make, clip: Clip) -> None:
    made = looking(ScriptedEngine(moments(0.0, 1.0, 3.9)), ScriptedEngine(*[boxes(WHOLE)] * 3))
    shown = made.sampling(clip.probe, Mode.VOS).frame_indices
    decision = decided(made, clip)
    assert [each.frame_index for each in decision.looked] == [shown[0], shown[4], shown[15]]
    assert decision.warnings == ()


def test_system_1_alone_names_a_frame_once(looking: Make, clip: Clip) -> None:
    made = looking(ScriptedEngine(moments(1.0, 1.2, 3.0)), ScriptedEngine())
    shown = made.sampling(clip.probe, Mode.VOS).frame_indices
    chosen, frames = made.choose(clip, "the thing", Mode.VOS)
    assert frames == (shown[4], shown[12])
    assert [moment.start_s for moment in chosen.answer.moments] == [1.0, 1.2, 3.0]

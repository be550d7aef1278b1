"""Items and samples: what a draw is depends on its number alone, and the truth stays where it was said."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from backend.domain.annotation import Box, Mask, VideoProbe
from backend.domain.errors import BadInput
from backend.domain.masks import decode_mask, encode_mask
from backend.domain.runs import Mode
from tests.factories.small_training import FewThings, profile
from tests.factories.world import write_sample
from workers.learning import frozen
from workers.learning.items import Shuffled, TrainingItem, Truth
from workers.learning.samples import Preparer, Sample, ahead, collate
from workers.shapeworld.training.items import SceneFootage, TrainingScenes, held_out, training_scenes
from workers.shapeworld.world.levels import LEVELS
from workers.shapeworld.world.queries import ASKED_KINDS, Kind
from workers.shapeworld.world.splits import SEEDS, Split


def preparer(frames_min: int = 8) -> Preparer:
    return Preparer(profile().system1, frames_min=frames_min, frames_max=24, keyframes=4, seed=3)


def same(one: Sample, other: Sample) -> bool:
    return (
        one.item == other.item
        and torch.equal(one.prompt_ids, other.prompt_ids)
        and torch.equal(one.frames, other.frames)
        and all(torch.equal(value, other.media[name]) for name, value in one.media.items())
    )


def test_a_draw_is_the_same_sample_whoever_prepares_it_and_when() -> None:
    source = FewThings()
    by_one = list(ahead(preparer(), source, [[0, 1], [2]], loaders=1))
    assert [[sample.draw for sample in round_] for round_ in by_one] == [[0, 1], [2]]
    again = list(ahead(preparer(), source, [[2], [1]], loaders=0))
    assert same(by_one[1][0], again[0][0])
    assert same(by_one[0][1], again[1][0])
    assert not same(by_one[0][0], by_one[0][1])


def test_8_to_as_many_frames_as_the_profile_shows_are_drawn() -> None:
    counts = {len(preparer().draw(FewThings(), draw).frames) for draw in range(12)}
    assert counts <= set(range(8, 17))
    assert len(counts) > 3
    assert len(preparer().as_at_inference().prepare(FewThings().draw(0)).frames) == 16


def test_in_mode_aid_the_first_frame_is_shown_and_all_of_the_sound_is_heard() -> None:
    heard = next(item for item in map(FewThings().draw, range(6)) if item.mode is Mode.AVS)
    clip, first = (preparer().prepare(replace(heard, mode=mode), frame_count=12) for mode in (Mode.AVS, Mode.AID))
    assert torch.equal(first.frames, clip.frames[:1])
    assert first.truth.boxes == {n: boxes for n, boxes in clip.truth.boxes.items() if n == 0}
    assert torch.equal(first.media["input_features"], clip.media["input_features"])
    assert (first.mode, clip.mode) == (Mode.AID, Mode.AVS)
    assert len(first.prompt_ids) < len(clip.prompt_ids)


def test_a_clip_that_is_gone_gives_its_place_to_another(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass(frozen=True)
    class Gone:
        name: str = "mostly gone"
        asked: list[int] = field(default_factory=list)

        def draw(self, number: int) -> TrainingItem:
            self.asked.append(number)
            if number == 5 or len(self.asked) < 3:
                raise BadInput("the video is not there")
            return FewThings().draw(number % 50)

    source = Gone()
    sample = preparer().draw(source, 5)
    assert sample.draw == 5
    assert len(source.asked) == 3
    assert "another takes its place: the video is not there" in caplog.text


def test_every_item_comes_once_an_epoch_in_another_order() -> None:
    items = [TrainingItem(str(n), SceneFootage(None, ()), "", Mode.VOS, True) for n in range(7)]  # type: ignore[arg-type]
    source = Shuffled("seven", items, seed=1)
    epochs = [[source.draw(7 * epoch + n).name for n in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(str(n) for n in range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert source.draw(9).name == epochs[1][2]


def test_training_scenes_are_of_the_training_range_and_each_is_drawn_once() -> None:
    source = training_scenes(0, ["direction", "leaves"], ["hard"])
    drawn = [source.draw(number) for number in range(6)]
    assert {item.kind for item in drawn} == {"direction", "leaves"}
    seeds = [item.footage.scene.seed for item in drawn]  # type: ignore[attr-defined]
    assert len(set(seeds)) == 6
    assert all(seed in SEEDS[Split.TRAIN] for seed in seeds)
    assert TrainingScenes(0).kinds == ASKED_KINDS
    with pytest.raises(BadInput, match="sideways: the world has attribute"):
        training_scenes(0, ["sideways"], None)


def test_what_is_held_out_is_of_the_validation_range_with_all_kinds_and_levels() -> None:
    items = held_out(30)
    assert {item.kind for item in items} == set(Kind)
    assert {item.footage.scene.level for item in items} == set(LEVELS)  # type: ignore[attr-defined]
    assert all(item.footage.scene.seed in SEEDS[Split.VALIDATION] for item in items)  # type: ignore[attr-defined]


def test_a_scene_shows_what_its_written_clip_has_and_the_same_truth(tmp_path: Path) -> None:
    sample = write_sample(tmp_path / "clip.mp4", Kind.ATTRIBUTE, 2, 0)
    footage = SceneFootage(sample.example.scene, sample.example.question.targets)
    seen = sorted(sample.target)
    frames = sorted({0, seen[0], seen[len(seen) // 2], sample.frame_count - 1})
    shown = footage.show(frames)
    assert footage.frame_count == sample.frame_count
    assert shown.truth.masks == {n: sample.target[i] for n, i in enumerate(frames) if i in sample.target}
    assert shown.truth.mask_known == shown.truth.boxes_known == set(range(len(frames)))
    [target] = sample.example.question.targets
    assert shown.truth.boxes == {n: (sample.truth.box(target, frames[n]),) for n in shown.truth.masks}


def mask(*spans: tuple[int, int]) -> Mask:
    picture = np.zeros((16, 16), bool)
    for begin, end in spans:
        picture[4:8, begin:end] = True
    return encode_mask(picture)


@dataclass
class Thing:
    boxes: dict[int, Box]
    masks: dict[int, Mask]


@dataclass
class Row:
    objects: Sequence[Thing]
    box_frames: tuple[int, ...] = (0, 1, 2)
    mask_frames: tuple[int, ...] = (1,)
    propagated_frames: tuple[int, ...] = (3,)
    item_id: str = "a row"
    instruction: str = "both"
    mode: Mode = Mode.VOS

    @property
    def probe(self) -> VideoProbe:
        return VideoProbe(5, 16, 16, 0, 0.5, False, "h264", 1, 10, np.arange(5))


def test_a_row_s_objects_are_one_truth_and_what_nobody_said_is_unknown() -> None:
    left, right = mask((0, 4)), mask((8, 12))
    row = Row([
        Thing({0: Box(0, 4, 4, 8), 1: Box(0, 4, 4, 8)}, {1: left, 3: left}),
        Thing({1: Box(8, 4, 12, 8)}, {1: right, 3: right}),
    ])  # fmt: skip
    [item] = frozen.items([row], lambda _: Path("clip.mp4"))
    truth = item.footage.truth  # type: ignore[attr-defined]
    assert item.has_target
    assert truth.mask_known == {1, 3}
    assert truth.boxes_known == {0, 1, 2, 3}
    assert np.array_equal(decode_mask(truth.masks[1]), decode_mask(left) | decode_mask(right))
    assert truth.boxes[1] == (Box(0, 4, 4, 8), Box(8, 4, 12, 8))
    assert truth.boxes[3] == (Box(0, 4, 4, 8), Box(8, 4, 12, 8)), "around the masks, where no box was said"
    assert 2 not in truth.boxes, "known not to be seen"
    assert not frozen.items([Row([])], lambda _: Path())[0].has_target


def test_truth_follows_the_frames_that_are_shown() -> None:
    truth = Truth({2: mask((0, 4))}, {2: (Box(0, 4, 4, 8),)}, frozenset({2, 4}), frozenset({0, 2}))
    assert truth.at([0, 2, 3]) == Truth(
        {1: truth.masks[2]}, {1: truth.boxes[2]}, frozenset({1}), frozenset({0, 1})
    )  # fmt: skip


def test_prompts_are_padded_on_the_left_and_media_stand_in_order() -> None:
    drawn = [preparer(12).draw(FewThings(), draw) for draw in range(6)]
    batch = collate(drawn, pad_token_id=0)
    for row, sample in enumerate(drawn):
        length = len(sample.prompt_ids)
        assert torch.equal(batch["input_ids"][row, -length:], sample.prompt_ids)
        assert batch["attention_mask"][row].tolist() == [0] * (batch["input_ids"].shape[1] - length) + [1] * length
    heard = [sample for sample in drawn if "input_features" in sample.media]
    assert 0 < len(heard) < len(drawn)
    assert torch.equal(batch["input_features"], torch.cat([sample.media["input_features"] for sample in heard]))

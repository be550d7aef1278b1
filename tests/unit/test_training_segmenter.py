"""Training the segmenter: what is drawn is true, learning reaches every part, what is saved is the model alone."""

from dataclasses import replace
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from backend.profiles import load_profile
from workers.pipeline.sam2_model import build_model
from workers.shapeworld.training.segmenter.batches import (
    ClipBatch,
    ClipSource,
    _training_examples,
    box_of,
    draw_batch,
    draw_boxes,
)
from workers.shapeworld.training.segmenter.learner import SegmenterTrainee
from workers.shapeworld.training.segmenter.losses import DenseHeads, mask_loss
from workers.shapeworld.training.segmenter.model import set_side
from workers.shapeworld.training.segmenter.moments import Spacing, pick
from workers.shapeworld.training.segmenter.recipe import recipe
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.levels import EASY, HARD, MEDIUM, Level
from workers.shapeworld.world.make import make_training_scene
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.shapes import COLORS
from workers.shapeworld.world.splits import SEEDS, Split

FIRST = SEEDS[Split.TRAIN].start
SIDE_PX = 64
CLIPS_OPTIONS = {"side_px": SIDE_PX, "pictures": 3, "masks": 6, "frames_min": 3, "frames_max": 3}
CLIPS = Phase("clips", 4, 1e-3, options=CLIPS_OPTIONS)


@pytest.fixture(scope="module")
def trainee() -> SegmenterTrainee:
    return SegmenterTrainee(load_profile("shapeworld").segmenter, 0, "cpu")


def draw(
    level: Level, *, is_far: bool = False, frame_count: int = 3, spacing: Spacing = Spacing.NEAR, seed: int = 0
) -> ClipBatch[np.ndarray]:
    example = make_training_scene(FIRST + seed, Kind.PASSES_BEHIND, level)
    return draw_batch(
        np.random.default_rng(seed), repeat(example), side_px=96, clip_count=2, prompt_count=4,
        frame_count=frame_count, is_far=is_far, spacing=spacing,
    )  # fmt: skip


def test_a_batch_depends_on_training_seed_phase_and_step_alone() -> None:
    other_phase = Phase("others", 4, 1e-3, options=CLIPS.options)
    batch = ClipSource(3).batch(CLIPS, 1)
    assert all(np.array_equal(a, b) for a, b in zip(batch, ClipSource(3).batch(CLIPS, 1), strict=True))
    others = [ClipSource(4).batch(CLIPS, 1), ClipSource(3).batch(CLIPS, 2), ClipSource(3).batch(other_phase, 1)]
    assert all(not np.array_equal(batch.images, other.images) for other in others)


@pytest.mark.parametrize("level", [EASY, HARD], ids=["easy", "hard"])
@pytest.mark.parametrize("is_far", [False, True])
def test_boxes_are_those_of_the_labels_on_the_prompted_frames(level: Level, is_far: bool) -> None:
    for seed in range(4):
        batch = draw(level, is_far=is_far, seed=seed)
        for row, (clip, label) in enumerate(zip(batch.clips, batch.things, strict=True)):
            for t in range(2 if is_far else 1):
                mask = batch.labels[clip, t] == label
                assert mask.any()
                assert tuple(batch.boxes_xyxy_px[t, row]) == box_of(mask)


def test_pictures_and_labels_are_turned_alike() -> None:
    """The labels' colours are found in the picture where the labels are, whichever way the squares are laid."""
    palette = np.asarray(list(COLORS.values()), float)
    for seed in range(6):
        batch = draw(EASY, seed=seed, frame_count=1)
        for clip, label in zip(batch.clips, batch.things, strict=True):
            color = np.median(batch.images[clip, 0][batch.labels[clip, 0] == label], axis=0)
            # Shades differ, hues don't.
            alike = (palette @ color) / np.linalg.norm(palette, axis=1)
            assert alike.argmax() == batch.colors[clip, label] - 1


def changed_px(batch: ClipBatch[np.ndarray], t: int) -> float:
    return float((batch.labels[:, 0] != batch.labels[:, t]).mean())


def test_wide_clips_move_more_than_near_ones() -> None:
    near, wide = ([draw(EASY, spacing=s, seed=n) for n in range(6)] for s in (Spacing.NEAR, Spacing.WIDE))
    assert np.mean([changed_px(b, 1) for b in wide]) > 2 * np.mean([changed_px(b, 1) for b in near])
    assert np.mean([changed_px(b, 2) for b in near]) > np.mean([changed_px(b, 1) for b in near]) > 0


def test_in_a_passing_something_is_hidden_between_two_times_at_which_it_is_seen() -> None:
    for seed in range(5):
        batch = draw(MEDIUM, spacing=Spacing.PASSING, frame_count=9, seed=seed)
        areas_px = np.stack([(batch.labels == label).sum((2, 3)) for label in range(1, 5)], -1)
        inner, ends = areas_px[:, 1:-1].min(1), np.minimum(areas_px[:, 0], areas_px[:, -1])
        assert (inner < 0.7 * ends).any(1).all()


def test_what_leaves_is_seen_first_and_gone_at_the_end() -> None:
    """Forward it goes, backward it hasn't come yet; the gone frames teach that nothing is there."""
    seeds = range(FIRST, FIRST + 12)
    scenes = [make_training_scene(seed, kind, HARD).scene for seed in seeds for kind in (Kind.LEAVES, Kind.FASTEST)]
    rng, gone_counts, directions = np.random.default_rng(0), [], set()
    for scene in scenes:
        moments = pick(rng, scene, 6, Spacing.LEAVING, False)
        if moments is None:
            continue
        thing, other = moments.things
        seen = observe(scene)
        visible = np.interp(moments.times_s, seen.time_s, seen.visible[thing])
        assert visible[0] >= 0.3
        assert 0 <= min(moments.times_s) <= max(moments.times_s) < scene.duration_s
        assert 0 <= other < len(scene.things)
        gone_counts.append(int((visible[-3:] <= 0.05).sum()))
        directions.add(moments.times_s[0] < moments.times_s[-1])
    assert len(gone_counts) >= 12
    assert np.mean(gone_counts) > 2
    assert directions == {True, False}


def test_where_nothing_leaves_there_is_no_leaving() -> None:
    scene = make_training_scene(FIRST, Kind.RELATION, EASY).scene
    assert not observe(scene).gone.any()
    assert pick(np.random.default_rng(0), scene, 4, Spacing.LEAVING, False) is None


def test_where_nothing_passes_there_is_no_passing() -> None:
    scene = make_training_scene(FIRST, Kind.PASSES_BEHIND, EASY).scene
    alone = replace(scene, things=scene.things[:1])
    assert pick(np.random.default_rng(0), alone, 4, Spacing.PASSING, False) is None
    moments = pick(np.random.default_rng(0), alone, 4, Spacing.WIDE, False)
    assert moments is not None
    assert 0 <= min(moments.times_s) <= max(moments.times_s) < scene.duration_s


def test_only_far_batches_have_a_gap_after_the_first_frame() -> None:
    assert draw(EASY).positions.tolist() == [0, 1, 2]
    first, second, third = draw(EASY, is_far=True).positions.tolist()
    assert first == 0
    assert second > 1
    assert third == second + 1


def test_box_of_has_exclusive_ends() -> None:
    mask = np.zeros((6, 8), bool)
    mask[2:4, 5] = True
    assert box_of(mask) == (5, 2, 6, 4)
    assert box_of(np.zeros((3, 3), bool)) == (0, 0, 0, 0)


def square_logits(side: int, begin: int, end: int) -> torch.Tensor:
    logits = torch.full((1, 1, side, side), -8.0)
    logits[..., begin:end, begin:end] = 8.0
    return logits


def test_the_mask_loss_prefers_the_right_place() -> None:
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[:, 16:32, 16:32] = True
    sure = torch.full((1, 1), 8.0)
    right, beside = (mask_loss(square_logits(16, *at), sure, torch.ones(1, 1), truth) for at in ((4, 8), (6, 10)))
    assert float(right.iou) == 1
    assert float(right.loss) < 0.2 < float(beside.loss)
    assert float(beside.iou) == pytest.approx(64 / (256 + 256 - 64), abs=0.01)


def test_compared_finer_an_edge_off_by_less_than_a_cell_costs_more() -> None:
    """The thing's edge lies a quarter of a logit's cell farther out; at the logits' resolution that is hardly seen."""
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[:, 16:33, 16:33] = True
    sure = torch.full((1, 1), 8.0)
    coarse, fine = (mask_loss(square_logits(16, 4, 8), sure, torch.ones(1, 1), truth, scale) for scale in (1, 4))
    assert float(coarse.iou) == 1
    assert float(fine.iou) == pytest.approx(16**2 / 17**2, abs=0.03)


def test_crowds_come_as_often_as_the_phase_says() -> None:
    """Of scenes that have things of one colour there are more."""

    def alike(share: float) -> float:
        examples = _training_examples(np.random.default_rng(0), share)
        scenes = [next(examples).scene for _ in range(30)]
        return sum(len(scene.things) - len({thing.color for thing in scene.things}) for scene in scenes) / len(scenes)

    assert alike(1.0) > 1.4 * alike(0.0)


def test_a_phase_can_do_without_the_auxiliary_loss() -> None:
    trainee = SegmenterTrainee(load_profile("shapeworld").segmenter, 0, "cpu")
    without = replace(CLIPS, options=CLIPS_OPTIONS | {"auxiliary": 0})
    trainee.begin(CLIPS)
    batch = trainee.source.batch(CLIPS, 0)
    (plain, figures), (less, fewer) = (trainee.loss(phase, 0, batch) for phase in (CLIPS, without))
    assert fewer["auxiliary"] == 0 < figures["auxiliary"]
    assert float(less.detach()) == pytest.approx(float(plain.detach()) - figures["auxiliary"], rel=1e-5)


def test_where_the_thing_is_not_seen_only_the_score_is_taught() -> None:
    logits, score = square_logits(16, 4, 8).requires_grad_(), torch.full((1, 1), 2.0, requires_grad=True)
    found = mask_loss(logits, score, torch.full((1, 1), 0.5), torch.zeros(1, 64, 64, dtype=torch.bool))
    found.loss.backward()
    assert len(found.iou) == 0
    assert float(found.score_right) == 0
    assert not logits.grad.any()
    assert float(score.grad) > 0


def test_the_auxiliary_loss_vanishes_for_heads_that_know_everything() -> None:
    """One coarse cell of 4 × 4 fine ones, the right half red (colour 1) and a circle (shape 1)."""
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    labels[:, :, 8:] = 1
    classes = torch.tensor([[0, 1]])
    heads = DenseHeads(1, 1)
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.zero_()
        heads.fine.weight[:2, 0, 0, 0] = torch.tensor([-50.0, 50.0])
        cells = torch.arange(16)
        side = torch.where(cells % 4 >= 2, 50.0, -50.0)
        for first_class in (0, 9):
            heads.coarse.bias[first_class * 16 : first_class * 16 + 16] = -side
            heads.coarse.bias[first_class * 16 + 16 : first_class * 16 + 32] = side
        # In tenths of a cell: the middle of the right half is at 2.5, 1.5.
        heads.coarse.bias[18 * 16 : 19 * 16] = (2.5 - cells % 4) / 10
        heads.coarse.bias[19 * 16 :] = (1.5 - cells // 4) / 10
    fine = torch.tensor([-1.0, -1.0, 1.0, 1.0]).expand(1, 1, 4, 4)
    knows = heads(fine, torch.zeros(1, 1, 1, 1), labels, classes, classes)
    assert float(knows.detach()) == pytest.approx(0, abs=1e-4)
    wrong = heads(-fine, torch.zeros(1, 1, 1, 1), labels, classes, classes)
    assert float(wrong.detach()) > 1


def test_memory_attention_begins_with_looking_at_the_same_place(trainee: SegmenterTrainee) -> None:
    attention = trainee.model.memory_attention.layers[0].cross_attn_image
    cells = trainee.model.image_size // trainee.model.backbone_stride
    torch.manual_seed(0)
    query, key = torch.randn(32, cells**2, 128), torch.randn(32, cells**2, 64)
    value = torch.zeros_like(key)
    here = cells * (cells // 2) + cells // 3
    value[:, here] = 10
    with torch.no_grad():
        change = (attention(query, key, value) - attention(query, key, 0 * value)).norm(dim=-1).mean(0)
    assert int(change.argmax()) == here


def test_learning_reaches_every_part_and_lowers_the_loss() -> None:
    trainee = SegmenterTrainee(load_profile("shapeworld").segmenter, 0, "cpu")
    [optimizer] = trainee.begin(CLIPS)
    batch = trainee.source.batch(CLIPS, 0)
    losses = []
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * group["scale"]
        optimizer.zero_grad()
        loss, figures = trainee.loss(CLIPS, step, batch)
        loss.backward()
        if step == 0:
            for part in (
                "image_encoder.trunk",
                "memory_attention",
                "memory_encoder",
                "sam_mask_decoder",
                "obj_ptr_proj",
            ):
                grads = [p.grad for p in trainee.model.get_submodule(part).parameters() if p.grad is not None]
                assert any(grad.any() for grad in grads), part
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert {"loss", "iou", "auxiliary", "score_right"} <= set(figures)


def test_boxes_without_a_picture_teach_the_decoder_alone(trainee: SegmenterTrainee) -> None:
    fill = Phase("fill", 4, 1e-3, options={"side_px": SIDE_PX, "prompts": 4, "fill": 1})
    [optimizer] = trainee.begin(fill)
    boxes = trainee.source.batch(fill, 0)
    assert np.array_equal(boxes, trainee.source.batch(fill, 0))
    before = {name: p.clone() for name, p in trainee.modules.named_parameters()}
    loss, _ = trainee.loss(fill, 0, torch.from_numpy(boxes))
    loss.backward()
    optimizer.step()
    changed = {name for name, p in trainee.modules.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(".sam_mask_decoder." in name or ".sam_prompt_encoder." in name for name in changed)


def test_boxes_without_a_picture_lie_in_it() -> None:
    boxes = draw_boxes(np.random.default_rng(0), 500, SIDE_PX)
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE_PX
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_validation_is_repeatable_and_draws_no_random_number(trainee: SegmenterTrainee) -> None:
    pictures = Phase("pictures", 4, 1e-3, options={"side_px": SIDE_PX})
    trainee.begin(pictures)
    state = torch.get_rng_state()
    figures = trainee.validate(pictures)
    assert trainee.validate(pictures) == figures
    assert set(figures) == {"iou_easy", "iou_medium", "iou_hard"}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_checkpoint_is_the_profiles_model_in_half_precision(trainee: SegmenterTrainee, tmp_path: Path) -> None:
    trainee.save(tmp_path / "checkpoint")
    weights = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    build_model(load_profile("shapeworld").segmenter, "cpu").load_state_dict(weights)
    assert (tmp_path / "checkpoint" / "model.safetensors").stat().st_size < 9e6


def test_the_same_seed_begins_with_the_same_weights() -> None:
    first, second, other = (SegmenterTrainee(load_profile("shapeworld").segmenter, s, "cpu") for s in (1, 1, 2))
    weights = [t.model.sam_mask_decoder.transformer.layers[0].mlp.layers[0].weight for t in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_masks_follow_the_side_that_is_set(trainee: SegmenterTrainee) -> None:
    for side_px in (64, 128):
        set_side(trainee.model, side_px)
        with torch.no_grad():
            encoded = trainee.model.forward_image(torch.zeros(1, 3, side_px, side_px))
        assert encoded["backbone_fpn"][0].shape[-1] == side_px // 4
        assert trainee.model.sam_prompt_encoder.get_dense_pe().shape[-1] == side_px // 16


def test_the_recipe_ends_with_clips_at_the_profiles_size() -> None:
    phases = recipe(224)
    assert len({phase.name for phase in phases}) == len(phases)
    assert all(phase.option("side_px") == 224 and phase.option("frames_max") > 1 for phase in phases[-3:])
    assert sum(phase.steps for phase in phases) > 1000

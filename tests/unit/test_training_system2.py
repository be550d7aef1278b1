"""Training of System 2: what is seen and asked is true, what is written is what the pipeline reads, and it learns."""

import pickle
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.domain.annotation import Box
from backend.profiles import load_profile
from workers.pipeline.parsing import parse_system2
from workers.shapeworld.training.layers import attention_log_shares
from workers.shapeworld.training.system2 import losses, trainee
from workers.shapeworld.training.system2.batches import MAX_PIXELS, SIZES, Pictures
from workers.shapeworld.training.system2.language import COORDINATE_MAX_PX, Language, answer_text
from workers.shapeworld.training.system2.learner import PHASES, SIZE, rope_positions
from workers.shapeworld.training.system2.pictures import CELL_PX, GONE_SHARE, SEEN_SHARE, Picture, ask, take
from workers.shapeworld.training.system2.validation import is_right
from workers.shapeworld.training.thinkers import make_processor, make_thinker
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.levels import HARD
from workers.shapeworld.world.make import make_training_scene
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.render import frames_at
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES
from workers.shapeworld.world.splits import HELD_OUT_PAIRS, SEEDS, Split
from workers.shapeworld.world.things import Look

SMALL_OPTIONS = {"pictures": 4, "questions": 3, "scenes": 1}
SMALL = Phase("ground", 1000, 2e-3, options=SMALL_OPTIONS)
coordinates = st.integers(0, COORDINATE_MAX_PX)


@pytest.fixture(scope="module")
def language() -> Language:
    return Language()


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    """Crowded ones, of several scenes."""
    scenes = [make_training_scene(SEEDS[Split.TRAIN][n], kind, HARD).scene for n, kind in enumerate(Kind)]
    times = [np.linspace(0.2, scene.duration_s - 0.2, 3).tolist() for scene in scenes]
    return list(chain.from_iterable(take(s, t, (128, 112)) for s, t in zip(scenes, times, strict=True)))


@given(st.lists(st.tuples(*[coordinates] * 4), max_size=4), st.sampled_from(["the red circle", "the dotted shapes"]))
@settings(max_examples=30, deadline=None)
def test_answers_are_what_the_tokenizer_makes_of_them_and_the_pipeline_reads(
    language: Language, boxes: list[tuple[int, int, int, int]], label: str
) -> None:
    text = answer_text(boxes, label)
    assert language.answer(boxes, label) == language.tokenizer(f"{text}<|im_end|>")["input_ids"]
    read, warnings = parse_system2(text)
    assert [(b.x1, b.y1, b.x2, b.y2, b.label) for b in read] == [(*box, label) for box in boxes]
    assert not warnings


def test_it_is_known_where_in_an_answer_each_box_is_written(language: Language) -> None:
    boxes = [(1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12)]
    answer = language.answer(boxes, "the red stars")
    written = [language.tokenizer.decode(answer[first:end]) for first, end in language.spans(answer)]
    assert written == [
        '[{"bbox_2d": [1, 2, 3, 4], "label": "',
        '"}, {"bbox_2d": [5, 6, 7, 8], "label": "',
        '"}, {"bbox_2d": [9, 10, 11, 12], "label": "',
    ]
    assert language.spans(language.answer([], "the red stars")) == []


def test_every_word_is_one_token_and_an_answer_with_one_box_is_short(language: Language) -> None:
    assert len(language.answer([(1, 22, 133, 44)], "the red striped star")) == 15
    assert len(set(language.colors + language.shapes + language.textures)) == 20


def test_prompts_and_positions_are_the_processors(language: Language) -> None:
    """A row of training is what the pipeline's processor and the model make of the same picture and words."""
    width, height = SIZES[1]
    processor = make_processor(language.tokenizer, patch_px=SIZE.patch_px, max_pixels=MAX_PIXELS)
    content = [
        {"type": "text", "text": "Locate the blue rings, output its bbox coordinates in JSON format."},
        {"type": "image", "image": "keyframe"},
    ]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    size = {"shortest_edge": MAX_PIXELS, "longest_edge": MAX_PIXELS}
    image = np.zeros((384, 512, 3), np.uint8)
    encoded = processor(text=[text], images=[image], images_kwargs={"size": size}, return_tensors="pt")
    before, after = language.prompt("the blue rings")
    token_count = width * height // CELL_PX**2
    row = [*before, *[language.image] * token_count, *after]
    assert encoded["input_ids"].tolist() == [row]
    assert encoded["image_grid_thw"].tolist() == [[1, height // SIZE.patch_px, width // SIZE.patch_px]]
    thinker = make_thinker(language.tokenizer, SIZE)
    real, _ = thinker.get_rope_index(encoded["input_ids"], image_grid_thw=encoded["image_grid_thw"])
    mine = rope_positions(len(before), token_count, width // CELL_PX, len(row))
    assert torch.equal(real[:, 0].long(), mine)


def test_coordinates_reach_every_size() -> None:
    assert {max(size) for size in SIZES} <= set(range(COORDINATE_MAX_PX + 1))
    assert all(width * height <= MAX_PIXELS for width, height in SIZES)


def test_the_profile_shows_pictures_in_the_sizes_of_the_training(language: Language) -> None:
    profile = load_profile("shapeworld").system2
    assert (profile.min_pixels, profile.max_pixels) == (MAX_PIXELS, MAX_PIXELS)
    assert (profile.coordinates, profile.content_order) == ("absolute", ("text", "image"))
    six_boxes = language.answer([(1, 2, 3, 4)] * HARD.thing_count[1], "the checkered crescents")
    assert profile.max_new_tokens > len(six_boxes)


def look_of(description: str) -> tuple[Look, bool]:
    """The look that a description names, and whether it means several."""
    words = description.split()[1:]
    noun = words[-1].removesuffix("s") if words[-1] != "crosses" else "cross"
    noun = words[-1] if words[-1] == "cross" else noun
    color = next((word for word in words if word in COLORS), None)
    texture = next((word for word in words if word in TEXTURES), None)
    return Look(color, noun if noun in SHAPES else None, texture), words[-1] not in (noun,)


@pytest.mark.parametrize("later", [False, True])
def test_questions_are_answered_by_what_is_seen(pictures: list[Picture], later: bool) -> None:
    rng = np.random.default_rng(0)
    counts = []
    for picture in pictures:
        for asked in filter(None, [ask(rng, picture, later) for _ in range(12)]):
            look, plural = look_of(asked.description)
            assert (look.color, look.shape) not in HELD_OUT_PAIRS
            fits = {i for i, thing in enumerate(picture.things) if look.matches(thing)}
            assert fits >= set(asked.targets)
            assert all(picture.visible[i] >= SEEN_SHARE for i in asked.targets)
            assert all(picture.visible[i] <= GONE_SHARE for i in fits - set(asked.targets))
            centers = [picture.boxes_xyxy_px[i, [0, 2]].sum() for i in asked.targets]
            assert centers == sorted(centers)
            assert plural or len(asked.targets) < 2
            counts.append(len(asked.targets))
    assert {0, 1, 2} <= set(counts)
    assert (sum(count > 1 for count in counts) > 0.2 * len(counts)) is later


def test_boxes_and_owners_are_those_of_a_large_rendering(pictures: list[Picture]) -> None:
    scene = make_training_scene(SEEDS[Split.TRAIN][0], next(iter(Kind)), HARD).scene
    [frame] = frames_at(scene, [0.2], 448)
    scale = np.asarray([128, 112, 128, 112]) / np.tile(frame.labels.shape[::-1], 2)
    for index in range(len(scene.things)):
        rows, columns = np.nonzero(frame.labels == index + 1)
        if len(rows) > 200:
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] * scale
            assert np.abs(pictures[0].boxes_xyxy_px[index] - box).max() < 1
            # The token at the thing's most central pixel shows it or something that it is hidden by.
            inside = pictures[0].owners[
                int(box[1]) // CELL_PX : int(box[3] - 0.1) // CELL_PX + 1,
                int(box[0]) // CELL_PX : int(box[2] - 0.1) // CELL_PX + 1,
            ]
            assert index in inside


@pytest.mark.parametrize(("horizontally", "vertically"), [(True, False), (False, True), (True, True)])
def test_a_mirror_moves_the_boxes_with_the_picture(
    pictures: list[Picture], horizontally: bool, vertically: bool
) -> None:
    picture = pictures[0]
    mirrored = picture.flipped(horizontally, vertically)
    axes = [axis for axis, flip in ((0, vertically), (1, horizontally)) if flip]
    assert np.array_equal(mirrored.image, np.flip(picture.image, axes))
    assert np.array_equal(mirrored.owners, np.flip(picture.owners, axes))
    back = mirrored.flipped(horizontally, vertically)
    assert np.allclose(back.boxes_xyxy_px, picture.boxes_xyxy_px)
    seen = picture.visible > 0
    widths = picture.boxes_xyxy_px[seen, 2:] - picture.boxes_xyxy_px[seen, :2]
    assert np.allclose(mirrored.boxes_xyxy_px[seen, 2:] - mirrored.boxes_xyxy_px[seen, :2], widths)
    assert not np.allclose(mirrored.boxes_xyxy_px, picture.boxes_xyxy_px)


def test_the_batch_of_a_step_depends_on_seed_and_step_alone() -> None:
    source, other = Pictures(1, [SMALL], window_scenes=4), Pictures(2, [SMALL], window_scenes=4)
    first = source.batch(SMALL, 3)
    again = pickle.loads(pickle.dumps(source)).batch(SMALL, 3)
    assert np.array_equal(first.images, again.images)
    assert first.asked == again.asked
    assert not np.array_equal(first.images[0], source.batch(SMALL, 4).images[0])
    assert not np.array_equal(first.images[0], other.batch(SMALL, 3).images[0])


def test_several_things_are_asked_for_from_the_step_that_the_phase_says() -> None:
    phase = Phase("ground", 1000, 2e-3, options={"pictures": 24, "questions": 3, "scenes": 1, "later": 8})
    source = Pictures(1, [phase], window_scenes=12)
    before, after = (
        sum(len(asked.targets) > 1 for step in steps for _, asked in source.batch(phase, step).asked)
        for steps in ((6, 7), (8, 9))
    )
    assert after > 1.5 * before


def test_scenes_with_several_alike_come_as_often_as_the_phase_says() -> None:
    """Scenes have things in common by chance, too; so it is more that is asked for, not all."""

    def targets_a_question(share: float) -> float:
        options = {"pictures": 24, "questions": 3, "scenes": 1, "later": 0, "several": share}
        phase = Phase("ground", 1000, 2e-3, options=options)
        asked = Pictures(1, [phase], window_scenes=24).batch(phase, 0).asked
        return sum(len(each.targets) for _, each in asked) / len(asked)

    assert targets_a_question(1.0) > 1.15 * targets_a_question(0.0)


def test_a_head_is_taught_to_look_at_the_thing_whose_box_is_written(language: Language) -> None:
    """The loss is what `attention_log_shares` says of the tokens that show the thing, and falls when they are looked
    at more."""
    torch.manual_seed(0)
    thinker = make_thinker(language.tokenizer, SIZE)
    hidden = torch.randn(2, 6, SIZE.width, requires_grad=True)
    position_ids = torch.arange(6).expand(3, 2, 6)
    wanted = torch.tensor([[-1, -1, -1, -1, 7, 3], [-1, -1, -1, -1, 4, -1]])
    shown = torch.tensor([[-1, 3, 7, 7, -1, -1], [-1, 1, 1, 1, -1, -1]])
    loss = losses.looking(thinker, hidden, position_ids, wanted, shown)
    shares = attention_log_shares(thinker, 2, hidden, position_ids, 1, 0).exp()[:, 0]
    # Thing 4 of the second row owns no token, so nothing is asked there.
    right = [shares[0, 4, 2] + shares[0, 4, 3], shares[0, 5, 1]]
    assert loss.item() == pytest.approx(-torch.stack(right).log().mean().item(), rel=1e-5)
    nothing = torch.full_like(wanted, -1)
    assert losses.looking(thinker, hidden, position_ids, nothing, shown).item() == 0


def test_looking_is_taught_in_the_phase_that_says_so() -> None:
    learner = trainee(0, "cpu")
    batch = Pictures(0, [SMALL], window_scenes=2).batch(SMALL, 0)
    taught = replace(SMALL, options=SMALL_OPTIONS | {"looking": 0.2})
    assert "looking" not in learner.loss(SMALL, 0, batch)[1]
    assert learner.loss(taught, 0, batch)[1]["looking"] > 0


def test_dense_truth_is_that_of_the_things_that_tokens_show() -> None:
    owners = torch.tensor([[-1, 1, 0, 1]])
    looks = torch.tensor([[[3, 2, 1], [5, 4, 0]]])
    boxes = torch.tensor([[[0.0, 16.0, 16.0, 32.0], [16.0, 0.0, 32.0, 32.0]]])
    truth = losses.dense(owners, looks, boxes, columns=2)
    assert truth.shown.tolist() == [[False, True, True, True]]
    assert truth.looks[0, 1:].tolist() == [[5, 4, 0], [3, 2, 1], [5, 4, 0]]
    assert truth.boxes_px[0, 2].tolist() == [0, 16, 16, 32]
    assert truth.centers_px[3].tolist() == [24, 24, 24, 24]


def test_a_coordinate_nearly_right_costs_less_and_choices_cost_more(language: Language) -> None:
    answering = losses.Answering(language, "cpu")
    [ten, twelve, forty] = [language.numbers[n] for n in (10, 12, 40)]

    def said(ids: list[int]) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor(ids), len(language.tokenizer)).float() * 8

    near, far, right = (answering(said([n]), torch.tensor([ten]))[1] for n in (twelve, forty, ten))
    assert right < near < far
    nothing, [label] = language.answer([], "")[0], language.colors[:1]
    target = torch.tensor([nothing, label])
    wrong_choice, wrong_word = answering(said([label, label]), target)[0], answering(said([nothing] * 2), target)[0]
    assert wrong_choice > 2 * wrong_word


def test_it_learns_a_batch_by_heart() -> None:
    learner = trainee(0, "cpu")
    batch = Pictures(0, [SMALL], window_scenes=2).batch(SMALL, 0)
    optimizers = learner.begin(SMALL)
    course = []
    for step in range(12):
        loss, figures = learner.loss(SMALL, step, batch)
        loss.backward()
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * group["scale"]
            optimizer.step()
            optimizer.zero_grad()
        course.append(figures)
    assert course[-1]["words"] < 0.75 * course[0]["words"]
    assert course[-1]["numbers"] < course[0]["numbers"]
    assert course[-1]["see"] < 0.8 * course[0]["see"]


def test_the_eyes_learn_alone_first() -> None:
    learner = trainee(0, "cpu")
    learner.begin(PHASES[0])
    names = {name for name, p in learner.modules["thinker"].named_parameters() if p.requires_grad}
    assert any(name.startswith("visual.") for name in names)
    assert "model.embed_tokens.weight" in names
    assert not any(".layers." in name and name.startswith("model.") for name in names)


A, B = Box(0, 0, 10, 10), Box(20, 20, 40, 40)


@pytest.mark.parametrize(
    ("truth", "found", "right"),
    [
        ([A], [A], True),
        ([A], [Box(0, 0, 10, 6)], True),
        ([A], [Box(0, 0, 10, 5)], False),
        ([A], [A, B], False),
        ([A, B], [B, A], True),
        ([A, B], [A, A], False),
        ([], [], True),
        ([], [A], False),
        ([A], [], False),
    ],
)
def test_right_is_a_box_for_each_and_none_too_many(truth: list[Box], found: list[Box], right: bool) -> None:
    assert is_right(truth, found) is right

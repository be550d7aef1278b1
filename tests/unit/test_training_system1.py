"""System 1's training pictures and losses: what is learned is what is seen, and the product asks the same way."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from tests.factories.taught import SCENES, chosen, encoder, samples
from workers.shapeworld.training import thinkers
from workers.shapeworld.training.system1 import model, pictures, scenes, sightings, words
from workers.shapeworld.training.system1.batches import Sounds, System1Source, Turn, hear
from workers.shapeworld.training.system1.recipe import MAX_PIXELS, trainee
from workers.shapeworld.training.system1.tokens import Encoder
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.observe import observe
from workers.shapeworld.world.queries import Kind
from workers.shapeworld.world.shapes import COLORS, SHAPES
from workers.shapeworld.world.sound import SAMPLE_RATE
from workers.shapeworld.world.splits import HELD_OUT_PAIRS, SEEN_PAIRS
from workers.shapeworld.world.things import Look

EYES = Path("workers/shapeworld/checkpoints/system2")


@pytest.mark.parametrize("number", range(0, 60, 6))
def test_a_mirrored_scene_has_the_mirrored_truth(number: int) -> None:
    staged = SCENES[number]
    other = scenes.mirrored(staged)
    looked = observe(other.scene)
    np.testing.assert_allclose(other.seen.center, looked.center)
    np.testing.assert_allclose(other.seen.world_center, looked.world_center)
    mirrored = pictures.mirror(pictures.show(staged.scene, np.arange(8)))
    rendered = pictures.show(other.scene, np.arange(8))
    for name in ("colors", "shapes", "textures"):
        np.testing.assert_allclose(getattr(mirrored, name), getattr(rendered, name), atol=0.1)
    both = mirrored.there & rendered.there
    for name in ("offset", "moved", "place", "thing"):
        same = np.isclose(getattr(mirrored, name)[both], getattr(rendered, name)[both], atol=1e-4)
        # Where two things fill a token alike, a pixel decides which of them is meant.
        assert same.mean() > 0.65


def test_the_truth_of_a_token_is_where_its_colour_is() -> None:
    staged = next(SCENES[n] for n in range(60) if SCENES[n].scene.level == "easy")
    pieces = pictures.show(staged.scene, np.asarray([2]))
    np.testing.assert_allclose(pieces.colors.sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(pieces.shapes[..., -1], pieces.colors[..., -1], atol=1e-5)
    share = pieces.colors[..., -1]
    ground = _brightness(pieces.frames, share > 0.99)
    assert _brightness(pieces.frames, share == share.min()) > ground + 20


def _brightness(frames: NDArray[np.uint8], tokens: NDArray[np.bool_]) -> float:
    pixels = frames.max(-1).mean(1)
    inside = tokens.repeat(pictures.TOKEN_PX, 1).repeat(pictures.TOKEN_PX, 2)
    return float(pixels[inside].mean())


APART = Phase("apart", 4, 1e-3, options={"stream": 1, "scenes": 2, "of_one": 2, "readings": 2, "listen_every": 2})
WHOLE = Phase(
    "whole", 4, 1e-3,
    options={"stream": 2, "clips": 3, "readings": 2, "listen_every": 2, "match": 1, "point": 1},
)  # fmt: skip


@pytest.mark.parametrize("phase", [APART, WHOLE], ids=lambda phase: phase.name)
def test_a_batch_depends_on_seed_phase_and_step_alone(phase: Phase) -> None:
    source, fresh = System1Source(3), System1Source(3)
    source.batch(phase, 0)
    first, second = source.batch(phase, 1), fresh.batch(phase, 1)
    np.testing.assert_array_equal(first.pieces.frames, second.pieces.frames)
    assert (first.readings, first.clips) == (second.readings, second.clips)
    assert source.batch(phase, 3).readings != first.readings


def test_pointers_lead_from_the_list_to_tokens_that_show_what_it_is_about_to_say() -> None:
    """Cells and looks as they are said, against the truth of the tokens pointed at; also in mirrored clips."""
    batch = System1Source(5).batch(replace(WHOLE, options={**(WHOLE.options or {}), "clips": 8}), 1)
    assert batch.listed is not None
    coder, pieces = encoder(), batch.pieces
    ids, _ = coder.watched(batch.clips, int(np.prod(pieces.there.shape[1:])), 0)
    points = coder.pointers(ids, *(torch.from_numpy(table) for table in batch.listed))
    shown = model._shows(pieces, points)
    words_next = coder.tokenizer.convert_ids_to_tokens(ids[points.row, points.position + 1])
    place = torch.from_numpy(pieces.place).view(len(batch.clips), -1, 2)
    color = torch.from_numpy(pieces.colors).view(len(batch.clips), -1, len(words.COLOR_WORDS) + 1)
    looks, cells, depths = 0, 0, 0
    for n, word in enumerate(words_next):
        row, there = int(points.row[n]), shown[n]
        if word in words.COLOR_WORDS:
            looks += 1
            assert words.COLOR_WORDS[int(color[row, there].mean(0)[:-1].argmax())] == word
        if word in words.CELLS and there.any():
            column, line = (int(part) for part in word.removeprefix(" @").split("."))
            cells += 1
            assert place[row, there].unique(dim=0).tolist() == [[column, line]]
        if word in words.DEPTHS and there.any():
            depths += 1
            thing = torch.from_numpy(pieces.thing).view(len(batch.clips), -1)[row, there].unique().tolist()
            assert {int(points.thing[n]), int(batch.listed[0][row, 0])} >= set(thing)
            moments = there.nonzero()[:, 0] // (len(there) // sightings.MOMENT_COUNT)
            assert moments.unique().tolist() == [int(points.moment[n])]
    listed = [turn.completion.split(words.CHOICE)[0].count(")") for turn in batch.clips]
    assert looks == sum(listed)
    assert [word in words.NUMBERS for word in words_next].count(True) == sum(listed)
    for row, count in enumerate(listed):
        whose = [thing for thing, word in zip(points.thing, words_next, strict=True) if word in words.NUMBERS]
        assert whose[sum(listed[:row]) : sum(listed[:row]) + count] == batch.listed[0][row][:count].tolist()
    assert cells > 5 * looks
    assert depths


def test_sides_are_those_of_the_first_thing_of_the_list() -> None:
    """Against the traces, moment by moment."""
    some = [sample for sample in samples() if len(sample.sightings) > 1][:40]
    ids, _ = encoder().given(tuple(Turn(sample.question.text, sample.completion) for sample in some))
    sides = encoder().sides(ids)
    found = iter(zip(sides.row.tolist(), sides.position.tolist(), sides.across, sides.down, strict=True))
    for number, sample in enumerate(some):
        order = words.in_order(sample.question, sample.sightings)
        first, *others = (sample.sightings[index].trace for index in order)
        for trace in others:
            for place, other in zip(trace, first, strict=True):
                if place is None or other is None:
                    continue
                row, position, across, down = next(found)
                assert row == number
                assert (
                    encoder().tokenizer.convert_ids_to_tokens(ids[row, position].item())
                    == words.CELLS[words.cell(place)]
                )
                assert [int(across) - 1, int(down) - 1] == np.sign(np.subtract(place, other)).tolist()
    assert next(found, None) is None


@pytest.mark.parametrize("listening", [False, True])
def test_the_fast_way_through_the_model_is_the_models_own(listening: bool) -> None:
    """From frames and words to logits: as the processor and transformers' forward have it."""
    rng = np.random.default_rng(1)
    torch.manual_seed(0)
    thinker, coder = thinkers.make_thinker(encoder().tokenizer, model.SIZE), encoder()
    sample = scenes.draw_sample(rng, SCENES, listening)
    pieces = pictures.show(sample.staged.scene, np.arange(8))
    wave = rng.normal(0, 0.1, 32_000).astype(np.float32)
    inputs = _as_the_product_asks(coder, sample, pieces, wave if listening else None)
    _, rows, columns = pieces.there.shape
    sounds = Sounds(wave[None], np.zeros(1, np.int64)) if listening else None
    heard = None if sounds is None else model.listen(thinker, coder, sounds)
    turn = Turn(sample.question.text, sample.completion)
    ids, _ = coder.watched((turn,), rows * columns, 0 if heard is None else heard.shape[1])
    assert inputs["input_ids"][0].tolist() == ids[0, : inputs["input_ids"].shape[1]].tolist()
    with torch.no_grad():
        patches = thinkers.pack_patches(torch.from_numpy(pieces.frames), model.PATCH_PX)
        vision = thinkers.see(thinker.visual, patches, (rows * 2, columns * 2))
        embedded = model.embed(thinker, coder, ids, vision, heard)
        hidden = thinkers.read(thinker, embedded, coder.positions(thinker, ids, 1, (rows, columns)))
        fast = thinker.lm_head(hidden[-1])
        thinker.eval()
        own = thinker(**{**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}).logits
    torch.testing.assert_close(fast, own, atol=2e-3, rtol=1e-3)


def _as_the_product_asks(
    coder: Encoder, sample: scenes.Sample, pieces: pictures.Pieces, wave: NDArray[np.float32] | None
) -> dict[str, torch.Tensor]:
    content: list[dict[str, str]] = [{"type": "text", "text": sample.question.text}]
    content += [{"type": "audio", "audio": "sound"}] if wave is not None else []
    content += [{"type": "video", "video": "frames"}]
    turn: Any = [{"role": "user", "content": content}]
    text = coder.processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    frames = torch.from_numpy(pieces.frames.reshape(-1, *pieces.frames.shape[2:])).permute(0, 3, 1, 2)
    # They have the size that larger ones are brought to, and are not to be made larger again.
    size = {"shortest_edge": 1, "longest_edge": MAX_PIXELS}
    video = {"fps": sightings.NOMINAL_FPS, "do_sample_frames": False, "size": size}
    sound: dict[str, Any] = {"audio": [wave]} if wave is not None else {}
    return dict(coder.processor(text=[text], videos=[frames], videos_kwargs=video, return_tensors="pt", **sound))


def test_of_a_given_list_what_follows_from_it_is_learned() -> None:
    sample = next(sample for sample in samples() if sample.question.query.kind is Kind.DIRECTION)
    coder = encoder()
    ids, labels = coder.given((Turn(sample.question.text, sample.completion),))
    learned = coder.tokenizer.decode(labels[0][labels[0] != pictures.NOT_THERE])
    first = sample.sightings[words.in_order(sample.question, sample.sightings)[0]]
    assert learned.startswith(f" since{first.first_moment} v{first.speed} {first.way}")
    listed, after = sample.completion.split(words.CHOICE)
    said = learned.split(chosen(sample.completion))[0].split()
    assert said == [
        word
        for word in listed.split()
        if word.startswith(("since", "v")) or f" {word}" in (*words.WAYS, *words.MARKS, *words.DEPTHS)
    ]
    assert learned.endswith(after + thinkers.END_OF_TURN)
    assert torch.equal(ids[labels != pictures.NOT_THERE], labels[labels != pictures.NOT_THERE])


@pytest.mark.parametrize("kind", [Kind.RELATION, Kind.PASSES_BEHIND])
def test_with_what_a_list_begins_is_learned_from_the_question(kind: Kind) -> None:
    """Of a given list, too: the looks that the question names of what others are set against, and no other looks."""
    coder = encoder()
    sample = next(
        sample
        for sample in samples()
        if sample.question.query.kind is kind
        and words.anchors_of(sample.question, sample.sightings)
        and len(sample.sightings) > 1
    )
    _, labels = coder.given((Turn(sample.question.text, sample.completion),))
    learned = coder.tokenizer.decode(labels[0][labels[0] != pictures.NOT_THERE]).split(chosen(sample.completion))[0]
    look = sample.question.query.look
    assert look is not None
    named = [word for word in (look.color, look.texture, look.shape) if word]
    assert named
    assert learned.split()[: len(named)] == named
    looks = {word.strip() for word in (*words.COLOR_WORDS, *words.SHAPE_WORDS, *words.TEXTURE_WORDS)}
    assert not looks & set(learned.split()[len(named) :])


def test_with_what_a_list_begins_counts_more_where_others_are_set_against_it() -> None:
    """By the gradient of the loss at each look, all of them equally unsure."""
    coder = encoder()
    for relation, times in ((" beside left up", 4), (words.BEHIND, 4), ("", 1)):
        text = f" 1) red plain circle @1.1 no 2) green striped star @2.2{relation} no"
        ids = torch.tensor([coder.tokenizer(text)["input_ids"]])
        gradient, _ = _pushes(coder, ids)
        pushed = (-gradient[0, :-1].gather(1, ids[0, 1:, None])[:, 0]).tolist()
        told = dict(zip(coder.tokenizer.convert_ids_to_tokens(ids[0, 1:]), pushed, strict=True))
        told = {word.replace("Ġ", " ").strip(): push for word, push in told.items()}
        first, second = ([told[word] for word in of] for of in (("red", "plain"), ("green", "striped")))
        assert first == pytest.approx([times * push for push in second])


def test_a_near_place_costs_less_than_a_far_one_and_a_wrong_colour_is_wrong() -> None:
    coder = encoder()
    here, beside, below, far = (coder.cells[words.cell(place)] for place in ((5, 3), (6, 3), (5, 4), (6, 5)))
    near = coder.nearness[here]
    assert near[here] > near[beside] == near[below] > near[far]
    assert near[coder.cells].sum().item() == pytest.approx(1, abs=1e-5)
    red, green = coder.ids(words.COLOR_WORDS[:2])
    assert (coder.nearness[red, red].item(), coder.nearness[red, green].item()) == (1, 0)


@pytest.mark.parametrize(("color", "shape"), SEEN_PAIRS[::5])
def test_no_pair_that_training_never_shows_is_a_rival_of_what_is_said(color: str, shape: str) -> None:
    """By the gradient of the loss: the shape that is never of that colour is not pushed down, nor is the colour that
    the shape never has; all others are."""
    coder = encoder()
    never_shape = next(s for c, s in HELD_OUT_PAIRS if c == color)
    never_color = next(c for c, s in HELD_OUT_PAIRS if s == shape)
    shapes = {f" {never_shape}", f" {Look(shape=never_shape).phrase(plural=True)}"}
    for text, rivals_of in {
        f" the {color} {shape}": {f" {color}": {f" {never_color}"}, f" {shape}": shapes},
        f" {color} plain {shape} since1": {f" {color}": {f" {never_color}"}, f" {shape}": shapes},
        f" all {color} shapes": {},
        f" the plain {shape}": {},
        f" {shape} since1 right yes 2) {color} plain": {},
    }.items():
        ids = torch.tensor([coder.tokenizer(text)["input_ids"]])
        gradient, _ = _pushes(coder, ids)
        for position, word in enumerate(coder.tokenizer.convert_ids_to_tokens(ids[0])):
            if position:
                left = gradient[0, position - 1] == 0
                found = set(coder.tokenizer.convert_ids_to_tokens(left.nonzero()[:, 0]))
                assert found == rivals_of.get(word.replace("Ġ", " "), set()), (text, word)


def test_where_a_thing_has_left_or_has_come_counts_more() -> None:
    """By the gradient of the loss at each place of a trace, all of them equally unsure."""
    coder = encoder()
    trace = [words.CELLS[3], words.CELLS[4], words.NOWHERE, words.NOWHERE, words.CELLS[9], words.CELLS[9]]
    ids = coder.ids(trace)[None]
    gradient, figures = _pushes(coder, ids)
    pushed = -gradient[0, :-1].gather(1, coder.ids(trace[1:])[:, None])[:, 0]
    stays, left, away, come, rests = (pushed / pushed[2]).tolist()
    assert (away, rests) == pytest.approx((1, stays))
    assert (left, come) == pytest.approx((4, 4 * stays))
    assert figures["turn"] == 0


def _pushes(coder: Encoder, ids: torch.Tensor) -> tuple[torch.Tensor, model.Figures]:
    """The gradient (B, L, vocabulary) of the loss of these tokens, all words as likely, and the loss' figures."""
    logits = torch.zeros(*ids.shape, len(coder.tokenizer), requires_grad=True)
    says: Any = SimpleNamespace(lm_head=torch.nn.Identity())
    found = model.completion_loss(says, logits, ids, ids, coder)
    found.total.backward()
    assert logits.grad is not None
    return logits.grad, found.figures


@pytest.mark.parametrize("gray", [False, True])
def test_a_seen_thing_is_no_lesson_against_pairs_that_training_never_shows(gray: bool) -> None:
    coder, heads = encoder(), model.Heads(model.SIZE.width)
    color, shape = HELD_OUT_PAIRS[0][0], HELD_OUT_PAIRS[1][1]
    never_shape, never_color = HELD_OUT_PAIRS[0][1], HELD_OUT_PAIRS[1][0]
    like = pictures.show(SCENES[0].scene, np.asarray([0]))
    seen = replace(
        like, colors=_of(like.colors, list(COLORS).index(color)), shapes=_of(like.shapes, SHAPES.index(shape)),
        textures=_of(like.textures, 0), there=np.ones_like(like.there),
    )  # fmt: skip
    torch.manual_seed(0)
    vision = torch.randn(1, seen.there.size, model.SIZE.width)
    embedding = torch.randn(len(coder.tokenizer), model.SIZE.width, requires_grad=True)
    model.look_loss(heads, vision, embedding, coder, seen, gray=gray).total.backward()
    assert embedding.grad is not None
    taught = {word for word in (*words.COLOR_WORDS, *words.SHAPE_WORDS) if embedding.grad[coder.ids((word,))].any()}
    everything = set(words.SHAPE_WORDS) if gray else {*words.COLOR_WORDS, *words.SHAPE_WORDS}
    assert taught == (everything if gray else everything - {f" {never_shape}", f" {never_color}"})


def _of(shares: NDArray[np.float32], index: int) -> NDArray[np.float32]:
    """Every token 0.6 of that class, and the rest ground."""
    found = np.zeros_like(shares)
    found[..., index], found[..., -1] = 0.6, 0.4
    return found


def test_gray_pieces_are_the_same_without_their_colours() -> None:
    batch = System1Source(3).batch(replace(WHOLE, options={**(WHOLE.options or {}), "gray": 5}), 1)
    assert batch.gray is not None
    assert len(batch.gray.frames) == 5
    for number, frames in enumerate(batch.gray.frames):
        assert (frames == frames[..., :1]).all()
        [which] = [
            n
            for n in range(len(batch.pieces.frames))
            if (batch.gray.shapes[number] == batch.pieces.shapes[n]).all()
            and (batch.gray.offset[number] == batch.pieces.offset[n]).all()
        ]
        # What it shows is still there: each gray is a weighing of the colours.
        colored = batch.pieces.frames[which].reshape(-1, 3).astype(np.float64)
        weighed, residual, *_ = np.linalg.lstsq(
            np.c_[colored, np.ones(len(colored))], frames[..., 0].ravel(), rcond=None
        )
        assert residual[0] / len(colored) < 1
        assert (np.sign(weighed[:3]) == np.sign(weighed[:3].sum())).all()


@pytest.mark.parametrize("seed", range(4))
def test_half_of_a_cut_sounds_where_anything_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asked = [scenes.draw_sample(rng, SCENES, listening=True) for _ in range(6)]
    sounds = hear(rng, asked)
    assert sounds.waves.shape[0] == len(asked)
    assert 2 <= sounds.waves.shape[1] / SAMPLE_RATE <= 8
    loud = (
        np.abs(sounds.waves[:, : sounds.waves.shape[1] // 100 * 100].reshape(len(asked), -1, 100)).max(-1) > 0.08
    ).mean(1)
    silent = sounds.shapes == len(SHAPES)
    assert (loud[silent] < 0.05).all()
    assert (loud[~silent] > 0.2).all()  # clicks and bells are silent in between


def test_the_towers_matrices_go_faster_where_the_phase_says_so() -> None:
    learner = trainee(0, "cpu", EYES)
    _, plain = learner.begin(Phase("plain", 1, 1e-3))
    _, muon = learner.begin(Phase("fast", 1, 1e-3, options={"vision": 3}))
    assert [group["scale"] for group in plain.param_groups] == [1.0]
    slow, fast = muon.param_groups
    assert (slow["scale"], fast["scale"]) == (1.0, 3)
    visual = {id(p) for name, p in learner.modules.named_parameters() if name.startswith("thinker.visual.")}
    assert {id(p) for p in fast["params"]} <= visual
    assert not {id(p) for p in slow["params"]} & visual


def test_a_step_of_each_phase_lowers_the_loss_of_its_batch() -> None:
    learner = trainee(0, "cpu", EYES)
    for phase in (APART, WHOLE):
        batch = learner.source.batch(phase, 1)
        optimizers, losses = learner.begin(phase), []
        for _ in range(4):
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss, _ = learner.loss(phase, 0, batch)
            losses.append(float(loss.detach()))
            torch.autograd.backward(loss)
            for optimizer in optimizers:
                optimizer.step()
        assert losses[-1] < 0.95 * losses[0]


def test_the_checkpoint_is_small_and_has_no_auxiliary_heads(tmp_path: Path) -> None:
    learner = trainee(0, "cpu", EYES)
    learner.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.bfloat16}
    assert not {name for name in weights if "heads" in name}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 5_000_000

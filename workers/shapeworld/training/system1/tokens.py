"""Tokens: System 1's tokenizer, and prompts and completions as batches of token ids, labels and rope positions."""

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from workers.pipeline.prompts import load_template
from workers.shapeworld.training import layers, thinkers
from workers.shapeworld.training.system1 import words
from workers.shapeworld.training.system1.batches import Turn
from workers.shapeworld.training.system1.pictures import NOT_THERE
from workers.shapeworld.training.system1.sightings import FRAME_COUNT, MOMENT_COUNT, NOMINAL_FPS
from workers.shapeworld.world.queries import SIDES
from workers.shapeworld.world.questions import WORDINGS
from workers.shapeworld.world.shapes import COLORS, SHAPES
from workers.shapeworld.world.sound import SAMPLE_RATE
from workers.shapeworld.world.splits import HELD_OUT_PAIRS

#: Bytes and some words of the instructions; all others are pieces.
_VOCABULARY = 480
#: Seconds of sound that the feature extractor takes: the world's longest clip.
AUDIO_MAX_S = 20
#: How far off a value may be and still count a little.
_NEAR_CELL, _NEAR_SPEED = 0.45, 0.6
#: Tokens that decide what is said next count more than those that follow from them.
_HEAVY = 2.0
_HEAVY_WORDS = (
    *words.NUMBERS, *words.COLOR_WORDS, *words.SHAPE_WORDS, *words.MARKS, words.CHOICE, words.LEAVES, *words.DEPTHS,
)  # fmt: skip


def make_tokenizer() -> Any:
    """The words of the instructions and of the completions."""
    texts = [wording for wordings in WORDINGS.values() for wording in wordings]
    texts += [f"the shape {side} of from left to right from top to bottom" for side in SIDES]
    rests = [rest for text in texts * 4 for rest in words.without_pieces(text.replace("{", " ").replace("}", " "))]
    rests += ["user", "assistant", "\n"] * 20
    return thinkers.make_tokenizer(rests, vocabulary=_VOCABULARY, pieces=words.PIECES)


#: Of a pointer: the thing at whichever moment.
ANY_MOMENT = -1


class Pointers(NamedTuple):
    """Positions (row, position) in a batch of lists from which a thing, or the other one, is to be looked at, at a
    moment; all (N,)."""

    row: torch.Tensor
    position: torch.Tensor
    thing: torch.Tensor
    other: torch.Tensor
    moment: torch.Tensor


class Sides(NamedTuple):
    """Positions (row, position) in a batch of lists where a cell is said, and to which side of the list's first thing
    it is at that moment: 0 before, 1 level, 2 after it; all (N,)."""

    row: torch.Tensor
    position: torch.Tensor
    across: torch.Tensor
    down: torch.Tensor


class Encoder:
    """Texts as the model takes them, with the tables of the loss."""

    def __init__(self, max_pixels: int, device: str = "cpu") -> None:
        self._device = device
        self.tokenizer = make_tokenizer()
        self.processor = thinkers.make_processor(
            self.tokenizer, patch_px=8, max_pixels=max_pixels, audio_max_s=AUDIO_MAX_S
        )
        self.video, self.audio = (
            self.tokenizer.convert_tokens_to_ids(name) for name in (thinkers.VIDEO, thinkers.AUDIO)
        )
        self._template = load_template("workers/pipeline/prompts/shapeworld", "system1_vos")
        self._pad = self.tokenizer.pad_token_id
        size = len(self.tokenizer)
        self.nearness = torch.eye(size, device=device)
        self.cells, [self.nowhere] = self.ids(words.CELLS), self.ids((words.NOWHERE,)).tolist()
        rows, columns = (torch.arange(count, device=device) for count in (words.ROW_COUNT, words.COLUMN_COUNT))
        self.cell_places = torch.cartesian_prod(rows, columns)
        self._set_near(self.cells, self.cell_places, _NEAR_CELL)
        # Of each token the cell (row, column) it names.
        self._place = torch.full((size, 2), NOT_THERE, device=device)
        self._place[self.cells] = self.cell_places
        speeds = self.ids(words.SPEED_WORDS)
        self._set_near(speeds, torch.arange(len(speeds), device=device)[:, None], _NEAR_SPEED)
        self._weight = torch.ones(size, device=device)
        self._weight[self.ids(_HEAVY_WORDS)] = _HEAVY
        self.is_choice, self.is_mark, self.is_place, self.is_number, self.is_speed, self.is_depth = torch.zeros(
            6, size, dtype=torch.bool, device=device
        )
        self.is_choice[self.ids((words.CHOICE,))] = True
        self.is_mark[self.ids(words.MARKS)] = True
        self._follows = self.is_mark.clone()
        self._follows[self.ids((*words.SINCE, *words.SPEED_WORDS, *words.WAYS, words.BESIDE, *words.DEPTHS))] = True
        self.is_place[self.cells] = True
        self.is_number[self.ids(words.NUMBERS)] = True
        self.is_speed[speeds] = True
        self.is_depth[self.ids(words.DEPTHS)] = True
        # What sets a thing against the first.
        self._against = self.is_depth.clone()
        self._against[self.ids((words.BESIDE,))] = True
        # Of each token the look it names, alike for one thing and several; -1 for all others.
        self._look = torch.full((size,), -1, device=device)
        looks = (*words.COLOR_WORDS, *words.SHAPE_WORDS, *words.TEXTURE_WORDS)
        self._look[self.ids(looks)] = torch.arange(len(looks), device=device)
        self._look[self.ids(words.PLURALS)] = self._look[self.ids(words.SHAPE_WORDS)]
        self.unpaired = torch.zeros(len(COLORS), len(SHAPES), dtype=torch.bool, device=device)
        for color, shape in HELD_OUT_PAIRS:
            self.unpaired[tuple(COLORS).index(color), SHAPES.index(shape)] = True
        self._color, self._shape = torch.full((2, size), -1, device=device)
        self._color[self.ids(words.COLOR_WORDS)] = torch.arange(len(COLORS), device=device)
        for family in (words.SHAPE_WORDS, words.PLURALS):
            self._shape[self.ids(family)] = torch.arange(len(SHAPES), device=device)
        [self._begin], [self._heard] = (self.ids((word,)).tolist() for word in (words.BEGIN, words.HEARD))

    def _set_near(self, ids: torch.Tensor, places: torch.Tensor, spread: float) -> None:
        apart = (places[:, None] - places).square().sum(-1)
        self.nearness[ids[:, None], ids] = torch.softmax(-apart / (2 * spread**2), -1)

    def named(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L) bool: where a look stands in the list, and where one stands that the instruction names or that is
        heard."""
        look, answered = self._look[ids], (ids == self._begin).cumsum(1) > 0
        after = torch.nn.functional.pad(ids[:, :-1], (1, 0), value=self._pad)
        asks = (look >= 0) & (~answered | (after == self._heard))
        listed = (look >= 0) & answered & (after != self._heard)
        same = look[:, :, None] == look.where(asks, -2)[:, None]
        return listed, listed & same.any(-1)

    def opens(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, L) bool: the looks of the list's first thing, where that is what the others are set against. Of all the
        things that a list could begin with the question alone says which."""
        first = self.is_number[ids].cumsum(1) == 1
        opening: torch.Tensor = (self._look[ids] >= 0) & first & self._against[ids].any(1, keepdim=True)
        return opening

    def is_turn(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """Of tokens and those that follow them: whether a thing is there at one moment and isn't at the other."""
        gone, come = self.is_place[before] & (after == self.nowhere), (before == self.nowhere) & self.is_place[after]
        turned: torch.Tensor = gone | come
        return turned

    def never_paired(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, L, vocabulary) bool: which words would, in place of the colour or shape that stands there, make a pair
        that training never shows with the shape or colour of the same phrase, beside it or with one word between."""
        color, shape = self._color[ids], self._shape[ids]
        pad = torch.nn.functional.pad
        before = [pad(color, (apart, 0), value=-1)[:, : ids.shape[1]] for apart in (1, 2)]
        after = [pad(shape, (0, apart), value=-1)[:, apart:] for apart in (1, 2)]
        its_color = before[0].where(before[0] >= 0, before[1]).where(shape >= 0, -1)
        its_shape = after[0].where(after[0] >= 0, after[1]).where(color >= 0, -1)
        # The last row, and column, of the table: no colour, no shape.
        unpaired = pad(self.unpaired, (0, 1, 0, 1))
        shapes, colors = unpaired[its_color][..., self._shape], unpaired.T[its_shape][..., self._color]
        return shapes | colors

    def pointers(self, ids: torch.Tensor, listed: torch.Tensor, meets: torch.Tensor) -> "Pointers":
        """Where the list (B, L) is about to say something of a thing that can be looked at: its number and its looks,
        at any moment; its cells; and which is in front where it meets the first of the list, at that moment.
        `listed`, `meets` (B, 6): the things in the order of the list, and the moments when they are nearest to the
        first."""
        listing = (ids == self._begin).cumsum(1) * (1 - self.is_choice[ids].cumsum(1)) > 0
        number = self.is_number[ids] & listing
        # Whether there is another thing to be listed is decided before its number is said.
        next_one = torch.nn.functional.pad(number[:, 1:], (0, 1))
        place = number.cumsum(1) - 1 + next_one.long()
        placed = (self.is_place[ids] | (ids == self.nowhere)).cumsum(1) - MOMENT_COUNT * place
        looks = number | next_one
        for _ in range(2):
            looks[:, 1:] |= looks[:, :-1].clone() & ~next_one[:, :-1]
        looks &= listing
        cells = torch.nn.functional.pad(self.is_place[ids[:, 1:]], (0, 1))
        # Questions speak of what is behind something, too.
        depths = torch.nn.functional.pad(self.is_depth[ids[:, 1:]], (0, 1)) & listing
        row, position = (looks | cells | depths).nonzero(as_tuple=True)
        which, meeting = place[row, position], depths[row, position]
        thing = listed[row, which]
        moment = placed[row, position].where(cells[row, position], ANY_MOMENT)
        return Pointers(
            row, position, thing, listed[row, 0].where(meeting, thing), meets[row, which].where(meeting, moment)
        )

    def sides(self, ids: torch.Tensor) -> Sides:
        """What each list (B, L) tells of its things' sides, of all but the first."""
        said = self.is_place[ids] | (ids == self.nowhere)
        row, position = said.nonzero(as_tuple=True)
        number = said.cumsum(1)[row, position] - 1
        cells = torch.full((len(ids), words.THING_COUNT_MAX * MOMENT_COUNT, 2), NOT_THERE, device=ids.device)
        cells[row, number] = self._place[ids[row, position]]
        its, firsts = cells[row, number], cells[row, number % MOMENT_COUNT]
        known = (number >= MOMENT_COUNT) & (its[:, 0] != NOT_THERE) & (firsts[:, 0] != NOT_THERE)
        down, across = ((its - firsts).sign() + 1)[known].unbind(1)
        return Sides(row[known], position[known], across, down)

    def ids(self, family: tuple[str, ...]) -> torch.Tensor:
        """(len(family),) ids of words that are one token each."""
        return torch.tensor(thinkers.token_ids(self.tokenizer, family), device=self._device)

    def weights(self, truth: torch.Tensor) -> torch.Tensor:
        return self._weight[truth]

    @cached_property
    def _around(self) -> list[list[int]]:
        """What comes before the question, after it, before sound, after it, before and after the clip."""
        parts = (
            "<|im_start|>user\n", "<|audio_bos|>", "<|audio_eos|>", "<|vision_bos|>",
            f"<|vision_eos|>{thinkers.END_OF_TURN}\n<|im_start|>assistant\n",
        )  # fmt: skip
        return [self.tokenizer(part)["input_ids"] for part in parts]

    def prompt(self, question: str, video_tokens: int, audio_tokens: int) -> list[int]:
        """The ids of the user's turn, as the processor makes them."""
        begin, listen, heard, look, answer = self._around
        asked = self.tokenizer(self._template.format(instruction=question))["input_ids"]
        sound = [*listen, *[self.audio] * audio_tokens, *heard] if audio_tokens else []
        return [*begin, *asked, *sound, *look, *[self.video] * video_tokens, *answer]

    def _completion(self, text: str) -> list[int]:
        return [*self.tokenizer(text)["input_ids"], self.tokenizer.eos_token_id]

    def watched(
        self, turns: tuple[Turn, ...], tokens_a_piece: int, audio_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L) ids and labels of whole turns; everything of the completion is learned."""
        rows = []
        for turn in turns:
            prompt = self.prompt(turn.question, tokens_a_piece * MOMENT_COUNT, audio_tokens)
            rows.append((prompt, self._completion(turn.completion)))
        return self._stack(rows)

    def given(self, turns: tuple[Turn, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, L) ids and labels of turns without a clip; learned is what follows from the question: with which look the
        list begins; and from the list: of each thing since when it is there, how fast and which way it goes, what it is
        likely to be behind, its mark; the choice and what comes after it."""
        rows = [(self.prompt(turn.question, 0, 0), self._completion(turn.completion)) for turn in turns]
        ids, labels = self._stack(rows)
        chosen = self.is_choice[ids].cumsum(1) - self.is_choice[ids].long() > 0
        _, named = self.named(ids)
        return ids, labels.where(chosen | self._follows[ids] | self.opens(ids) & named, NOT_THERE)

    def _stack(self, rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of a prompt and a completion, padded on the right."""
        length = max(len(prompt) + len(completion) for prompt, completion in rows)
        ids, labels = torch.full((len(rows), length), self._pad), torch.full((len(rows), length), NOT_THERE)
        for row, (prompt, completion) in enumerate(rows):
            end = len(prompt) + len(completion)
            ids[row, :end] = torch.tensor(prompt + completion)
            labels[row, len(prompt) : end] = torch.tensor(completion)
        return ids.to(self._device), labels.to(self._device)

    def positions(self, thinker: Any, ids: torch.Tensor, count: int, grid: tuple[int, int]) -> torch.Tensor:
        """(3, B, L) rope positions of turns with a clip each, by transformers' own rule."""
        rows, columns = grid
        thw = torch.tensor([[MOMENT_COUNT, rows * layers.MERGE, columns * layers.MERGE]], device=ids.device)
        seconds = torch.full((count,), FRAME_COUNT / NOMINAL_FPS / MOMENT_COUNT, device=ids.device)
        audio_tokens = int((ids[0] == self.audio).sum())
        # As many mel frames as give that many tokens: the rule counts tokens.
        lengths = torch.full((count,), audio_tokens * 4, device=ids.device) if audio_tokens else None
        positions, _ = thinker.get_rope_index(
            ids,
            video_grid_thw=thw.expand(count, -1),
            attention_mask=torch.ones_like(ids),
            audio_seqlens=lengths,
            second_per_grids=seconds,
        )
        return torch.as_tensor(positions)

    def features(self, waves: list[NDArray[np.float32]]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 128, frames) log-mel features and their (B, frames) mask."""
        extract = self.processor.feature_extractor
        with torch.autocast("cpu", enabled=False):
            output = extract(
                waves,
                sampling_rate=SAMPLE_RATE,
                return_tensors="pt",
                padding="longest",
                return_attention_mask=True,
            )
        features, mask = torch.as_tensor(output["input_features"]), torch.as_tensor(output["attention_mask"])
        return features.to(self._device), mask.long().to(self._device)

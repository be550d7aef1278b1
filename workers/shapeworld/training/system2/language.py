"""What System 2 is told and what it writes, as token ids: the prompt around a picture, boxes as Qwen's grounding JSON.

A coordinate, and each stretch of the JSON between what changes, is one token: few steps to generate, and nothing to
learn about punctuation.
"""

from collections.abc import Sequence
from functools import cache
from itertools import product

from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer

from workers.pipeline.prompts import load_template
from workers.shapeworld.training.thinkers import END_OF_TURN, IMAGE, make_tokenizer, token_ids
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES
from workers.shapeworld.world.things import Look

PROMPTS = "workers/pipeline/prompts/shapeworld"
#: Coordinates are whole pixels of the resized picture, whose longer side is 176 pixels at most.
COORDINATE_MAX_PX = 176
NOTHING = "[]"
_BEGIN, _AND, _END = '[{"bbox_2d": [', '"}, {"bbox_2d": [', '"}]'
_COMMA, _LABEL = ", ", '], "label": "'
_ASIDE = ", output its bbox coordinates in JSON format."
_VOCABULARY = 380

Box = tuple[int, int, int, int]


def _texts() -> list[str]:
    """What the byte-pair vocabulary is learned from: every word in every place it can have."""
    texts = []
    for color, texture, shape in product((None, *COLORS), (None, *TEXTURES), (None, *SHAPES)):
        look = Look(color, shape, texture)
        texts += [f"Locate the {look.phrase(plural)}" for plural in (False, True)]
        texts += [f"the {look.phrase(plural)}" for plural in (False, True)]
    return [*texts, *["user\n", "assistant\n", "system\n"] * 50]


class Language:
    """The tokenizer and the ids that matter."""

    def __init__(self) -> None:
        numbers = [str(number) for number in range(COORDINATE_MAX_PX + 1)]
        pieces = (_BEGIN, _AND, _END, _COMMA, _LABEL, _ASIDE, NOTHING)
        self.tokenizer: Qwen2Tokenizer = make_tokenizer(
            _texts(), vocabulary=_VOCABULARY, pieces=pieces, numbers=numbers
        )
        self.numbers = token_ids(self.tokenizer, numbers)
        self.colors = token_ids(self.tokenizer, [f" {word}" for word in COLORS])
        self.textures = token_ids(self.tokenizer, [f" {word}" for word in TEXTURES])
        self.shapes = token_ids(self.tokenizer, [f" {word}" for word in SHAPES])
        #: Where the answer chooses: whether there is anything, and whether there is more.
        self.choices = frozenset(token_ids(self.tokenizer, [_BEGIN, _AND, _END, NOTHING]))
        [self.image] = token_ids(self.tokenizer, [IMAGE])
        self._template = load_template(PROMPTS, "system2")
        self._ids = cache(lambda text: tuple(self.tokenizer(text)["input_ids"]))

    def prompt(self, description: str) -> tuple[list[int], list[int]]:
        """The ids before the picture's own tokens, and after them, as the processor makes them of the pipeline's
        prompt."""
        before = f"<|im_start|>user\n{self._template.format(description=description)}<|vision_bos|>"
        return list(self._ids(before)), list(self._ids("<|vision_eos|><|im_end|>\n<|im_start|>assistant\n"))

    def answer(self, boxes: Sequence[Box], label: str) -> list[int]:
        """The ids of `answer_text`, with the end of the turn. Put together from pieces, since no merge crosses them."""
        if not boxes:
            return [*self._ids(NOTHING), *self._ids(END_OF_TURN)]
        ids = list[int]()
        for position, box in enumerate(boxes):
            ids += self._ids(_AND if position else _BEGIN)
            for side, coordinate in enumerate(box):
                ids += [*self._ids(_COMMA), self.numbers[coordinate]] if side else [self.numbers[coordinate]]
            ids += [*self._ids(_LABEL), *self._ids(label)]
        return [*ids, *self._ids(_END), *self._ids(END_OF_TURN)]

    def spans(self, answer: Sequence[int]) -> list[tuple[int, int]]:
        """Where in `answer` each box is written: from its bracket up to the end of its label's beginning."""
        brackets = {*self._ids(_BEGIN), *self._ids(_AND)}
        [label] = self._ids(_LABEL)
        begins = [at for at, token in enumerate(answer) if token in brackets]
        ends = [at + 1 for at, token in enumerate(answer) if token == label]
        return list(zip(begins, ends, strict=True))


def answer_text(boxes: Sequence[Box], label: str) -> str:
    """Qwen2.5-VL's grounding JSON, as `parse_system2` reads it; an empty list says that nothing fits."""
    parts = [f"{_COMMA.join(map(str, box))}{_LABEL}{label}" for box in boxes]
    return f"{_BEGIN}{_AND.join(parts)}{_END}" if parts else NOTHING

"""What System 2 is taught: the answer itself, and, by heads that are thrown away afterwards, the steps towards it.

Each step was found to be needed: vision tokens that say which colour, shape and texture they show *in the language
model's own words*, know their row and column, and, once read beside the description, whether they are meant.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Linear, ModuleDict
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, log_softmax

from workers.shapeworld.training.layers import attention_log_shares
from workers.shapeworld.training.system2.language import COORDINATE_MAX_PX, Language
from workers.shapeworld.training.system2.pictures import CELL_PX
from workers.shapeworld.world.shapes import COLORS, SHAPES, TEXTURES

WORDS = {"color": len(COLORS), "shape": len(SHAPES), "texture": len(TEXTURES)}
_SIDE_CELLS = COORDINATE_MAX_PX // CELL_PX
#: Neighbouring pixels are nearly right: targets for coordinates are bells of this width.
_COORDINATE_SPREAD_PX = 1.5
_CHOICE_WEIGHT = 3.0
#: Index of the layer in which a head is taught where to look.
_LOOKING_LAYER = 2
#: Of the similarities between vision tokens and words before they are compared.
_ALIGNMENT_SCALE = 0.2


def make_heads(width: int) -> ModuleDict:
    """The auxiliary heads on vision tokens (first four) and on the language model's states at their places."""
    looks = {name: Linear(width, 1 + count) for name, count in WORDS.items()}
    places = {"edges": Linear(width, 4), "row": Linear(width, _SIDE_CELLS), "column": Linear(width, _SIDE_CELLS)}
    bins = Linear(width, 4 * (COORDINATE_MAX_PX + 1))
    return ModuleDict({**looks, **places, "meant2": Linear(width, 1), "meant3": Linear(width, 1), "box": bins})


@dataclass(frozen=True, slots=True)
class Dense:
    """What each token of each picture shows: `shown` (B, tokens) bool; `looks` (B, tokens, 3); `boxes_px` (B, tokens,
    4); `centers_px` (tokens, 4) x, y, x, y of the token itself."""

    shown: torch.Tensor
    looks: torch.Tensor
    boxes_px: torch.Tensor
    centers_px: torch.Tensor


def dense(owners: torch.Tensor, looks: torch.Tensor, boxes_px: torch.Tensor, columns: int) -> Dense:
    """From a batch's `owners`, `looks`, `boxes_xyxy_px` and the picture's width in tokens."""
    shown, picture = owners >= 0, torch.arange(len(owners), device=owners.device)[:, None]
    owner = owners.clamp(min=0)
    place = torch.arange(owners.shape[1], device=owners.device)
    center = torch.stack([place % columns, place // columns], -1) * CELL_PX + CELL_PX / 2
    return Dense(shown, looks[picture, owner], boxes_px[picture, owner], center.repeat(1, 2))


def seeing(heads: ModuleDict, tokens: torch.Tensor, truth: Dense) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Which colour, shape, texture (or ground) each vision token shows, and how far the edges of its box are."""
    loss, right = torch.zeros((), device=tokens.device), {}
    for position, name in enumerate(WORDS):
        target = torch.where(truth.shown, truth.looks[..., position] + 1, 0)
        logits = heads[name](tokens).float()
        loss = loss + cross_entropy(logits.flatten(0, 1), target.flatten())
        right[name] = (logits.argmax(-1) == target)[truth.shown].float().mean()
    offsets = (truth.boxes_px - truth.centers_px) / (4 * CELL_PX)
    wrong = (heads["edges"](tokens).float() - offsets)[truth.shown].abs().mean()
    return loss + 2 * wrong, right


def alignment(words: torch.Tensor, language: Language, tokens: torch.Tensor, truth: Dense) -> torch.Tensor:
    """How far what a token shows is from being its likeness with the words' embeddings; `words` is their table."""
    flat, loss = tokens[truth.shown].float(), torch.zeros((), device=tokens.device)
    scale = _ALIGNMENT_SCALE * words.shape[1] ** 0.5
    for position, ids in enumerate((language.colors, language.shapes, language.textures)):
        likeness = flat @ words[ids].float().T * scale
        loss = loss + cross_entropy(likeness, truth.looks[..., position][truth.shown])
    return loss


def placing(heads: ModuleDict, first: torch.Tensor, columns: int) -> torch.Tensor:
    """Whether row and column can be told from the states at the picture's places after the first layer."""
    rows, count, _ = first.shape
    place = torch.arange(count, device=first.device).repeat(rows)
    row, column = heads["row"](first).float(), heads["column"](first).float()
    return cross_entropy(row.flatten(0, 1), place // columns) + cross_entropy(column.flatten(0, 1), place % columns)


def meaning(head: Any, states: torch.Tensor, meant: torch.Tensor) -> torch.Tensor:
    """Whether each place of the picture belongs to what the description means. `meant` (R, tokens) bool."""
    logits = head(states)[..., 0].float()
    return binary_cross_entropy_with_logits(logits, meant.float(), pos_weight=torch.tensor(2.0, device=logits.device))


def looking(
    thinker: Any, hidden: torch.Tensor, position_ids: torch.Tensor, wanted: torch.Tensor, shown: torch.Tensor
) -> torch.Tensor:
    """Whether a head of the third layer, which gets `hidden` (R, L, width), looks at the thing whose box is written.

    `wanted` (R, L) the thing that the next token is about, or -1; `shown` (R, L) the thing that a place shows, or -1.
    Places of a thing that owns no token ask for nothing.
    """
    asks = wanted >= 0
    if not bool(asks.any()):
        return hidden.sum() * 0
    first = int(asks.any(0).nonzero()[0])
    log_shares = attention_log_shares(thinker, _LOOKING_LAYER, hidden, position_ids, 1, first)[:, 0]
    rows, places = asks[:, first:].nonzero(as_tuple=True)
    there = shown[rows] == wanted[rows, places + first][:, None]
    some = there.any(-1)
    if not bool(some.any()):
        return hidden.sum() * 0
    return -log_shares[rows, places].masked_fill(~there, -torch.inf)[some].logsumexp(-1).mean()


def boxing(heads: ModuleDict, states: torch.Tensor, meant: torch.Tensor, boxes_px: torch.Tensor) -> torch.Tensor:
    """The box of the thing at each place that is meant."""
    if not bool(meant.any()):
        return states.sum() * 0
    logits = heads["box"](states[meant]).float().unflatten(-1, (4, -1))
    return -(bells(boxes_px[meant]) * log_softmax(logits, -1)).sum(-1).mean()


def bells(coordinates_px: torch.Tensor) -> torch.Tensor:
    """(..., `COORDINATE_MAX_PX` + 1) probabilities around coordinates."""
    bins = torch.arange(COORDINATE_MAX_PX + 1, device=coordinates_px.device)
    weights = torch.exp(-0.5 * ((bins - coordinates_px[..., None]) / _COORDINATE_SPREAD_PX) ** 2)
    return weights / weights.sum(-1, keepdim=True)


class Answering:
    """The loss of the answer's tokens: bells for coordinates, and more weight where something is decided."""

    def __init__(self, language: Language, device: str) -> None:
        size = len(language.tokenizer)
        self._numbers = torch.tensor(language.numbers, device=device)
        self._value = torch.full((size,), -1, device=device)
        self._value[self._numbers] = torch.arange(len(language.numbers), device=device)
        self._weight = torch.ones(size, device=device)
        self._weight[list(language.choices)] = _CHOICE_WEIGHT

    def __call__(self, logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses of words and of coordinates. `logits` (T, vocabulary), `target` (T,) ids."""
        log_p, value = log_softmax(logits.float(), -1), self._value[target]
        word, number = value < 0, value >= 0
        weight = self._weight[target[word]]
        words = -(log_p[word].gather(1, target[word, None])[:, 0] * weight).sum() / weight.sum()
        if not bool(number.any()):
            return words, words * 0
        aim = bells(value[number].float())
        return words, -(aim * log_p[number][:, self._numbers]).sum(-1).mean()

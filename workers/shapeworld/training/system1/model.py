"""System 1 as it is trained: the Thinker, its tokenizer, the auxiliary heads, and the losses.

The heads say early in the network what the list will have to say, and are dropped from the checkpoint: what is in a
token is told by the likeness to the language model's own words; where and when it is, by small linear heads.
"""

from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch.nn import functional

from workers.shapeworld.training import layers, thinkers
from workers.shapeworld.training.system1 import sightings, words
from workers.shapeworld.training.system1.batches import Batch, Sounds, Turn
from workers.shapeworld.training.system1.pictures import NOT_THERE, TOKEN_PX, Pieces
from workers.shapeworld.training.system1.tokens import ANY_MOMENT, Encoder, Pointers
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.shapes import SHAPES

PATCH_PX = 8
SIZE = thinkers.ThinkerSize(
    width=128, layers=4, feed_forward=256, rope_theta=10_000.0, mrope_section=(*[1] * 9, 7), vision_width=96,
    vision_layers=3, patch_px=PATCH_PX, audio_width=64, initializer_range=0.06, vision_begins_alike=True,
    position_id_per_seconds=2,
)  # fmt: skip
_FAMILIES = (words.COLOR_WORDS, words.SHAPE_WORDS, words.TEXTURE_WORDS)
#: The heads that learn to look where the list speaks of, and their layer.
_POINTING_LAYER, _POINTING_HEADS = 2, 2
#: Radians a cell of the waves that cells' embeddings begin with.
_CELL_WAVES = 0.7
#: How much more a token counts where something is in it than where there is ground alone.
_THERE_WEIGHT = 3.0
#: How much more the place counts at which a thing has left, or has come: the next would be that of some other thing.
_TURN_WEIGHT = 4.0
#: How much more the first thing of a list counts that others are set against: one look of a hundred tokens, and without
#: the right one no relation comes out right.
_OPENING_WEIGHT = 4.0
#: The logit of what is no rival.
NO_RIVAL = -1e4

Figures = dict[str, float]


class Losses(NamedTuple):
    total: torch.Tensor
    figures: Figures


class Heads(torch.nn.Module):
    """Auxiliary heads; `width` is that of the vision tokens and of the language model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ground = torch.nn.Parameter(torch.randn(len(_FAMILIES), width) * 0.06)
        self.scale = torch.nn.Parameter(torch.full((len(_FAMILIES),), 2.0))
        self.motion = torch.nn.Linear(width, 4)
        side = TOKEN_PX // sightings.PLACE_PX
        self.token_row = torch.nn.Linear(width, words.ROW_COUNT // side)
        self.token_column = torch.nn.Linear(width, words.COLUMN_COUNT // side)
        self.moment = torch.nn.Linear(width, sightings.MOMENT_COUNT)
        self.column = torch.nn.Linear(width, words.COLUMN_COUNT)
        self.row = torch.nn.Linear(width, words.ROW_COUNT)
        self.timbre = torch.nn.Linear(width, len(SHAPES) + 1)
        self.named = torch.nn.Linear(width, 1)
        self.across = torch.nn.Linear(width, 3)
        self.down = torch.nn.Linear(width, 3)


def begin_cells(thinker: Any, encoder: Encoder, seed: int) -> None:
    """Cells that are near each other begin alike: random waves over the picture, as long as a few cells."""
    draw = torch.Generator().manual_seed(seed)
    way = torch.randn(2, SIZE.width, generator=draw) * _CELL_WAVES
    phase = torch.rand(SIZE.width, generator=draw) * 2 * torch.pi
    waves = torch.cos(encoder.cell_places.cpu().float() @ way + phase)
    with torch.no_grad():
        begun = waves * 2**0.5 * SIZE.initializer_range
        thinker.model.embed_tokens.weight[encoder.cells] = begun.to(encoder.cells.device)


def look_loss(
    heads: Heads, vision: torch.Tensor, embedding: torch.Tensor, encoder: Encoder, pieces: Pieces, *, gray: bool = False
) -> Losses:
    """What the vision tokens (P, tokens, width) say of colours, shapes, textures and motion, against the truth.

    The first three are divergences from the shares of the token's area; 0 is perfect. Where a colour is, the shape that
    training never shows in it is no rival of the others, nor is its colour where a shape is: else it would be learned
    that there is no such thing. In `gray` nothing is asked of colours, and all shapes are rivals.
    """
    total, figures = vision.new_zeros(()), Figures()
    truths = (pieces.colors, pieces.shapes, pieces.textures)
    colors, shapes, _ = shares = [_on(vision, truth).flatten(0, 2) for truth in truths]
    unpaired = encoder.unpaired.float()
    absurd = (shapes[:, :-1] @ unpaired.T > 0, colors[:, :-1] @ unpaired > 0, None)
    there = _on(vision, pieces.there).flatten()
    for family, name in enumerate(("color", "shape", "texture")):
        if gray and name == "color":
            continue
        known = torch.cat([embedding[encoder.ids(_FAMILIES[family])], heads.ground[family, None]])
        logits = (vision.flatten(0, 1) @ known.T).float() * heads.scale[family]
        share, no_rival = shares[family], absurd[family]
        if no_rival is not None and not gray:
            logits = logits.masked_fill(functional.pad(no_rival & (share[:, :-1] == 0), (0, 1)), NO_RIVAL)
        weight = 1 + _THERE_WEIGHT * (1 - share[:, -1])
        divergence = (share * (share.clamp_min(1e-6).log() - logits.log_softmax(-1))).sum(-1)
        total = total + (divergence * weight).sum() / weight.sum()
        right = (logits[there, :-1].argmax(-1) == share[there, :-1].argmax(-1)).float()
        figures[name] = float(right.mean())
    way = torch.cat([_on(vision, pieces.offset), _on(vision, pieces.moved) * 2], -1).flatten(0, 2)
    motion = functional.smooth_l1_loss(heads.motion(vision.flatten(0, 1))[there].float(), way[there], beta=0.1)
    return Losses(total + 2 * motion, figures | {"motion": float(motion.detach())})


def place_loss(heads: Heads, hidden: tuple[torch.Tensor, ...], pieces: Pieces) -> torch.Tensor:
    """Of video tokens (B * 8 * R * C, width) after the language model's first and second layer: where the token is
    (row, column, moment), and where its thing is as the list says it."""
    count, rows, columns = pieces.there.shape
    piece, row, column = torch.meshgrid(*(torch.arange(n) for n in (count, rows, columns)), indexing="ij")
    row, column, moment = (
        part.flatten().to(hidden[0].device) for part in (row, column, piece % sightings.MOMENT_COUNT)
    )
    pairs = [
        (heads.token_row(hidden[1]), row),
        (heads.token_column(hidden[1]), column),
        (heads.moment(hidden[1]), moment),
    ]
    place, there = _on(hidden[0], pieces.place).flatten(0, 2), _on(hidden[0], pieces.there).flatten()
    for axis, head in enumerate((heads.column, heads.row)):
        pairs.append((head(hidden[2]), place[:, axis].where(there, NOT_THERE)))
    return torch.stack([functional.cross_entropy(logits.float(), truth) for logits, truth in pairs]).sum()


def point_loss(
    thinker: Any, hidden: torch.Tensor, positions: torch.Tensor, ids: torch.Tensor, encoder: Encoder, batch: Batch
) -> Losses:
    """Whether some heads of the third layer look at the thing, at the moment, of which the list is about to speak.

    `hidden` (B, L, width) after the second layer. The loss is the negative logarithm of the attention's share that
    falls on the right video tokens.
    """
    assert batch.listed is not None
    points = encoder.pointers(ids, *(_on(ids, table) for table in batch.listed))
    right = _shows(batch.pieces, points)
    first = int(points.position.min())
    shares = layers.attention_log_shares(thinker, _POINTING_LAYER, hidden, positions, _POINTING_HEADS, first)
    video = (ids == encoder.video).int().argmax(1)[points.row, None] + torch.arange(right.shape[1], device=ids.device)
    at = shares[points.row[:, None], :, points.position[:, None] - first, video]  # (N, video tokens, heads)
    share = at.masked_fill(~right[..., None], -torch.inf)[right.any(1)].logsumexp(1)
    return Losses(-share.mean(), {"point": float(share.detach().exp().mean())})


def _shows(pieces: Pieces, points: Pointers) -> torch.Tensor:
    """(N, video tokens) bool: which video tokens show the thing at the moment."""
    clips = len(pieces.thing) // sightings.MOMENT_COUNT
    thing = _on(points.row, pieces.thing).view(clips, -1)[points.row]
    there = _on(points.row, pieces.there).view(clips, -1)[points.row]
    moment = torch.arange(thing.shape[1], device=thing.device) // (thing.shape[1] // sightings.MOMENT_COUNT)
    when = (moment == points.moment[:, None]) | (points.moment == ANY_MOMENT)[:, None]
    meant = (thing == points.thing[:, None]) | (thing == points.other[:, None])
    return there & meant & when


def hear_loss(heads: Heads, heard: torch.Tensor, sounds: Sounds) -> Losses:
    """Whether each sound's tokens (B, tokens, width) together tell its timbre."""
    logits, truth = heads.timbre(heard.mean(1)).float(), _on(heard, sounds.shapes)
    return Losses(
        functional.cross_entropy(logits, truth), {"timbre": float((logits.argmax(-1) == truth).float().mean())}
    )


def listen(thinker: Any, encoder: Encoder, sounds: Sounds) -> torch.Tensor:
    """(B, tokens, width) of sounds of one length."""
    features, mask = encoder.features(list(sounds.waves))
    output = thinker.get_audio_features(features, feature_attention_mask=mask, return_dict=True)
    tokens: torch.Tensor = output.last_hidden_state.view(features.shape[0], -1, SIZE.width)
    return tokens


def completion_loss(
    thinker: Any, last: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, encoder: Encoder
) -> Losses:
    """Of the hidden states (B, L, width) the tokens (B, L) that come next, by the encoder's weights and nearness. A
    word that would make a pair of colour and shape that training never shows is no rival of those that don't."""
    follows = labels[:, 1:]
    asked = follows != NOT_THERE
    truth = follows[asked]
    logits = thinker.lm_head(last[:, :-1][asked]).float()
    logits = logits.masked_fill(encoder.never_paired(ids)[:, 1:][asked], NO_RIVAL)
    weight = encoder.weights(truth)
    loss = -(encoder.nearness[truth] * logits.log_softmax(-1)).sum(-1)
    before = ids[:, :-1][asked]
    chosen, turned = encoder.is_choice[before], encoder.is_turn(before, truth)
    right = logits.argmax(-1) == truth
    opened = encoder.opens(ids)[:, 1:][asked]
    weight = weight * torch.where(chosen, 4.0, 1.0) * torch.where(turned, _TURN_WEIGHT, 1.0)
    weight = weight * torch.where(opened, _OPENING_WEIGHT, 1.0)
    where = {"choice": chosen, "turn": turned, "opening": opened, "mark": encoder.is_mark[truth]}
    where["place"] = encoder.is_place[truth]
    where["depth"] = encoder.is_depth[truth]
    where["nowhere"], where["speed"] = truth == encoder.nowhere, encoder.is_speed[truth]
    figures = {name: float(right[some].float().mean()) for name, some in where.items() if some.any()}
    figures["token"] = float(right.float().mean())
    return Losses((loss * weight).sum() / weight.sum(), figures)


def named_loss(heads: Heads, hidden: torch.Tensor, ids: torch.Tensor, encoder: Encoder) -> Losses:
    """Whether the instruction, or what is heard, names the look that stands in the list: of the hidden states (B, L,
    width) after the second layer. Comparing the two is the first step of every choice by looks."""
    listed, named = encoder.named(ids)
    logits = heads.named(hidden[listed])[:, 0].float()
    truth = named[listed].float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    return Losses(loss, {"named": float(((logits > 0) == (truth > 0)).float().mean())})


def side_loss(heads: Heads, hidden: torch.Tensor, ids: torch.Tensor, encoder: Encoder) -> Losses:
    """To which side of the list's first thing each other is, by the hidden states (B, L, width) after the second layer.
    Comparing places is the first step of every relation, and any list teaches it."""
    sides = encoder.sides(ids)
    if not len(sides.row):
        return Losses(hidden.new_zeros(()), {})
    states = hidden[sides.row, sides.position]
    pairs = ((heads.across(states).float(), sides.across), (heads.down(states).float(), sides.down))
    right = torch.stack([(logits.argmax(-1) == truth).float().mean() for logits, truth in pairs])
    loss = torch.stack([functional.cross_entropy(logits, truth) for logits, truth in pairs])
    return Losses(loss.mean(), {"side": float(right.mean())})


def compare_loss(heads: Heads, hidden: torch.Tensor, ids: torch.Tensor, encoder: Encoder) -> Losses:
    """What a choice begins with: `named_loss` and `side_loss`, of the hidden states after the second layer."""
    named, side = named_loss(heads, hidden, ids, encoder), side_loss(heads, hidden, ids, encoder)
    return Losses(named.total + side.total, named.figures | side.figures)


def read_turns(thinker: Any, heads: Heads, encoder: Encoder, turns: tuple[Turn, ...], match: float = 0.0) -> Losses:
    """The choice and the answer where the list is given; no clip is looked at. `match`: the weight of
    `compare_loss`."""
    ids, labels = encoder.given(turns)
    positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
    begin = _said_from(labels)
    hidden = thinkers.read(thinker, thinker.model.embed_tokens(ids), positions, begin)
    said = completion_loss(thinker, hidden[-1], ids[:, begin:], labels[:, begin:], encoder)
    if not match:
        return said
    compared = compare_loss(heads, hidden[2], ids, encoder)
    return Losses(said.total + match * compared.total, said.figures | compared.figures)


def _said_from(labels: torch.Tensor) -> int:
    """The position before the first that is asked for in any row."""
    return int((labels != NOT_THERE).any(0).int().argmax()) - 1


def embed(
    thinker: Any, encoder: Encoder, ids: torch.Tensor, vision: torch.Tensor, heard: torch.Tensor | None
) -> torch.Tensor:
    """(B, L, width) of token ids, with what is seen and heard in its places."""
    embedded: torch.Tensor = thinker.model.embed_tokens(ids)
    embedded = embedded.masked_scatter((ids == encoder.video)[..., None], vision.to(embedded.dtype))
    if heard is not None:
        embedded = embedded.masked_scatter((ids == encoder.audio)[..., None], heard.to(embedded.dtype))
    return embedded


def look(thinker: Any, heads: Heads, encoder: Encoder, batch: Batch) -> Losses:
    """What single pieces and sounds are, told by the towers alone."""
    _, (total, figures) = look_at(thinker, heads, encoder, batch)
    for sounds in (batch.sounds, batch.drill):
        if sounds is not None:
            timbre = hear_loss(heads, listen(thinker, encoder, sounds), sounds)
            total, figures = total + timbre.total, figures | timbre.figures
    return Losses(total, figures)


def look_at(thinker: Any, heads: Heads, encoder: Encoder, batch: Batch) -> tuple[torch.Tensor, Losses]:
    """The vision tokens (P, tokens, width) of the batch's pieces, and what they say; with what those without colours
    say, in which shapes are to be told by themselves."""
    embedding, vision = thinker.model.embed_tokens.weight, _see(thinker, batch.pieces)
    seen = look_loss(heads, vision, embedding, encoder, batch.pieces)
    if batch.gray is None:
        return vision, seen
    gray = look_loss(heads, _see(thinker, batch.gray), embedding, encoder, batch.gray, gray=True)
    figures = {f"gray_{name}": value for name, value in gray.figures.items()}
    return vision, Losses(seen.total + gray.total, seen.figures | figures)


def watch(thinker: Any, heads: Heads, encoder: Encoder, batch: Batch, phase: Phase) -> Losses:
    """All losses of whole clips; phase options "match" and "point" weigh `compare_loss` and `point_loss`."""
    pieces, count = batch.pieces, len(batch.clips)
    _, rows, columns = pieces.there.shape
    vision, (total, figures) = look_at(thinker, heads, encoder, batch)
    heard = None if batch.sounds is None else listen(thinker, encoder, batch.sounds)
    drilled = None if batch.drill is None else listen(thinker, encoder, batch.drill)
    for sounds, tokens in ((batch.sounds, heard), (batch.drill, drilled)):
        if sounds is not None and tokens is not None:
            timbre = hear_loss(heads, tokens, sounds)
            total, figures = total + 0.5 * timbre.total, figures | timbre.figures
    ids, labels = encoder.watched(batch.clips, rows * columns, 0 if heard is None else heard.shape[1])
    positions = encoder.positions(thinker, ids, count, (rows, columns))
    begin = _said_from(labels)
    hidden = thinkers.read(thinker, embed(thinker, encoder, ids, vision, heard), positions, begin)
    place = place_loss(heads, tuple(state[ids == encoder.video] for state in hidden[:3]), pieces)
    said = completion_loss(thinker, hidden[-1], ids[:, begin:], labels[:, begin:], encoder)
    figures = figures | said.figures | {"said": float(said.total.detach()), "where": float(place.detach())}
    total = total + said.total + 0.1 * place
    if phase.option("match"):
        compared = compare_loss(heads, hidden[2], ids, encoder)
        total, figures = total + phase.option("match") * compared.total, figures | compared.figures
    if phase.option("point"):
        point = point_loss(thinker, hidden[2], positions, ids, encoder, batch)
        total, figures = total + phase.option("point") * point.total, figures | point.figures
    return Losses(total, figures)


def _see(thinker: Any, pieces: Pieces) -> torch.Tensor:
    """(P, tokens, width)"""
    _, rows, columns = pieces.there.shape
    patches = thinkers.pack_patches(torch.from_numpy(pieces.frames).to(thinker.device), PATCH_PX)
    return thinkers.see(thinker.visual, patches, (rows * layers.MERGE, columns * layers.MERGE))


def _on(other: torch.Tensor, array: NDArray[Any]) -> torch.Tensor:
    """The array on the device of the other."""
    return torch.from_numpy(array).to(other.device)

"""System 1 as it is trained: the Thinker, its tokenizer, the auxiliary heads, and the losses.

The heads say early in the network what the list will have to say, and are dropped from the checkpoint: what is in a
token is told by the likeness to the language model's own words; where and when it is, by small linear heads.
"""

from typing import Any, NamedTuple

import torch
from torch.nn import functional

from workers.shapeworld.training import layers, thinkers
from workers.shapeworld.training.system1 import sightings, words
from workers.shapeworld.training.system1.batches import Batch, Sounds, Turn
from workers.shapeworld.training.system1.pictures import NOT_THERE, Pieces
from workers.shapeworld.training.system1.tokens import Encoder
from workers.shapeworld.training.trainee import Phase
from workers.shapeworld.world.shapes import SHAPES

PATCH_PX = 8
SIZE = thinkers.ThinkerSize(
    width=128, layers=4, feed_forward=256, rope_theta=100.0, mrope_section=(6, 5, 5), vision_width=96, vision_layers=3,
    patch_px=PATCH_PX, audio_width=64, initializer_range=0.06, position_id_per_seconds=2,
)  # fmt: skip
_FAMILIES = (words.COLOR_WORDS, words.SHAPE_WORDS, words.TEXTURE_WORDS)
#: How much more a token counts where something is in it than where there is ground alone.
_THERE_WEIGHT = 3.0

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
        self.token_row, self.token_column = torch.nn.Linear(width, 5), torch.nn.Linear(width, 5)
        self.moment = torch.nn.Linear(width, sightings.MOMENT_COUNT)
        self.x, self.y = torch.nn.Linear(width, len(words.XS)), torch.nn.Linear(width, len(words.YS))
        self.timbre = torch.nn.Linear(width, len(SHAPES) + 1)
        self.named = torch.nn.Linear(width, 1)
        sizes = (len(words.FRAMES), len(words.XS), len(words.YS))
        self.first_sight = torch.nn.ModuleList(torch.nn.Linear(width, size) for size in sizes)


def look_loss(heads: Heads, vision: torch.Tensor, embedding: torch.Tensor, encoder: Encoder, pieces: Pieces) -> Losses:
    """What the vision tokens (P, tokens, width) say of colours, shapes, textures and motion, against the truth.

    The first three are divergences from the shares of the token's area; 0 is perfect.
    """
    total, figures = vision.new_zeros(()), Figures()
    truths = (pieces.colors, pieces.shapes, pieces.textures)
    there = torch.from_numpy(pieces.there).flatten()
    for family, (name, truth) in enumerate(zip(("color", "shape", "texture"), truths, strict=True)):
        known = torch.cat([embedding[encoder.ids(_FAMILIES[family])], heads.ground[family, None]])
        logits = (vision.flatten(0, 1) @ known.T).float() * heads.scale[family]
        share = torch.from_numpy(truth).flatten(0, 2)
        weight = 1 + _THERE_WEIGHT * (1 - share[:, -1])
        divergence = (share * (share.clamp_min(1e-6).log() - logits.log_softmax(-1))).sum(-1)
        total = total + (divergence * weight).sum() / weight.sum()
        right = (logits[there, :-1].argmax(-1) == share[there, :-1].argmax(-1)).float()
        figures[name] = float(right.mean())
    way = torch.cat([torch.from_numpy(pieces.offset), torch.from_numpy(pieces.moved) * 2], -1).flatten(0, 2)
    motion = functional.smooth_l1_loss(heads.motion(vision.flatten(0, 1))[there].float(), way[there], beta=0.1)
    return Losses(total + 2 * motion, figures | {"motion": float(motion.detach())})


def place_loss(heads: Heads, hidden: tuple[torch.Tensor, ...], pieces: Pieces) -> torch.Tensor:
    """Of video tokens (B * 8 * R * C, width) after the language model's first and second layer: where the token is
    (row, column, moment), and where its thing is as the list says it."""
    count, rows, columns = pieces.there.shape
    row = torch.arange(rows)[:, None].expand(count, rows, columns).flatten()
    column = torch.arange(columns).expand(count, rows, columns).flatten()
    moment = (torch.arange(count) % sightings.MOMENT_COUNT)[:, None, None].expand(count, rows, columns).flatten()
    pairs = [
        (heads.token_row(hidden[1]), row),
        (heads.token_column(hidden[1]), column),
        (heads.moment(hidden[1]), moment),
    ]
    place = torch.from_numpy(pieces.place).flatten(0, 2)
    there = torch.from_numpy(pieces.there).flatten()
    for axis, head in enumerate((heads.x, heads.y)):
        pairs.append((head(hidden[2]), place[:, axis].where(there, NOT_THERE)))
    return torch.stack([functional.cross_entropy(logits.float(), truth) for logits, truth in pairs]).sum()


def track_loss(heads: Heads, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Of video tokens (B * 8 * R * C, width) after the third layer: when and where the token's thing was seen first,
    which takes following it through the clip."""
    pieces = batch.pieces
    assert batch.first_sights is not None
    clip = torch.arange(pieces.thing.shape[0])[:, None, None] // sightings.MOMENT_COUNT
    truth = torch.from_numpy(batch.first_sights)[clip, torch.from_numpy(pieces.thing)].flatten(0, 2)
    there = torch.from_numpy(pieces.there).flatten()
    losses = [
        functional.cross_entropy(head(hidden[there]).float(), truth[there, axis])
        for axis, head in enumerate(heads.first_sight)
    ]
    return torch.stack(losses).sum()


def hear_loss(heads: Heads, heard: torch.Tensor, sounds: Sounds) -> Losses:
    """Whether each sound's tokens (B, tokens, width) together tell its timbre."""
    logits, truth = heads.timbre(heard.mean(1)).float(), torch.from_numpy(sounds.shapes)
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
    thinker: Any, last: torch.Tensor, ids: torch.Tensor, labels: torch.Tensor, encoder: Encoder, rare: float = 1.0
) -> Losses:
    """Of the hidden states (B, L, width) the tokens (B, L) that come next, by the encoder's weights and nearness.

    `rare`: how much more a time counts that isn't the clip's first or last frame, which most things have.
    """
    follows = labels[:, 1:]
    asked = follows != NOT_THERE
    truth = follows[asked]
    logits = thinker.lm_head(last[:, :-1][asked]).float()
    weight = encoder.weights(truth)
    loss = -(encoder.nearness[truth] * logits.log_softmax(-1)).sum(-1)
    chosen = encoder.is_choice[ids[:, :-1][asked]]
    right = logits.argmax(-1) == truth
    late = encoder.is_late[truth]
    weight = weight * torch.where(chosen, 4.0, 1.0) * torch.where(late, rare, 1.0)
    figures = {
        "choice": float(right[chosen].float().mean()),
        "mark": float(right[encoder.is_mark[truth]].float().mean()),
        "token": float(right.float().mean()),
        "late": float(right[late].float().mean()) if late.any() else 0.0,
    }
    return Losses((loss * weight).sum() / weight.sum(), figures)


def named_loss(heads: Heads, hidden: torch.Tensor, ids: torch.Tensor, encoder: Encoder) -> Losses:
    """Whether the instruction, or what is heard, names the look that stands in the list: of the hidden states (B, L,
    width) after the second layer. Comparing the two is the first step of every choice by looks."""
    listed, named = encoder.named(ids)
    logits = heads.named(hidden[listed])[:, 0].float()
    truth = named[listed].float()
    loss = functional.binary_cross_entropy_with_logits(logits, truth)
    return Losses(loss, {"named": float(((logits > 0) == (truth > 0)).float().mean())})


def read_turns(thinker: Any, heads: Heads, encoder: Encoder, turns: tuple[Turn, ...], match: float = 0.0) -> Losses:
    """The choice and the answer where the list is given; no clip is looked at. `match`: the weight of `named_loss`."""
    ids, labels = encoder.given(turns)
    positions = torch.arange(ids.shape[1]).expand(3, *ids.shape)
    hidden = thinkers.read(thinker, thinker.model.embed_tokens(ids), positions)
    said = completion_loss(thinker, hidden[-1], ids, labels, encoder)
    if not match:
        return said
    named = named_loss(heads, hidden[2], ids, encoder)
    return Losses(said.total + match * named.total, said.figures | named.figures)


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
    vision = _see(thinker, batch.pieces)
    losses = look_loss(heads, vision, thinker.model.embed_tokens.weight, encoder, batch.pieces)
    total, figures = losses.total, losses.figures
    for sounds in (batch.sounds, batch.drill):
        if sounds is not None:
            timbre = hear_loss(heads, listen(thinker, encoder, sounds), sounds)
            total, figures = total + timbre.total, figures | timbre.figures
    return Losses(total, figures)


def watch(thinker: Any, heads: Heads, encoder: Encoder, batch: Batch, phase: Phase) -> Losses:
    """All losses of whole clips. Phase options: "match" and "track" are the weights of `named_loss` and `track_loss`,
    "rare" is that of times within the clip."""
    pieces, count = batch.pieces, len(batch.clips)
    _, rows, columns = pieces.there.shape
    vision = _see(thinker, pieces)
    total, figures = look_loss(heads, vision, thinker.model.embed_tokens.weight, encoder, pieces)
    heard = None if batch.sounds is None else listen(thinker, encoder, batch.sounds)
    drilled = None if batch.drill is None else listen(thinker, encoder, batch.drill)
    for sounds, tokens in ((batch.sounds, heard), (batch.drill, drilled)):
        if sounds is not None and tokens is not None:
            timbre = hear_loss(heads, tokens, sounds)
            total, figures = total + 0.5 * timbre.total, figures | timbre.figures
    ids, labels = encoder.watched(batch.clips, rows * columns, 0 if heard is None else heard.shape[1])
    positions = encoder.positions(thinker, ids, count, (rows, columns))
    hidden = thinkers.read(thinker, embed(thinker, encoder, ids, vision, heard), positions)
    place = place_loss(heads, tuple(state[ids == encoder.video] for state in hidden[:3]), pieces)
    said = completion_loss(thinker, hidden[-1], ids, labels, encoder, phase.option("rare", 1.0))
    figures = figures | said.figures | {"said": float(said.total.detach()), "place": float(place.detach())}
    total = total + said.total + 0.1 * place
    if phase.option("match"):
        named = named_loss(heads, hidden[2], ids, encoder)
        total, figures = total + phase.option("match") * named.total, figures | named.figures
    if phase.option("track"):
        track = track_loss(heads, hidden[3][ids == encoder.video], batch)
        total, figures = total + phase.option("track") * track, figures | {"track": float(track.detach())}
    return Losses(total, figures)


def _see(thinker: Any, pieces: Pieces) -> torch.Tensor:
    """(P, tokens, width)"""
    _, rows, columns = pieces.there.shape
    patches = thinkers.pack_patches(torch.from_numpy(pieces.frames), PATCH_PX)
    return thinkers.see(thinker.visual, patches, (rows * layers.MERGE, columns * layers.MERGE))

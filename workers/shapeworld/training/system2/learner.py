"""System 2 in training: first the eyes alone, then everything together, several questions about one look."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import ModuleDict

from workers.shapeworld.training.layers import MERGE
from workers.shapeworld.training.optimizers import autocast, make_optimizers
from workers.shapeworld.training.system2 import losses
from workers.shapeworld.training.system2.batches import MAX_PIXELS, Batch, Pictures
from workers.shapeworld.training.system2.language import Box, Language
from workers.shapeworld.training.system2.pictures import CELL_PX, Asked
from workers.shapeworld.training.system2.validation import validate
from workers.shapeworld.training.thinkers import (
    ThinkerSize,
    make_processor,
    make_thinker,
    pack_patches,
    read,
    save_checkpoint,
    see,
)
from workers.shapeworld.training.trainee import Figures, Phase, Trainee

#: Rope with a long period and seven of sixteen frequencies that all of a picture's tokens share: with a shorter one, or
#: without those, looks and places mix and a third of the answers stays wrong.
SIZE = ThinkerSize(
    width=96, layers=4, feed_forward=288, rope_theta=1000.0, mrope_section=(*[1] * 9, 7), vision_width=96,
    vision_layers=3, patch_px=CELL_PX // MERGE, vision_initializer_range=0.06, vision_begins_alike=True,
)  # fmt: skip
#: At 1 shapes are learned at less than half the pace.
_MUON_SCALE = 2.5
_ASKING = {"pictures": 32, "questions": 3, "scenes": 2}
_SEVERAL = _ASKING | {"later": 0, "several": 0.4}
PHASES = (
    Phase("see", steps=1000, learning_rate=2e-3, decay=0.2, options={"pictures": 32, "scenes": 2}),
    Phase("ground", steps=2100, learning_rate=2e-3, decay=0.6, options=_ASKING | {"later": 1250}),
    Phase("several", steps=1500, learning_rate=1.5e-3, warmup=50, decay=1, options=_SEVERAL),
    Phase("one-by-one", steps=2500, learning_rate=2e-3, warmup=50, decay=1, options=_SEVERAL | {"looking": 0.2}),
)
_WEIGHTS = {"see": 1.0, "align": 0.5, "place": 0.3, "meant": 1.0, "box": 0.5}


@dataclass(frozen=True, slots=True)
class _Rows:
    """Questions as token ids, padded on the right. `pictures` (R,) of which each asks; `ids`, `targets` (R, L), targets
    -100 where nothing is to be written; `position_ids` (3, R, L); `meant` (R, things); `wanted` (R, L) the thing whose
    box the next token is part of, or -1."""

    pictures: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    position_ids: torch.Tensor
    meant: torch.Tensor
    wanted: torch.Tensor


class System2Trainee(Trainee):
    def __init__(self, seed: int, device: str, phases: tuple[Phase, ...] = PHASES) -> None:
        torch.manual_seed(seed)
        self._device, self.phases = device, phases
        self.source = Pictures(seed, phases)
        self._language = Language()
        self._thinker = make_thinker(self._language.tokenizer, SIZE)
        _order_numbers(self._thinker, self._language)
        self.modules = ModuleDict({"thinker": self._thinker, "heads": losses.make_heads(SIZE.width)}).to(device)
        self._heads: ModuleDict = self.modules["heads"]  # type: ignore[assignment]
        self._answering = losses.Answering(self._language, device)
        self._processor = make_processor(self._language.tokenizer, patch_px=SIZE.patch_px, max_pixels=MAX_PIXELS)

    def begin(self, phase: Phase) -> list[torch.optim.Optimizer]:
        self._thinker.requires_grad_(phase.name != "see")
        self._thinker.visual.requires_grad_(True)
        self._thinker.get_input_embeddings().requires_grad_(True)
        return make_optimizers(self._thinker, self._heads, muon_scale=_MUON_SCALE)

    def loss(self, phase: Phase, step: int, batch: Batch) -> tuple[torch.Tensor, Figures]:  # noqa: ARG002 (the base class names it)
        device = self._device
        images = torch.from_numpy(batch.images).to(device)
        rows, columns = images.shape[1] // CELL_PX, images.shape[2] // CELL_PX
        looks, boxes = torch.from_numpy(batch.looks).to(device), torch.from_numpy(batch.boxes_xyxy_px).to(device)
        owners = torch.from_numpy(batch.owners).to(device)
        truth = losses.dense(owners, looks, boxes, columns)
        with autocast(device):
            tokens = see(self._thinker.visual, pack_patches(images[:, None], SIZE.patch_px), (rows * 2, columns * 2))
            loss, right = losses.seeing(self._heads, tokens, truth)
            words = self._thinker.get_input_embeddings().weight
            align = losses.alignment(words, self._language, tokens, truth)
            figures = {"see": loss, **right, "align": align}
            loss = _WEIGHTS["see"] * loss + _WEIGHTS["align"] * align
            if phase.option("questions"):
                grounded, more = self._ground(phase, batch, owners, tokens, truth, columns)
                loss, figures = loss + grounded, figures | more
        return loss, {name: float(value.detach()) for name, value in figures.items()}

    def _ground(
        self, phase: Phase, batch: Batch, owners: torch.Tensor, tokens: torch.Tensor, truth: losses.Dense, columns: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Questions with at most one box and those with more are read apart, lest the short ones be mostly padding."""
        short = [pair for pair in batch.asked if len(pair[1].targets) <= 1]
        long = [pair for pair in batch.asked if len(pair[1].targets) > 1]
        total, figures = torch.zeros((), device=tokens.device), dict[str, torch.Tensor]()
        for asked in (short, long):
            if asked:
                rows = self._rows(asked, batch, tokens.shape[1], columns)
                loss, more = self._read(phase, rows, owners, tokens, truth, columns)
                total = total + loss * len(asked) / len(batch.asked)
                figures = {f"long_{name}": value for name, value in more.items()} | figures if figures else more
        return total, figures

    def _read(
        self, phase: Phase, rows: _Rows, owners: torch.Tensor, tokens: torch.Tensor, truth: losses.Dense, columns: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        at_picture = rows.ids == self._language.image
        embedded = self._thinker.get_input_embeddings()(rows.ids).to(tokens.dtype)
        embedded = embedded.masked_scatter(at_picture[..., None], tokens[rows.pictures])
        states = read(self._thinker, embedded, rows.position_ids)
        written = rows.targets[:, 1:] >= 0
        logits = self._thinker.lm_head(states[-1][:, :-1][written])
        words, numbers = self._answering(logits, rows.targets[:, 1:][written])
        first, second, third = (states[depth][at_picture].view(len(rows.ids), -1, SIZE.width) for depth in (1, 2, 3))
        owner = owners[rows.pictures]
        meant = rows.meant.gather(1, owner.clamp(min=0)) & (owner >= 0)
        parts = {
            "place": losses.placing(self._heads, first, columns),
            "meant": losses.meaning(self._heads["meant2"], second, meant)
            + losses.meaning(self._heads["meant3"], third, meant),
            "box": losses.boxing(self._heads, second, meant, truth.boxes_px[rows.pictures]),
        }
        weights = _WEIGHTS
        if phase.option("looking"):
            shown = torch.full_like(rows.ids, -1).masked_scatter(at_picture, owner)
            weights = weights | {"looking": phase.option("looking")}
            parts["looking"] = losses.looking(self._thinker, states[2], rows.position_ids, rows.wanted, shown)
        total = words + numbers + sum(weights[name] * part for name, part in parts.items())
        return total, {"words": words, "numbers": numbers, **parts}

    def _rows(self, asked: Sequence[tuple[int, Asked]], batch: Batch, token_count: int, columns: int) -> _Rows:
        prompts, answers = [], []
        meant = torch.zeros(len(asked), batch.looks.shape[1], dtype=torch.bool)
        for row, (picture, question) in enumerate(asked):
            before, after = self._language.prompt(question.description)
            prompts.append((before, after))
            boxes = [whole_px(batch.boxes_xyxy_px[picture, target].tolist()) for target in question.targets]
            answers.append(self._language.answer(boxes, question.description))
            meant[row, list(question.targets)] = True
        lengths = [len(b) + token_count + len(a) + len(t) for (b, a), t in zip(prompts, answers, strict=True)]
        ids = torch.full((len(asked), max(lengths)), self._language.tokenizer.pad_token_id)
        targets, wanted = torch.full_like(ids, -100), torch.full_like(ids, -1)
        positions = torch.zeros(3, *ids.shape, dtype=torch.long)
        for row, ((before, after), answer) in enumerate(zip(prompts, answers, strict=True)):
            line = [*before, *[self._language.image] * token_count, *after, *answer]
            ids[row, : len(line)] = torch.tensor(line)
            begin = len(line) - len(answer)
            targets[row, begin : len(line)] = torch.tensor(answer)
            for (first, end), thing in zip(self._language.spans(answer), asked[row][1].targets, strict=True):
                wanted[row, begin + first - 1 : begin + end - 1] = thing
            positions[:, row] = rope_positions(len(before), token_count, columns, ids.shape[1])
        pictures = torch.tensor([picture for picture, _ in asked])
        rows = (pictures, ids, targets, positions, meant, wanted)
        return _Rows(*(part.to(self._device) for part in rows))

    def validate(self, phase: Phase) -> Figures:
        if not phase.option("questions"):
            return {}
        return validate(self._thinker, self._processor)

    def save(self, folder: Path) -> None:
        save_checkpoint(self._thinker, self._processor, folder)


def whole_px(box_xyxy_px: Sequence[float]) -> Box:
    """The box in whole pixels."""
    x1, y1, x2, y2 = (round(side) for side in box_xyxy_px)
    return x1, y1, x2, y2


def rope_positions(before: int, token_count: int, columns: int, length: int) -> torch.Tensor:
    """(3, length) time, height and width positions of a row with one picture after `before` tokens, as the model's own
    `get_rope_index` gives them."""
    place = torch.arange(token_count)
    in_picture = torch.stack([torch.zeros_like(place), place // columns, place % columns]) + before
    after = torch.arange(length - before - token_count) + int(in_picture.max()) + 1
    return torch.cat([torch.arange(before).expand(3, -1), in_picture, after.expand(3, -1)], 1)


def _order_numbers(thinker: torch.nn.Module, language: Language) -> None:
    """Coordinates begin as waves, so that neighbours are alike."""
    weight = thinker.get_input_embeddings().weight  # type: ignore[operator]
    half = weight.shape[1] // 2
    place = torch.linspace(0, 1, len(language.numbers))[:, None]
    frequency = torch.arange(1, half + 1)[None] * torch.pi * 24 / half
    waves = torch.cat([(place * frequency).sin(), (place * frequency).cos()], 1)
    with torch.no_grad():
        weight[language.numbers] = 0.03 * waves

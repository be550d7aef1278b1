"""The recipe: phases by steps, and System 1 as a trainee of the loop.

It begins with System 2's eyes, as both of the paper's systems begin as one Qwen2.5-Omni.

- `apart`: the eyes learn the smaller pictures and what moves, the ears to hear, while the language model learns to
  choose from given lists; they share the words' embeddings alone.
- `few`, `whole`: whole clips, first with one or two things, then with any number; given lists besides. Heads of the
  third layer are taught to look where the list speaks of.
- `late`: more of the hard level, of crowds, of what passes behind; and given lists in which a thing stands
  twice, as in lists that the model writes itself.
"""

from pathlib import Path

import torch

from workers.shapeworld.training import optimizers, thinkers
from workers.shapeworld.training.system1 import model
from workers.shapeworld.training.system1.batches import Batch, System1Source
from workers.shapeworld.training.system1.tokens import Encoder
from workers.shapeworld.training.system1.validation import Validation
from workers.shapeworld.training.trainee import Figures, Part, Phase, Trainee

MAX_PIXELS = 9216
PHASES = (
    Phase(
        "apart", 300, 2e-3, warmup=50, decay=0,
        options={
            "stream": 1, "scenes": 16, "of_one": 3, "readings": 32, "listen_every": 6, "drill": 8, "vision": 3,
            "match": 1, "gray": 16,
        },
    ),
    Phase(
        "few", 100, 2e-3, warmup=50, decay=0,
        options={
            "stream": 2, "clips": 16, "readings": 16, "listen_every": 10, "drill": 8, "things_max": 2, "vision": 2,
            "match": 1, "point": 1, "gray": 32,
        },
    ),
    Phase(
        "whole", 3000, 2e-3, warmup=20, decay=0.5,
        options={
            "stream": 3, "clips": 16, "readings": 16, "listen_every": 10, "drill": 8, "vision": 2, "match": 1,
            "point": 1, "gray": 32, "crowded": 0.25, "crossed": 0.12, "crossed_readings": 0.12,
        },
    ),
    Phase(
        "late", 800, 1e-3, warmup=20, decay=1,
        options={
            "stream": 4, "clips": 16, "readings": 16, "listen_every": 10, "drill": 8, "vision": 2, "match": 1,
            "point": 1, "gray": 32, "crowded": 0.4, "crossed": 0.1, "crossed_readings": 0.1, "late": 1,
            "doubled_readings": 0.3,
        },
    ),
)  # fmt: skip


class System1Trainee(Trainee):
    def __init__(self, seed: int, device: str, eyes: Path) -> None:
        torch.manual_seed(seed)
        self.phases, self.source = PHASES, System1Source(seed)
        self._device, self.encoder = device, Encoder(MAX_PIXELS, device)
        self.thinker = thinkers.make_thinker(self.encoder.tokenizer, model.SIZE).to(device)
        self.origin = {"eyes": thinkers.take_eyes(self.thinker, eyes)}
        model.begin_cells(self.thinker, self.encoder, seed)
        self.heads = model.Heads(model.SIZE.width).to(device)
        self._validation = Validation(self.encoder)
        self.modules = torch.nn.ModuleDict({"thinker": self.thinker, "heads": self.heads})

    def begin(self, phase: Phase) -> list[torch.optim.Optimizer]:
        """Phase option "vision": how much faster the vision tower's matrices go than the others."""
        adam, muon = optimizers.make_optimizers(self.thinker, self.heads)
        [matrices] = muon.param_groups
        seeing = {id(parameter) for parameter in self.thinker.visual.parameters()}
        fast = [parameter for parameter in matrices["params"] if id(parameter) in seeing]
        if phase.option("vision"):
            matrices["params"] = [parameter for parameter in matrices["params"] if id(parameter) not in seeing]
            muon.add_param_group({"params": fast, "scale": phase.option("vision")})
        return [adam, muon]

    def loss(self, phase: Phase, step: int, batch: Batch) -> tuple[torch.Tensor, Figures]:  # noqa: ARG002 (the base class names it)
        parts = self.thinker, self.heads, self.encoder
        with optimizers.autocast(self._device):
            losses = model.watch(*parts, batch, phase) if batch.clips else model.look(*parts, batch)
            if not batch.readings:
                return losses
            reading = model.read_turns(*parts, batch.readings, phase.option("match"))
        figures = losses.figures | {f"reading_{name}": value for name, value in reading.figures.items()}
        return losses.total + reading.total, figures

    def split(self, batch: Batch, count: int) -> list[Part]:
        parts = batch.split(count)
        return [Part(part, len(part.pieces.frames) / len(batch.pieces.frames)) for part in parts]

    def validate(self, phase: Phase) -> Figures:
        """Of answers about whole validation clips; nothing before these are trained."""
        if not phase.option("clips"):
            return {}
        self.thinker.eval()
        figures = self._validation.judge(self.thinker)
        self.thinker.train()
        return figures

    def save(self, folder: Path) -> None:
        thinkers.save_checkpoint(self.thinker, self.encoder.processor, folder)


def trainee(seed: int, device: str, eyes: Path) -> Trainee:
    """System 1 from the eyes of a System 2, a checkpoint folder, and nothing else.

    Raises `BadInput` for a folder without such eyes.
    """
    return System1Trainee(seed, device, eyes)

"""The recipe: phases by steps, and System 1 as a trainee of the loop.

- `apart`: the towers learn to see and to hear from single pieces, while the language model learns to choose from given
  lists; they share the words' embeddings alone. `see` goes on with the towers, whose matrices take a higher rate:
  shapes are learned last of all looks.
- `few`, `together`: whole clips, first with one or two things, then with any number; some given lists besides.
- `match`: the same with more lists, and the comparison of looks with the instruction taught by a head of its own.
- `finish`: things are followed through the clip (again a head of its own), and times within the clip count more than
  its first and last frame, which most things have.
"""

from pathlib import Path

import torch

from backend.domain.errors import BadInput
from workers.shapeworld.training import thinkers
from workers.shapeworld.training.system1 import model
from workers.shapeworld.training.system1.batches import Batch, System1Source
from workers.shapeworld.training.system1.tokens import Encoder
from workers.shapeworld.training.system1.validation import Validation
from workers.shapeworld.training.trainee import Figures, Phase, Trainee

MAX_PIXELS = 4096
PHASES = (
    Phase(
        "apart", 600, 2e-3, warmup=50,
        options={"stream": 1, "scenes": 24, "of_one": 3, "readings": 32, "listen_every": 6},
    ),
    Phase("see", 200, 2e-3, warmup=20, options={"stream": 2, "scenes": 24, "of_one": 3, "drill": 12, "vision": 3}),
    Phase(
        "few", 120, 2e-3, warmup=50, decay=0,
        options={"stream": 3, "clips": 24, "readings": 8, "listen_every": 10, "drill": 8, "things_max": 2, "vision": 2},
    ),
    Phase(
        "together", 228, 2e-3, warmup=50, decay=0,
        options={"stream": 4, "clips": 24, "readings": 8, "listen_every": 10, "drill": 8, "vision": 2},
    ),
    Phase(
        "match", 560, 2e-3, warmup=20, decay=0.7,
        options={
            "stream": 5, "clips": 24, "readings": 24, "listen_every": 10, "drill": 4, "vision": 2, "match": 1,
        },
    ),
    Phase(
        "finish", 1500, 2e-3, warmup=50,
        options={
            "stream": 6, "clips": 24, "readings": 16, "listen_every": 10, "drill": 4, "vision": 2, "match": 1,
            "track": 0.3, "rare": 6,
        },
    ),
)  # fmt: skip


class System1Trainee(Trainee):
    def __init__(self, seed: int, device: str) -> None:
        if device != "cpu":
            raise BadInput("System 1 is trained on the CPU only so far; train it with --device cpu")
        torch.manual_seed(seed)
        self.phases, self.source = PHASES, System1Source(seed)
        self.encoder = Encoder(MAX_PIXELS)
        self.thinker = thinkers.make_thinker(self.encoder.tokenizer, model.SIZE)
        self.heads = model.Heads(model.SIZE.width)
        self._validation = Validation(self.encoder)
        self.modules = torch.nn.ModuleDict({"thinker": self.thinker, "heads": self.heads})

    def begin(self, phase: Phase) -> list[torch.optim.Optimizer]:
        """Phase option "vision": how much faster the vision tower's matrices go than the others."""
        adam, muon = thinkers.make_optimizers(self.thinker, self.heads)
        [matrices] = muon.param_groups
        seeing = {id(parameter) for parameter in self.thinker.visual.parameters()}
        fast = [parameter for parameter in matrices["params"] if id(parameter) in seeing]
        if phase.option("vision"):
            matrices["params"] = [parameter for parameter in matrices["params"] if id(parameter) not in seeing]
            muon.add_param_group({"params": fast, "scale": phase.option("vision")})
        return [adam, muon]

    def loss(self, phase: Phase, step: int, batch: Batch) -> tuple[torch.Tensor, Figures]:  # noqa: ARG002 (the base class names it)
        parts = self.thinker, self.heads, self.encoder
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model.watch(*parts, batch, phase) if batch.clips else model.look(*parts, batch)
            if not batch.readings:
                return losses
            reading = model.read_turns(*parts, batch.readings, phase.option("match"))
        figures = losses.figures | {f"reading_{name}": value for name, value in reading.figures.items()}
        return losses.total + reading.total, figures

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


def trainee(seed: int, device: str) -> Trainee:
    """System 1 from nothing. Raises ValueError for another device than "cpu"."""
    return System1Trainee(seed, device)

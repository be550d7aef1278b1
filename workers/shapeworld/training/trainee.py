"""What the training loop needs of a model: phases, batches, a loss, a validation, and the checkpoint it leaves."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training with one kind of batch and one schedule.

    The learning rate rises over `warmup` steps, stays, and falls in a straight line over the last `decay` share of the
    steps to a hundredth. `options` are the phase's own settings, for the trainee.
    """

    name: str
    steps: int
    learning_rate: float
    warmup: int = 100
    decay: float = 0.6
    clip_norm: float = 1.0
    options: Mapping[str, float] | None = None

    def option(self, name: str, otherwise: float = 0.0) -> float:
        return dict(self.options or {}).get(name, otherwise)

    def learning_rate_at(self, step: int) -> float:
        """The rate of step 0 .. `steps` - 1."""
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = min(1.0, (1 - step / self.steps) / self.decay) if self.decay else 1.0
        return self.learning_rate * rising * max(falling, 0.01)


class Source(ABC):
    """Draws batches. It is sent to the loader process: plain data and numpy, no model, no torch operation."""

    @abstractmethod
    def batch(self, phase: Phase, step: int) -> Any:
        """The batch of that step; the same for the same training seed, phase and step, whenever it is asked for."""


class Part(NamedTuple):
    """A part of a batch, and its share of the whole."""

    batch: Any
    share: float


class Trainee(ABC):
    """A model in training with its auxiliary heads. `modules` is all that is learned and saved for resuming."""

    phases: tuple[Phase, ...]
    source: Source
    modules: torch.nn.ModuleDict
    #: What it began from, besides the seed: a digest by name.
    origin: Mapping[str, str] = {}

    @abstractmethod
    def begin(self, phase: Phase) -> list[torch.optim.Optimizer]:
        """Make ready for a phase. Each optimizer's group has "scale", its share of the phase's learning rate."""

    @abstractmethod
    def loss(self, phase: Phase, step: int, batch: Any) -> tuple[torch.Tensor, Figures]:
        """The loss of a batch, and what is worth a curve."""

    def split(self, batch: Any, count: int) -> list[Part]:  # noqa: ARG002 (the base class names it)
        """At most `count` parts of a batch whose losses, by their shares, are together its loss, or near it; a model
        that says nothing else takes batches whole."""
        return [Part(batch, 1.0)]

    @abstractmethod
    def validate(self, phase: Phase) -> Figures:
        """Figures on the validation range; must leave the model in training mode and draw no global random number."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """The checkpoint as the product loads it: half precision, without auxiliary heads."""

"""Lanes: a batch's parts, each taken forward and backward by a thread of its own.

With models as small as these, two threads that share every product wait for each other more than they compute. A lane
computes alone and meets the others at the end of the step only. Their gradients are added up in order, so that a
training with lanes ends with the same weights each time, too.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from workers.shapeworld.training.trainee import Figures, Part, Phase, Trainee

_Gradients = tuple[torch.Tensor | None, ...]


class Lanes:
    """`count` threads for one trainee, which makes as many parts of a batch, or fewer."""

    def __init__(self, trainee: Trainee, count: int) -> None:
        self._trainee, self._count = trainee, count
        self._pool = ThreadPoolExecutor(count, "lane", torch.set_num_threads, (1,)) if count > 1 else None

    def backward(self, phase: Phase, step: int, batch: Any) -> Figures:
        """Set the parameters' gradients to those of the step's loss, and return its figures."""
        parts = self._trainee.split(batch, self._count) if self._pool else []
        if self._pool is None or len(parts) < 2:
            loss, figures = self._trainee.loss(phase, step, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            return figures
        parameters = [parameter for parameter in self._trainee.modules.parameters() if parameter.requires_grad]

        def run(part: Part) -> tuple[_Gradients, Figures]:
            loss, figures = self._trainee.loss(phase, step, part.batch)
            return torch.autograd.grad(loss * part.share, parameters, allow_unused=True), figures

        found = list(self._pool.map(run, parts))
        for parameter, *gradients in zip(parameters, *(gradients for gradients, _ in found), strict=True):
            known = [gradient for gradient in gradients if gradient is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None
        return _mean([part.share for part in parts], [figures for _, figures in found])


def _mean(shares: Sequence[float], found: Sequence[Figures]) -> Figures:
    """By the parts' shares, of those that have the figure."""
    sums, weights = defaultdict[str, float](float), defaultdict[str, float](float)
    for share, figures in zip(shares, found, strict=True):
        for name, value in figures.items():
            sums[name] += share * value
            weights[name] += share
    return {name: value / weights[name] for name, value in sums.items()}

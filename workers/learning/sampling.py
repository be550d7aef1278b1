"""Sampling completions so that chance depends on the training seed and the number of the draw alone.

A training that goes on, or that has more processes, would write other completions if it drew from the process's random
numbers. Here each group has numbers of its own, and the token is chosen by them (Gumbel-max: the argmax of the scores
plus Gumbel noise is a draw from their softmax).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from workers.learning.libraries import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

#: As the processor names them; `_token` is left out.
MEDIA_TOKENS = ("image", "audio", "video", "vision_bos", "vision_eos", "audio_bos", "audio_eos")


def media_token_ids(tokenizer: Any) -> list[int]:
    """The seven tokens that stand for media or enclose them. None may be written: the next pass would look for a
    picture or a sound behind it."""
    return [int(tokenizer.convert_tokens_to_ids(getattr(tokenizer, f"{name}_token"))) for name in MEDIA_TOKENS]


class ChosenByDraw(LogitsProcessor):
    """The last of the processors: leaves one token of each row possible, drawn from what the ones before left.

    Rows are groups of `group_size` in the order of `draws`.
    """

    def __init__(self, seed: int, draws: Sequence[int], group_size: int, device: torch.device) -> None:
        self._group_size = group_size
        self._generators = [torch.Generator(device).manual_seed(_seed(seed, draw)) for draw in draws]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (the base names it)
        noise = torch.cat([
            torch.empty(self._group_size, scores.shape[1], device=scores.device).exponential_(generator=generator)
            for generator in self._generators
        ])  # fmt: skip
        chosen = (scores - noise.log()).argmax(-1, keepdim=True)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)


def choosers(
    seed: int, draws: Sequence[int], group_size: int, device: torch.device, *, temperature: float, top_p: float
) -> list[Any]:
    """Temperature, nucleus and choice, in this order, as logits processors of `generate`."""
    warpers: list[Any] = [] if temperature == 1 else [TemperatureLogitsWarper(temperature)]
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    return [*warpers, ChosenByDraw(seed, draws, group_size, device)]


def _seed(seed: int, draw: int) -> int:
    return int(np.random.SeedSequence([seed, draw]).generate_state(1, np.uint64)[0] >> np.uint64(1))

"""GRPO once more, as plainly as it can be written, to hold the trainer against: one forward pass a completion, with its
own media, no padding, no cache, no shared features, no library but torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Rollout:
    """A prompt with the media of its batch of one, a completion, and what it earned."""

    prompt_ids: torch.Tensor
    media: dict[str, torch.Tensor]
    completion_ids: list[int]
    reward: float


def log_probabilities(model: Any, rollout: Rollout, temperature: float) -> torch.Tensor:
    """(completion,) log-probability of each token of the completion, given all before it and the media."""
    ids = torch.cat([rollout.prompt_ids, torch.tensor(rollout.completion_ids)])[None]
    logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **rollout.media).logits[0]
    found = []
    for position in range(len(rollout.prompt_ids), ids.shape[1]):
        # The token at a position is predicted at the one before.
        every = torch.log_softmax(logits[position - 1] / temperature, dim=0)
        found.append(every[ids[0, position]])
    return torch.stack(found)


def advantages(rewards: Sequence[float], group_size: int) -> list[float]:
    """(r − mean) / (standard deviation + 1e-4), each in its group."""
    found = []
    for begin in range(0, len(rewards), group_size):
        group = torch.tensor(rewards[begin : begin + group_size])
        found += ((group - group.mean()) / (group.std(unbiased=True) + 1e-4)).tolist()
    return found


def loss(
    model: Any, base: Any, rollouts: Sequence[Rollout], group_size: int, *, beta: float, temperature: float,
    clip_low: float, clip_high: float,
) -> torch.Tensor:  # fmt: skip
    """Mean over completions of the mean over tokens of −min(ρA, clip(ρ)A) + β·k3."""
    worth = advantages([rollout.reward for rollout in rollouts], group_size)
    terms = []
    for rollout, advantage in zip(rollouts, worth, strict=True):
        new = log_probabilities(model, rollout, temperature)
        with torch.no_grad():
            reference = log_probabilities(base, rollout, temperature)
        old = new.detach()
        tokens = []
        for n in range(len(rollout.completion_ids)):
            ratio = torch.exp(new[n] - old[n])
            clipped = torch.clamp(ratio, 1 - clip_low, 1 + clip_high)
            gain = torch.minimum(ratio * advantage, clipped * advantage)
            difference = reference[n] - new[n]
            k3 = torch.exp(difference) - difference - 1
            tokens.append(-gain + beta * k3)
        terms.append(torch.stack(tokens).mean())
    return torch.stack(terms).mean()
